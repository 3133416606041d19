"""A registry is listed at one instant; unlistable repositories are named, and a registry without any other fails."""

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


def test_lists_all_repositories_in_the_order_of_paths() -> None:
    inventory = taken({"shop/web": [B], "base": [], "shop/api": [A, B]})
    expected = [
        Repository(path="base"),
        Repository(path="shop/api", images=(A, B)),
        Repository(path="shop/web", images=(B,)),
    ]
    assert list(inventory.repositories()) == list(inventory.repositories()) == expected
    assert [repository.path for repository in inventory.repositories({"shop/web", "base"})] == ["base", "shop/web"]
    assert (inventory.listed_at, inventory.unreadable, inventory.signed_in) == (NOW, (), True)


def test_names_an_unlistable_repository_and_lists_the_others() -> None:
    inventory = taken({"a": AWAY, "b": [A], "c": UnservedNameError("no such name")})
    assert [repository.path for repository in inventory.repositories()] == ["b"]
    assert [(failure.repository, failure.reason) for failure in inventory.unreadable] == [
        ("a", "production: no answer"),
        ("c", "no such name"),
    ]


def test_fails_if_no_repository_can_be_listed() -> None:
    with pytest.raises(UnavailableError):
        taken({"a": AWAY, "b": UnservedNameError("no such name")})


def test_a_registry_with_only_unserved_names_is_an_empty_inventory() -> None:
    inventory = taken({"a": UnservedNameError("no such name")})
    assert (list(inventory.repositories()), len(inventory.unreadable)) == ([], 1)


def test_an_empty_registry_is_an_empty_inventory() -> None:
    assert list(taken({}).repositories()) == []


def test_a_refused_sign_in_ends_the_scan() -> None:
    with pytest.raises(SignInError):
        taken({"a": SignInError("the password is not accepted"), "b": [A]})


def for_some() -> SignInError:
    error = SignInError("the password is not accepted")
    error.partial = True
    return error


def test_partial_credentials_leave_other_repositories_readable() -> None:
    inventory = taken({"a": for_some(), "b": [A]})
    assert (inventory.signed_in, [failure.repository for failure in inventory.unreadable]) == (False, ["a"])
    with pytest.raises(SignInError):
        taken({"a": for_some(), "b": AWAY})


def test_reports_progress_from_zero_to_all_repositories() -> None:
    reported: list[tuple[int, int]] = []
    taken({"a": [A], "b": AWAY, "c": [B]}, progress=lambda done, whole: reported.append((done, whole)))
    assert reported == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_stops_when_the_scan_must_not_go_on() -> None:
    def stop() -> None:
        raise ScanStoppedError

    with pytest.raises(ScanStoppedError):
        taken({"a": [A], "b": [B]}, alive=stop)


def test_uses_the_caller_s_function_to_read_a_repository() -> None:
    inventory = taken({"a": [A, B]}, read=lambda registry, path: registry.images(path)[:1])
    assert list(inventory.repositories()) == [Repository(path="a", images=(A,))]


class Telling(Rows):
    read_errors = {"sha256:ab": "a time-out"}  # noqa: RUF012 - as a driver has it


def test_keeps_the_errors_of_unreadable_manifests() -> None:
    telling = Telling({"a": [A]})
    assert take_inventory(telling, now=NOW, concurrency=1).unread == telling.read_errors
