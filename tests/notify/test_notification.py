"""The notifications of a run: sent once, also after failures of the server or the worker."""

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.support.harness import Harness, MakeHarness
from tests.support.servers import free_port
from tests.support.simulator.client import Simulator
from tests.support.webhook import SECRET, Webhook
from worker.notify import notification
from worker.runs import lifecycle
from worker.runs.lifecycle import TaskCall
from worker.store import notices

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


def push_old(simulator: Simulator, count: int = 3) -> None:
    for number in range(count):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY, layers=[1000])


def minute(harness: Harness, after: timedelta = timedelta()) -> None:
    """Execute reconcile and the tasks that it publishes, at a time from now."""
    for task_call in harness.reconcile(after):
        assert task_call.task == "gc.notify"
        notification.send_messages(harness.store, harness.settings, str(task_call.args[0]), datetime.now(UTC) + after)


def failed(harness: Harness) -> str:
    """A run that cannot plan."""
    run_id = harness.open()
    lifecycle.fail(harness.store, run_id, "the registry is gone", datetime.now(UTC))
    return run_id


def notified_words(harness: Harness) -> list[str | None]:
    with harness.store.read() as connection:
        return list(connection.execute(text("select notified from run order by opened_at, id")).scalars())


def test_notifies_once_of_a_blocked_run_and_once_of_its_end(
    simulator: Simulator, make_harness: MakeHarness, hook: Webhook
) -> None:
    push_old(simulator)
    harness = make_harness(on="always", limits={"max_images": 2})
    run_id, _ = harness.plan()
    for _ in range(3):
        minute(harness)
    assert hook.titles == ["registry-gc: production: blocked"]
    assert f"registry-gc approve {run_id}" in hook.bodies[0]
    harness.carry_out(lifecycle.approve(harness.store, harness.settings, run_id, datetime.now(UTC)))
    for _ in range(3):
        minute(harness)
    assert hook.titles == ["registry-gc: production: blocked", "registry-gc: production: succeeded"]
    assert notified_words(harness) == ["succeeded"]


def test_notifies_once_of_a_blocked_run_that_expires(
    simulator: Simulator, make_harness: MakeHarness, hook: Webhook
) -> None:
    push_old(simulator)
    harness = make_harness(on="always", limits={"max_images": 2}, plan_max_age="1h")
    harness.plan()
    minute(harness)
    minute(harness, 2 * timedelta(hours=1))
    minute(harness, 2 * timedelta(hours=1))
    assert hook.titles == ["registry-gc: production: blocked"]


def test_sends_the_facts_of_a_partial_run(
    simulator: Simulator, make_harness: MakeHarness, hook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    push_old(simulator)
    image = simulator.push("shop/api", tags=["pr-bad"], age=30 * DAY)
    harness = make_harness(on=["partial"])
    run_id, task_calls = harness.plan()
    simulator.fault("fail_operation", method="DELETE", path=f"/images/{image['id']}", code=13, message="ill")
    harness.carry_out(task_calls)
    minute(harness)
    ((path, message),) = hook.received
    assert path == f"/hook/{SECRET}"
    assert (message["title"], message["type"]) == ("registry-gc: production: partial", "warning")
    run = harness.run(run_id)
    lines = [line.split(maxsplit=1) for line in message["message"].splitlines() if line]
    assert [line[0] for line in lines] == [
        "registry", "run", "outcome", "why", "images", "planned", "deleted", "gone", "skipped", "failed",
        "audit", "took", "Read",
    ]  # fmt: skip
    said = dict(lines[:-1])
    assert said["why"].startswith(f"1 of 4 images failed (operation_failed), for example shop/api@{image['digest']}: ")
    assert said["why"].endswith(": INTERNAL: ill")
    assert said["failed"] == "1"
    assert said["deleted"].startswith("3; ")
    (finished,) = (record for record in caplog.records if record.message == "run_finished")
    assert said["audit"] == finished.__dict__["audit_sha256"] == run.audit_sha256 != ""
    assert run.reclaimed_bytes > 0
    assert message["message"].endswith(f"registry-gc show {run_id}")


@pytest.mark.parametrize(
    ("entry", "titles"),
    [
        pytest.param({}, ["failed"], id="by itself"),
        pytest.param({"on": "always"}, ["succeeded", "failed"], id="always"),
        pytest.param({"on": ["partial", "blocked"]}, [], id="other outcomes"),
        pytest.param({"registries": ["production"]}, ["failed"], id="this registry"),
    ],
)
def test_sends_only_the_configured_outcomes_and_registries(
    simulator: Simulator, make_harness: MakeHarness, hook: Webhook, entry: dict[str, Any], titles: list[str]
) -> None:
    push_old(simulator, 1)
    harness = make_harness(**entry)
    harness.sweep()
    failed(harness)
    minute(harness)
    minute(harness)
    assert sorted(hook.titles) == sorted(f"registry-gc: production: {title}" for title in titles)
    assert None not in notified_words(harness)


def test_does_not_notify_a_later_recipient_of_earlier_runs(
    simulator: Simulator, make_harness: MakeHarness, hook: Webhook
) -> None:
    harness = make_harness(on=["blocked"])
    failed(harness)
    minute(harness)
    harness.rewrite(notify=[{"url": hook.url}])
    minute(harness)
    assert (hook.titles, notified_words(harness)) == ([], ["failed"])


def test_does_not_notify_of_a_run_that_ended_a_day_ago(
    simulator: Simulator, make_harness: MakeHarness, hook: Webhook
) -> None:
    harness = make_harness()
    failed(harness)
    minute(harness, DAY + MINUTE)
    assert (hook.titles, notified_words(harness)) == ([], ["failed"])


def test_tries_a_failing_server_five_times_in_an_hour(
    simulator: Simulator, make_harness: MakeHarness, hook: Webhook
) -> None:
    harness = make_harness()
    run_id = failed(harness)
    hook.status = 500
    tried = []
    for after in range(120):
        before = len(hook.received)
        minute(harness, after * MINUTE)
        tried += [after] * (len(hook.received) - before)
    assert tried == [0, 2, 10, 30, 60]
    run = harness.run(run_id)
    assert (run.outcome, run.message) == ("failed", "the registry is gone")


def test_sends_again_after_the_server_recovers(simulator: Simulator, make_harness: MakeHarness, hook: Webhook) -> None:
    harness = make_harness()
    failed(harness)
    hook.status = 503
    minute(harness)
    hook.status = 200
    minute(harness, MINUTE)
    assert len(hook.received) == 1
    minute(harness, 3 * MINUTE)
    minute(harness, 30 * MINUTE)
    assert len(hook.received) == 2


def test_does_not_repeat_a_notification_for_another_recipient(
    simulator: Simulator, make_harness: MakeHarness, hook: Webhook
) -> None:
    other = {"url": f"json://127.0.0.1:{free_port()}/"}
    harness = make_harness(notify=[other, {"url": hook.url}])
    failed(harness)
    for after in range(0, 90, 2):
        minute(harness, after * MINUTE)
    assert len(hook.received) == 1
    assert notified_words(harness) == ["failed"]


def test_another_worker_sends_after_a_crash(simulator: Simulator, make_harness: MakeHarness, hook: Webhook) -> None:
    """A worker recorded the attempt and crashed: whether the message was sent is unknown."""
    harness = make_harness()
    run_id = failed(harness)
    now = datetime.now(UTC)
    with harness.store.write() as connection:
        notice = notices.get(connection, run_id)
        assert notice is not None
        notices.record_attempt(connection, notice, tries=1, after=now + 2 * MINUTE, notified=())
    minute(harness, MINUTE)
    assert hook.received == []
    minute(harness, 3 * MINUTE)
    assert hook.titles == ["registry-gc: production: failed"]


@pytest.mark.parametrize("notifying", ["", "null", "{}", "[", '{"word": "failed", "tries": "x"}'])
def test_starts_again_if_the_record_cannot_be_read(
    simulator: Simulator, make_harness: MakeHarness, hook: Webhook, notifying: str
) -> None:
    harness = make_harness()
    failed(harness)
    with harness.store.write() as connection:
        connection.execute(text("update run set notifying = :notifying"), {"notifying": notifying})
    minute(harness)
    minute(harness)
    assert hook.titles == ["registry-gc: production: failed"]


def test_a_repeated_or_forged_message_sends_nothing_twice(
    simulator: Simulator, make_harness: MakeHarness, hook: Webhook
) -> None:
    harness = make_harness()
    run_id, active = failed(harness), harness.open()
    harness.carry_out([TaskCall("gc.notify", (row_id,)) for row_id in (run_id, run_id, active, "no-such-run") * 3])
    assert hook.titles == ["registry-gc: production: failed"]


def test_sends_only_a_few_notifications_a_minute(
    simulator: Simulator, make_harness: MakeHarness, hook: Webhook
) -> None:
    harness = make_harness()
    for _ in range(notification.MOST + 3):
        failed(harness)
    hook.status = 500
    minute(harness)
    assert len(hook.received) == notification.MOST
    hook.status = 200
    minute(harness)  # those that were never tried come first
    minute(harness)
    assert len(hook.received) == notification.MOST + 3
    for after in range(3, 10):
        minute(harness, after * MINUTE)
    assert len({body.split()[3] for body in hook.bodies}) == notification.MOST + 3
    assert None not in notified_words(harness)


def test_never_logs_an_address(
    simulator: Simulator,
    make_harness: MakeHarness,
    hook: Webhook,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    broken = f"slack://{SECRET}"
    refused = f"json://user:{SECRET}@127.0.0.1:{free_port()}/{SECRET}?token={SECRET}"
    places = [tmp_path / f"address-{number}" for number in range(3)]
    for place, url in zip(places, (hook.url, broken, refused), strict=True):
        place.write_text(url)
    harness = make_harness(notify=[{"url": {"file": str(place)}} for place in places])
    for status in (200, 500):
        hook.status = status
        failed(harness)
        minute(harness)
    assert len(hook.received) == 2
    fields = "".join(str(vars(record)) for record in caplog.records)
    written = caplog.text + fields + "".join(capfd.readouterr()) + repr(harness.settings)
    assert "notify[1]" in written
    assert "apprise does not support the address" in written
    assert SECRET not in written
    with harness.store.read() as connection:
        rows = connection.execute(text("select * from run")).mappings().all()
    assert SECRET not in json.dumps([dict(row) for row in rows], default=str)
