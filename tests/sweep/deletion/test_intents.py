"""The checks of each intent: an objection that arises after the batch has begun still keeps the image."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from policies.holds import Hold
from tests.support.harness import Harness
from tests.support.oci.fake import FakeRegistry
from worker.store import holds
from worker.store.tables import run as run_table

HOUR = timedelta(hours=1)
PATH = "shop/api"
RULES = [{"name": "releases", "keep": {"tags": ["v*"]}}, {"name": "old", "delete": {"tags": ["pr-*"]}}]


@pytest.fixture
def harness(on_fake: Callable[..., Harness]) -> Harness:
    return on_fake(rules=RULES, concurrency=1, plan_max_age="24h", deadline="5h")


@pytest.mark.parametrize(
    ("column", "ago", "words"),
    [
        pytest.param("started_at", 25 * HOUR, "the plan grew older than plan_max_age", id="the plan's age"),
        pytest.param("deleting_at", 6 * HOUR, "the deadline passed", id="the deadline"),
    ],
)
def test_records_no_intent_after_plan_max_age_or_deadline(
    fake: FakeRegistry, harness: Harness, column: str, ago: timedelta, words: str
) -> None:
    digest = fake.push(PATH, "pr-1", layers=[b"old"]).digest
    fake.push(PATH, "v1", layers=[b"kept"])
    run_id, task_calls = harness.plan()

    def pass_time() -> None:
        with harness.store.write() as connection:
            values = {column: datetime.now(UTC) - ago}
            connection.execute(update(run_table).where(run_table.c.id == run_id).values(values))

    fake.before("HEAD", f"/manifests/{digest}$", pass_time)  # the image is read again, nothing else is asked after it
    harness.carry_out(task_calls)

    assert fake.deleted == []
    assert harness.outcomes(run_id) == {digest: ("planned", None)}
    run = harness.run(run_id)
    assert (run.outcome, words in (run.message or "")) == ("partial", True)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("by", ["digest", "tag"])
def test_a_hold_on_a_child_keeps_every_index_above_it(
    fake: FakeRegistry, harness: Harness, depth: int, by: str
) -> None:
    held = fake.push(PATH, "pr-child", layers=[b"held"]).digest
    other = fake.push(PATH, layers=[b"other"]).digest
    index = fake.push_index(PATH, "pr-1", children=[held, other]).digest
    for _ in range(depth - 1):
        index = fake.push_index(PATH, "pr-2", children=[index]).digest
    fake.push(PATH, "v1", layers=[b"kept"])
    before = fake.state()
    run_id, task_calls = harness.plan()
    assert harness.run(run_id).planned == 3 + (depth - 1)

    with harness.store.write() as connection:
        hold = Hold(kind=by, repository=PATH, value=held if by == "digest" else "pr-child", who="anna")  # type: ignore[arg-type]  # a parameter
        holds.add(connection, "production", hold, datetime.now(UTC))
    harness.carry_out(task_calls)

    assert fake.state() == before
    outcomes = harness.outcomes(run_id)
    assert (outcomes[index], outcomes[held]) == (("skipped", "held"), ("skipped", "held"))
    messages = {item.decision.digest: item.message or "" for item in harness.items(run_id)}
    assert f"lists {held}, held by anna" in messages[index]
