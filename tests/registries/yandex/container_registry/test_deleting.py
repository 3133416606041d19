"""Deletions over real HTTP: operations that finish, fail, hang or are forgotten, and refusals."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from policies.image import Image
from tests.support.drivers import Driver, deleted, key, soon
from tests.support.simulator.client import Simulator
from worker.registries.errors import (
    NotFoundError,
    OperationBrokenError,
    OperationFailedError,
    PermissionDeniedError,
    RateLimitedError,
    ReadOnlyError,
    RegistryError,
    TooLateError,
    UnavailableError,
    UsedByImageListsError,
)
from worker.registries.interface import Deletion

DELETE_IMAGE = "/container-registry/v1/images/"


def failure_of(kind: type[RegistryError], message: str, call: Callable[[], object]) -> RegistryError:
    """The error of the call, of exactly this type, with this message."""
    with pytest.raises(RegistryError, match=message) as failure:
        call()
    assert type(failure.value) is kind
    return failure.value


@pytest.mark.parametrize("style", ["omitted", "printed"])
@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_follows_a_deletion_to_its_end(
    simulator: Simulator, driver: Driver, image: Image, style: str, seconds: float
) -> None:
    simulator.switch(empty_fields=style, operation_seconds_from=seconds, operation_seconds_to=seconds)
    parse_body = driver.delete("shop/api", image, key())
    assert parse_body.operation_id
    assert parse_body.done is (seconds == 0.0)
    assert driver.follow(parse_body, soon()) == Deletion(parse_body.operation_id, done=True)
    assert simulator.deleted_ids() == {image.id}


def test_the_same_key_is_the_same_operation(simulator: Simulator, driver: Driver, image: Image) -> None:
    same = key()
    first, second = (driver.delete("shop/api", image, same) for _ in range(2))
    assert first.operation_id == second.operation_id
    assert {request["key"] for request in simulator.requests("DELETE")} == {same}


@pytest.mark.parametrize("missing", ["not_found", "operation_error"])
def test_reports_an_image_that_is_gone_already(
    simulator: Simulator, driver: Driver, image: Image, missing: str
) -> None:
    simulator.switch(missing_image=missing)
    simulator.remove(image.id)
    with pytest.raises(NotFoundError) as failure:
        deleted(driver, image)
    assert not failure.value.maybe_done


@pytest.mark.parametrize("early", [False, True], ids=["with done", "before done"])
@pytest.mark.parametrize("child", ["refused", "operation_error"])
def test_reports_a_child_that_an_index_needs(
    simulator: Simulator, driver: Driver, image: Image, child: str, early: bool
) -> None:
    simulator.switch(child_of_index=child, error_before_done=early)
    index = simulator.push_index("shop/api", [image.digest], tags=["v1"])
    with pytest.raises(UsedByImageListsError, match=f"are used by image lists {index['id']}") as failure:
        deleted(driver, image)
    assert not failure.value.systemic
    assert failure.value.registry == "production"


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        pytest.param(13, "Internal error", OperationBrokenError, id="internal"),
        pytest.param(14, "Storage is away", OperationBrokenError, id="unavailable"),
        pytest.param(7, "Permission denied", PermissionDeniedError, id="permission"),
        pytest.param(5, "Image not found", NotFoundError, id="not found"),
        pytest.param(9, "The registry is read-only", ReadOnlyError, id="read-only"),
        pytest.param(9, "Images a are used by image lists b", UsedByImageListsError, id="used"),
        pytest.param(9, "Scan in progress", OperationFailedError, id="another precondition"),
    ],
)
def test_reports_a_failed_operation(
    simulator: Simulator, driver: Driver, image: Image, code: int, message: str, kind: type[RegistryError]
) -> None:
    simulator.fault("fail_operation", method="DELETE", code=code, message=message)
    failure_of(kind, message, lambda: deleted(driver, image))
    assert simulator.deleted_ids() == set()


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        pytest.param(9, "Registry is in READ ONLY mode", ReadOnlyError, id="read only"),
        pytest.param(9, "Registry is locked by a migration", OperationFailedError, id="another precondition"),
        pytest.param(3, "Bad image id", RegistryError, id="invalid argument"),
        pytest.param(7, "Permission denied", PermissionDeniedError, id="permission"),
        pytest.param(12, "Not implemented", RegistryError, id="not implemented"),
        pytest.param(15, "Blob is lost", RegistryError, id="data loss"),
    ],
)
def test_a_refusal_is_final(
    simulator: Simulator, driver: Driver, image: Image, code: int, message: str, kind: type[RegistryError]
) -> None:
    simulator.fault("error", method="DELETE", code=code, message=message)
    failure = failure_of(kind, message, lambda: driver.delete("shop/api", image, key()))
    assert failure.request == f"DELETE shop/api@{image.digest[:19]}…"
    assert len(simulator.requests("DELETE")) == 1


def test_reports_a_read_only_registry(simulator: Simulator, driver: Driver, image: Image) -> None:
    simulator.switch(phase="read_only")
    with pytest.raises(ReadOnlyError, match="FAILED_PRECONDITION: The registry is in read-only mode") as failure:
        driver.delete("shop/api", image, key())
    assert failure.value.systemic


def test_reports_a_missing_role_to_delete(simulator: Simulator, driver: Driver, image: Image) -> None:
    simulator.switch(may_delete=False)
    with pytest.raises(PermissionDeniedError) as failure:
        driver.delete("shop/api", image, key())
    assert (failure.value.cause, failure.value.systemic) == ("permission_denied", True)


def test_the_key_makes_up_for_a_lost_response(simulator: Simulator, driver: Driver, image: Image) -> None:
    simulator.fault("reply_lost", method="DELETE", times=1)
    assert deleted(driver, image).done
    assert [request["image"] for request in simulator.requests("DELETE")] == [image.id] * 2
    assert len({request["key"] for request in simulator.requests("DELETE")}) == 1
    assert simulator.state()["operations"]["all"] == 1


def test_a_lost_response_and_a_forgotten_key_leave_the_outcome_unknown(
    simulator: Simulator, driver: Driver, image: Image
) -> None:
    simulator.switch(idempotency="forgotten", operation_seconds_from=0.0, operation_seconds_to=0.0)
    simulator.fault("reply_lost", method="DELETE", times=1)
    with pytest.raises(NotFoundError) as failure:
        driver.delete("shop/api", image, key())
    assert failure.value.maybe_done
    assert simulator.deleted_ids() == {image.id}


def test_gives_up_a_deletion_after_five_attempts(simulator: Simulator, driver: Driver, image: Image) -> None:
    simulator.fault("reset", method="DELETE")
    with pytest.raises(UnavailableError, match="was cut off"):
        driver.delete("shop/api", image, key())
    assert len(simulator.requests("DELETE")) == 5


@pytest.mark.parametrize("kind", ["cut", "html", "broken_utf8"])
def test_repeats_a_deletion_after_a_broken_response(
    simulator: Simulator, driver: Driver, image: Image, kind: str
) -> None:
    simulator.fault(kind, method="DELETE", times=1)
    assert deleted(driver, image).done
    assert simulator.state()["operations"]["all"] == 1


def test_does_not_send_a_deletion_that_waited_too_long(simulator: Simulator, driver: Driver, image: Image) -> None:
    with pytest.raises(TooLateError, match="waited too long for the rate limit") as failure:
        driver.delete("shop/api", image, key(), not_after=time.monotonic())
    assert not failure.value.maybe_done
    assert simulator.requests(method="DELETE") == []


@pytest.mark.parametrize(
    ("fault", "kind", "maybe_done"),
    [
        pytest.param({"kind": "status", "status": 503}, UnavailableError, True, id="no outcome"),
        pytest.param({"kind": "error", "code": 8, "retry_after": 60}, RateLimitedError, False, id="a refusal"),
        pytest.param({"kind": "reset"}, UnavailableError, True, id="cut off"),
    ],
)
def test_repeats_a_deletion_only_while_its_reading_is_fresh(
    simulator: Simulator,
    driver: Driver,
    image: Image,
    fault: dict[str, Any],
    kind: type[RegistryError],
    maybe_done: bool,
) -> None:
    simulator.fault(method="DELETE", **fault)
    until = time.monotonic() + 1.0
    with pytest.raises(RegistryError) as failure:
        driver.delete("shop/api", image, key(), not_after=until)
    assert type(failure.value) is kind
    assert failure.value.maybe_done is maybe_done
    assert time.monotonic() < until + 1.5
    assert len({request["key"] for request in simulator.requests(method="DELETE")}) == 1


def test_a_refusal_after_a_lost_attempt_leaves_the_outcome_unknown(
    simulator: Simulator, driver: Driver, image: Image
) -> None:
    simulator.fault("reply_lost", method="DELETE", times=1)
    simulator.fault("error", method="DELETE", after=1, code=7, message="no")
    with pytest.raises(PermissionDeniedError) as failure:
        driver.delete("shop/api", image, key())
    assert failure.value.maybe_done
