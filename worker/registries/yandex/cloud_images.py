"""Images out of artifacts: one digest in one folder is an image, whatever number of artifacts stand for it. Pure."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from msgspec import UNSET

from policies.image import Image
from worker.registries.docker.manifest_cache import size_of
from worker.registries.http.answers import IMAGE_DIGEST, TAG
from worker.registries.yandex.api import bad
from worker.registries.yandex.cloud_protocol import Artifact

TAGS = re.compile(r"(.*[._-])?tags?", re.IGNORECASE)  # the name of a property that has tags


class Folder:
    """What one folder holds: its artifacts by the digest of their manifests. Raises BadAnswerError for a broken one."""

    def __init__(self, path: str, artifacts: Iterable[Artifact]) -> None:
        self.path = path
        self.by_digest: dict[str, list[Artifact]] = {}
        self.tags: dict[str, set[str]] = {}  # by digest
        for artifact in {one.id: one for one in artifacts}.values():
            if artifact.broken:
                bad(artifact.broken)
            self.by_digest.setdefault(artifact.digest, []).append(artifact)
        for digest, same in self.by_digest.items():
            self.tags[digest] = {tag for artifact in same for tag in tags_of(artifact)}

    def of(self, digest: str) -> Sequence[Artifact]:
        return self.by_digest.get(digest, ())

    def names(self, without: str) -> dict[str, str]:
        """What the images but one are known by, to whose digest: their tags, and the digest of what has none."""
        return {name: digest for digest, tags in self.tags.items() if digest != without for name in (tags or (digest,))}

    def below(self, digest: str) -> set[str]:
        """The digests that an index lists, however deep, as far as this folder tells."""
        found: set[str] = set()
        todo = [digest]
        while todo:
            for artifact in self.of(todo.pop()):
                new = set(artifact.children or ()) - found
                found |= new
                todo += new
        return found


def tags_of(artifact: Artifact) -> tuple[str, ...]:
    """The tags that an artifact stands for: its name, or what its properties say. Raises BadAnswerError."""
    named = () if names_digest(artifact) or not TAG.fullmatch(artifact.name) else (artifact.name,)
    told = (tag for name, value in artifact.properties.items() if TAGS.fullmatch(name) for tag in _split(value))
    return tuple(dict.fromkeys((*named, *told)))


def names_digest(artifact: Artifact) -> bool:
    """Whether its name is its digest, in one way or another, and so no tag."""
    digits = artifact.digest.removeprefix("sha256:")
    return artifact.name in (artifact.digest, digits, f"sha256-{digits}") or bool(IMAGE_DIGEST.fullmatch(artifact.name))


def _split(value: str) -> list[str]:
    """Tags in a property: a JSON list, or words between commas or spaces. What cannot be read leaves no guess."""
    try:
        found = json.loads(value) if value.lstrip().startswith("[") else value.replace(",", " ").split()
    except ValueError:
        found = [value]
    tags = [tag for tag in found if isinstance(tag, str) and TAG.fullmatch(tag)]
    if len(tags) != len(found):
        bad(f"a property with tags that are none: {value[:80]!r}")
    return tags


def image_of(artifacts: Sequence[Artifact], tags: Iterable[str], name: str) -> Image:
    """The image that artifacts of one digest and folder stand for. What they disagree in is not known.

    `children` None: what is in its manifest is not known; a manifest's `subject` is never told.
    """
    contents = {(one.config, one.layers, one.children) for one in artifacts if one.told}
    config, layers, children = next(iter(contents)) if len(contents) == 1 else (None, (), None)
    times = [max((at for at in (one.created_at, one.modified_at) if at), default=None) for one in artifacts]
    known = [at for at in times if at is not None]
    return Image(
        digest=artifacts[0].digest,
        id=id_of(artifacts),
        name=name,
        compressed_size=size_of(config, layers) if config else None,
        config=config,
        layers=layers,
        tags=tuple(sorted(tags)),
        created_at=max(known) if len(known) == len(times) else None,
        children=UNSET if config else children,
        subject=None,
    )


def id_of(artifacts: Sequence[Artifact]) -> str:
    """The id of the artifact that stands for the digest itself, else the lowest."""
    own = [one.id for one in artifacts if names_digest(one)]
    return min(own or [one.id for one in artifacts])


def disagrees(artifacts: Sequence[Artifact]) -> bool:
    """Whether artifacts of one digest tell different manifests."""
    return len({(one.config, one.layers, one.children) for one in artifacts if one.told}) > 1


def images_of(folder: Folder, registry_id: str) -> Mapping[str, Image]:
    """The images of a folder by digest."""
    name = f"{registry_id}/{folder.path}"
    return {digest: image_of(same, folder.tags[digest], name) for digest, same in folder.by_digest.items()}
