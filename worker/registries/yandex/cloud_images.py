"""Images out of artifacts: where each lies, and which of one folder are one image. Pure.

One digest in one folder is an image, whatever number of artifacts stand for it. The vendor's pages show `path` as the
full path, the artifact's own name included, and as its folder alone. So the last segment decides which folder it is,
and where that could be either, what all artifacts of the listing show together.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec import UNSET

from policies.image import Image
from worker.registries.docker.manifest_cache import size_of
from worker.registries.http.responses import IMAGE_DIGEST, TAG, bad
from worker.registries.yandex.api import PATH
from worker.registries.yandex.cloud_protocol import Artifact
from worker.text import one_line

TAGS = re.compile(r"(.*[._-])?tags?", re.IGNORECASE)  # the name of a property that has tags


@dataclass(frozen=True, slots=True)
class PossibleFolders:
    """The folders that an artifact may lie in, one of them at least; "" is the registry itself."""

    as_full: str | None  # where `path` ends in its name
    as_parent: str | None  # where `path` is the folder


def possible_folders(path: str, name: str, registry_id: str) -> PossibleFolders:
    """Raises BadResponseError for a path that no repository can have."""
    text = path.strip("/")
    if text == registry_id or text.startswith(f"{registry_id}/"):
        text = text[len(registry_id) + 1 :]
    head, _, last = text.rpartition("/")
    ends_in_name = bool(name) and last == name
    as_parent = text if _is_path(text) else None
    if (not ends_in_name and as_parent is None) or (ends_in_name and not _is_path(head)):
        bad(f"an artifact with an impossible path: {one_line(path, 300)!r}")
    return PossibleFolders(head if ends_in_name else None, as_parent)


def nearest(path: str, name: str, registry_id: str) -> str:
    """The folder that an artifact with an impossible path is likeliest to lie in; "" where nothing can be said.

    Empty segments are no segments, and of the rest the longest beginning counts that a repository can have.
    """
    segments = [segment for segment in path.split("/") if segment]
    if segments[:1] == [registry_id]:
        del segments[0]
    if name and segments[-1:] == [name]:
        segments.pop()
    while segments and not _is_path("/".join(segments)):
        segments.pop()
    return "/".join(segments)


def in_folder(path: str, name: str, registry_id: str, folder: str) -> bool:
    """Whether an artifact that was listed for this folder lies in it: the folder asked for leaves no doubt."""
    place = possible_folders(path, name, registry_id)
    return folder in (place.as_full, place.as_parent)


def settled(place: PossibleFolders, parents: "frozenset[str] | set[str]", *, some_full: bool) -> str:
    """The folder of an artifact for which both are possible.

    `parents`: the folders of those whose `path` is certainly a folder; `some_full`: others certainly have full paths.
    """
    is_parent = place.as_parent in parents if some_full else bool(parents)
    return (place.as_parent if is_parent else place.as_full) or ""


def _is_path(text: str) -> bool:
    return not text or (PATH.fullmatch(text) is not None and len(text) <= 256)


class Folder:
    """What one folder holds: its artifacts by the digest of their manifests. Raises BadResponseError."""

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
    """The tags that an artifact stands for: its name, or what its properties say. Raises BadResponseError."""
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
    own = [one.id for one in artifacts if names_digest(one)]  # of those that stand for the digest itself
    return Image(
        digest=artifacts[0].digest,
        id=min(own or [one.id for one in artifacts]),
        name=name,
        compressed_size=size_of(config, layers) if config else None,
        config=config,
        layers=layers,
        tags=tuple(sorted(tags)),
        created_at=max(known) if len(known) == len(times) else None,
        children=UNSET if config else children,
        subject=None,
    )


def disagrees(artifacts: Sequence[Artifact]) -> bool:
    """Whether artifacts of one digest tell different manifests."""
    return len({(one.config, one.layers, one.children) for one in artifacts if one.told}) > 1


def images_of(folder: Folder, registry_id: str) -> Mapping[str, Image]:
    """The images of a folder by digest."""
    name = f"{registry_id}/{folder.path}"
    return {digest: image_of(same, folder.tags[digest], name) for digest, same in folder.by_digest.items()}
