"""Listing Cloud Registry over real HTTP: images and their folders, times, and images without an artifact."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import UNSET

from tests.registries.yandex.cloud_registry.tools import FLAT, LEVEL, listed
from tests.support.drivers import QUICK
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker.config.settings import RegistrySettings
from worker.registries import open_registry
from worker.registries.errors import (
    BadResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    RegistryError,
    UnavailableError,
    UnsuitableError,
)
from worker.registries.http.rate_limit import LocalLimiter
from worker.registries.interface import Manifest, NoManifestCache, Registry
from worker.registries.yandex.cloud_registry import YandexCloudRegistry

DAY = timedelta(days=1)
T0 = datetime(2026, 3, 2, 9, 15, 44, 127_000, UTC)


# The registry itself


def test_the_clock_is_that_of_the_registry(simulator: Simulator, driver: Registry) -> None:
    simulator.switch(clock_skew=7_200)
    assert driver.clock() - datetime.now(UTC) > timedelta(hours=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "MAVEN"}, "production: GET registry .*has the kind MAVEN"),
        ({"type": "REMOTE"}, "has the type REMOTE"),
        ({"type": "VIRTUAL"}, "has the type VIRTUAL"),
    ],
)
def test_refuses_a_registry_without_own_images(
    simulator: Simulator, driver: Registry, change: dict[str, str], words: str
) -> None:
    simulator.set_registry(**change)
    with pytest.raises(UnsuitableError, match=words):
        driver.clock()


def test_a_transitional_registry_is_planned(simulator: Simulator, driver: Registry) -> None:
    simulator.set_registry(type="TRANSITIONAL")
    simulator.push("shop/api", tags=["v1"])
    driver.clock()
    assert list(driver.repositories()) == ["shop/api"]


@pytest.mark.parametrize(("shown", "error"), [("denied", PermissionDeniedError), ("not_found", NotFoundError)])
def test_listing_without_the_role_is_refused(
    simulator: Simulator, driver: Registry, shown: str, error: type[RegistryError]
) -> None:
    simulator.push("shop/api", tags=["v1"])
    simulator.switch(may_view=False, lacking_role=shown)
    for ask in (driver.clock, lambda: list(driver.repositories()), lambda: driver.images("shop/api")):
        with pytest.raises(error):
            ask()


# Images and their folders


@pytest.mark.parametrize("path", ["full", "parent"])
@pytest.mark.parametrize("artifacts", ["per_tag", "per_digest"])
@pytest.mark.parametrize("fields", ["omitted", "printed"])
def test_reads_images_as_the_registry_reports_them(
    simulator: Simulator, driver: Registry, path: str, artifacts: str, fields: str
) -> None:
    simulator.switch(artifact_path=path, artifacts_of_image=artifacts, empty_fields=fields)
    pushed = simulator.push("shop/api", tags=["v1", "latest"], layers=["base:29000", 0], config=500, created_at=T0)
    bare = simulator.push("shop/api", layers=[7], config=3)
    simulator.push("web", tags=["web"])  # in the style "parent" its path ends in its name, and is its folder as well
    index = simulator.push_index("shop/api", [bare["digest"]], tags=["multi"])
    assert list(driver.repositories()) == ["shop/api", "web"]
    for images in (listed(driver), listed(driver)):  # of the scan; and anew
        assert images.keys() == {pushed["digest"], bare["digest"], index["digest"]}
        image = images[pushed["digest"]]
        assert (image.tags, image.created_at, image.children) == (("latest", "v1"), T0, UNSET)
        assert image.name == f"{simulator.registry_id}/shop/api"
        assert image.config is not None
        assert {blob.digest: blob.size for blob in (image.config, *image.layers)} == pushed["blobs"]
        assert image.compressed_size == 29_500
        assert (images[bare["digest"]].tags, images[bare["digest"]].compressed_size) == ((), 10)
        image = images[index["digest"]]
        assert (image.tags, image.compressed_size, image.children) == (("multi",), None, (bare["digest"],))
    assert [image.tags for image in driver.images("web")] == [("web",)]
    assert not simulator.requests("GET", "/v2/")  # the artifacts contain everything


def test_ignores_and_counts_other_rows(
    simulator: Simulator, driver: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    pushed = simulator.push("shop/api", tags=["v1"])
    made = simulator.push("shop/api", tags=["v2"])
    simulator.set_artifact(simulator.artifact("shop/api", "v2")["id"], "CREATING")
    simulator.push_other("shop/readme.txt")
    simulator.push_other("shop/lib", kind="PACKAGE")
    with caplog.at_level("INFO", "worker.registries"):
        assert list(driver.repositories()) == ["shop/api"]
    (event,) = [vars(record) for record in caplog.records if record.message == "artifacts_not_listed"]
    assert "1 without Docker content" in event["kinds"]
    for _ in range(2):
        assert listed(driver).keys() == {pushed["digest"]}
    assert made["digest"] not in listed(driver)


@pytest.mark.parametrize("shown", ["deleted", "active", "not_listed"])
def test_ignores_softly_deleted_artifacts(simulator: Simulator, driver: Registry, shown: str) -> None:
    simulator.switch(soft_deleted=shown)
    pushed, gone = (simulator.push("shop/api", tags=[tag]) for tag in ("v1", "v2"))
    simulator.soft_delete(gone["id"])
    assert list(driver.repositories()) == ["shop/api"]
    for _ in range(2):
        assert listed(driver).keys() == {pushed["digest"]}


def test_a_folder_of_folders_has_no_images_of_its_own(simulator: Simulator, driver: Registry) -> None:
    simulator.push("shop/api", tags=["v1"])
    before = len(simulator.requests())
    assert driver.images("shop") == ()
    assert len(simulator.requests("GET", "/cloud-registry/v1/artifacts", since=before)) == 1


def test_reports_a_missing_folder(simulator: Simulator, driver: Registry) -> None:
    with pytest.raises(NotFoundError, match="production: GET shop/api"):
        driver.images("shop/api")
    simulator.switch(missing_repository="empty")
    assert driver.images("shop/api") == ()


@pytest.mark.parametrize(("switch", "first"), [("kept", T0), ("migration", None)])
def test_reads_the_push_time_after_a_migration(
    simulator: Simulator, driver: Registry, switch: str, first: datetime | None
) -> None:
    pushed = simulator.push("shop/api", tags=["v1"], created_at=T0)
    simulator.switch(times_after_migration=switch)
    at = listed(driver)[pushed["digest"]].created_at
    assert at is not None
    assert at == first if first else datetime.now(UTC) - at < timedelta(hours=4)


@pytest.mark.parametrize("moves", ["same_artifact", "new_artifact"])
def test_a_tag_that_moved_today_makes_the_image_new(simulator: Simulator, driver: Registry, moves: str) -> None:
    simulator.switch(moved_tag=moves)
    old = simulator.push("shop/api", tags=["latest"], age=100 * DAY)
    new = simulator.push("shop/api", tags=["latest"])
    images = listed(driver)
    at = images[new["digest"]].created_at
    assert at is not None
    assert datetime.now(UTC) - at < DAY
    assert (images[new["digest"]].tags, images[old["digest"]].tags) == (("latest",), ())


# Pages


@pytest.fixture
def many(simulator: Simulator) -> set[str]:
    """Digests in three folders, over 600 days."""
    with ThreadPoolExecutor(4) as pool:
        pushed = pool.map(
            lambda number: simulator.push(f"many/r{number % 3}", tags=[f"t{number}"], layers=[], age=number * DAY),
            range(600),
        )
        return {image["digest"] for image in pushed}


@pytest.fixture
def paged(settings: RegistrySettings) -> Iterator[YandexCloudRegistry]:
    """Pages of 10."""
    limiter = LocalLimiter(settings.rate.requests_per_second)
    with YandexCloudRegistry(settings, limiter, QUICK, NoManifestCache()) as registry:
        registry.page_size = 10
        yield registry


def whole(registry: Registry) -> set[str]:
    """All digests of a registry, as a scan reads them."""
    return {image.digest for path in registry.repositories() for image in registry.images(path)}


@pytest.mark.parametrize("order", ["id", "created_at"])
def test_lists_a_registry_page_by_page(simulator: Simulator, paged: Registry, many: set[str], order: str) -> None:
    simulator.switch(list_order=order)
    before = len(simulator.requests())
    assert whole(paged) == many
    asked = simulator.requests("GET", "/cloud-registry/v1/artifacts", since=before)
    assert len(asked) == 60
    assert all("status=ACTIVE" in request["query"] for request in asked)


def test_a_page_that_fails_fails_the_listing(simulator: Simulator, paged: Registry, many: set[str]) -> None:
    simulator.fault("error", path="pageToken", code=7, message="Permission denied", after=5)
    with pytest.raises(PermissionDeniedError):
        whole(paged)


def test_requests_pages_of_the_maximum_size(simulator: Simulator, driver: Registry, many: set[str]) -> None:
    before = len(simulator.requests())
    assert list(driver.repositories()) == ["many/r0", "many/r1", "many/r2"]
    digests = {image.digest for path in ("many/r0", "many/r1", "many/r2") for image in driver.images(path)}
    assert digests == many
    (asked,) = simulator.requests(since=before)  # one listing, though pages are of 10 where no size is given
    assert "pageSize=1000" in asked["query"]


def test_a_token_that_expires_fails_the_listing(simulator: Simulator, paged: Registry, many: set[str]) -> None:
    simulator.switch(page_token="expires")
    simulator.before("GET", "pageToken", "clock", forward=3600)
    with pytest.raises(RegistryError, match="INVALID_ARGUMENT: Page token"):
        list(paged.repositories())


@pytest.mark.parametrize(
    ("fault", "words"),
    [("same_token", "is requested twice"), ("endless_token", "no new rows"), ("repeated_page", "no new rows")],
)
def test_refuses_a_listing_that_never_ends(
    simulator: Simulator, paged: Registry, many: set[str], fault: str, words: str
) -> None:
    simulator.fault(fault, path=f"{FLAT}|{LEVEL}")
    with pytest.raises(BadResponseError, match=f"production: GET artifacts: the listing does not end: .*{words}"):
        list(paged.repositories())
    with pytest.raises(BadResponseError, match=f"production: GET many/r0: the listing does not end: .*{words}"):
        paged.images("many/r0")


# Scan and later


def test_a_later_read_lists_the_folder_again(simulator: Simulator, driver: Registry) -> None:
    first = simulator.push("shop/api", tags=["v1"])
    assert list(driver.repositories()) == ["shop/api"]
    second = simulator.push("shop/api", tags=["v2"])
    assert listed(driver).keys() == {first["digest"]}
    assert listed(driver).keys() == {first["digest"], second["digest"]}
    simulator.remove(first["id"])
    assert listed(driver).keys() == {second["digest"]}


def test_an_invalid_artifact_makes_its_folder_unreadable(simulator: Simulator, driver: Registry) -> None:
    simulator.push("shop/api", tags=["v1"])
    wrong = {"content": {"docker": {"manifestDigest": "sha256:12"}}}
    simulator.fault("wrong_types", path=f"{FLAT}|{LEVEL}", set=wrong)
    assert list(driver.repositories()) == ["shop/api"]
    for _ in range(2):
        with pytest.raises(BadResponseError, match="production: GET shop/api: an artifact with the digest 'sha256:12'"):
            driver.images("shop/api")


# Images without an artifact


def test_reads_children_without_artifacts_by_the_docker_api(simulator: Simulator, driver: Registry) -> None:
    simulator.switch(child_artifacts="not_listed")
    child = simulator.push("shop/api", layers=[1000], config=500)
    inner = simulator.push_index("shop/api", [child["digest"]])
    index = simulator.push_index("shop/api", [inner["digest"]], tags=["v1"])
    assert list(driver.repositories()) == ["shop/api"]
    images = listed(driver)
    assert images.keys() == {child["digest"], inner["digest"], index["digest"]}
    assert images[inner["digest"]].children == (child["digest"],)
    image = images[child["digest"]]
    assert (image.children, image.compressed_size, image.id, image.tags) == (UNSET, 1500, "", ())
    assert driver.get("shop/api", image) == image


def test_reads_the_manifest_of_an_artifact_that_reports_none(simulator: Simulator, driver: Registry) -> None:
    child = simulator.push("web", layers=[1000], config=500)
    for path, digest, children, size in (
        ("shop/api", simulator.push("shop/api", tags=["v1"], layers=[1000], config=500)["digest"], UNSET, 1500),
        ("web", simulator.push_index("web", [child["digest"]], tags=["v1"])["digest"], (child["digest"],), None),
    ):
        simulator.fault("wrong_types", path=LEVEL, set={"content": {"docker": {"manifestDigest": digest}}})
        image = listed(driver, path)[digest]
        assert (image.children, image.compressed_size) == (children, size)
        assert image.media_type
        assert driver.get(path, image) == image
        simulator.no_faults()


class Memory:
    """A manifest cache in memory."""

    def __init__(self) -> None:
        self.held: dict[str, Manifest] = {}

    def load(self, digests: Iterable[str]) -> Mapping[str, Manifest]:
        return {digest: self.held[digest] for digest in digests if digest in self.held}

    def save(self, manifests: Mapping[str, Manifest]) -> None:
        self.held.update(manifests)


def test_a_cached_manifest_does_not_prove_that_a_child_exists(simulator: Simulator, settings: RegistrySettings) -> None:
    simulator.switch(child_artifacts="not_listed")
    child = simulator.push("shop/api")
    index = simulator.push_index("shop/api", [child["digest"]], tags=["v1"])
    with open_registry(settings, retries=QUICK, manifests=Memory()) as registry:
        for _ in range(2):
            assert listed(registry).keys() == {child["digest"], index["digest"]}
        assert len(simulator.requests("GET", f"/v2/.*/manifests/{child['digest']}")) <= 2  # with the sign-in
        image = listed(registry)[child["digest"]]
        simulator.remove(child["id"])
        assert listed(registry).keys() == {index["digest"]}
        with pytest.raises(NotFoundError):
            registry.get("shop/api", image)


def test_an_unreadable_child_has_unknown_children(simulator: Simulator, driver: Registry) -> None:
    simulator.switch(child_artifacts="not_listed", may_pull=False)
    child = simulator.push("shop/api")
    simulator.push_index("shop/api", [child["digest"]], tags=["v1"])
    assert listed(driver)[child["digest"]].children is None


# One image


def test_rereads_a_new_tag(simulator: Simulator, driver: Registry) -> None:
    pushed = simulator.push("shop/api", tags=["v1"])
    image = listed(driver)[pushed["digest"]]
    simulator.tag("shop/api", pushed["digest"], "prod")
    assert until(lambda: driver.get("shop/api", image).tags == ("prod", "v1"))


def test_reports_a_deleted_image_as_not_found(simulator: Simulator, driver: Registry) -> None:
    pushed = simulator.push("shop/api", tags=["v1"])
    simulator.push("shop/api", tags=["v2"])
    image = listed(driver)[pushed["digest"]]
    simulator.remove(pushed["id"])

    def is_gone() -> bool:
        try:
            driver.get("shop/api", image)
        except NotFoundError as error:
            return str(error).startswith("production: GET shop/api@sha256:")
        return False

    assert until(is_gone)


def test_images_that_are_reread_together_cost_one_listing(simulator: Simulator, settings: RegistrySettings) -> None:
    for number in range(8):
        simulator.push("shop/api", tags=[f"v{number}"])
    with open_registry(settings, retries=QUICK) as registry:
        images = list(registry.images("shop/api"))
    with open_registry(settings, retries=QUICK) as registry:
        before = len(simulator.requests())
        start = threading.Barrier(8)

        def read(number: int) -> bool:
            start.wait()
            return registry.get("shop/api", images[number]) == images[number]

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(read, range(8)))
        assert len(simulator.requests("GET", since=before)) == 1


# Trouble


@pytest.fixture
def impatient(simulator: Simulator, settings: RegistrySettings) -> Iterator[Registry]:
    with open_registry(settings, retries=replace(QUICK, attempts=2, total=1.0)) as registry:
        yield registry


@pytest.mark.parametrize(
    ("fault", "more", "error"),
    [
        ("reset", {}, UnavailableError),
        ("cut", {}, UnavailableError),
        ("error", {"code": 14, "message": "later"}, UnavailableError),
        ("error", {"code": 8, "message": "too many"}, RateLimitedError),
    ],
)
def test_a_failed_listing_is_an_error_and_never_partial(
    simulator: Simulator, impatient: Registry, fault: str, more: dict[str, object], error: type[RegistryError]
) -> None:
    simulator.push("shop/api", tags=["v1"])
    simulator.fault(fault, path=f"{FLAT}|{LEVEL}", **more)
    for ask in (lambda: list(impatient.repositories()), lambda: impatient.images("shop/api")):
        with pytest.raises(error):
            ask()
        if error is RateLimitedError:
            return  # the next request would wait for a second
