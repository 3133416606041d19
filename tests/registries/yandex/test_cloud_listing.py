"""The whole registry by folders: artifacts that lie nowhere, those that came twice; folders listed anew."""

import time

import pytest

from worker.registries.errors import UnavailableError
from worker.registries.yandex.cloud_images import Folder
from worker.registries.yandex.cloud_listing import ArtifactsByFolder, FolderListings
from worker.registries.yandex.cloud_protocol import WireArtifact, WireContent, WireDocker

DIGEST = f"sha256:{'7' * 64}"


def row(number: int, path: str, name: str) -> WireArtifact:
    content = WireContent(docker=WireDocker(manifest_digest=DIGEST))
    return WireArtifact(id=f"id{number}", path=path, name=name, kind="ARTIFACT", status="ACTIVE", content=content)


@pytest.mark.parametrize(
    ("path", "name", "folder"),
    [
        pytest.param("/shop//api/v2", "v2", "shop/api", id="an empty segment"),
        pytest.param("/shop/api/some thing", "else", "shop/api", id="an invalid last segment"),
        pytest.param("/shop/api/a pi/v2", "v2", "shop/api", id="an invalid folder in it"),
        pytest.param("/docs/a pi/v2", "v2", None, id="a folder that does not exist"),
        pytest.param("/../shop/api/v2", "v2", None, id="no likely folder"),
    ],
)
def test_an_invalid_path_makes_at_most_one_repository_unreadable(path: str, name: str, folder: str | None) -> None:
    listing = ArtifactsByFolder("crpvab5oob146rh73ilt")
    odd = row(9, path, name)
    listing.add([odd, row(1, "/shop/api/v1", "v1"), row(2, "/web/v1", "v1"), odd])
    listing.finish()
    assert listing.folders() == ["shop/api", "web"]
    broken = {
        folder: [artifact.id for artifact in listing.take(folder) or () if artifact.broken]
        for folder in ("shop/api", "web")
    }
    assert broken == {"shop/api": ["id9"] if folder else [], "web": []}
    assert listing.ignored_counts == ({} if folder else {"with an invalid path": 1})


def test_the_later_row_of_a_moved_artifact_counts() -> None:
    moved = row(1, "/shop/api/v1", "v1")
    moved.content = WireContent(docker=WireDocker(manifest_digest=f"sha256:{7:064x}"))
    listing = ArtifactsByFolder("crpvab5oob146rh73ilt")
    listing.add([row(1, "/shop/api/v1", "v1"), moved])
    listing.finish()
    digests = {artifact.id: artifact.digest for artifact in listing.take("shop/api") or ()}
    assert digests == {"id1": f"sha256:{7:064x}"}
    assert listing.take("shop/api") is None  # a scan reads each folder once


def taken(*rows: WireArtifact) -> dict[str, list[str | None]]:
    """By folder: the ids of its artifacts."""
    listing = ArtifactsByFolder("crpvab5oob146rh73ilt")
    listing.add(rows)
    listing.finish()
    return {folder: [artifact.id for artifact in listing.take(folder) or ()] for folder in listing.folders()}


def test_takes_artifacts_by_folder() -> None:
    rows = [row(1, "/shop/api/v1", "v1"), row(2, "/web/v1", "v1"), row(3, "/shop/api/v2", "v2")]
    assert taken(*rows) == {"shop/api": ["id1", "id3"], "web": ["id2"]}
    assert taken() == {}


def test_counts_ignored_rows_once() -> None:
    listing = ArtifactsByFolder("crpvab5oob146rh73ilt")
    requested, of_another_kind = row(1, "/shop/v1", "v1"), row(2, "/shop/v2", "v2")
    requested.status, of_another_kind.content = "DELETING", None
    listing.add([requested, of_another_kind, requested])
    listing.finish()
    assert listing.folders() == []
    assert listing.ignored_counts == {"deleted or being created": 1, "without Docker content": 1}


class Read:
    """Counts the listings of each folder."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error: UnavailableError | None = None

    def __call__(self, path: str) -> Folder:
        self.asked.append(path)
        if self.error is not None:
            raise self.error
        return Folder(path, ())


def test_lists_a_folder_again_only_for_a_later_time() -> None:
    read = Read()
    folders = FolderListings(read)
    first = folders.since("shop/api", 0.0)
    assert folders.since("shop/api", 0.0) is first
    assert folders.since("shop/api", time.monotonic()) is not first
    folders.since("web", 0.0)
    assert read.asked == ["shop/api", "shop/api", "web"]


def test_lists_a_forgotten_folder_again() -> None:
    read = Read()
    folders = FolderListings(read)
    first = folders.since("shop/api", 0.0)
    folders.forget("shop/api")
    assert folders.since("shop/api", 0.0) is not first


def test_does_not_cache_a_failed_listing() -> None:
    read = Read()
    folders = FolderListings(read)
    read.error = UnavailableError("no answer")
    with pytest.raises(UnavailableError):
        folders.since("shop/api", 0.0)
    read.error = None
    assert folders.since("shop/api", 0.0) is folders.since("shop/api", 0.0)
    assert read.asked == ["shop/api", "shop/api"]
