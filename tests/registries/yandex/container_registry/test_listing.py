"""Listing over real HTTP: pages, absent fields, and every failure of a listing."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import UNSET

from tests.support.drivers import QUICK, Driver, image_of, with_defaults
from tests.support.simulator.client import Simulator
from worker.config.settings import Endpoints, RegistrySettings
from worker.registries import open_registry
from worker.registries.errors import (
    BadResponseError,
    NotFoundError,
    PermissionDeniedError,
    RegistryError,
    UnavailableError,
)

LIST_IMAGES = "/container-registry/v1/images[?]"
LIST_REPOSITORIES = "/container-registry/v1/repositories"


def test_repositories_are_sorted_paths(simulator: Simulator, driver: Driver) -> None:
    for path in ("web", "shop/api", "shop/api/cache", "charts/shop"):
        simulator.push(path)
    assert list(driver.repositories()) == ["charts/shop", "shop/api", "shop/api/cache", "web"]


@pytest.mark.parametrize("style", ["omitted", "printed"])
def test_an_empty_registry_has_no_repositories(simulator: Simulator, driver: Driver, style: str) -> None:
    simulator.switch(empty_fields=style)
    assert list(driver.repositories()) == []


@pytest.mark.parametrize("style", ["omitted", "printed"])
@pytest.mark.parametrize("digits", [0, 3, 6, 9])
def test_reads_an_image_as_the_registry_reports_it(
    simulator: Simulator, driver: Driver, style: str, digits: int
) -> None:
    simulator.switch(empty_fields=style, timestamp_digits=digits)
    at = datetime(2026, 3, 2, 9, 15, 44, 127_000 if digits else 0, UTC)
    pushed = simulator.push("shop/api", tags=["1.4.2", "stable"], layers=["base:29126000", 0], created_at=at)
    image = image_of(driver, "shop/api", pushed["id"])
    assert image.digest == pushed["digest"]
    assert image.name == f"{simulator.registry_id}/shop/api"
    assert set(image.tags) == {"1.4.2", "stable"}
    assert image.created_at is not None
    assert abs(image.created_at - at) <= timedelta(microseconds=1)  # nanoseconds are rounded
    assert image.compressed_size == 29_126_500
    assert image.config is not None
    assert [layer.size for layer in image.layers] == [29_126_000, 0]
    assert {blob.digest: blob.size for blob in (image.config, *image.layers)} == pushed["blobs"]
    assert driver.get("shop/api", image) == image


@pytest.mark.parametrize("style", ["omitted", "printed"])
def test_the_size_of_an_index_is_unknown(simulator: Simulator, driver: Driver, style: str) -> None:
    simulator.switch(empty_fields=style)
    child = simulator.push("shop/api")
    index = simulator.push_index("shop/api", [child["digest"]], tags=["v1"])
    image = image_of(driver, "shop/api", index["id"])
    assert (image.compressed_size, image.config, image.layers) == (None, None, ())
    assert image.children == (child["digest"],)
    assert image_of(driver, "shop/api", child["id"]).children is UNSET


def test_an_index_has_the_size_that_the_registry_reports(simulator: Simulator, driver: Driver) -> None:
    simulator.switch(index_fields="sum")
    child = simulator.push("shop/api", layers=[1000], config=500)
    index = simulator.push_index("shop/api", [child["digest"]])
    image = image_of(driver, "shop/api", index["id"])
    assert image.compressed_size == 1500
    assert image.children == (child["digest"],)


@pytest.mark.parametrize("response", ["not_found", "empty"])
def test_reports_a_missing_repository(simulator: Simulator, driver: Driver, response: str) -> None:
    simulator.push("shop/api")
    simulator.switch(missing_repository=response)
    if response == "empty":
        assert driver.images("nowhere") == ()
    else:
        with pytest.raises(NotFoundError, match="production: GET nowhere: NOT_FOUND"):
            driver.images("nowhere")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        pytest.param({"kind": "html"}, "not JSON .*begins with '<!DOCTYPE html>", id="HTML"),
        pytest.param({"kind": "broken_utf8"}, "not JSON .*'utf-8' codec", id="broken UTF-8"),
        pytest.param(
            {"kind": "wrong_types"},
            "Expected .* at `[$].images.0.[.]compressedSize`",
            id="wrong types",
        ),
        pytest.param({"kind": "huge_numbers"}, "compressedSize is not a number|out of range", id="beyond int64"),
        pytest.param({"kind": "missing_fields"}, "an image with the digest None", id="no digest"),
        pytest.param({"kind": "missing_fields", "drop": ["id"]}, "with the id None", id="no id"),
        pytest.param({"kind": "missing_fields", "drop": ["name"]}, "of None", id="no name"),
        pytest.param({"kind": "wrong_types", "set": {"name": "crpelsewhere/shop/api"}}, "of 'crpels", id="foreign"),
        pytest.param({"kind": "wrong_types", "set": {"compressedSize": "-1"}}, "out of range: -1", id="negative size"),
        pytest.param({"kind": "wrong_types", "set": {"createdAt": "yesterday"}}, "RFC3339", id="no time"),
        pytest.param({"kind": "wrong_types", "set": {"createdAt": "2026-01-01T00:00:00"}}, "timezone", id="no zone"),
        pytest.param({"kind": "wrong_types", "set": {"tags": ["a", ""]}}, "an empty tag", id="empty tag"),
        pytest.param({"kind": "wrong_types", "set": {"digest": "sha256:AB"}}, "with the digest 'sha256", id="digest"),
    ],
)
def test_refuses_a_listing_that_breaks_the_protocol(
    simulator: Simulator, driver: Driver, fault: dict[str, object], words: str
) -> None:
    simulator.push("shop/api", tags=["v1"])
    simulator.fault(path=LIST_IMAGES, **fault)  # type: ignore[arg-type]  # the table's values are what the fault takes
    with pytest.raises(BadResponseError, match=words) as failure:
        driver.images("shop/api")
    assert str(failure.value).startswith("production: GET shop/api: ")
    assert "\n" not in str(failure.value)


def test_repeated_rows_are_one_image(simulator: Simulator, driver: Driver) -> None:
    simulator.push("shop/api", content="a", tags=["v1"])
    simulator.push("shop/api", content="b")
    digest = simulator.images("shop/api")[0]["digest"]
    simulator.fault("wrong_types", path=LIST_IMAGES, set={"digest": digest})
    assert [image.digest for image in driver.images("shop/api")] == [digest]


def test_refuses_a_repository_of_another_registry(simulator: Simulator, driver: Driver) -> None:
    simulator.push("shop/api")
    simulator.fault("wrong_types", path=LIST_REPOSITORIES, set={"name": "crpelsewhere0000000a/shop/api"})
    with pytest.raises(
        BadResponseError,
        match="expected a repository of registry crpvab5oob146rh73ilt, got 'crpelsewhere0000000a/shop/api'",
    ):
        list(driver.repositories())


def test_images_of_two_repositories_never_mix(simulator: Simulator, driver: Driver) -> None:
    same = [simulator.push(path, content="same", layers=["base:1"]) for path in ("shop/api", "shop/api/cache")]
    assert [image.id for image in driver.images("shop/api")] == [same[0]["id"]]
    assert [image.id for image in driver.images("shop/api/cache")] == [same[1]["id"]]


def test_refuses_an_image_of_another_repository(simulator: Simulator, driver: Driver) -> None:
    pushed = simulator.push("shop/api")
    image = image_of(driver, "shop/api", pushed["id"])
    with pytest.raises(
        BadResponseError,
        match=r"expected images of 'crpvab5oob146rh73ilt/shop/web', got .* of 'crpvab5oob146rh73ilt/shop/api'",
    ):
        driver.get("shop/web", image)


def test_get_shows_what_changed_since_the_listing(simulator: Simulator, driver: Driver) -> None:
    pushed = simulator.push("shop/api", tags=["pr-1"])
    image = image_of(driver, "shop/api", pushed["id"])
    simulator.tag("shop/api", "pr-1", "v1")
    assert set(driver.get("shop/api", image).tags) == {"pr-1", "v1"}
    simulator.remove(pushed["id"])
    with pytest.raises(NotFoundError, match="NOT_FOUND: Image"):
        driver.get("shop/api", image)


@pytest.mark.parametrize("skew", [0.0, 4000.0, -4000.0])
def test_the_clock_is_that_of_the_registry(simulator: Simulator, driver: Driver, skew: float) -> None:
    simulator.switch(clock_skew=skew)
    registry_time = driver.clock()
    assert registry_time.tzinfo is UTC
    assert abs(registry_time - (datetime.now(UTC) + timedelta(seconds=skew))) < timedelta(seconds=5)


@pytest.mark.parametrize(("status", "kind"), [(403, PermissionDeniedError), (404, NotFoundError)])
def test_reports_a_foreign_registry(
    simulator: Simulator, settings: RegistrySettings, status: int, kind: type[RegistryError], tmp_path: object
) -> None:
    simulator.switch(foreign_registry=status)
    foreign = with_defaults(id="crpelsewhere0000000a", credentials=settings.credentials, endpoints=settings.endpoints)
    with open_registry(foreign, retries=QUICK) as registry, pytest.raises(kind):
        registry.clock()


def test_reports_a_missing_role_to_list(simulator: Simulator, driver: Driver) -> None:
    simulator.switch(may_view=False)
    with pytest.raises(PermissionDeniedError, match="production: GET repositories: PERMISSION_DENIED") as failure:
        list(driver.repositories())
    assert failure.value.systemic
    assert failure.value.request_id


@pytest.mark.parametrize("status", [408, 503, 504])
def test_reports_a_proxy_that_answers_in_plain_text(simulator: Simulator, driver: Driver, status: int) -> None:
    simulator.switch(front_proxy_status=status)
    with pytest.raises(UnavailableError, match=f"HTTP {status}: stream timeout request-id: 5a6b0a52"):
        driver.images("shop/api")


def test_reports_an_unreachable_service(simulator: Simulator, settings: RegistrySettings) -> None:
    simulator.switch(phase="gone")
    with open_registry(settings, retries=QUICK) as registry, pytest.raises(NotFoundError, match="404 page not found"):
        registry.clock()
    nowhere = with_defaults(
        id=settings.id,
        credentials=settings.credentials,
        endpoints=Endpoints(**dict.fromkeys(simulator.endpoints(), "http://127.0.0.1:1")),
    )
    with open_registry(nowhere, retries=QUICK) as registry, pytest.raises(UnavailableError, match="no connection to"):
        registry.clock()


def test_serves_sixteen_threads(simulator: Simulator, driver: Driver) -> None:
    expected = {path: simulator.push(path)["id"] for path in (f"team-{number}/app" for number in range(40))}
    with ThreadPoolExecutor(16) as pool:
        listed = dict(zip(expected, pool.map(driver.images, expected), strict=True))
    assert {path: [image.id for image in images] for path, images in listed.items()} == {
        path: [image_id] for path, image_id in expected.items()
    }
    assert driver.usage().requests == {("GET", "200"): 40}
    assert driver.usage().requests == {}


def row(simulator: Simulator, digest: str, number: int, *tags: str) -> dict[str, Any]:
    """A row of a listing of shop/api."""
    return {
        "id": f"crp{number:017}",
        "name": f"{simulator.registry_id}/shop/api",
        "digest": digest,
        "compressedSize": "5",
        "config": {"digest": "sha256:" + "c" * 64, "size": "5"},
        "createdAt": "2026-01-01T00:00:00Z",
        "tags": list(tags),
    }


def say(simulator: Simulator, *rows: dict[str, Any]) -> None:
    body = json.dumps({"images": rows})
    simulator.fault("status", method="GET", path=LIST_IMAGES, status=200, body=body)


@pytest.mark.parametrize("order", [1, -1])
def test_two_rows_of_one_digest_are_one_image_with_the_tags_of_both(
    simulator: Simulator, driver: Driver, order: int
) -> None:
    digest = "sha256:" + "a" * 64
    rows = [row(simulator, digest, 1, "production"), row(simulator, digest, 2, "pr-1")]
    say(simulator, *rows[::order])
    (image,) = driver.images("shop/api")
    assert (image.digest, image.tags, image.id) == (digest, ("pr-1", "production"), rows[0]["id"])


def test_the_later_of_two_equal_rows_counts(simulator: Simulator, driver: Driver) -> None:
    digest = "sha256:" + "a" * 64
    say(simulator, row(simulator, digest, 1, "pr-1"), row(simulator, digest, 1, "pr-2"))
    assert [image.tags for image in driver.images("shop/api")] == [("pr-2",)]
