"""A registry that refuses, throttles, breaks off or cannot be read."""

import time

import pytest

from tests.registries.interface.server import Server
from tests.registries.interface.steps import deleted, ended, listed, present, rechecked_at, without
from tests.support.drivers import key
from tests.support.http_fault_proxy import (
    Action,
    ForwardRequest,
    ProxiedRequest,
    ProxyResponse,
    half_of_body,
    never_forwarded,
    respond_with,
    response_lost,
)
from worker.registries.errors import PermissionDeniedError, RateLimitedError, RegistryError, UnavailableError
from worker.registries.interface import Deletion, Registry


@pytest.fixture
def pushed(server: Server) -> str:
    server.push("shop/api", "other", layers=["other"])
    return server.push("shop/api", "v1").digest


def test_reports_that_listing_is_not_permitted(server: Server, driver: Registry, pushed: str) -> None:
    server.forbid(server.calls.images)
    with pytest.raises(PermissionDeniedError) as failure:
        driver.images("shop/api")
    assert (failure.value.systemic, failure.value.cause) == (True, "permission_denied")
    assert "no permission for that" in str(failure.value)


def test_reports_that_deleting_is_not_permitted(server: Server, driver: Registry, pushed: str) -> None:
    image, before = rechecked_at(server, driver, "shop/api", pushed), server.state()
    server.forbid(server.calls.delete)
    with pytest.raises(PermissionDeniedError) as failure:
        driver.delete("shop/api", image, key())
    assert (failure.value.systemic, failure.value.maybe_done) == (True, False)
    assert server.state() == before


def test_waits_when_a_listing_is_throttled(server: Server, driver: Registry, pushed: str) -> None:
    server.throttle(server.calls.images, seconds=1, times=1)
    started = time.monotonic()
    assert pushed in listed(driver, "shop/api")
    assert time.monotonic() - started >= 1.0
    assert any(code == "429" for _, code in driver.usage().requests)


def test_waits_when_a_deletion_is_throttled(server: Server, driver: Registry, pushed: str) -> None:
    image, before = rechecked_at(server, driver, "shop/api", pushed), server.state()
    server.throttle(server.calls.delete, seconds=0, times=2)
    assert deleted(driver, "shop/api", image).done
    assert len(server.proxy.received(server.calls.delete)) == 3
    assert present(server.state()) == without(before, "shop/api", pushed)


@pytest.mark.parametrize("seconds", [0, 3600])
def test_stops_when_it_is_throttled_for_too_long(server: Server, pushed: str, seconds: int) -> None:
    before = server.state()
    for_deletion = server.open()
    image = rechecked_at(server, for_deletion, "shop/api", pushed)
    for calls in (server.calls.images, server.calls.delete):
        server.throttle(calls, seconds=seconds)
    with server.open() as driver, pytest.raises(RateLimitedError):
        driver.images("shop/api")
    with for_deletion as driver, pytest.raises(RateLimitedError) as failure:
        driver.delete("shop/api", image, key())
    assert not failure.value.maybe_done
    assert server.state() == before


@pytest.mark.parametrize("cut", [half_of_body, never_forwarded], ids=["in the middle", "at once"])
def test_retries_a_listing_that_is_interrupted(server: Server, driver: Registry, pushed: str, cut: Action) -> None:
    server.proxy.on(server.calls.images, cut, times=2)
    assert pushed in listed(driver, "shop/api")


@pytest.mark.parametrize("trouble", [half_of_body, respond_with(ProxyResponse(503))], ids=["cut", "503"])
def test_raises_when_a_listing_is_interrupted_every_time(
    server: Server, driver: Registry, pushed: str, trouble: Action
) -> None:
    server.proxy.on(server.calls.images, trouble)
    with pytest.raises(UnavailableError) as failure:
        driver.images("shop/api")
    assert failure.value.systemic


def outcome_is_true(server: Server, ending: Deletion | RegistryError, pushed: str) -> bool:
    """Whether the reported outcome is true: a done deletion is gone, and an unknown outcome is reported as unknown."""
    gone = pushed not in server.state()["shop/api"]
    if isinstance(ending, Deletion):
        return gone if ending.done else True
    return ending.maybe_done


@pytest.mark.parametrize("times", [1, None], ids=["once", "always"])
def test_reports_the_true_outcome_of_a_deletion_that_did_not_arrive(
    server: Server, driver: Registry, pushed: str, times: int | None
) -> None:
    image, before = rechecked_at(server, driver, "shop/api", pushed), server.state()
    server.proxy.on(server.calls.delete, never_forwarded, times=times)
    ending = ended(driver, "shop/api", image)
    assert outcome_is_true(server, ending, pushed), ending
    assert present(server.state()) in (present(before), without(before, "shop/api", pushed))


@pytest.mark.parametrize("times", [1, None], ids=["once", "always"])
def test_reports_the_true_outcome_of_a_deletion_whose_response_was_lost(
    server: Server, driver: Registry, pushed: str, times: int | None
) -> None:
    image, before = rechecked_at(server, driver, "shop/api", pushed), server.state()
    server.proxy.on(server.calls.delete, response_lost, times=times)
    ending = ended(driver, "shop/api", image)
    assert outcome_is_true(server, ending, pushed), ending
    assert present(server.state()) == without(before, "shop/api", pushed)


def test_does_not_delete_an_image_that_was_pushed_again_after_a_lost_response(
    server: Server, driver: Registry, pushed: str
) -> None:
    image, before = rechecked_at(server, driver, "shop/api", pushed), server.state()

    def pushed_again(asked: ProxiedRequest, forward: ForwardRequest) -> ProxyResponse:
        reply = response_lost(asked, forward)
        assert pushed not in server.state()["shop/api"]
        assert server.push("shop/api", "v1").digest == pushed
        return reply

    server.proxy.on(server.calls.delete, pushed_again, times=1)
    ended(driver, "shop/api", image, seconds=0.5)
    assert len(server.proxy.received(server.calls.delete)) >= 1
    assert server.state() == before


def test_reports_children_as_unknown_if_a_manifest_is_unreadable(server: Server, driver: Registry, pushed: str) -> None:
    bad = server.unreadable("shop/api")
    images = listed(driver, "shop/api")
    assert images[bad.digest].children is None
    assert [digest for digest, image in images.items() if image.children is None] == [bad.digest]
    assert images[pushed].tags == ("v1",)
