"""Holds and pauses: their registries, their duration, and who ended them."""

import pytest
from sqlalchemy import Connection

from policies.holds import Hold
from tests.store.rows import HOUR, KEY, NOW, SECOND, add_run, column
from worker.store import Store, holds
from worker.store.holds import ALL
from worker.store.tables import hold, pause

TAG = Hold(kind="tag", repository="shop/api", value="v1", who="anna", reason="trial")
IMAGE = Hold(kind="image", value="crp1")


def held(connection: Connection, *registries: str) -> list[int]:
    return [stored_hold.id for stored_hold in holds.active_rows(connection, NOW, registries=registries or None)]


@pytest.mark.parametrize(
    ("until", "lasts"),
    [(None, True), (NOW + SECOND, True), (NOW, False), (NOW - SECOND, False)],
    ids=["for ever", "still", "to this instant", "ran out"],
)
def test_a_hold_lasts_until_its_instant(store: Store, until: object, lasts: bool) -> None:
    wanted = Hold(kind="digest", repository="shop/api", value="sha256:1", until=until)  # type: ignore[arg-type]  # a table
    with store.write() as connection:
        number = holds.add(connection, "production", wanted, NOW - HOUR)
        assert held(connection) == ([number] if lasts else [])
        (row,) = holds.active_rows(connection, NOW - 2 * HOUR)
    assert (row.id, row.registry, row.hold, row.at) == (number, "production", wanted, NOW - HOUR)


def test_lists_holds_of_the_chosen_registries_oldest_first(store: Store) -> None:
    with store.write() as connection:
        first, second, third = (holds.add(connection, name, TAG, NOW) for name in ("a", "b", "a"))
        assert held(connection) == [first, second, third]
        assert held(connection, "a") == [first, third]
        assert held(connection, "c") == []


def test_a_hold_is_released_once(store: Store) -> None:
    with store.write() as connection:
        number = holds.add(connection, "production", TAG, NOW)
        assert holds.release(connection, number, "bert", NOW + SECOND)
        assert not holds.release(connection, number, "carl", NOW + HOUR)
        assert not holds.release(connection, number + 1, "carl", NOW)
        assert held(connection) == []
        assert column(connection, hold, "released_by") == ["bert"]


def test_finds_holds_under_every_earlier_name_of_a_registry(store: Store) -> None:
    with store.write() as connection:
        add_run(connection, registry="former", state="finished")
        add_run(connection, "run-2", registry="other", registry_key="another", state="finished")
        for name in ("former", "today", "other"):
            holds.add(connection, name, Hold(kind="tag", repository="a", value=name), NOW)
        assert sorted(holds.names_of(connection, "today", KEY)) == ["former", "today"]
        active = holds.active(connection, "today", KEY, NOW)
    assert [listed_hold.value for listed_hold in active.holds] == ["former", "today"]


def test_records_the_digest_of_a_held_tag_or_id(store: Store) -> None:
    with store.write() as connection:
        tag, image, noted = (holds.add(connection, "production", placed, NOW) for placed in (TAG, IMAGE, IMAGE))
        elsewhere = holds.add(connection, "staging", IMAGE, NOW)
        holds.set_digest(connection, tag, "sha256:1")
        holds.set_digest(connection, noted, "sha256:2")
        holds.set_digests(connection, "production", KEY, {"crp1": "sha256:3", "v1": "sha256:4"})
        digests = {row.id: row.hold.digest for row in holds.active_rows(connection, NOW)}
    assert digests == {tag: "sha256:1", image: "sha256:3", noted: "sha256:2", elsewhere: None}


def test_the_first_pause_stays_until_it_is_resumed(store: Store) -> None:
    with store.write() as connection:
        holds.pause_registry(connection, "production", "anna", "moving", NOW)
        holds.pause_registry(connection, "production", "bert", "again", NOW + HOUR)
        (first,) = holds.pauses(connection)
        assert (first.who, first.reason, first.at, first.of_all) == ("anna", "moving", NOW, False)
        ended = holds.resume_registry(connection, "production", "carl", NOW + HOUR)
        assert ended is not None
        assert (ended.who, ended.resumed_by, ended.resumed_at) == ("anna", "carl", NOW + HOUR)
        assert holds.resume_registry(connection, "production", "dora") is None
        assert holds.pauses(connection) == []
        assert column(connection, pause, "resumed_by") == ["carl"]
        holds.pause_registry(connection, "production", "emil", "", NOW + HOUR)
        (second,) = holds.pauses(connection)
    assert (second.who, second.resumed_by) == ("emil", None)


@pytest.mark.parametrize(
    ("names", "who"),
    [
        pytest.param([], None, id="none"),
        pytest.param(["staging"], None, id="another"),
        pytest.param(["production"], "by production", id="itself"),
        pytest.param(["former"], "by former", id="under its former name"),
        pytest.param([ALL], "by *", id="all"),
        pytest.param([ALL, "production"], "by production", id="its own pause comes before that of all"),
    ],
)
def test_finds_the_pause_of_a_registry_or_of_all(store: Store, names: list[str], who: str | None) -> None:
    with store.write() as connection:
        add_run(connection, registry="former", state="finished")
        for name in names:
            holds.pause_registry(connection, name, f"by {name}", "", NOW)
        active_pause = holds.paused(connection, "production", KEY)
        assert (active_pause.who if active_pause else None) == who
        for name in names:
            holds.resume_registry(connection, name)
        assert holds.paused(connection, "production", KEY) is None
