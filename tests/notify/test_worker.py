"""A real worker tells people, and `registry-gc check` knows an address that nobody can be told at."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.command import called
from tests.support.hook import SECRET, Hook
from tests.support.place import CELERY, OURS, Place
from tests.support.servers import redis_server
from tests.support.waiting import until
from worker.config.settings import load
from worker.runs import lifecycle
from worker.store import open_store


@pytest.mark.slow
def test_a_worker_tells_of_a_run_that_failed(hook: Hook, tmp_path: Path) -> None:
    (tmp_path / "address").write_text(hook.url)
    with redis_server() as redis:
        place = Place(tmp_path, redis=redis.url, notify=[{"url": {"file": str(tmp_path / "address")}}])
        settings = load(place.path, environ=place.environ)
        store = open_store(settings.store)
        opened = lifecycle.open_run(store, settings, "production", trigger="command", now=datetime.now(UTC))
        lifecycle.fail(store, opened.run_id, "the registry is gone", datetime.now(UTC))
        store.dispose()
        with place.running(*OURS, "worker", "control") as worker:
            worker.says("ready")
            for _ in range(2):
                assert place.run(*CELERY, "call", "gc.reconcile").returncode == 0
            until(lambda: worker.events(event="told"), what="the message")
            assert worker.stop() == 0
        assert [opened.run_id in body for body in hook.bodies] == [True]
        assert SECRET not in worker.log()


def test_check_refuses_an_address_that_apprise_does_not_understand(tmp_path: Path) -> None:
    address = tmp_path / "address"
    address.write_text(f"slack://{SECRET}")
    well = {"url": "json://127.0.0.1:9/"}
    place = Place(tmp_path, notify=[well, {"url": {"file": str(address)}}])
    done = called("check", cwd=tmp_path, TEST_TOKEN="t1.none")
    wrong = "notify[1].url: apprise does not understand this address; look its form up in apprise's list of services"
    assert (done.code, done.out, done.err) == (2, "", f"registry-gc.yaml: {wrong}\n")
    place.write(notify=[well])
    assert called("check", cwd=tmp_path, TEST_TOKEN="t1.none").code == 0
