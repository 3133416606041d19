"""Who is told what of a run, and when: once, also where a server is ill or a sender dies."""

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
from worker.runs.lifecycle import Bell
from worker.store import notices

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


def push_old(simulator: Simulator, count: int = 3) -> None:
    for number in range(count):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY, layers=[1000])


def minute(night: Harness, after: timedelta = timedelta()) -> None:
    """What reconcile and the tasks that it rings do at a time from now."""
    for bell in night.reconcile(after):
        assert bell.task == "gc.notify"
        notification.tell(night.store, night.settings, str(bell.args[0]), datetime.now(UTC) + after)


def failed(night: Harness) -> str:
    """A run that cannot plan."""
    run_id = night.open()
    lifecycle.fail(night.store, run_id, "the registry is gone", datetime.now(UTC))
    return run_id


def told(night: Harness) -> list[str | None]:
    with night.store.read() as connection:
        return list(connection.execute(text("select told from run order by opened_at, id")).scalars())


def test_a_blocked_run_is_told_once_and_then_its_end(simulator: Simulator, night: MakeHarness, hook: Webhook) -> None:
    push_old(simulator)
    tonight = night(on="always", limits={"max_images": 2})
    run_id, _ = tonight.plan()
    for _ in range(3):
        minute(tonight)
    assert hook.titles == ["registry-gc: production: blocked"]
    assert f"registry-gc approve {run_id}" in hook.bodies[0]
    tonight.ring(lifecycle.approve(tonight.store, tonight.settings, run_id, datetime.now(UTC)))
    for _ in range(3):
        minute(tonight)
    assert hook.titles == ["registry-gc: production: blocked", "registry-gc: production: succeeded"]
    assert told(tonight) == ["succeeded"]


def test_a_blocked_run_that_expires_is_not_told_twice(simulator: Simulator, night: MakeHarness, hook: Webhook) -> None:
    push_old(simulator)
    tonight = night(on="always", limits={"max_images": 2}, plan_max_age="1h")
    tonight.plan()
    minute(tonight)
    minute(tonight, 2 * timedelta(hours=1))
    minute(tonight, 2 * timedelta(hours=1))
    assert hook.titles == ["registry-gc: production: blocked"]


def test_what_arrives_of_a_partial_run(
    simulator: Simulator, night: MakeHarness, hook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    push_old(simulator)
    image = simulator.push("shop/api", tags=["pr-bad"], age=30 * DAY)
    tonight = night(on=["partial"])
    run_id, bells = tonight.plan()
    simulator.fault("fail_operation", method="DELETE", path=f"/images/{image['id']}", code=13, message="ill")
    tonight.ring(bells)
    minute(tonight)
    ((path, message),) = hook.received
    assert path == f"/hook/{SECRET}"
    assert (message["title"], message["type"]) == ("registry-gc: production: partial", "warning")
    run = tonight.run(run_id)
    lines = [line.split(maxsplit=1) for line in message["message"].splitlines() if line]
    assert [line[0] for line in lines] == [
        "registry", "run", "outcome", "why", "images", "planned", "deleted", "gone", "skipped", "failed",
        "audit", "took", "See",
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
        pytest.param({"on": ["partial", "blocked"]}, [], id="what did not happen"),
        pytest.param({"registries": ["production"]}, ["failed"], id="this registry"),
    ],
)
def test_only_what_was_asked_for(
    simulator: Simulator, night: MakeHarness, hook: Webhook, entry: dict[str, Any], titles: list[str]
) -> None:
    push_old(simulator, 1)
    tonight = night(**entry)
    tonight.sweep()
    failed(tonight)
    minute(tonight)
    minute(tonight)
    assert sorted(hook.titles) == sorted(f"registry-gc: production: {one}" for one in titles)
    assert None not in told(tonight)


def test_who_is_added_later_is_not_told_of_earlier_runs(
    simulator: Simulator, night: MakeHarness, hook: Webhook
) -> None:
    tonight = night(on=["blocked"])
    failed(tonight)
    minute(tonight)
    tonight.rewrite(notify=[{"url": hook.url}])
    minute(tonight)
    assert (hook.titles, told(tonight)) == ([], ["failed"])


def test_what_is_a_day_old_is_not_told(simulator: Simulator, night: MakeHarness, hook: Webhook) -> None:
    tonight = night()
    failed(tonight)
    minute(tonight, DAY + MINUTE)
    assert (hook.titles, told(tonight)) == ([], ["failed"])


def test_a_failing_server_is_tried_five_times_in_an_hour(
    simulator: Simulator, night: MakeHarness, hook: Webhook
) -> None:
    tonight = night()
    run_id = failed(tonight)
    hook.status = 500
    tried = []
    for after in range(120):
        before = len(hook.received)
        minute(tonight, after * MINUTE)
        tried += [after] * (len(hook.received) - before)
    assert tried == [0, 2, 10, 30, 60]
    run = tonight.run(run_id)
    assert (run.outcome, run.message) == ("failed", "the registry is gone")


def test_what_was_lost_arrives_when_the_server_is_well(simulator: Simulator, night: MakeHarness, hook: Webhook) -> None:
    tonight = night()
    failed(tonight)
    hook.status = 503
    minute(tonight)
    hook.status = 200
    minute(tonight, MINUTE)
    assert len(hook.received) == 1
    minute(tonight, 3 * MINUTE)
    minute(tonight, 30 * MINUTE)
    assert len(hook.received) == 2


def test_who_was_told_is_not_told_again_for_the_others_sake(
    simulator: Simulator, night: MakeHarness, hook: Webhook
) -> None:
    other = {"url": f"json://127.0.0.1:{free_port()}/"}
    tonight = night(notify=[other, {"url": hook.url}])
    failed(tonight)
    for after in range(0, 90, 2):
        minute(tonight, after * MINUTE)
    assert len(hook.received) == 1
    assert told(tonight) == ["failed"]


def test_a_sender_that_died_is_followed_by_another(simulator: Simulator, night: MakeHarness, hook: Webhook) -> None:
    """It wrote down that it would try, and nothing after: nobody knows whether the message was sent."""
    tonight = night()
    run_id = failed(tonight)
    now = datetime.now(UTC)
    with tonight.store.write() as connection:
        notice = notices.get(connection, run_id)
        assert notice is not None
        notices.note(connection, notice, tries=1, after=now + 2 * MINUTE, told=())
    minute(tonight, MINUTE)
    assert hook.received == []
    minute(tonight, 3 * MINUTE)
    assert hook.titles == ["registry-gc: production: failed"]


@pytest.mark.parametrize("telling", ["", "null", "{}", "[", '{"word": "failed", "tries": "x"}'])
def test_what_cannot_be_read_begins_anew(simulator: Simulator, night: MakeHarness, hook: Webhook, telling: str) -> None:
    tonight = night()
    failed(tonight)
    with tonight.store.write() as connection:
        connection.execute(text("update run set telling = :telling"), {"telling": telling})
    minute(tonight)
    minute(tonight)
    assert hook.titles == ["registry-gc: production: failed"]


def test_a_repeated_or_forged_bell_tells_nothing_twice(simulator: Simulator, night: MakeHarness, hook: Webhook) -> None:
    tonight = night()
    run_id, active = failed(tonight), tonight.open()
    tonight.ring([Bell("gc.notify", (one,)) for one in (run_id, run_id, active, "no-such-run") * 3])
    assert hook.titles == ["registry-gc: production: failed"]


def test_many_runs_are_told_a_few_a_minute(simulator: Simulator, night: MakeHarness, hook: Webhook) -> None:
    tonight = night()
    for _ in range(notification.MOST + 3):
        failed(tonight)
    hook.status = 500
    minute(tonight)
    assert len(hook.received) == notification.MOST
    hook.status = 200
    minute(tonight)  # those that were never tried come first
    minute(tonight)
    assert len(hook.received) == notification.MOST + 3
    for after in range(3, 10):
        minute(tonight, after * MINUTE)
    assert len({body.split()[3] for body in hook.bodies}) == notification.MOST + 3
    assert None not in told(tonight)


def test_no_word_of_an_address_is_logged(
    simulator: Simulator,
    night: MakeHarness,
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
    tonight = night(notify=[{"url": {"file": str(place)}} for place in places])
    for status in (200, 500):
        hook.status = status
        failed(tonight)
        minute(tonight)
    assert len(hook.received) == 2
    fields = "".join(str(vars(record)) for record in caplog.records)
    written = caplog.text + fields + "".join(capfd.readouterr()) + repr(tonight.settings)
    assert "notify[1]" in written
    assert "apprise does not understand the address" in written
    assert SECRET not in written
    with tonight.store.read() as connection:
        rows = connection.execute(text("select * from run")).mappings().all()
    assert SECRET not in json.dumps([dict(row) for row in rows], default=str)
