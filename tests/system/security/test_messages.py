"""Messages to a real worker through a real Redis: valid, invalid, repeated and unknown."""

import os
import signal
import sys
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis
from sqlalchemy import select

from tests.support.celery_messages import message
from tests.support.sandbox import CELERY, OURS, Sandbox, registry
from tests.support.servers import redis_server
from tests.support.waiting import until
from worker.app import KEY_PREFIX
from worker.config.settings import load
from worker.runs.lifecycle import note_registries
from worker.store import open_store
from worker.store.tables import heartbeat, run
from worker.store.tables import registry as noted

JUNK = [
    ("gc.sweep", []),
    ("gc.sweep", [5]),
    ("gc.sweep", [None]),
    ("gc.sweep", [True]),
    ("gc.sweep", [{"a": 1}]),
    ("gc.sweep", [["production"]]),
    ("gc.sweep", ["production", "production"]),
    ("gc.sweep", [""]),
    ("gc.sweep", ["production\n"]),
    ("gc.sweep", ["\ud800"]),
    ("gc.sweep", ["x" * 10_000]),
    ("gc.due", [5]),
    ("gc.reconcile", ["production"]),
    ("gc.scan", [5]),
    ("gc.recheck", ["run"]),
    ("gc.delete_batch", ["run", "1"]),
    ("gc.delete_batch", ["run", -1]),
    ("gc.delete_batch", ["run", 2**70]),
    ("gc.delete_batch", ["run", True]),
    ("gc.delete_batch", ["run", 1.0]),
]
UNKNOWN = [
    ("gc.sweep", ["nowhere"]),
    ("gc.sweep", ["PRODUCTION"]),
    ("gc.due", ["nowhere"]),
    ("gc.scan", ["no-such-run"]),
    ("gc.recheck", ["no-such-run", "shop/api"]),
    ("gc.look", ["no-such-run", "shop/api"]),  # its name in the version before
    ("gc.delete_batch", ["no-such-run", 1]),
]


@pytest.fixture
def redis():
    with redis_server() as server:
        yield server


@pytest.fixture
def sandbox(tmp_path, redis):
    return Sandbox(tmp_path, redis=redis.url)


@pytest.fixture
def store(sandbox, monkeypatch):
    for name, value in sandbox.environ.items():
        monkeypatch.setenv(name, value)
    opened = open_store(load().store)
    yield opened
    opened.dispose()


def runs_of(store):
    with store.read() as connection:
        return connection.execute(select(run.c.trigger, run.c.task_id, run.c.state)).all()


def test_invalid_messages_are_refused_and_logged_without_another_effect(sandbox, redis, store):
    queue = Redis.from_url(redis.url)
    with sandbox.running(*CELERY, "worker", "-Q", "gc.control", "-c", "1") as worker:
        worker.says("ready")
        for number, (task, args) in enumerate(JUNK + UNKNOWN):
            queue.lpush(f"{KEY_PREFIX}gc.control", message(task, args, task_id=f"junk-{number}"))
        queue.lpush(f"{KEY_PREFIX}gc.control", message("gc.sweep", [], kwargs={"registry": "production"}))
        queue.lpush(f"{KEY_PREFIX}gc.control", message("gc.no_such_task", ["production"]))
        until(lambda: len(worker.events(event="arguments_refused")) == len(JUNK) + 1, what="refusals")
        until(lambda: len(worker.events(event="task_ended_early")) == len(UNKNOWN), what="unknown names")
        worker.says("unregistered task")
        assert runs_of(store) == []
        # The same worker process carries out a valid message.
        queue.lpush(f"{KEY_PREFIX}gc.control", message("gc.sweep", ["production"], task_id="by-hand"))
        until(lambda: runs_of(store), what="a run")
        until(lambda: queue.llen(f"{KEY_PREFIX}gc.scan") == 1, what="the task call of its scan")
        assert "Traceback" not in worker.log().split("unregistered task")[0]
        assert worker.stop() == 0


def test_a_repeated_message_opens_one_run(sandbox, redis, store):
    queue = Redis.from_url(redis.url)
    with sandbox.running(*OURS, "worker", "control") as worker:
        worker.says("ready")
        for _ in range(10):
            queue.lpush(f"{KEY_PREFIX}gc.control", message("gc.sweep", ["production"], task_id="by-hand"))
        queue.lpush(f"{KEY_PREFIX}gc.control", message("gc.sweep", ["nowhere"], task_id="the last"))
        until(lambda: worker.events(event="task_ended_early"), what="the last message")
        assert runs_of(store) == [("task", "by-hand", "pending")]
        assert worker.stop() == 0


def test_the_documented_celery_call_opens_a_run(sandbox, store):
    with sandbox.running(*OURS, "worker", "control") as worker:
        called = sandbox.run(*CELERY, "call", "gc.sweep", "--args", '["production"]')
        assert called.returncode == 0
        until(lambda: runs_of(store), what="a run")
        assert runs_of(store) == [("task", called.stdout.strip(), "pending")]
        assert worker.stop() == 0


def test_two_beats_open_one_run(sandbox, redis, store):
    """The last minute's run is due at once; each task call is published twice, and one run is opened."""
    sandbox.write(redis=redis.url, registries={"production": registry(schedule="* * * * *")})
    note_registries(store, load(), datetime.now(UTC) - timedelta(minutes=2))
    with (
        sandbox.running(*OURS, "worker", "control", log="worker") as worker,
        sandbox.running(*CELERY, "beat", "-s", "one", "--pidfile=", log="one") as first,
        sandbox.running(*CELERY, "beat", "-s", "two", "--pidfile=", log="two") as second,
    ):
        until(lambda: runs_of(store), what="the due run")
        beats = []

        def beaten():
            with store.read() as connection:
                at = connection.execute(select(heartbeat.c.at).where(heartbeat.c.name == "beat")).scalar_one()
            if at not in beats:
                beats.append(at)
            return len(beats) >= 6

        until(beaten, what="six heartbeats of beat")
        assert [(trigger, state) for trigger, _, state in runs_of(store)] == [("schedule", "pending")]
        assert first.stop() == second.stop() == worker.stop() == 0


def test_beat_notes_its_start_as_the_start_of_a_schedule(sandbox, redis, store):
    sandbox.write(
        redis=redis.url, registries={"production": registry(schedule="0 3 1 1 *")}, timing={"reconcile": "60s"}
    )
    with sandbox.running(*OURS, "beat"):  # killed at the end: Celery ignores a SIGTERM while it starts
        until(lambda: _line_since(store), what="the start of the schedule, before any task call")


def _line_since(store):
    with store.read() as connection:
        return connection.execute(select(noted.c.cron_line_since).where(noted.c.cron_line == "0 3 1 1 * UTC")).scalar()


def test_publishing_gives_up_soon_without_redis(sandbox, redis):
    redis.stop()
    imports = "from worker.runs.lifecycle import TaskCall\nfrom worker.tasks import publish\n"
    program = imports + "print(publish([TaskCall('gc.scan', ('r',))] * 9))"
    published = sandbox.run(sys.executable, "-c", program, timeout=20)
    assert published.stdout.splitlines()[-1] == "False"
    assert "Traceback" not in published.stderr


def test_the_message_of_a_killed_pool_child_is_carried_out_by_the_next(sandbox, redis, store):
    """The child is killed while its task waits for the lock of another writer."""
    queue = Redis.from_url(redis.url)
    with sandbox.running(*OURS, "worker", "control", "--verbose") as worker:
        worker.says("ready")
        queue.lpush(f"{KEY_PREFIX}gc.control", message("gc.sweep", ["nowhere"], task_id="first"))
        until(lambda: worker.events(event="task_ended_early"), what="the child's store")
        with store.write():
            queue.lpush(f"{KEY_PREFIX}gc.control", message("gc.sweep", ["production"], task_id="by-hand"))
            worker.says("Task accepted: gc.sweep[by-hand]")
            children = [pid for pid in sandbox.pids() if pid != worker.pid]
            assert len(children) == 1
            os.kill(children[0], signal.SIGKILL)
            until(lambda: children[0] not in sandbox.pids(), what="the child's end")
        until(lambda: runs_of(store), what="the run")
        assert runs_of(store) == [("task", "by-hand", "pending")]
        assert worker.stop() == 0
