"""Where an artifact of Cloud Registry lies: which folder is its repository. Pure.

The vendor's pages show `path` as the full path, the artifact's own name included, and as its folder alone. So the last
segment decides, and where that could be either, what all artifacts of the listing show together.
"""

from dataclasses import dataclass

from worker.registries.http.answers import one_line
from worker.registries.yandex.api import PATH, bad


@dataclass(frozen=True, slots=True)
class Place:
    """The folders that an artifact may lie in, one of them at least; "" is the registry itself."""

    as_full: str | None  # where `path` ends in its name
    as_parent: str | None  # where `path` is the folder

    @property
    def only(self) -> str | None:
        """The folder, where it is certain."""
        if self.as_full is None:
            return self.as_parent
        return self.as_full if self.as_parent is None else None


def place_of(path: str, name: str, registry_id: str) -> Place:
    """Raises BadAnswerError for a path that no repository can have."""
    text = path.strip("/")
    if text == registry_id or text.startswith(f"{registry_id}/"):
        text = text[len(registry_id) + 1 :]
    head, _, last = text.rpartition("/")
    ends_in_name = bool(name) and last == name
    as_parent = text if _is_path(text) else None
    if (not ends_in_name and as_parent is None) or (ends_in_name and not _is_path(head)):
        bad(f"an artifact with an impossible path: {one_line(path, 300)!r}")
    return Place(head if ends_in_name else None, as_parent)


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
    place = place_of(path, name, registry_id)
    return folder in (place.as_full, place.as_parent)


def settled(place: Place, parents: "frozenset[str] | set[str]", *, some_full: bool) -> str:
    """The folder of an artifact for which both are possible.

    `parents`: the folders of those whose `path` is certainly a folder; `some_full`: others certainly have full paths.
    """
    if place.as_full is None or place.as_parent is None:
        return place.as_full if place.as_parent is None and place.as_full is not None else place.as_parent or ""
    is_parent = place.as_parent in parents if some_full else bool(parents)
    return place.as_parent if is_parent else place.as_full


def _is_path(text: str) -> bool:
    return not text or (PATH.fullmatch(text) is not None and len(text) <= 256)
