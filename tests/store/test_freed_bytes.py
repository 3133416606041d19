"""Reclaimed bytes: each blob counts once, if we deleted one of its references."""

from datetime import timedelta

import pytest

from tests.store.rows import add_blob, add_item, add_run, column
from tests.support.builders import digest, image
from tests.support.harness import MakeHarness
from tests.support.simulator.client import Simulator
from worker.store import Store, freed_bytes
from worker.store.tables import blob, run

DAY = timedelta(days=1)


def test_does_not_count_blobs_that_a_new_image_references(simulator: Simulator, make_harness: MakeHarness) -> None:
    for number in range(3):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY, layers=["base:5000", 100 + number])
    simulator.push("shop/web", tags=["v1"], age=30 * DAY, layers=[7])
    harness = make_harness()
    run_id, task_calls = harness.plan()
    simulator.push("shop/api", tags=["v2"], layers=["base:5000", 9])

    harness.carry_out(task_calls)

    run = harness.run(run_id)
    assert (run.outcome, run.deleted) == ("succeeded", 3)
    assert run.reclaimable_bytes - run.reclaimed_bytes == 5000
    assert run.reclaimed_bytes == simulator.state()["lost_bytes"] > 0


def test_counts_children_that_the_registry_deletes_with_our_index(
    simulator: Simulator, make_harness: MakeHarness
) -> None:
    simulator.switch(deleted_index="cascade")
    children = [simulator.push("shop/api", age=30 * DAY, layers=["base:5000", 100 + number]) for number in range(2)]
    inner = simulator.push_index("shop/api", [listed_image["digest"] for listed_image in children], age=30 * DAY)
    outer = simulator.push_index("shop/api", [inner["digest"]], tags=["pr-1"], age=30 * DAY)
    simulator.push("shop/api", tags=["v1"], age=30 * DAY, layers=[7])
    harness = make_harness()

    run = harness.sweep()

    gone = {listed_image["digest"]: ("gone", None) for listed_image in (*children, inner)}
    assert harness.outcomes(run.id) == {outer["digest"]: ("deleted", None)} | gone
    assert (run.outcome, run.deleted, run.gone) == ("succeeded", 1, 3)
    assert run.reclaimed_bytes == run.reclaimable_bytes == simulator.state()["lost_bytes"] > 5000


def test_does_not_count_children_that_somebody_else_deleted_with_their_index(
    simulator: Simulator, make_harness: MakeHarness
) -> None:
    child = simulator.push("shop/api", age=30 * DAY, layers=[5000])
    index = simulator.push_index("shop/api", [child["digest"]], tags=["pr-1"], age=30 * DAY)
    simulator.push("shop/api", tags=["v1"], age=30 * DAY, layers=[7])
    harness = make_harness()
    run_id, task_calls = harness.plan()
    simulator.remove(index["id"])
    simulator.remove(child["id"])

    harness.carry_out(task_calls)

    run = harness.run(run_id)
    assert (run.gone, run.deleted, run.reclaimed_bytes) == (2, 0, 0)


ONE, TWO = 2**40, 7


@pytest.fixture
def counted(store: Store) -> Store:
    """Three items; all name the first blob, the last two the second."""
    with store.write() as connection:
        add_run(connection)
        add_blob(connection, 0, ONE, 3)
        add_blob(connection, 1, TWO, 2)
        for number, blobs in enumerate([(0,), (0, 1), (0, 1, 1)]):
            add_item(connection, number, image(number), blobs=blobs)
    return store


@pytest.mark.parametrize(
    ("taken", "freed", "total"),
    [
        pytest.param([{0: True}], [{0: 0}], 0, id="other images still reference it"),
        pytest.param([{0: True, 1: True, 2: True}], [{0: 0, 1: 0, 2: ONE + TWO}], ONE + TWO, id="the last frees both"),
        pytest.param(
            [{1: True}, {2: True}, {0: True}], [{1: 0}, {2: TWO}, {0: ONE}], ONE + TWO, id="each with its last"
        ),
        pytest.param([{0: False, 1: False, 2: False}], [{0: 0, 1: 0, 2: 0}], 0, id="only others deleted references"),
        pytest.param(
            [{1: True}, {2: False, 0: False}], [{1: 0}, {2: TWO, 0: ONE}], ONE + TWO, id="we deleted one reference"
        ),
        pytest.param([{}], [{}], 0, id="nothing"),
    ],
)
def test_counts_a_blob_with_its_last_reference_if_we_deleted_one(
    counted: Store, taken: list[dict[int, bool]], freed: list[dict[int, int]], total: int
) -> None:
    with counted.write() as connection:
        assert [freed_bytes.release_references(connection, "run-1", ours) for ours in taken] == freed
        assert column(connection, run, "reclaimed_bytes") == [total]


def test_never_counts_a_blob_that_is_still_referenced(counted: Store) -> None:
    with counted.write() as connection:
        freed_bytes.release_references(connection, "run-1", {1: True, 2: True})
        freed_bytes.mark_still_referenced(connection, "run-1", {"sha256:0", "sha256:1", "sha256:unknown"})
        assert column(connection, blob, "still_referenced") == [True, False]  # the second was freed before
        assert freed_bytes.release_references(connection, "run-1", {0: True}) == {0: 0}
        assert column(connection, run, "reclaimed_bytes") == [TWO]


def test_caps_a_sum_at_what_a_column_can_hold(store: Store) -> None:
    most = freed_bytes.MOST_BYTES
    with store.write() as connection:
        add_run(connection, reclaimed_bytes=most - 1)
        add_blob(connection, 0, 2**61, 1)
        add_item(connection, 0, image(0), blobs=[0])
        assert freed_bytes.release_references(connection, "run-1", {0: True}) == {0: most}
        assert column(connection, run, "reclaimed_bytes") == [most]


@pytest.mark.parametrize(
    ("rows", "asked", "went"),
    [
        pytest.param({"a": ("deleted", [])}, ["a"], True, id="with its index"),
        pytest.param({"a": ("gone", ["b"]), "b": ("deleted", [])}, ["a"], True, id="with the subject of its index"),
        pytest.param({"a": ("gone", ["a"])}, ["a"], False, id="in a circle"),
        pytest.param({"a": ("gone", [])}, ["a"], False, id="somebody else took both"),
        pytest.param({"a": ("planned", [])}, ["a"], False, id="its index is there"),
        pytest.param({"a": ("deleted", [])}, [], False, id="no owner"),
    ],
)
def test_finds_a_deleted_owner_at_any_depth(
    store: Store, rows: dict[str, tuple[str, list[str]]], asked: list[str], went: bool
) -> None:
    with store.write() as connection:
        add_run(connection)
        for number, (name, (state, owners)) in enumerate(rows.items()):
            add_item(connection, number, image(name), state=state, owners=map(digest, owners))
        assert freed_bytes.was_deleted_with_owner(connection, "run-1", "shop/api", map(digest, asked)) is went
        assert not freed_bytes.was_deleted_with_owner(connection, "run-1", "elsewhere", map(digest, asked))


def test_packs_numbers_as_four_bytes() -> None:
    assert freed_bytes.unpack_numbers(freed_bytes.pack_numbers([0, 7, 2**32 - 1])) == [0, 7, 2**32 - 1]
    assert len(freed_bytes.pack_numbers(range(10))) == 40
    assert freed_bytes.unpack_numbers(b"") == []
    assert list(freed_bytes.portions([1, 2, 3], 2)) == [[1, 2], [3]]
