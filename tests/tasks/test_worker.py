"""A real worker: its answers to Celery's own commands, its warnings at the start, and its notifications."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.support.sandbox import CELERY, OURS, Sandbox
from tests.support.servers import RedisServer, redis_server
from tests.support.tcp_fault_proxy import proxy_to
from tests.support.waiting import until
from tests.support.webhook import SECRET, Webhook
from worker.app import OTHER_STORES, ROUTES
from worker.config.connection_urls import SQLITE_WITH_REMOTE_REDIS, is_sqlite_with_remote_redis
from worker.config.settings import load
from worker.runs import lifecycle
from worker.store import open_store
from worker.tasks import TaskRequest

pytestmark = pytest.mark.slow


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def place_of(folder: Path, redis: RedisServer) -> Sandbox:
    folder.mkdir()
    return Sandbox(folder, redis=redis.url, store=f"sqlite:///{folder}/gc.db")


def test_celerys_own_commands_are_answered(tmp_path: Path, redis: RedisServer) -> None:
    sandbox = place_of(tmp_path / "place", redis)
    with sandbox.running(*OURS, "worker", "control") as worker:
        worker.says("ready")
        asked = {}
        commands = ("ping", "active", "registered", "stats")
        with ThreadPoolExecutor() as threads:
            answers = list(threads.map(lambda command: sandbox.run(*CELERY, "inspect", command, "--json"), commands))
        for command, done in zip(commands, answers, strict=True):
            assert done.returncode == 0, done.stderr
            ((node, asked[command]),) = json.loads(done.stdout.splitlines()[-1]).items()
            assert node.startswith("control@")
        assert asked["ping"] == {"ok": "pong"}
        assert asked["active"] == []
        assert set(ROUTES) <= set(asked["registered"])
        assert asked["stats"]["pool"]["max-concurrency"] == 1
        for command in ("disable_events", "enable_events"):
            assert sandbox.run(*CELERY, "control", command).returncode == 0
        assert worker.stop() == 0


@pytest.mark.parametrize("end", ["acknowledge", "reject"])
def test_an_unacknowledged_message_leaves_room_for_the_next(end: str, redis: RedisServer) -> None:
    with proxy_to(redis.port) as link:
        app = Celery("outside", broker=f"redis://127.0.0.1:{link.port}/0", set_as_current=False)
        with app.connection() as connection, connection.SimpleQueue("gc.control") as queue:
            channel: Any = queue.channel  # virtual: Redis has no own channels
            channel.basic_qos(0, 1, False)
            app.send_task("gc.due", args=["production"], queue="gc.control", connection=connection)
            message = queue.get(timeout=10)
            assert not channel.qos.can_consume()
            request = TaskRequest(
                message,
                app=app,
                on_ack=message.ack_log_error,
                on_reject=message.reject_log_error,
                connection_errors=connection.connection_errors,
            )

            link.lose_replies(1)
            getattr(request, end)()

            assert not message.acknowledged
            assert channel.qos.can_consume()


def test_workers_of_two_stores_on_one_redis_warn(tmp_path: Path, redis: RedisServer) -> None:
    first, second = (place_of(tmp_path / name, redis) for name in ("first", "second"))

    def said(sandbox: Sandbox) -> str:
        (finding,) = (
            check
            for check in sandbox.call("check", "--online", "--format", "json").json["online"]
            if check["check"] == "redis"
        )
        return f"{finding['status']}: {finding['detail']}"

    with ExitStack() as stack:
        worker = stack.enter_context(first.running(*OURS, "worker", "control"))
        worker.says("ready")
        also = stack.enter_context(
            first.running(*CELERY, "worker", "-n", "also@%h", "-Q", "gc.scan", "-c", "1", log="also")
        )
        also.says("ready")
        assert said(first) == "ok: answers"
        assert said(second) == f"warning: {OTHER_STORES}"
        other = stack.enter_context(second.running(*CELERY, "worker", "-Q", "gc.control", "-c", "1", "-n", "other@%h"))
        other.says(OTHER_STORES)
        assert second.call("sweep", "production").code == 0
        assert [OTHER_STORES in running.log() for running in (worker, also)] == [False, False]
        assert other.stop() == also.stop() == worker.stop() == 0


@pytest.mark.parametrize(
    ("redis", "store", "far"),
    [
        ("redis://10.1.2.3:6379/0", "sqlite:////var/lib/gc.db", True),
        ("rediss://redis.example.org/0", "sqlite:////var/lib/gc.db", True),
        ("redis://127.0.0.1:6379/0", "sqlite:////var/lib/gc.db", False),
        ("redis://localhost/0", "sqlite:////var/lib/gc.db", False),
        ("unix:///run/redis.sock", "sqlite:////var/lib/gc.db", False),
        (None, "sqlite:////var/lib/gc.db", False),
        ("redis://10.1.2.3:6379/0", "postgresql+psycopg://gc@db/gc", False),
    ],
)
def test_warns_of_a_file_as_store_with_a_distant_redis(
    tmp_path: Path, redis: str | None, store: str, far: bool
) -> None:
    sandbox = Sandbox(tmp_path, redis=redis, store=store)
    settings = load(sandbox.path, environ=sandbox.environ)
    assert is_sqlite_with_remote_redis(settings.store, settings.redis_url()) is far
    assert (SQLITE_WITH_REMOTE_REDIS in sandbox.call("check").out) is far


def test_a_worker_notifies_of_a_failed_run(redis: RedisServer, tmp_path: Path) -> None:
    with Webhook().listening() as hook:
        (tmp_path / "address").write_text(hook.url)
        sandbox = Sandbox(tmp_path, redis=redis.url, notify=[{"url": {"file": str(tmp_path / "address")}}])
        settings = load(sandbox.path, environ=sandbox.environ)
        store = open_store(settings.store)
        opened = lifecycle.open_run(store, settings, "production", trigger="command", now=datetime.now(UTC))
        lifecycle.fail(store, opened.run_id, "the registry is gone", datetime.now(UTC))
        store.dispose()
        with sandbox.running(*OURS, "worker", "control") as worker:
            worker.says("ready")
            for _ in range(2):
                assert sandbox.run(*CELERY, "call", "gc.reconcile").returncode == 0
            until(lambda: worker.events(event="notification_sent"), what="the message")
            assert worker.stop() == 0
        assert [opened.run_id in body for body in hook.bodies] == [True]
        assert SECRET not in worker.log()
