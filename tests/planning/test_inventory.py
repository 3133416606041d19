"""A registry is read whole at one instant; what cannot be listed is named, and nothing readable is no inventory."""

from collections.abc import Iterable
from typing import Any

import pytest

from policies.image import Image, Repository
from tests.planning.rows import Rows
from tests.support.builders import NOW, image, index
from worker.planning.inventory import Inventory, ScanStoppedError, take_inventory
from worker.registries.errors import RegistryError, SignInError, UnavailableError, UnservedNameError

A, B = image(1, "v1", layers=["x"]), index(2, lists=[1])
AWAY = UnavailableError("no answer", "production")


def taken(repositories: dict[str, Iterable[Image] | RegistryError], **options: Any) -> Inventory:
    return take_inventory(Rows(repositories), now=NOW, concurrency=3, **options)


def test_all_repositories_are_read_in_order_of_their_paths() -> None:
    inventory = taken({"shop/web": [B], "base": [], "shop/api": [A, B]})
    expected = [
        Repository(path="base"),
        Repository(path="shop/api", images=(A, B)),
        Repository(path="shop/web", images=(B,)),
    ]
    assert list(inventory.repositories()) == list(inventory.repositories()) == expected
    assert [one.path for one in inventory.repositories({"shop/web", "base"})] == ["base", "shop/web"]
    assert (inventory.listed_at, inventory.unreadable, inventory.signed_in) == (NOW, (), True)


def test_a_repository_that_cannot_be_listed_is_named_and_the_others_are_read() -> None:
    inventory = taken({"a": AWAY, "b": [A], "c": UnservedNameError("no such name")})
    assert [one.path for one in inventory.repositories()] == ["b"]
    assert [(one.repository, one.reason) for one in inventory.unreadable] == [
        ("a", "production: no answer"),
        ("c", "no such name"),
    ]


def test_where_nothing_can_be_listed_there_is_no_inventory() -> None:
    with pytest.raises(UnavailableError):
        taken({"a": AWAY, "b": UnservedNameError("no such name")})


def test_a_registry_of_nothing_but_unserved_names_is_an_inventory_of_nothing() -> None:
    inventory = taken({"a": UnservedNameError("no such name")})
    assert (list(inventory.repositories()), len(inventory.unreadable)) == ([], 1)


def test_an_empty_registry_is_an_inventory_of_nothing() -> None:
    assert list(taken({}).repositories()) == []


def test_a_refused_sign_in_ends_the_scan() -> None:
    with pytest.raises(SignInError):
        taken({"a": SignInError("the password is not accepted"), "b": [A]})


def for_some() -> SignInError:
    error = SignInError("the password is not accepted")
    error.partial = True
    return error


def test_credentials_that_are_for_some_repositories_leave_the_others_readable() -> None:
    inventory = taken({"a": for_some(), "b": [A]})
    assert (inventory.signed_in, [one.repository for one in inventory.unreadable]) == (False, ["a"])
    with pytest.raises(SignInError):
        taken({"a": for_some(), "b": AWAY})


def test_progress_is_told_from_nothing_to_all() -> None:
    told: list[tuple[int, int]] = []
    taken({"a": [A], "b": AWAY, "c": [B]}, progress=lambda done, whole: told.append((done, whole)))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_scan_that_is_no_longer_wanted_stops() -> None:
    def stop() -> None:
        raise ScanStoppedError

    with pytest.raises(ScanStoppedError):
        taken({"a": [A], "b": [B]}, alive=stop)


def test_how_a_repository_is_read_is_the_callers_to_say() -> None:
    inventory = taken({"a": [A, B]}, read=lambda registry, path: registry.images(path)[:1])
    assert list(inventory.repositories()) == [Repository(path="a", images=(A,))]


class Telling(Rows):
    read_errors = {"sha256:ab": "a time-out"}  # noqa: RUF012 - as a driver has it


def test_why_manifests_could_not_be_read_is_kept() -> None:
    telling = Telling({"a": [A]})
    assert take_inventory(telling, now=NOW, concurrency=1).unread == telling.read_errors
