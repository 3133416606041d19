"""A listing has every image once, as it was pushed."""

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec import UNSET

from tests.registries.interface.server import Pushed, Server
from tests.registries.interface.steps import listed, present, tags
from worker.registries.errors import NotFoundError
from worker.registries.interface import Manifest, NoManifestCache, Registry

MANY = 10_000
MEMORY = 200 * 2**20  # bytes that a driver may need for a repository of so many images


def test_lists_everything(server: Server, driver: Registry) -> None:
    server.push("shop/api", "v1", "latest", layers=["base", "one"])
    server.push("shop/api", "v2", layers=["base", "two"])
    server.push("shop/web/front", "v1")
    server.push("tools", "2026.1_rc-1")
    if server.tells.lists_untagged:
        server.push("tools", layers=["untagged"])
    assert list(driver.repositories()) == ["shop/api", "shop/web/front", "tools"]
    assert {path: tags(listed(driver, path)) for path in driver.repositories()} == present(server.state())


def test_lists_an_empty_registry(server: Server, driver: Registry) -> None:
    assert list(driver.repositories()) == []


def test_lists_page_after_page(server: Server, driver: Registry) -> None:
    server.fill("long", 2 * server.page + 5)
    server.push("other", "v1")
    assert list(driver.repositories()) == ["long", "other"]
    assert tags(listed(driver, "long")) == server.state()["long"]
    with server.open() as another:  # by itself, without the listing of the registry before
        before = len(server.proxy.received(server.calls.images))
        assert tags(listed(another, "long")) == server.state()["long"]
    assert len(server.proxy.received(server.calls.images)) - before >= 3


class Remembered(NoManifestCache):
    """Manifests that a store would have of earlier runs."""

    def __init__(self, manifests: dict[str, Manifest]) -> None:
        self._manifests = manifests

    def load(self, digests):  # type: ignore[no-untyped-def]  # as the base has it
        return {digest: self._manifests[digest] for digest in digests if digest in self._manifests}


@pytest.fixture
def thousands(request: pytest.FixtureRequest, server: Server) -> int:
    """Enough images to show in the memory; where each takes a request, `make test` has a tenth of them."""
    system: bool = request.config.getoption("--system")
    return MANY if system or not server.requests_for_an_image else MANY // 10


def test_lists_many_images(server: Server, thousands: int) -> None:
    remembered = Remembered(dict(server.fill("big", thousands)))
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = _peak()
    with server.open(remembered, straight=True) as driver:
        assert len(listed(driver, "big")) == thousands
        asked = sum(driver.usage().requests.values())
    assert asked <= thousands / server.page + thousands * server.requests_for_an_image + 20
    assert _peak() - before < MEMORY


def _peak() -> int:
    """The most memory that this process has had, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def test_reports_blobs_and_sizes(server: Server, driver: Registry) -> None:
    pushed = server.push("shop/api", "v1", layers=["base", "one"])
    image = listed(driver, "shop/api")[pushed.digest]
    assert image.config is not None
    assert pushed.blobs is not None
    assert [(blob.digest, blob.size) for blob in (image.config, *image.layers)] == list(pushed.blobs.items())
    assert image.compressed_size == sum(pushed.blobs.values())
    assert image.children is UNSET
    assert image.created_at is None or image.created_at.tzinfo is not None
    assert (image.created_at is None) or server.tells.reports_push_time


def one_of_each(server: Server) -> dict[str, Pushed]:
    """An index over two images, and an index over it and a third."""
    made = {name: server.push("shop/api", layers=[name]) for name in ("amd64", "arm64", "lone")}
    made["inner"] = server.push_index("shop/api", [made["amd64"].digest, made["arm64"].digest])
    made["outer"] = server.push_index("shop/api", [made["inner"].digest, made["lone"].digest], "v1")
    return made


def test_resolves_indexes_in_indexes(server: Server, driver: Registry) -> None:
    made = one_of_each(server)
    images = listed(driver, "shop/api")
    assert images.keys() == {image.digest for image in made.values()}
    for pushed in made.values():
        assert images[pushed.digest].children == (UNSET if pushed.children is None else pushed.children)
        assert frozenset(images[pushed.digest].tags) == frozenset(pushed.tags)
    if server.tells.name != "yandex-cloud-registry":  # without media types
        assert [images[made[name].digest].media_type for name in ("inner", "outer")] == [made["inner"].media_type] * 2


def test_finds_a_child_that_no_listing_shows(server: Server, driver: Registry) -> None:
    server.hide_children()
    made = one_of_each(server)
    images = listed(driver, "shop/api")
    assert images.keys() >= {made[name].digest for name in ("amd64", "arm64", "lone", "outer")}
    child = images[made["amd64"].digest]
    assert (child.tags, child.children) == ((), UNSET)
    assert driver.get("shop/api", child, {"v1": made["outer"].digest}).digest == child.digest


def test_omits_a_child_that_does_not_exist(server: Server, driver: Registry) -> None:
    child, other = server.push("shop/api", layers=["a"]), server.push("shop/api", layers=["b"])
    index = server.push_index("shop/api", [child.digest, other.digest], "v1")
    server.remove("shop/api", child.digest)
    images = listed(driver, "shop/api")
    assert images.keys() == {other.digest, index.digest}
    assert images[index.digest].children == (child.digest, other.digest)


def test_reports_the_subject_of_an_image(server: Server, driver: Registry) -> None:
    image = server.push("shop/api", "v1")
    referrer = server.push("shop/api", "note", layers=["note"], subject=image.digest)
    images = listed(driver, "shop/api")
    assert images[referrer.digest].subject == image.digest
    assert images[image.digest].subject is UNSET


def test_reports_a_repository_that_does_not_exist(server: Server, driver: Registry) -> None:
    server.push("shop/api", "v1")
    with pytest.raises(NotFoundError) as failure:
        driver.images("shop/nothing")
    assert failure.value.registry == "production"
    assert "shop/nothing" in str(failure.value)


def test_serves_several_threads(server: Server, driver: Registry) -> None:
    for number in range(6):
        server.push(f"shop/s{number}", "v1", layers=["base", str(number)])
        server.push_index(f"shop/s{number}", [server.push(f"shop/s{number}").digest], "index")
    alone = {path: driver.images(path) for path in driver.repositories()}
    assert len(alone) == 6
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            together = dict(zip(alone, pool.map(driver.images, alone), strict=True))
            assert {path: set(images) for path, images in together.items()} == {
                path: set(images) for path, images in alone.items()
            }
