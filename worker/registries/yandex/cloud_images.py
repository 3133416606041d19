"""Groups artifacts into images, and finds the folder of an artifact. No I/O.

All artifacts of one digest in one folder are one image. The vendor's documentation shows `path` both as the full path,
with the name of the artifact, and as the path of its folder. The last segment of the path decides which of them it is;
where it could be either, the paths of all artifacts in the listing decide.
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

TAGS = re.compile(r"(.*[._-])?tags?", re.IGNORECASE)  # the name of a property that contains tags


@dataclass(frozen=True, slots=True)
class PossibleFolders:
    """The folders that an artifact may be in, at least one; "" is the root of the registry."""

    as_full: str | None  # if `path` is the full path; None: it does not end with the name
    as_parent: str | None  # if `path` is the folder; None: no folder can have this path


def possible_folders(path: str, name: str, registry_id: str) -> PossibleFolders:
    """The folders that a path may mean. Raises BadResponseError for a path that no repository can have."""
    text = path.strip("/")
    if text == registry_id or text.startswith(f"{registry_id}/"):
        text = text[len(registry_id) + 1 :]
    head, _, last = text.rpartition("/")
    ends_in_name = bool(name) and last == name
    as_parent = text if _is_path(text) else None
    if (not ends_in_name and as_parent is None) or (ends_in_name and not _is_path(head)):
        bad(f"an artifact with an invalid path: {one_line(path, 300)!r}")
    return PossibleFolders(head if ends_in_name else None, as_parent)


def likely_folder(path: str, name: str, registry_id: str) -> str:
    """The likeliest folder of an artifact with an invalid path: the longest valid prefix without empty segments.

    Returns "" if no prefix is valid.
    """
    segments = [segment for segment in path.split("/") if segment]
    if segments[:1] == [registry_id]:
        del segments[0]
    if name and segments[-1:] == [name]:
        segments.pop()
    while segments and not _is_path("/".join(segments)):
        segments.pop()
    return "/".join(segments)


def is_in_folder(path: str, name: str, registry_id: str, folder: str) -> bool:
    """Whether an artifact in the listing of this folder is in the folder itself. Raises BadResponseError. `path`,
    `name`: as reported. If the path may mean two folders, the artifact is in either.
    """
    candidates = possible_folders(path, name, registry_id)
    return folder in (candidates.as_full, candidates.as_parent)


def resolve_folder(candidates: PossibleFolders, parents: "frozenset[str] | set[str]", *, has_full_paths: bool) -> str:
    """The folder of an artifact for which both are possible, by the other paths in the listing.

    `parents`: the paths that are certainly those of folders.
    `has_full_paths`: whether the listing has paths that are certainly full paths.
    """
    is_parent = candidates.as_parent in parents if has_full_paths else bool(parents)
    return (candidates.as_parent if is_parent else candidates.as_full) or ""


def _is_path(text: str) -> bool:
    return not text or (PATH.fullmatch(text) is not None and len(text) <= 256)


class Folder:
    """The artifacts of a folder, by manifest digest. Raises BadResponseError if the folder has a broken artifact."""

    def __init__(self, path: str, artifacts: Iterable[Artifact]) -> None:
        self.path = path
        self.by_digest: dict[str, list[Artifact]] = {}
        self.tags: dict[str, set[str]] = {}  # by digest
        for artifact in {artifact.id: artifact for artifact in artifacts}.values():
            if artifact.broken:
                bad(artifact.broken)
            self.by_digest.setdefault(artifact.digest, []).append(artifact)
        for digest, same_image in self.by_digest.items():
            self.tags[digest] = {tag for artifact in same_image for tag in tags_of(artifact)}

    def artifacts(self, digest: str) -> Sequence[Artifact]:
        return self.by_digest.get(digest, ())

    def names(self, without: str) -> dict[str, str]:
        """name -> digest of every other image: its tags, or its digest if it is untagged."""
        return {name: digest for digest, tags in self.tags.items() if digest != without for name in (tags or (digest,))}

    def below(self, digest: str) -> set[str]:
        """The children of an index and their children, as far as artifacts of this folder list them."""
        children: set[str] = set()
        todo = [digest]
        while todo:
            for artifact in self.artifacts(todo.pop()):
                new = set(artifact.children or ()) - children
                children |= new
                todo += new
        return children


def tags_of(artifact: Artifact) -> tuple[str, ...]:
    """The tags of an artifact: its name, and the tags in its properties. Raises BadResponseError. Each once; empty:
    untagged. A name that is a digest, or no valid tag, does not count; a property with an invalid tag is an error.
    """
    named = () if is_named_by_digest(artifact) or not TAG.fullmatch(artifact.name) else (artifact.name,)
    in_properties = (tag for key, text in artifact.properties.items() if TAGS.fullmatch(key) for tag in _split(text))
    return tuple(dict.fromkeys((*named, *in_properties)))


def is_named_by_digest(artifact: Artifact) -> bool:
    """Whether the name of the artifact is a digest in some notation, and therefore no tag. A name of the form sha256:…
    counts even if it is the digest of another image.
    """
    digits = artifact.digest.removeprefix("sha256:")
    return artifact.name in (artifact.digest, digits, f"sha256-{digits}") or bool(IMAGE_DIGEST.fullmatch(artifact.name))


def _split(value: str) -> list[str]:
    """The tags in a property: a JSON list, or a list separated by commas or spaces. Raises BadResponseError."""
    try:
        items = json.loads(value) if value.lstrip().startswith("[") else value.replace(",", " ").split()
    except ValueError:
        items = [value]
    tags = [tag for tag in items if isinstance(tag, str) and TAG.fullmatch(tag)]
    if len(tags) != len(items):
        bad(f"a property with invalid tags: {value[:80]!r}")
    return tags


def image_of(artifacts: Sequence[Artifact], tags: Iterable[str], name: str) -> Image:
    """The image of artifacts of one digest in one folder. A fact in which the artifacts differ is unknown.

    `children` None: the manifest is unknown. Artifacts never report the `subject` of a manifest.
    """
    contents = {(part.config, part.layers, part.children) for part in artifacts if part.has_manifest}
    config, layers, children = next(iter(contents)) if len(contents) == 1 else (None, (), None)
    times = [max((at for at in (part.created_at, part.modified_at) if at), default=None) for part in artifacts]
    known = [at for at in times if at is not None]
    untagged = [part.id for part in artifacts if is_named_by_digest(part)]
    return Image(
        digest=artifacts[0].digest,
        id=min(untagged or [part.id for part in artifacts]),
        name=name,
        compressed_size=size_of(config, layers) if config else None,
        config=config,
        layers=layers,
        tags=tuple(sorted(tags)),
        created_at=max(known) if len(known) == len(times) else None,
        children=UNSET if config else children,
        subject=None,
    )


def have_conflicting_manifests(artifacts: Sequence[Artifact]) -> bool:
    """Whether artifacts of one digest report different manifests."""
    return len({(part.config, part.layers, part.children) for part in artifacts if part.has_manifest}) > 1


def images_of(folder: Folder, registry_id: str) -> Mapping[str, Image]:
    """The images of a folder by digest."""
    name = f"{registry_id}/{folder.path}"
    return {digest: image_of(parts, folder.tags[digest], name) for digest, parts in folder.by_digest.items()}
