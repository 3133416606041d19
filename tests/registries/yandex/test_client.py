"""The shared client: complete listings, and the operation of a deletion until its end."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from policies.image import Image
from tests.support.drivers import Driver, deleted, key, soon
from tests.support.simulator.client import Simulator
from worker.registries.errors import (
    BadResponseError,
    OperationFailedError,
    OperationUnknownError,
    RegistryError,
)
from worker.registries.interface import Deletion

LIST_IMAGES = "/container-registry/v1/images[?]"

OPERATIONS = "/operations/"


def test_returns_none_for_an_operation_that_never_ends(simulator: Simulator, driver: Driver, image: Image) -> None:
    simulator.switch(operations="never_done")
    parse_body = driver.delete("shop/api", image, key())
    started = time.monotonic()
    assert driver.follow(parse_body, soon(0.5)) == parse_body
    assert 0.4 < time.monotonic() - started < 2.0
    assert len(simulator.requests("GET", OPERATIONS)) >= 2


def test_sends_one_request_after_the_deadline(simulator: Simulator, driver: Driver, image: Image) -> None:
    simulator.switch(operation_seconds_from=0.0, operation_seconds_to=0.0)
    done = driver.delete("shop/api", image, key())
    assert driver.follow(Deletion(done.operation_id, done=False), soon(-60)).done
    assert len(simulator.requests("GET", OPERATIONS)) == 1


def test_follows_an_operation_with_an_error_to_its_end(simulator: Simulator, driver: Driver, image: Image) -> None:
    simulator.switch(error_before_done=True, operation_seconds_from=0.5, operation_seconds_to=0.5)
    simulator.fault("fail_operation", method="DELETE", code=13, message="Internal error")
    with pytest.raises(OperationFailedError):
        deleted(driver, image)
    assert simulator.state()["operations"] == {"all": 1, "done": 1, "failed": 1}
    assert len(simulator.requests("GET", OPERATIONS)) >= 3


def test_accepts_an_error_before_done_at_the_deadline(simulator: Simulator, driver: Driver, image: Image) -> None:
    simulator.switch(error_before_done=True, operation_seconds_from=3.0, operation_seconds_to=3.0)
    simulator.fault("fail_operation", method="DELETE", code=13, message="Internal error")
    parse_body = driver.delete("shop/api", image, key())
    started = time.monotonic()
    with pytest.raises(OperationFailedError, match="INTERNAL: Internal error"):
        driver.follow(parse_body, soon(2.5))
    assert time.monotonic() - started < 2.9  # it is not done before three seconds are over


def test_refuses_the_operation_of_another_image(simulator: Simulator, driver: Driver, image: Image) -> None:
    metadata = {"imageId": "crpsomebodyelse00000"}
    simulator.fault("wrong_types", method="DELETE", set={"metadata": metadata})
    with pytest.raises(
        BadResponseError, match=f"expected the deletion of {image.id}, got the deletion of crpsomebodyelse"
    ):
        driver.delete("shop/api", image, key())


@pytest.mark.parametrize("drop", ["id", "metadata", "description", "createdAt"])
def test_refuses_an_incomplete_operation(simulator: Simulator, driver: Driver, image: Image, drop: str) -> None:
    simulator.fault("missing_fields", method="DELETE", drop=[drop])
    if drop == "id":
        with pytest.raises(BadResponseError, match="an operation with the id None"):
            driver.delete("shop/api", image, key())
    else:
        assert deleted(driver, image).done


def test_reports_an_unknown_operation(driver: Driver) -> None:
    with pytest.raises(OperationUnknownError, match="production: GET operation crpforgotten: NOT_FOUND"):
        driver.follow(Deletion("crpforgotten", done=False), soon())


def test_retries_temporary_faults_while_following(simulator: Simulator, driver: Driver, image: Image) -> None:
    simulator.switch(operation_seconds_from=0.2, operation_seconds_to=0.2)
    simulator.fault("status", path=OPERATIONS, times=3, status=503)
    assert deleted(driver, image).done


def test_an_unreachable_service_leaves_the_outcome_unknown(simulator: Simulator, driver: Driver, image: Image) -> None:
    simulator.switch(operations="never_done")
    parse_body = driver.delete("shop/api", image, key())
    simulator.fault("hang", path=OPERATIONS)
    started = time.monotonic()
    assert driver.follow(parse_body, soon(0.5)) == parse_body
    assert time.monotonic() - started < 3.0


@pytest.fixture
def long_listing(simulator: Simulator) -> set[str]:
    """The digests of a repository of more than one page."""
    with ThreadPoolExecutor(4) as pool:
        return {pushed["digest"] for pushed in pool.map(lambda _: simulator.push("long", layers=[]), range(1_005))}


@pytest.mark.parametrize("order", ["id", "created_at"])
def test_lists_two_pages(simulator: Simulator, driver: Driver, long_listing: set[str], order: str) -> None:
    simulator.switch(list_order=order)
    simulator.push("other")
    before = len(simulator.requests())
    assert {image.digest for image in driver.images("long")} == long_listing
    asked = simulator.requests("GET", "/container-registry/v1/images", since=before)
    assert len(asked) == 2
    assert all("pageSize=1000" in request["query"] for request in asked)
    for fault, words in (
        ("same_token", "is requested twice"),
        ("repeated_page", "no new rows"),
        ("endless_token", "no new rows"),
    ):
        simulator.fault(fault, path=LIST_IMAGES)
        with pytest.raises(BadResponseError, match=words) as failure:
            driver.images("long")
        assert str(failure.value).startswith("production: GET long: the listing does not end")
        simulator.no_faults()


def test_a_token_that_expires_fails_the_whole_listing(
    simulator: Simulator, driver: Driver, long_listing: set[str]
) -> None:
    simulator.switch(page_token="expires")
    simulator.before("GET", "pageToken", "clock", forward=3600)
    with pytest.raises(RegistryError, match="INVALID_ARGUMENT: Page token"):
        driver.images("long")


def test_accepts_rows_that_vanish_between_pages(simulator: Simulator, driver: Driver, long_listing: set[str]) -> None:
    gone = min(simulator.images("long"), key=lambda image: image["id"])
    simulator.before("GET", "pageToken", "remove", image=gone["id"])
    assert {image.digest for image in driver.images("long")} == long_listing  # it was there when its page was asked for


def test_requests_a_cut_page_again(simulator: Simulator, driver: Driver) -> None:
    pushed = simulator.push("shop/api")
    simulator.fault("cut", path=LIST_IMAGES, times=2)
    assert [image.id for image in driver.images("shop/api")] == [pushed["id"]]
    assert len(simulator.requests("GET", "/container-registry/v1/images")) == 3
