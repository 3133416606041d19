"""Runs where only tags are listed and no push time is reported: first sight, moved tags, deleted images."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from policies.image import Image
from tests.support.harness import Harness
from tests.support.oci.fake import FakeRegistry
from tests.support.oci.real_runs import served
from tests.support.scan_history import exceeded, pass_time
from worker.report.run import outcome_text, shown_json
from worker.runs.lifecycle import TaskCall
from worker.store import plans
from worker.store.sweeping import Item, Outcome
from worker.sweep import outcomes
from worker.sweep.recheck import Comparison, _in_time

DAY = timedelta(days=1)
OLD = [{"name": "old", "delete": {"tags": ["old*"], "older_than": "7d"}}]
PATH = "shop/api"


@pytest.fixture
def harness(on_fake: Callable[..., Harness]) -> Harness:
    return on_fake(rules=OLD, concurrency=4)


def created(harness: Harness, run_id: str) -> dict[str, datetime | None]:
    with harness.store.read() as connection:
        return {decision.digest: decision.created_at for decision in plans.decisions_of(connection, run_id, PATH)}


def test_the_push_time_is_the_first_sight(fake: FakeRegistry, harness: Harness) -> None:
    first = fake.push(PATH, "old-1", layers=[1], created="1999-01-01T00:00:00Z")
    run = harness.sweep()
    assert run.outcome == "succeeded"
    assert created(harness, run.id) == {first.digest: run.started_at}
    assert run.suspicion is None  # that all are of one minute is our own doing
    pass_time(harness, 8 * DAY)
    second = fake.push(PATH, "old-2", layers=[2])
    later = harness.sweep()
    times = created(harness, later.id)
    assert run.started_at is not None
    assert times == {first.digest: run.started_at - 8 * DAY, second.digest: later.started_at}
    assert fake.deleted == [(PATH, first.digest)]
    assert (later.deleted, later.outcome) == (1, "succeeded")


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param([{"name": "the rest", "delete": {"beyond_newest": 5}}], id="beyond_newest"),
        pytest.param(
            [{"name": "the rest", "delete": {"beyond_newest": 5, "per": "registry"}}],
            id="beyond_newest of the registry",
        ),
        pytest.param(
            [{"name": "five", "keep": {"newest": 5}}, {"name": "all", "delete": {"all": True}}],
            id="newest, and all else",
        ),
    ],
)
def test_images_of_one_scan_are_not_ranked(fake: FakeRegistry, tmp_path: Path, rules: list[dict[str, Any]]) -> None:
    """Eight pushes a day: those of one scan stay together until five later ones are before them."""
    keys: dict[str, Any] = {"rules": rules, "rate": {"requests_per_second": 1000}}
    harness = Harness(served(fake) | {"push_time": "first_seen"}, tmp_path, **keys)
    days = [[fake.push(PATH, f"build-{n}", layers=[n]).digest for n in range(8)]]
    fake.move_tag(PATH, "main", days[0][-1])
    first = harness.sweep()
    assert (first.outcome, first.deleted, first.undecidable) == ("succeeded", 0, 8)
    (warning,) = first.warnings
    assert warning == {
        "code": "undecidable",
        "message": "8 images are kept because their rank in a count is unknown: the registry reports no push times, and"
        " one scan of this store first saw them together with other images; write push_time: image in the registry,"
        " or keep rules on tags.",
    }
    pass_time(harness, DAY)
    days.append([fake.push(PATH, f"build-{n}", layers=[n]).digest for n in range(8, 16)])
    fake.move_tag(PATH, "main", days[1][-1])
    second = harness.sweep()
    assert (second.outcome, second.deleted, second.undecidable) == ("succeeded", 8, 8)
    assert set(fake.state()[PATH]) == set(days[1])
    pass_time(harness, DAY)
    fake.push(PATH, "build-16", layers=[16])
    third = harness.sweep()
    assert (third.deleted, third.undecidable) == (0, 8)
    harness.store.dispose()


@pytest.mark.parametrize("per", ["repository", "registry"])
@pytest.mark.parametrize("trusts", [False, True])
def test_an_image_that_reappears_gets_a_new_first_sight(
    fake: FakeRegistry, tmp_path: Path, per: str, trusts: bool
) -> None:
    """It is new to every age, and pushes nothing out of a count: perhaps it existed all the time."""
    counts = [
        {"name": "three", "keep": {"newest": 3, "tags": ["main-*"], "per": per}},
        {"name": "old", "delete": {"tags": ["old-*"], "older_than": "14d"}},
        {"name": "the rest", "delete": {"tags": ["main-*"], "beyond_newest": 3, "per": per}},
    ]
    keys: dict[str, Any] = {"rules": counts, "rate": {"requests_per_second": 1000}}
    if trusts:
        keys["trust_times_after"] = "1999-01-01T00:00:00Z"
    harness = Harness(served(fake) | {"push_time": "first_seen"}, tmp_path, **keys)
    for name in ("main-10", "main-11", "main-12", "old-stays"):
        fake.push(PATH, name, layers=[name.encode()])
    lost = {name: push_again(fake, name) for name in LOST}
    harness.sweep()
    pass_time(harness, 10 * DAY)
    for name, path in LOST.items():
        fake.remove(path, lost[name])
    assert exceeded(harness.sweep()) == ["vanished"]
    pass_time(harness, 10 * DAY)

    assert {name: push_again(fake, name) for name in LOST} == lost
    back = harness.sweep()
    assert (back.outcome, back.exceeded) == ("succeeded", ())
    assert tags_of(fake) == {"main-10", "main-11", "main-12", *LOST}  # the rules decide about tags that were never gone
    pass_time(harness, DAY)
    assert harness.sweep().deleted == 0  # the returned tags push no others out in the next run
    for name in ("main-13", "main-14", "main-15"):
        fake.push(PATH, name, layers=[name.encode()])
    pass_time(harness, 14 * DAY)
    assert harness.sweep().outcome == "succeeded"
    alone = {"main-9"} if per == "repository" else set()
    assert tags_of(fake) == {"main-13", "main-14", "main-15"} | alone  # later pushes do; its age is that of its return
    harness.store.dispose()


LOST = dict.fromkeys(("main-1", "main-2", "main-3", "old-1", "old-2"), PATH) | {"main-9": "shop/web"}


def push_again(fake: FakeRegistry, name: str) -> str:
    return fake.push(LOST[name], name, layers=[name.encode()]).digest


def tags_of(fake: FakeRegistry) -> set[str]:
    return {tag for digests in fake.state().values() for tags in digests.values() for tag in tags}


def test_an_image_that_lost_its_tag_has_not_vanished(fake: FakeRegistry, harness: Harness) -> None:
    fake.fill(PATH, 4)
    harness.sweep()
    for number in range(3):
        fake.push(PATH, f"t{number:05}", layers=[number])
    run = harness.sweep()
    assert (run.outcome, run.foreign_deletions, run.images) == ("succeeded", 0, 4)
    for digest in sorted(fake.state()[PATH])[:3]:
        fake.remove(PATH, digest)
    gone = harness.sweep()
    assert gone.foreign_deletions > 0


def test_a_kept_tag_that_moves_stops_no_deletion(fake: FakeRegistry, harness: Harness) -> None:
    old = fake.push(PATH, "old-1", layers=[1])
    fake.push(PATH, "latest", layers=[2])
    harness.sweep()
    pass_time(harness, 8 * DAY)
    run_id, task_calls = harness.plan()
    fake.push(PATH, "latest", layers=[3])
    harness.carry_out(task_calls)
    run = harness.run(run_id)
    assert (run.outcome, run.deleted, run.differences) == ("succeeded", 1, ())
    assert fake.deleted == [(PATH, old.digest)]


def test_a_lost_kept_image_skips_its_repository(fake: FakeRegistry, harness: Harness) -> None:
    old = fake.push(PATH, "old-1", layers=[1])
    kept = fake.push(PATH, "latest", layers=[2])
    harness.sweep()
    pass_time(harness, 8 * DAY)
    run_id, task_calls = harness.plan()
    fake.remove(PATH, kept.digest)
    harness.carry_out(task_calls)
    assert harness.outcomes(run_id) == {old.digest: ("skipped", "repository_changed")}
    assert fake.deleted == []


@pytest.mark.parametrize("when", ["before the recheck", "after the recheck"])
def test_keeps_an_image_that_got_another_tag(fake: FakeRegistry, harness: Harness, when: str) -> None:
    old = fake.push(PATH, "old-1", layers=[1])
    fake.push(PATH, "latest", layers=[2])
    harness.sweep()
    pass_time(harness, 8 * DAY)
    run_id, task_calls = harness.plan()
    if when == "after the recheck":
        task_calls = harness.carry_out(task_calls, until="gc.recheck")
        task_calls = [*task_calls[1:], *harness.do(task_calls[0])]
    fake.move_tag(PATH, "stable", old.digest)
    harness.carry_out(task_calls)
    assert harness.outcomes(run_id) == {old.digest: ("skipped", "changed")}
    assert fake.deleted == []


def test_somebody_elses_deletion_is_confirmed_without_reading_every_tag_once_more(
    fake: FakeRegistry, harness: Harness
) -> None:
    old = fake.push(PATH, "old-1", layers=[1])
    fake.fill(PATH, 30)
    harness.sweep()
    pass_time(harness, 8 * DAY)
    run_id, task_calls = harness.plan()
    task_calls = harness.carry_out(task_calls, until="gc.recheck")
    task_calls = [*task_calls[1:], *harness.do(task_calls[0])]
    fake.remove(PATH, old.digest)
    asked = len(fake.requests)
    batch = next(task_call for task_call in task_calls if task_call.task == "gc.delete_batch")
    harness.do(batch)
    assert harness.outcomes(run_id) == {old.digest: ("gone", None)}
    tags = 30  # which are read once, before the batch
    others = 12  # the clock, lists with their last request, the image, and the confirmation that it is gone
    assert len(fake.requests) - asked <= tags + others


def rechecked_at(harness: Harness) -> tuple[str, list[TaskCall]]:
    """A run whose repository was listed again, and the task calls of its batches."""
    harness.sweep()
    pass_time(harness, 8 * DAY)
    run_id, task_calls = harness.plan()
    task_calls = harness.carry_out(task_calls, until="gc.recheck")
    return run_id, [*task_calls[1:], *harness.do(task_calls[0])]


def test_keeps_a_planned_image_to_which_an_old_tag_is_moved(fake: FakeRegistry, harness: Harness) -> None:
    old = fake.push(PATH, "old-1", layers=[1])
    fake.push(PATH, "prod", layers=[2])
    run_id, task_calls = rechecked_at(harness)
    fake.move_tag(PATH, "prod", old.digest)  # a roll-back
    harness.carry_out(task_calls)
    assert harness.outcomes(run_id) == {old.digest: ("skipped", "changed")}
    assert fake.deleted == []


@pytest.mark.parametrize("tag", ["multi", "latest"], ids=["a new tag", "a tag that moves on"])
def test_an_index_pushed_over_a_planned_image_keeps_it(fake: FakeRegistry, harness: Harness, tag: str) -> None:
    old = fake.push(PATH, "old-1", layers=[1])
    fake.push(PATH, "latest", layers=[2])
    run_id, task_calls = rechecked_at(harness)
    inner = fake.push_index(PATH, children=[old.digest])
    fake.push_index(PATH, tag, children=[inner.digest])
    harness.carry_out(task_calls)
    assert harness.outcomes(run_id) == {old.digest: ("skipped", "used_by_image_lists")}
    assert fake.deleted == []


def test_a_collateral_tag_stops_the_run(fake: FakeRegistry, harness: Harness) -> None:
    old = fake.push(PATH, "old-1", layers=[1])
    fake.push(PATH, "prod", layers=[9])
    run_id, task_calls = rechecked_at(harness)
    fake.before("DELETE", "/manifests/", lambda: fake.move_tag(PATH, "prod", old.digest))
    harness.carry_out(task_calls)
    run = harness.run(run_id)
    assert (run.outcome, fake.deleted) == ("failed", [(PATH, old.digest)])
    assert run.message is not None
    assert "the registry deleted prod of the same repository, which the plan keeps" in run.message


def test_a_signature_has_its_image_as_subject(fake: FakeRegistry, harness: Harness) -> None:
    signed = fake.push(PATH, "v1", layers=[1])
    signature = fake.push(PATH, f"sha256-{signed.digest.removeprefix('sha256:')}.sig", layers=[2])
    fake.push(PATH, "v1", layers=[3])  # the signed image has no tag any more
    harness.rewrite(rules=[{"name": "signatures", "delete": {"tags": ["sha256-*"]}}], mode="delete")
    run = harness.sweep()
    assert (run.images, run.planned) == (3, 0)
    assert {signed.digest, signature.digest} <= fake.state()[PATH].keys()


NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "tags", "age", "goes_on"),
    [
        pytest.param("intent", ("a",), 0, True, id="one tag is left of a begun deletion"),
        pytest.param("intent", (), 0, True, id="none is left"),
        pytest.param("intent", ("a",), 1, True, id="the newest artifact is gone"),
        pytest.param("intent", ("a", "b"), -1, False, id="pushed again since"),
        pytest.param("intent", ("a", "c"), 0, False, id="a tag that was not planned"),
        pytest.param("planned", ("a",), 0, False, id="no deletion was begun"),
    ],
)
def test_goes_on_with_an_image_that_a_begun_deletion_may_have_left(
    state: str, tags: tuple[str, ...], age: int, goes_on: bool
) -> None:
    planned = Image(digest="sha256:1", tags=("a", "b"), created_at=NOW)
    now = Image(digest="sha256:1", tags=tags, created_at=NOW - age * DAY)
    item = Item(
        run_id="r", number=0, repository=PATH, image=planned, digest=planned.digest, owners=(), state=state,
        idempotency_key=None, attempts=1, operation_id=None, intent_at=NOW, refused=None,
    )  # fmt: skip
    outcome = outcomes.after_rereading(item, now, by_parts=True)
    assert (outcome is None) is goes_on
    if state == "intent" and not goes_on:
        assert outcome == Outcome("failed", "unconfirmed", outcome.message if outcome else None)


@pytest.mark.parametrize(("minutes", "speaks"), [(1, True), (8, True), (9, False), (14, False)])
def test_a_recheck_that_took_too_long_permits_no_deletion(minutes: int, speaks: bool) -> None:
    comparison = _in_time(Comparison(listed=frozenset({"sha256:1"})), timedelta(minutes=minutes))
    assert (comparison.reason is None) is speaks
    assert comparison.listed == {"sha256:1"}
    assert speaks or "raise the registry's rate.requests_per_second" in str(comparison.reason)


def test_reports_reclaimable_bytes_as_an_upper_bound(fake: FakeRegistry, harness: Harness) -> None:
    fake.push(PATH, "old-1", layers=[1000])
    harness.sweep()
    pass_time(harness, 8 * DAY)
    run = harness.sweep()
    assert shown_json(run)["reclaimable_is_upper_bound"] is True
    assert re.search(r"1 deleted; at most [0-9.]+ \S+ reclaimed", outcome_text(run))


class TestAKeptTagThatIsRefused:
    """Its needs are unknown: nothing in its repository is deleted, and the run ends."""

    @pytest.fixture
    def planned(self, fake: FakeRegistry, harness: Harness) -> tuple[str, list[TaskCall]]:
        fake.push(PATH, "v1", layers=[b"kept"])
        for number in range(3):
            fake.push(PATH, f"old-{number}", layers=[number])
        fake.push("shop/web", "old-9", layers=[b"9"])
        fake.push("shop/web", "v1", layers=[b"web"])
        harness.sweep()
        pass_time(harness, 8 * DAY)
        return harness.plan()

    @pytest.mark.parametrize("task", ["gc.recheck", "gc.delete_batch"])
    @pytest.mark.parametrize("status", [400, 403, 404, 409, 410, 412, 451])
    def test_skips_an_unlistable_repository_whatever_the_status(
        self, fake: FakeRegistry, harness: Harness, planned: tuple[str, list[TaskCall]], status: int, task: str
    ) -> None:
        run_id, task_calls = planned
        task_calls = harness.carry_out(task_calls, until=task)
        fake.fault("status", "", f"{PATH}/manifests/v1$", times=None, status=status, code="ODD")

        harness.carry_out(task_calls)

        run = harness.run(run_id)
        assert (run.state, run.outcome, run.deleted, run.skipped) == ("finished", "partial", 1, 3)
        mine = [item for item in harness.items(run_id) if item.decision.repository == PATH]
        assert {(item.state, item.outcome_cause) for item in mine} == {("skipped", "repository_changed")}
        assert all((item.message or "").startswith("the repository cannot be listed again: ") for item in mine)

    @pytest.mark.parametrize("status", [403, 429, 502])
    def test_rechecks_a_temporarily_unavailable_repository_again(
        self, fake: FakeRegistry, harness: Harness, planned: tuple[str, list[TaskCall]], status: int
    ) -> None:
        run_id, task_calls = planned
        task_calls = harness.carry_out(task_calls, until="gc.recheck")
        fake.fault("status", "", f"{PATH}/tags/list", times=None, status=status, code="ODD")
        harness.do(TaskCall("gc.recheck", (run_id, PATH)))
        fake.heal()
        harness.carry_out(task_calls)
        assert harness.run(run_id).skipped == 0
