"""The pages over real HTTP, from a process of their own, with a real Redis: answers, refusals, illness."""

import gzip
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.servers import RedisServer, redis_server
from tests.support.waiting import until
from tests.web.builders import NOW, add_run
from tests.web.pages import Pages, start, stop, write
from worker.store import open_store
from worker.store.runs import beat
from worker.web.health import beat_check


def sign_of_life(folder: Path, at: datetime) -> None:
    store = open_store(f"sqlite:///{folder}/store.db")
    with store.write() as connection:
        beat(connection, "beat", at)
    store.dispose()


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def pages(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """One server for all tests that change nothing but the heartbeat."""
    started = start(tmp_path_factory.mktemp("pages"), redis.url)
    yield started
    stop(started)


@pytest.fixture
def own(redis: RedisServer, tmp_path: Path) -> Iterator[Pages]:
    """A server that a test may break."""
    started = start(tmp_path, redis.url)
    yield started
    stop(started)


def test_metrics_of_a_store_nobody_has_used(pages: Pages) -> None:
    answer = pages.ask("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'registry_gc_reclaimed_bytes_total{registry="production"} 0.0' in answer.text


@pytest.mark.parametrize(
    ("accept", "content_type", "end"),
    [
        pytest.param(
            "application/openmetrics-text; version=1.0.0", "application/openmetrics-text", "# EOF\n", id="open"
        ),
        pytest.param("text/plain; version=1.0.0", "text/plain; version=1.0.0", "\n", id="text with UTF-8 names"),
        pytest.param("text/html, */*", "text/plain; version=0.0.4", "\n", id="a browser"),
    ],
)
def test_metrics_in_the_format_that_is_asked_for(pages: Pages, accept: str, content_type: str, end: str) -> None:
    answer = pages.ask("/metrics", headers={"Accept": accept})
    assert answer.headers["Content-Type"].startswith(content_type)
    assert answer.text.endswith(end)


def test_metrics_are_compressed_for_who_can_read_that(pages: Pages) -> None:
    answer = pages.ask("/metrics", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert b"registry_gc_build_info" in gzip.decompress(answer.body)


def test_the_page_names_both(pages: Pages) -> None:
    answer = pages.ask("/")
    assert answer.status == 200
    assert 'href="/metrics"' in answer.text
    assert 'href="/healthz"' in answer.text
    assert "production" in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("HEAD", "/metrics", 200, id="head"),
        pytest.param("POST", "/metrics", 405, id="nothing can be sent to the metrics"),
        pytest.param("DELETE", "/healthz", 405, id="nothing can be deleted"),
        pytest.param("POST", "/", 405, id="the page takes nothing"),
        pytest.param("GET", "/nothing", 404, id="no such page"),
        pytest.param("GET", "/metrics/../store.db", 404, id="no way to a file"),
    ],
)
def test_every_answer_has_the_headers(pages: Pages, method: str, path: str, status: int) -> None:
    answer = pages.ask(path, method)
    assert answer.status == status
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert answer.headers["Server"] is None


def test_all_well(pages: Pages) -> None:
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


def test_a_beat_that_stopped(pages: Pages) -> None:
    sign_of_life(pages.folder, datetime.now(UTC) - timedelta(seconds=200))
    answer = pages.ask("/healthz")
    assert answer.status == 503
    beat_now = json.loads(answer.body)["beat"]
    assert beat_now["status"] == "ill"
    assert "expected within 180 s" in beat_now["detail"]


@pytest.mark.parametrize(
    ("age", "well"),
    [
        pytest.param(None, False, id="never"),
        pytest.param(timedelta(0), True, id="now"),
        pytest.param(timedelta(seconds=180), True, id="at the last moment"),
        pytest.param(timedelta(seconds=180, microseconds=1), False, id="just too late"),
        pytest.param(timedelta(seconds=-5), True, id="another machine's clock is ahead"),
    ],
)
def test_how_long_beat_may_be_silent(age: timedelta | None, well: bool) -> None:
    assert beat_check(None if age is None else NOW - age, timedelta(seconds=180), NOW).well is well


def test_redis_away_is_told_and_harms_no_number(own: Pages) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: refused, and nobody else's
        write(own.folder, f"redis://:sesame@127.0.0.1:{nobody.getsockname()[1]}/0")
        answer = own.ask("/healthz")
        assert answer.status == 503
        assert json.loads(answer.body)["redis"]["status"] == "ill"
        assert json.loads(answer.body)["configuration"]["status"] == "ok"
        assert json.loads(answer.body)["redis"]["detail"] == "does not answer; the log says why"
        assert own.ask("/metrics").status == 200


def test_a_redis_address_that_is_none_is_not_quoted(own: Pages) -> None:
    write(own.folder, "redis://:open/sesame@127.0.0.1:6379/0")
    answer = own.ask("/healthz")
    assert json.loads(answer.body)["redis"]["status"] == "ill"
    assert "sesame" not in answer.text
    assert ":open" not in answer.text


@pytest.mark.parametrize(
    ("url", "part", "status"),
    [
        pytest.param("postgresql+psycopg://clerk:open@sesame.invalid:1/ledger", "store", 500, id="away"),
        pytest.param("sqlite:////sesame/ledger.db", "store", 500, id="a file that cannot be made"),
        # What is a mistake of the configuration leaves the store as it was until it is mended.
        pytest.param("postgresql+psycopg://clerk:open@sesame@127.0.0.1:1/ledger", "configuration", 200, id="two @"),
        pytest.param("postgresql+psycopg://clerk:o@127.0.0.1:1/ledger?sesame=1", "configuration", 200, id="an option"),
    ],
)
def test_a_store_that_cannot_be_used_is_named_and_no_part_of_its_url(
    own: Pages, url: str, part: str, status: int
) -> None:
    if url.startswith("sqlite"):
        url = url.replace("/sesame", f"{own.folder}/redis-url")  # a file where a folder should be
    write(own.folder, f"redis://127.0.0.1:{own.port}/0", url)
    metrics, health = own.ask("/metrics"), own.ask("/healthz")
    assert (metrics.status, health.status) == (status, 503)
    assert status == 200 or metrics.text == "the store cannot be read; the log says why\n"
    for told in (metrics.text, health.text):
        assert not re.search("sesame|ledger|clerk|127.0|redis-url", told)
    assert json.loads(health.body)[part]["status"] == "ill"


def test_a_store_that_vanished_is_an_error_and_not_old_numbers(own: Pages) -> None:
    store = open_store(f"sqlite:///{own.folder}/store.db")
    add_run(store, "production", reclaimed_bytes=700)
    store.dispose()
    assert 'registry_gc_reclaimed_bytes_total{registry="production"} 700.0' in own.ask("/metrics").text
    for path in own.folder.glob("store.db*"):
        path.unlink()
    answer = own.ask("/metrics")
    assert answer.status == 500
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert len(answer.text.splitlines()) == 1
    assert "registry_gc_" not in answer.text
    assert own.ask("/healthz").status == 503
    assert own.health()["store"]["status"] == "ill"
    assert not list(own.folder.glob("store.db*")), "a page made a new, empty store"


def test_a_store_overwritten_with_rubbish_is_an_error_until_it_is_back(own: Pages) -> None:
    own.ask("/metrics")
    path = own.folder / "store.db"
    good = path.read_bytes()
    path.write_bytes(b"rubbish" * 1000)
    assert own.ask("/metrics").status == 500
    path.write_bytes(good)
    assert own.ask("/metrics").status == 200


def test_a_store_that_cannot_be_reached_lets_the_pages_start(own: Pages) -> None:
    path = own.folder / "registry-gc.yaml"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"postgresql+psycopg://somebody@127.0.0.1:{nobody.getsockname()[1]}/registry_gc"
        path.write_text(re.sub("^store: .*$", f"store: {url}", path.read_text(), flags=re.MULTILINE))
        answer = own.ask("/metrics")
    assert answer.status == 500
    assert len(answer.text.splitlines()) == 1


def test_a_broken_file_is_told_and_the_last_good_one_stands(own: Pages) -> None:
    path = own.folder / "registry-gc.yaml"
    good = path.read_text()
    path.write_text(good.replace("older_than: 7d", "older_than: sesame"))
    document = own.health()
    assert document["configuration"]["status"] == "ill"
    assert "sesame" not in json.dumps(document)
    assert 'registry="production"' in own.ask("/metrics").text
    path.write_text(good.replace("production:", "renamed:"))
    assert own.health()["configuration"]["status"] == "ok"
    text = own.ask("/metrics").text
    assert 'registry_gc_dry_run{registry="renamed"} 1.0' in text
    assert 'registry_gc_dry_run{registry="production"}' not in text


def test_it_stops_when_told(own: Pages) -> None:
    own.process.send_signal(signal.SIGTERM)
    assert until(lambda: own.process.poll() is not None, what="the end of the server")
    assert own.process.returncode in (0, -signal.SIGTERM)


def test_an_address_that_is_taken_is_one_line(pages: Pages, tmp_path: Path, redis: RedisServer) -> None:
    command = [sys.executable, "-m", "tests.web.process", str(write(tmp_path, redis.url)), str(pages.port)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].endswith(f"127.0.0.1:{pages.port} cannot be bound: Address already in use")
