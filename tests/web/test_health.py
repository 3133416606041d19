"""The checks of store, Redis, beat and configuration; no detail reveals a secret."""

import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.web.builders import NOW
from tests.web.pages import Pages, write
from worker.store import open_store
from worker.store.runs import record_heartbeat
from worker.web.health import beat_check


def sign_of_life(folder: Path, at: datetime) -> None:
    store = open_store(f"sqlite:///{folder}/store.db")
    with store.write() as connection:
        record_heartbeat(connection, "beat", at)
    store.dispose()


def test_a_healthy_system_answers_200(pages: Pages) -> None:
    sign_of_life(pages.folder, datetime.now(UTC))
    answer = pages.ask("/healthz")
    document = json.loads(answer.body)
    assert (answer.status, document["status"]) == (200, "ok")
    assert {part: document[part]["status"] for part in document if part != "status"} == {
        "store": "ok",
        "redis": "ok",
        "beat": "ok",
        "configuration": "ok",
    }
    assert 0 <= document["beat"]["age_seconds"] < 60


def test_a_silent_beat_answers_503(pages: Pages) -> None:
    sign_of_life(pages.folder, datetime.now(UTC) - timedelta(seconds=200))
    answer = pages.ask("/healthz")
    assert answer.status == 503
    beat_now = json.loads(answer.body)["beat"]
    assert beat_now["status"] == "ill"
    assert "expected within 180 s" in beat_now["detail"]


@pytest.mark.parametrize(
    ("age", "healthy"),
    [
        pytest.param(None, False, id="never"),
        pytest.param(timedelta(0), True, id="now"),
        pytest.param(timedelta(seconds=180), True, id="at the last moment"),
        pytest.param(timedelta(seconds=180, microseconds=1), False, id="just too late"),
        pytest.param(timedelta(seconds=-5), True, id="another machine's clock is ahead"),
    ],
)
def test_the_allowed_age_of_beat_s_heartbeat(age: timedelta | None, healthy: bool) -> None:
    assert beat_check(None if age is None else NOW - age, timedelta(seconds=180), NOW).healthy is healthy


def test_an_unreachable_redis_is_reported_and_metrics_still_work(own: Pages) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        write(own.folder, f"redis://:sesame@127.0.0.1:{nobody.getsockname()[1]}/0")
        answer = own.ask("/healthz")
        assert answer.status == 503
        assert json.loads(answer.body)["redis"]["status"] == "ill"
        assert json.loads(answer.body)["configuration"]["status"] == "ok"
        assert json.loads(answer.body)["redis"]["detail"] == "does not answer; the log says why"
        assert own.ask("/metrics").status == 200


def test_an_invalid_redis_url_is_not_quoted(own: Pages) -> None:
    write(own.folder, "redis://:open/sesame@127.0.0.1:6379/0")
    answer = own.ask("/healthz")
    assert json.loads(answer.body)["redis"]["status"] == "ill"
    assert "sesame" not in answer.text
    assert ":open" not in answer.text
