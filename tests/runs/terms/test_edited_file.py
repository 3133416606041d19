"""The configuration file is edited while a run waits or deletes: the run can only become more careful by it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from sqlalchemy import update

from tests.support.harness import Harness
from tests.support.oci.fake import FakeRegistry
from tests.support.oci.real_runs import served
from tests.support.scan_history import pass_time
from tests.support.simulator.client import Simulator
from worker.runs import evidence_refresh, lifecycle
from worker.runs.lifecycle import NotBlockedError, TaskCall
from worker.runs.terms import stricter, terms_of
from worker.store.runs import Run, Terms, encode_terms
from worker.store.tables import evidence
from worker.store.tables import run as run_table

DAY = timedelta(days=1)
RULES = [{"name": "pull requests", "delete": {"tags": ["pr-*"]}}]
USED = "sha256:" + "7" * 64


def source_of(folder: Path, name: str, *digests: str, **keys: Any) -> dict[str, Any]:
    """A source of evidence: a file that says that these digests are in use."""
    path = folder / f"{name}.txt"
    path.write_text("\n".join([f"# as_of: {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", USED, *digests, "# end", ""]))
    return {"name": name, "kind": "file", "path": str(path), "allow_foreign": True} | keys


@pytest.fixture
def harness(simulator: Simulator, tmp_path: Path) -> Iterator[Harness]:
    for number in range(3):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    made = Harness(simulator, tmp_path)
    yield made
    made.store.dispose()


def swept_after_edit(harness: Harness, before: dict[str, Any], after: dict[str, Any]) -> Run:
    """A run planned by the one file and swept by the other."""
    harness.rewrite(**before)
    run_id, task_calls = harness.plan()
    assert harness.run(run_id).planned == 3
    harness.rewrite(**after)
    harness.carry_out(task_calls)
    return harness.run(run_id)


@pytest.mark.parametrize("what", ["no source is left", "one of two is left", "it is renamed", "it reads another file"])
def test_a_missing_source_of_the_plan_stops_the_run(
    harness: Harness, simulator: Simulator, tmp_path: Path, what: str
) -> None:
    cluster, releases = source_of(tmp_path, "cluster"), source_of(tmp_path, "releases")
    other = source_of(tmp_path, "other")
    after = {
        "no source is left": [],
        "one of two is left": [releases],
        "it is renamed": [cluster | {"name": "kluster"}, releases],
        "it reads another file": [cluster | {"path": other["path"]}, releases],
    }[what]
    run = swept_after_edit(harness, {"in_use": [cluster, releases]}, {"in_use": after})
    assert (run.outcome, run.deleted) == ("failed", 0)
    assert "'cluster' of in_use" in (run.message or "")
    assert simulator.deleted_ids() == set()


def test_a_missing_source_stops_the_run_when_evidence_is_asked_again(harness: Harness, tmp_path: Path) -> None:
    harness.rewrite(in_use=[source_of(tmp_path, "cluster")])
    run_id, _ = harness.plan()
    harness.rewrite()
    evidence_refresh.refresh_evidence(harness.store, harness.watch, run_id)
    assert harness.run(run_id).stop == "failed"


def test_a_missing_source_stops_the_run_when_it_is_reconciled(harness: Harness, tmp_path: Path) -> None:
    harness.rewrite(in_use=[source_of(tmp_path, "cluster")])
    run_id, _ = harness.plan()
    harness.rewrite()
    harness.reconcile()
    assert harness.run(run_id).stop == "failed"


def test_an_approved_plan_needs_its_sources_too(harness: Harness, tmp_path: Path) -> None:
    harness.rewrite(in_use=[source_of(tmp_path, "cluster")], limits={"max_images": 1})
    run_id, _ = harness.plan()
    harness.rewrite(limits={"max_images": 1})
    harness.carry_out(lifecycle.approve(harness.store, harness.settings, run_id, datetime.now(UTC)))
    assert (harness.run(run_id).outcome, harness.run(run_id).deleted) == ("failed", 0)


def test_a_source_that_is_added_protects_at_once(harness: Harness, simulator: Simulator, tmp_path: Path) -> None:
    used = simulator.images()[0]["digest"]
    run = swept_after_edit(harness, {}, {"in_use": [source_of(tmp_path, "cluster", used)]})
    assert (run.deleted, run.skipped, harness.outcomes(run.id)[used]) == (2, 1, ("skipped", "in_use"))


@pytest.mark.parametrize(("before", "after"), [("1h", "3d"), ("3d", "1h")])
def test_the_shorter_max_age_of_a_source_counts(harness: Harness, tmp_path: Path, before: str, after: str) -> None:
    source = source_of(tmp_path, "cluster")
    harness.rewrite(in_use=[source | {"max_age": before}])
    run_id, task_calls = harness.plan()
    harness.rewrite(in_use=[source | {"max_age": after}])
    old = datetime.now(UTC) - 2 * timedelta(hours=1)
    path = Path(source["path"])
    path.write_text(f"# as_of: {old:%Y-%m-%dT%H:%M:%SZ}\n{USED}\n# end\n")
    with harness.store.write() as connection:
        connection.execute(update(evidence).values(read_at=old))
    harness.carry_out(task_calls)
    assert (harness.run(run_id).outcome, harness.run(run_id).deleted) == ("failed", 0)


def test_an_empty_source_is_trusted_only_if_plan_and_file_allow_it(harness: Harness, tmp_path: Path) -> None:
    source = source_of(tmp_path, "cluster")
    harness.rewrite(in_use=[source])
    run_id, task_calls = harness.plan()
    harness.rewrite(in_use=[source | {"allow_empty": True}])
    Path(source["path"]).write_text(f"# as_of: {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n# end\n")
    with harness.store.write() as connection:
        connection.execute(update(evidence).values(read_at=datetime.now(UTC) - DAY))
    harness.carry_out(task_calls)
    assert (harness.run(run_id).outcome, harness.run(run_id).deleted) == ("failed", 0)


@pytest.mark.parametrize(("before", "after"), [("1h", "7d"), ("7d", "1h")])
def test_the_shorter_plan_max_age_counts(harness: Harness, before: str, after: str) -> None:
    harness.rewrite(plan_max_age=before)
    run_id, task_calls = harness.plan()
    harness.rewrite(plan_max_age=after)
    with harness.store.write() as connection:
        connection.execute(update(run_table).values(started_at=datetime.now(UTC) - timedelta(hours=2)))
    harness.carry_out(task_calls)
    assert (harness.run(run_id).stop, harness.run(run_id).deleted) == ("expired", 0)


@pytest.mark.parametrize(
    ("before", "after"), [({"deadline": "1h"}, {}), ({"deadline": "1h"}, {"deadline": "7d"}), ({}, {"deadline": "1h"})]
)
def test_the_earlier_deadline_counts(harness: Harness, before: dict[str, Any], after: dict[str, Any]) -> None:
    harness.rewrite(**before)
    run_id, task_calls = harness.plan()
    harness.rewrite(**after)
    with harness.store.write() as connection:
        connection.execute(update(run_table).values(deleting_at=datetime.now(UTC) - timedelta(hours=2)))
    harness.carry_out(task_calls)
    assert (harness.run(run_id).stop, harness.run(run_id).deleted) == ("deadline", 0)


def test_a_settle_that_is_raised_keeps_images_first_seen_by_the_plan(harness: Harness) -> None:
    run = swept_after_edit(harness, {}, {"settle": "1h"})
    assert (run.deleted, run.skipped) == (0, 3)
    assert set(harness.outcomes(run.id).values()) == {("skipped", "mode")}
    assert "settle was raised since the plan" in (harness.items(run.id)[0].message or "")


def test_a_settle_that_is_raised_deletes_images_settled_for_long(harness: Harness, simulator: Simulator) -> None:
    harness.plan(dry_run=True)
    pass_time(harness, DAY)
    fresh = simulator.push("shop/api", tags=["pr-9"], age=30 * DAY)["digest"]
    run_id, task_calls = harness.plan()
    harness.rewrite(settle="1h")
    harness.carry_out(task_calls)
    assert (harness.run(run_id).deleted, harness.outcomes(run_id)[fresh]) == (3, ("skipped", "mode"))


def test_deletes_nothing_in_a_repository_that_the_file_no_longer_names(tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        kept = [registry.push(path, "pr-1", layers=[path.encode()]).digest for path in ("shop/api", "shop/web")]
        harness = Harness(served(registry), tmp_path, rules=RULES)
        run_id, task_calls = harness.plan()
        harness.rewrite(rules=RULES, repositories=["shop/api"])
        harness.carry_out(task_calls)
        assert harness.outcomes(run_id) == {kept[0]: ("deleted", None), kept[1]: ("skipped", "mode")}
        harness.store.dispose()


@pytest.mark.parametrize(
    ("planned", "edited", "bound"),
    [
        pytest.param(("a",), ("a",), ("a",), id="unchanged"),
        pytest.param(("a",), ("b", "a"), ("a",), id="another image is ignored"),
        pytest.param((), ("a",), (), id="an image is ignored for the first time"),
        pytest.param(("a", "b"), ("b",), ("b",), id="an image is no longer ignored"),
    ],
)
def test_an_unreadable_image_that_is_named_since_the_plan_freezes_its_repository_all_the_same(
    harness: Harness, planned: tuple[str, ...], edited: tuple[str, ...], bound: tuple[str, ...]
) -> None:
    registry = harness.settings.registries["production"]
    planned_by = terms_of(harness.settings, registry.model_copy(update={"ignore_unreadable": planned}))
    terms = msgspec.json.decode(encode_terms(planned_by), type=Terms)
    assert stricter(registry.model_copy(update={"ignore_unreadable": edited}), terms).ignore_unreadable == bound
    earlier = registry.model_copy(update={"ignore_unreadable": edited})
    assert stricter(earlier, Terms()).ignore_unreadable == edited  # planned by an earlier version


def test_an_edited_setting_can_only_make_a_run_more_careful(harness: Harness) -> None:
    """Addresses by which evidence names images stay; a registry of the vendor's old type is not opened in mid-run."""
    registry = harness.settings.registries["production"]
    planned = registry.model_copy(update={"addresses": ("cr.example",), "transitional": False})
    edited = registry.model_copy(update={"addresses": ("mirror.example",), "transitional": True})
    bound = stricter(edited, terms_of(harness.settings, planned))
    assert (bound.addresses, bound.transitional) == (("mirror.example", "cr.example"), False)
    assert stricter(edited, Terms()) == edited  # planned by an earlier version


class TestAnotherRegistry:
    """The entry of a run's name is another registry now: kind, endpoint or id."""

    @pytest.fixture
    def two(self, tmp_path: Path) -> Iterator[tuple[FakeRegistry, FakeRegistry, Harness]]:
        with FakeRegistry() as production, FakeRegistry() as staging:
            for registry in (production, staging):
                registry.push("shop/api", "pr-1", layers=[b"one"])
                registry.push("shop/api", "v1", layers=[b"two"])
            harness = Harness(served(production), tmp_path, rules=RULES)
            yield production, staging, harness
            harness.store.dispose()

    def test_a_pending_run_fails_and_plans_nothing(self, two: tuple[FakeRegistry, FakeRegistry, Harness]) -> None:
        production, staging, harness = two
        run_id = harness.open()
        harness.rewrite(url=staging.url, rules=RULES)
        task_calls = harness.do(TaskCall("gc.scan", (run_id,)))
        harness.rewrite(rules=RULES)  # the edit is taken back
        harness.carry_out([*task_calls, *harness.reconcile()])
        run = harness.run(run_id)
        assert (run.outcome, run.planned, run.plan_sha256) == ("failed", 0, None)
        assert (run.message or "").startswith("'production' is another registry now: the run is of oci ")
        assert f"the configuration file has oci http://localhost:{urlsplit(staging.url).port};" in (run.message or "")
        assert production.deleted == staging.deleted == []

    def test_reconcile_fails_a_pending_run(self, two: tuple[FakeRegistry, FakeRegistry, Harness]) -> None:
        _, staging, harness = two
        run_id = harness.open()
        harness.rewrite(url=staging.url, rules=RULES)
        harness.reconcile()
        assert harness.run(run_id).outcome == "failed"

    def test_a_planned_run_deletes_in_neither_registry(self, two: tuple[FakeRegistry, FakeRegistry, Harness]) -> None:
        production, staging, harness = two
        run_id, task_calls = harness.plan()
        harness.rewrite(url=staging.url, rules=RULES)
        harness.carry_out([*task_calls, *harness.reconcile()])
        assert set(harness.outcomes(run_id).values()) == {("skipped", "mode")}
        assert "another registry now" in (harness.items(run_id)[0].message or "")
        assert production.deleted == staging.deleted == []

    def test_a_blocked_run_is_not_approved(self, two: tuple[FakeRegistry, FakeRegistry, Harness]) -> None:
        production, staging, harness = two
        harness.rewrite(rules=RULES, limits={"max_images": 0})
        run_id, _ = harness.plan()
        harness.rewrite(url=staging.url, rules=RULES)
        with pytest.raises(NotBlockedError, match="another registry now"):
            lifecycle.approve(harness.store, harness.settings, run_id, datetime.now(UTC))
        assert production.deleted == staging.deleted == []

    def test_a_verification_reads_the_registry_that_was_swept(
        self, two: tuple[FakeRegistry, FakeRegistry, Harness]
    ) -> None:
        production, staging, harness = two
        run_id, task_calls = harness.plan()
        left = harness.carry_out(task_calls, until="gc.verify")
        asked = len(production.lines())
        harness.rewrite(url=staging.url, rules=RULES)
        harness.carry_out(left)
        assert (harness.run(run_id).outcome, harness.run(run_id).deleted) == ("succeeded", 1)
        assert (len(production.lines()) > asked, staging.lines()) == (True, [])
