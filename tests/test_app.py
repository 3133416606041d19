"""The Celery application's settings, each that safety rests on, and beat's entries."""

import pickle
import sys
from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from celery.schedules import crontab
from celery.schedules import schedule as interval

from tests.support.sandbox import Sandbox, registry
from worker import tasks
from worker.app import (
    BATCH_SECONDS,
    KEY_PREFIX,
    ROUTES,
    SCAN_SECONDS,
    VISIBILITY_SECONDS,
    Loader,
    UnusableError,
    ZonedCron,
)
from worker.config.settings import load
from worker.processes.embedded import NODES

MINUTE = timedelta(minutes=1)


REDIS = "redis://127.0.0.1:6379/5"


@pytest.fixture
def sandbox(tmp_path):
    return Sandbox(tmp_path, redis=REDIS)


@pytest.fixture
def conf(sandbox, monkeypatch):
    """The settings of an application; it reads the configuration of `place` when the first one is asked for."""
    for name, value in sandbox.environ.items():
        monkeypatch.setenv(name, value)
    return Celery("test", loader=Loader, set_as_current=False).conf


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accept_content", ["json"]),
        ("result_accept_content", ["json"]),
        ("task_serializer", "json"),
        ("event_serializer", "json"),
        ("result_backend", None),
        ("result_expires", None),
        ("task_ignore_result", True),
        ("task_acks_late", True),
        ("task_reject_on_worker_lost", True),
        ("task_acks_on_failure", True),
        ("task_acks_on_timeout", True),
        ("worker_prefetch_multiplier", 1),
        ("worker_cancel_long_running_tasks_on_connection_loss", False),
        ("broker_connection_retry_on_startup", True),
        ("worker_hijack_root_logger", False),
        ("timezone", "UTC"),
        ("enable_utc", True),
        ("beat_sync_every", 1),
        ("worker_enable_remote_control", True),  # Celery's own default: `celery inspect` and Flower ask
        ("worker_send_task_events", True),
        ("beat_enable_remote_control", True),
        ("task_default_queue", "gc.control"),
        ("broker_url", REDIS),
    ],
)
def test_the_value_of_each_setting_that_safety_depends_on(conf, name, value):
    assert conf[name] == value


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("socket_timeout", 10),
        ("socket_connect_timeout", 5),
        ("socket_keepalive", True),
        ("global_keyprefix", KEY_PREFIX),
    ],
)
def test_the_value_of_each_broker_option(conf, option, value):
    assert conf["broker_transport_options"][option] == value


def test_no_message_is_delivered_again_while_its_task_may_still_run(conf):
    assert conf["visibility_timeout"] == conf["broker_transport_options"]["visibility_timeout"] == VISIBILITY_SECONDS
    assert VISIBILITY_SECONDS >= 10 * BATCH_SECONDS
    assert max(task.time_limit or 0 for task in tasks.app.tasks.values()) == SCAN_SECONDS < VISIBILITY_SECONDS


def test_a_task_gets_its_soft_limit_before_it_is_killed(conf):
    assert (
        120 < conf["task_soft_time_limit"] < conf["task_time_limit"] == BATCH_SECONDS
    )  # a batch takes 40 s to list its repository, then 45 s and 30 s more
    scan = tasks.app.tasks["gc.scan"]
    assert scan.soft_time_limit < scan.time_limit


def test_a_soft_time_limit_is_no_expected_error():
    assert not issubclass(SoftTimeLimitExceeded, tasks.EXPECTED_ERRORS)


def test_a_stop_waits_longer_than_a_batch_can_take():
    assert NODES["delete"].stop_seconds >= BATCH_SECONDS + 30


def test_every_task_has_its_queue_and_every_queue_its_node():
    ours = {name for name in tasks.app.tasks if name.startswith("gc.")}
    assert ours == set(ROUTES)
    assert {route["queue"] for route in ROUTES.values()} == {node.queue for node in NODES.values()}
    assert [name for name, route in ROUTES.items() if route["queue"] == "gc.scan"] == ["gc.scan", "gc.verify"]


@pytest.mark.parametrize(("old", "new"), [("gc.look", "gc.recheck"), ("gc.evidence", "gc.refresh_evidence")])
def test_a_task_answers_its_name_of_the_version_before(old, new):
    """A worker of that version may have published messages that still wait."""
    before, now = tasks.app.tasks[old], tasks.app.tasks[new]
    assert before.run.__wrapped__ is now.run.__wrapped__
    assert (before.time_limit, before.soft_time_limit, ROUTES[old]) == (
        now.time_limit,
        now.soft_time_limit,
        ROUTES[new],
    )


def test_the_password_comes_from_its_secret_and_is_shown_nowhere(sandbox, conf):
    (sandbox.folder / "redis-url").write_text("redis://:s3cret@127.0.0.1:6379/0\n")
    sandbox.write(redis={"file": "redis-url"})
    assert conf.broker_url == "redis://:s3cret@127.0.0.1:6379/0"
    assert "s3cret" not in conf.humanize() + repr(load())


def test_without_any_redis_the_application_says_so(sandbox, conf):
    sandbox.write(redis=None)
    with pytest.raises(UnusableError, match="no redis is configured"):
        _ = conf.broker_url


def test_importing_needs_no_file_and_a_call_reports_a_mistake_in_one_line(sandbox):
    sandbox.path.unlink()
    assert sandbox.run(sys.executable, "-c", "import worker.app, worker.tasks").returncode == 0
    called = sandbox.run(
        sys.executable, "-m", "celery", "-A", "worker.app", "call", "gc.sweep", "--args", '["production"]'
    )
    assert called.returncode == 2
    assert len(called.stderr.splitlines()) == 1
    assert "the file does not exist" in called.stderr


def test_another_programs_django_settings_are_left_alone(sandbox):
    """Celery would import Django and them, or warn that it cannot."""
    words = (sys.executable, "-W", "error", "-c", "import worker.app, worker.tasks; worker.app.app.loader")
    imported = sandbox.run(*words, DJANGO_SETTINGS_MODULE="shop.settings")
    assert (imported.returncode, imported.stderr) == (0, "")


def test_beat_has_an_entry_for_each_schedule_named_by_line_and_zone(sandbox, conf):
    sandbox.write(
        redis=REDIS,
        registries={
            "moscow": registry(id="crp1", schedule="0 3 * * *", timezone="Europe/Moscow"),
            "utc": registry(id="crp2", schedule="30 2 * * MON"),
            "by-hand": registry(id="crp3"),
        },
    )
    entries = conf.beat_schedule
    assert {name: (entry["task"], entry.get("args")) for name, entry in entries.items()} == {
        "gc.due moscow 0 3 * * * Europe/Moscow": ("gc.due", ("moscow",)),
        "gc.due utc 30 2 * * MON UTC": ("gc.due", ("utc",)),
        "gc.reconcile": ("gc.reconcile", None),
    }
    assert entries["gc.due moscow 0 3 * * * Europe/Moscow"]["schedule"] == ZonedCron("0 3 * * *", "Europe/Moscow")
    assert "options" not in entries["gc.due utc 30 2 * * MON UTC"]  # it does not expire


@pytest.mark.parametrize(
    ("reconcile", "kind", "expires"),
    [
        pytest.param("60s", crontab, 50, id="each minute, on the minute"),
        pytest.param("2s", interval, 5 / 3, id="short, in tests"),
        pytest.param("5m", interval, 50, id="seldom"),
    ],
)
def test_reconcile_never_floods_after_an_outage(sandbox, conf, reconcile, kind, expires):
    sandbox.write(redis=REDIS, timing={"reconcile": reconcile})
    entry = conf.beat_schedule["gc.reconcile"]
    assert type(entry["schedule"]) is kind
    assert entry["options"]["expires"] == pytest.approx(expires)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("last", "now", "due", "seconds"),
    [
        pytest.param("2026-11-23T00:00", "2026-11-23T23:59", False, 60, id="a minute early"),
        pytest.param("2026-11-23T00:00", "2026-11-24T00:00", True, 86400, id="on the second"),
        pytest.param("2026-11-24T00:00", "2026-11-24T00:00", False, 86400, id="already published"),
        pytest.param("2026-11-20T00:00", "2026-11-24T12:00", True, 43200, id="several were missed: one task call"),
        pytest.param("2026-12-01T00:00", "2026-11-24T00:00", False, 8 * 86400, id="a clock that was set back"),
    ],
)
def test_beat_publishes_a_due_time_once(last, now, due, seconds):
    entry = ZonedCron("0 3 * * *", "Europe/Moscow", nowfun=lambda: at(now))
    assert entry.is_due(at(last)) == (due, seconds)
    assert entry.remaining_estimate(at(now)) > timedelta(0)


@pytest.mark.parametrize(
    ("day", "published"),
    [
        pytest.param("2027-03-28", ["01:00"], id="spring: at the gap's end"),
        pytest.param("2026-10-25", ["00:30"], id="autumn: the first time only"),
        pytest.param("2026-11-24", ["01:30"], id="any day"),
    ],
)
def test_beat_through_a_day_in_berlin(day, published):
    """Minute by minute, as beat does it."""
    last, now, times = at(f"{day}T00:00") - MINUTE, at(f"{day}T00:00"), []
    while now < at(f"{day}T00:00") + timedelta(days=1):
        if ZonedCron("30 2 * * *", "Europe/Berlin", nowfun=lambda now=now: now).is_due(last)[0]:
            times.append(f"{now:%H:%M}")
            last = now
        now += MINUTE
    assert times == published


def test_a_schedule_is_kept_without_the_application():
    entry = ZonedCron("0 3 * * *", "Europe/Moscow", app=Celery("test", set_as_current=False))
    kept = pickle.dumps(entry)
    assert b"Celery" not in kept
    assert pickle.loads(kept) == entry  # noqa: S301 -- beat's own file is a pickle
    assert entry != ZonedCron("0 3 * * *", "UTC")
    assert len({entry, ZonedCron("0 3 * * *", "Europe/Moscow")}) == 1
