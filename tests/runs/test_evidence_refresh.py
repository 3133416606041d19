"""Evidence of use in a whole run: in the plan, and again before each deletion; without it nothing is deleted."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from tests.support.harness import Harness
from tests.support.simulator.client import Simulator
from worker.store.tables import evidence

DAY = timedelta(days=1)


class Source:
    """A file with the images in use."""

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        self.path = folder / "in-use.txt"
        self._address = f"{simulator.endpoints()['docker'].partition('://')[2]}/{simulator.registry_id}"

    def unused(self, number: int = 7) -> str:
        """A reference into the registry that no image there has."""
        return f"{self._address}/shop/api:unused-{number}"

    def says(self, *lines: str, as_of: datetime | None = None) -> None:
        at = as_of or datetime.now(UTC)
        self.path.write_text("\n".join([f"# as_of: {at:%Y-%m-%dT%H:%M:%SZ}", *lines, "# end", ""]))

    def settings(self, **more: Any) -> list[dict[str, Any]]:
        return [{"name": "list", "kind": "file", "path": str(self.path), **more}]


@pytest.fixture
def source(tmp_path: Path, simulator: Simulator) -> Source:
    return Source(tmp_path, simulator)


@pytest.fixture
def filled(simulator: Simulator) -> dict[str, dict[str, Any]]:
    push = simulator.push
    made = {
        f"pr-{n}": push("shop/api", tags=[f"pr-{n}"], age=30 * DAY, layers=["base:9000", 100 + n]) for n in range(3)
    }
    made["child"] = push("shop/api", age=30 * DAY, layers=[4000])
    made["index"] = simulator.push_index("shop/api", [made["child"]["digest"]], tags=["pr-9"], age=30 * DAY)
    return made


def address(harness: Harness, reference: str) -> str:
    docker = harness.settings.registries["production"].endpoints.docker.partition("://")[2]
    return f"{docker}/{harness.simulator.registry_id}/{reference}"


def causes(harness: Harness, run_id: str, filled: dict[str, dict[str, Any]]) -> dict[str, str]:
    """By name, the outcome of a planned deletion."""
    outcomes = harness.outcomes(run_id)
    named = {name: outcomes[image["digest"]] for name, image in filled.items() if image["digest"] in outcomes}
    return {name: cause or state for name, (state, cause) in named.items()}


def grow_old(harness: Harness, by: timedelta = timedelta(minutes=9)) -> None:
    """As if the sources had been read that long ago."""
    with harness.store.write() as connection:
        for row in connection.execute(select(evidence)).all():
            mine = update(evidence).where(evidence.c.registry == row.registry, evidence.c.source == row.source)
            connection.execute(mine.values(read_at=row.read_at - by))


def test_images_in_use_are_not_planned(make_harness, filled, source):
    source.says(filled["pr-0"]["digest"], filled["child"]["digest"])
    made = make_harness(in_use=source.settings())
    run = made.sweep()
    assert (run.outcome, run.deleted) == ("succeeded", 2)
    assert causes(made, run.id, filled) == {"pr-1": "deleted", "pr-2": "deleted"}


def test_a_tag_in_use_matches_by_the_registrys_own_address(make_harness, filled, source):
    made = make_harness(in_use=source.settings())
    elsewhere = "registry.example/x/shop/api:pr-2"
    source.says(address(made, "shop/api:pr-1"), elsewhere)
    run = made.sweep()
    assert causes(made, run.id, filled) == dict.fromkeys(("pr-0", "pr-2", "index", "child"), "deleted")


def test_skips_an_image_that_comes_into_use_after_the_plan(make_harness, filled, source, simulator):
    source.says(source.unused())
    made = make_harness(in_use=source.settings())
    run_id, task_calls = made.plan()
    source.says(filled["pr-0"]["digest"], filled["child"]["digest"])
    grow_old(made)
    made.carry_out(task_calls)
    assert causes(made, run_id, filled) == {
        "pr-0": "in_use", "pr-1": "deleted", "pr-2": "deleted", "index": "in_use", "child": "in_use",
    }  # fmt: skip
    (item,) = [item for item in made.items(run_id) if item.decision.digest == filled["index"]["digest"]]
    assert item.message.startswith(f"lists {filled['child']['digest']}, in use by ")
    assert simulator.deleted_ids() == {filled["pr-1"]["id"], filled["pr-2"]["id"]}


def test_a_reading_serves_all_batches_for_a_while(make_harness, filled, source):
    source.says(source.unused())
    made = make_harness(in_use=source.settings())
    _, task_calls = made.plan()
    source.path.unlink()
    grow_old(made, timedelta(minutes=7))
    made.carry_out(task_calls)
    (run,) = [made.run(task_call.args[0]) for task_call in task_calls]
    assert run.outcome == "succeeded"


FOREIGN = ["mirror.example.com/shop/api:pr-1", "mirror.example.com/shop/api:pr-2"]


def test_a_source_that_names_another_host_protects_nothing_and_ends_the_run(make_harness, filled, source, simulator):
    source.says(*FOREIGN)
    made = make_harness(in_use=source.settings())
    run = made.sweep()
    assert (run.outcome, run.plan_sha256, simulator.deleted_ids()) == ("failed", None, set())
    assert run.message.startswith("evidence list: names 2 images, none of them in a registry of this file")
    made.rewrite(in_use=source.settings(allow_foreign=True))
    run = made.sweep()
    assert (run.outcome, run.deleted) == ("succeeded", len(filled))
    assert "evidence_foreign" in [warning["code"] for warning in run.warnings]


def test_a_digest_in_the_inventory_matches_by_whatever_host(make_harness, filled, source):
    child = filled["child"]["digest"]
    source.says(f"mirror.example.com/shop/api@{child}", *FOREIGN)
    made = make_harness(in_use=source.settings())
    run = made.sweep()
    assert causes(made, run.id, filled) == dict.fromkeys(("pr-0", "pr-1", "pr-2"), "deleted")
    (warning,) = [warning for warning in run.warnings if warning["code"] == "evidence_foreign"]
    assert warning["message"].startswith("2 of the 3 images that evidence list names are in no registry of this file")
    with made.store.read() as connection:
        assert connection.execute(select(evidence.c.foreign_references)).scalars().all() == [2]


def test_a_source_that_names_another_host_while_deleting_stops_the_run(make_harness, filled, source, simulator):
    source.says(source.unused(), source.unused(8))
    made = make_harness(in_use=source.settings())
    run_id, task_calls = made.plan()
    source.says(*FOREIGN)
    grow_old(made)
    made.carry_out(task_calls)
    run = made.run(run_id)
    assert (run.outcome, run.deleted, simulator.deleted_ids()) == ("failed", 0, set())
    assert "none of them in a registry of this file" in run.message


def test_digests_are_matched_with_the_plan_while_deleting(make_harness, filled, source):
    source.says(filled["pr-0"]["digest"], "sha256:" + "7" * 64)
    made = make_harness(in_use=source.settings())
    run_id, task_calls = made.plan()
    source.says(filled["pr-1"]["digest"], "sha256:" + "8" * 64)
    grow_old(made)
    made.carry_out(task_calls)
    reached = causes(made, run_id, filled)
    assert (made.run(run_id).outcome, reached["pr-1"], reached["pr-2"]) == ("succeeded", "in_use", "deleted")


def test_a_tag_beside_a_digest_of_sha512_is_in_use(make_harness, filled, source):
    made = make_harness(in_use=source.settings())
    source.says(f"{address(made, 'shop/api:pr-1')}@sha512:{'7' * 128}")
    assert "pr-1" not in causes(made, made.sweep().id, filled)


def test_an_unknown_digest_of_this_registry_ends_the_run(make_harness, filled, source, simulator):
    made = make_harness(in_use=source.settings())
    source.says(source.unused(), f"{address(made, 'shop/api:pr-1')}@blake3:{'7' * 64}")
    run = made.sweep()
    assert (run.outcome, simulator.deleted_ids()) == ("failed", set())
    assert "with a digest of an unknown algorithm" in run.message


BAD = {
    "absent": lambda source: source.path.unlink(missing_ok=True),
    "stale": lambda source: source.says(source.unused(), as_of=datetime.now(UTC) - 2 * DAY),
    "empty": lambda source: source.says(),
    "halved": lambda source: source.says(*map(source.unused, range(2))),
    "without its time": lambda source: source.path.write_text("sha256:" + "7" * 64 + "\n"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_source_that_cannot_be_trusted_ends_the_run(make_harness, filled, source, simulator, what):
    source.says(*map(source.unused, range(9)))
    made = make_harness(in_use=source.settings(max_age="1d"))
    made.sweep(dry_run=True)
    BAD[what](source)
    grow_old(made)
    run = made.sweep()
    assert (run.outcome, run.planned, run.plan_sha256) == ("failed", 0, None)
    assert "list" in run.message
    assert simulator.requests(method="DELETE") == []


@pytest.mark.parametrize("what", BAD)
def test_a_source_that_cannot_be_trusted_stops_a_deleting_run(make_harness, filled, source, simulator, what):
    source.says(*map(source.unused, range(9)))
    made = make_harness(in_use=source.settings(max_age="1d"))
    run_id, task_calls = made.plan()
    left = made.carry_out(task_calls, until="gc.delete_batch")
    left = made.do(left[0])  # the first wave; the child is the second
    BAD[what](source)
    grow_old(made)
    made.carry_out(left)
    run = made.run(run_id)
    assert (run.outcome, run.deleted, len(simulator.deleted_ids())) == ("failed", 4, 4)
    assert "list" in run.message
    assert causes(made, run_id, filled)["child"] == "planned"


def test_evidence_that_suddenly_halves_stays_untrusted(make_harness, filled, source):
    source.says(*map(source.unused, range(9)))
    made = make_harness(in_use=source.settings())
    made.sweep(dry_run=True)
    source.says(source.unused())
    for _ in range(2):
        grow_old(made)
        assert made.sweep().outcome == "failed"
    made.rewrite(in_use=source.settings(allow_empty=True))
    assert made.sweep().outcome == "succeeded"
    made.rewrite(in_use=source.settings())
    grow_old(made)
    assert made.sweep().outcome == "succeeded"


def test_a_scan_asks_every_source_however_recent_its_reading_is(make_harness, filled, source):
    source.says(source.unused())
    made = make_harness(in_use=source.settings())
    made.sweep(dry_run=True)
    source.says(source.unused(), filled["pr-0"]["digest"])
    assert "pr-0" not in causes(made, made.sweep(dry_run=True).id, filled)
    source.says(as_of=datetime.now(UTC) - 9 * DAY)
    assert made.sweep().outcome == "failed"
