"""The effects of a deletion, and their limits."""

import time

import pytest

from tests.registries.interface.server import Server
from tests.registries.interface.steps import DELETION_SECONDS, deleted, ended, one, present, rechecked_at, without
from tests.support.drivers import key
from tests.support.http_fault_proxy import never_forwarded
from worker.registries.errors import NotFoundError, RegistryError, TooLateError, UsedByImageListsError
from worker.registries.interface import DeletesByParts, Deletion, Registry


@pytest.fixture
def pushed(server: Server) -> str:
    """The digest of an image with three tags. Others share its layers, or are equal in another repository."""
    server.push("shop/api", "other", layers=["base", "other"])
    server.push("shop/web", "v1", layers=["base"])
    return server.push("shop/api", "v1", "v1.0", "latest", layers=["base", "one"]).digest


def test_deletes_an_image_with_its_tags_and_nothing_else(server: Server, driver: Registry, pushed: str) -> None:
    image, before = one(server, "shop/api", pushed), server.state()
    ending = deleted(driver, "shop/api", image)
    assert ending.done
    assert (ending.raced, ending.collateral_tags) == ((), ())
    assert present(server.state()) == without(before, "shop/api", pushed)
    with pytest.raises(NotFoundError):
        driver.get("shop/api", image)


def test_deletes_an_untagged_image(server: Server, driver: Registry) -> None:
    child = server.push("shop/api", layers=["child"])
    index = server.push_index("shop/api", [child.digest], "v1")
    server.push("shop/api", "other")
    image, top, before = one(server, "shop/api", child.digest), one(server, "shop/api", index.digest), server.state()
    assert deleted(driver, "shop/api", top).done
    assert deleted(driver, "shop/api", image).done
    assert present(server.state()) == without(without(before, "shop/api", index.digest), "shop/api", child.digest)


def test_deletes_once_with_one_key(server: Server, driver: Registry, pushed: str) -> None:
    image, before, same = one(server, "shop/api", pushed), server.state(), key()
    first = deleted(driver, "shop/api", image, same)
    second = ended(driver, "shop/api", image, same)
    assert first.done
    assert second.done if isinstance(second, Deletion) else isinstance(second, NotFoundError)
    assert present(server.state()) == without(before, "shop/api", pushed)


def test_deletes_nothing_more_with_another_key(server: Server, driver: Registry, pushed: str) -> None:
    image, before = one(server, "shop/api", pushed), server.state()
    assert deleted(driver, "shop/api", image).done
    second = ended(driver, "shop/api", image)
    assert second.done if isinstance(second, Deletion) else isinstance(second, NotFoundError)
    assert present(server.state()) == without(before, "shop/api", pushed)


def test_reports_an_image_that_does_not_exist(server: Server, driver: Registry, pushed: str) -> None:
    image = one(server, "shop/api", pushed)
    server.remove("shop/api", pushed)
    before = server.state()
    failure = ended(driver, "shop/api", image)
    assert isinstance(failure, NotFoundError)
    assert not failure.maybe_done
    assert present(server.state()) == present(before)


def test_reports_that_an_index_needs_a_child(server: Server, driver: Registry) -> None:
    server.protect_children()
    child = server.push("shop/api", layers=["child"])
    server.push_index("shop/api", [child.digest], "v1")
    image, before = one(server, "shop/api", child.digest), server.state()
    failure = ended(driver, "shop/api", image)
    assert isinstance(failure, UsedByImageListsError)
    assert not failure.systemic
    assert server.state() == before


def test_deletes_a_child_without_its_index(server: Server, driver: Registry) -> None:
    child, other = server.push("shop/api", layers=["child"]), server.push("shop/api", layers=["other"])
    index = server.push_index("shop/api", [child.digest, other.digest], "v1")
    image, before = one(server, "shop/api", child.digest), server.state()
    assert deleted(driver, "shop/api", image).done
    assert present(server.state()) == without(before, "shop/api", child.digest)
    assert one(server, "shop/api", index.digest).children == (child.digest, other.digest)


def test_follows_a_deletion_that_another_process_started(server: Server, driver: Registry, pushed: str) -> None:
    image, before = one(server, "shop/api", pushed), server.state()
    begun = driver.delete("shop/api", image, key())
    with server.open() as other:
        again = Deletion(begun.operation_id, done=False, target=("shop/api", image))
        ending = (
            begun if begun.done and not begun.operation_id else other.follow(again, time.monotonic() + DELETION_SECONDS)
        )
    assert ending.done
    assert present(server.state()) == without(before, "shop/api", pushed)


def test_sends_nothing_when_it_is_too_late(server: Server, driver: Registry, pushed: str) -> None:
    image, before = one(server, "shop/api", pushed), server.state()
    with pytest.raises(TooLateError) as failure:
        driver.delete("shop/api", image, key(), not_after=time.monotonic())
    assert not failure.value.maybe_done
    assert server.proxy.received(server.calls.delete) == []
    assert server.state() == before


def test_continues_a_deletion_that_was_interrupted(server: Server, driver: Registry, pushed: str) -> None:
    assert isinstance(driver, DeletesByParts)
    image, before = rechecked_at(server, driver, "shop/api", pushed), server.state()
    server.proxy.on(server.calls.delete, never_forwarded, passing=1)
    failure = ended(driver, "shop/api", image)
    assert isinstance(failure, RegistryError) or not failure.done
    left = server.state()["shop/api"][pushed]
    assert 0 < len(left) < 3
    server.proxy.heal()
    with server.open() as another:
        assert set(another.get("shop/api", image).tags) == left
        assert deleted(another, "shop/api", image).done
    assert present(server.state()) == without(before, "shop/api", pushed)
