"""Workers of two stores behind one Redis: who comes second refuses to start, in one line, and says what to do."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis

from tests.support.place import CELERY, OURS, Place
from tests.support.servers import RedisServer, redis_server
from tests.support.waiting import until
from worker.processes.one_store import KEY
from worker.store import open_store
from worker.store.about import store_id

SAYS = "workers of another store use this Redis"
CONTROL = (*CELERY, "worker", "-Q", "gc.control", "-c", "1", "--without-gossip", "--without-mingle")


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def place_of(folder: Path, redis: RedisServer) -> Place:
    folder.mkdir()
    return Place(folder, redis=redis.url, store=f"sqlite:///{folder}/gc.db")


def test_a_store_has_one_id_for_ever(tmp_path: Path) -> None:
    found = set()
    for name in ("one", "one", "another"):
        store = open_store(f"sqlite:///{tmp_path / name}.db")
        with store.write() as connection:
            found.add(store_id(connection))
        store.dispose()
    assert len(found) == 2


@pytest.mark.slow
def test_who_comes_with_another_store_refuses(tmp_path: Path, redis: RedisServer) -> None:
    first, second = (place_of(tmp_path / name, redis) for name in ("first", "second"))
    client = Redis.from_url(redis.url)
    with ExitStack() as stack:
        worker = stack.enter_context(first.running(*CONTROL))
        until(lambda: client.get(KEY), what="the first worker's word")

        for command in ((*OURS, "up"), (*OURS, "worker"), CONTROL):
            refused = second.run(*command)
            assert refused.returncode == 1, refused.stderr
            (line,) = [one for one in refused.stderr.splitlines() if SAYS in one]
            assert str(first.folder) in line
            assert str(second.folder) in line
            assert "start this one again after" in line
            assert "Traceback" not in refused.stderr
        rung = second.run(*OURS, "sweep", "production")
        assert (rung.returncode, SAYS in rung.stderr) == (0, True)
        assert client.llen("registry-gc:gc.scan") == 0  # not to be lost with a worker that does not know it

        third = stack.enter_context(first.running(*CONTROL, "-n", "third@%h", log="third"))
        third.says("ready")  # of the same store as many as one likes
        assert worker.stop() == third.stop() == 0
        assert client.get(KEY) is None  # who ends in good order keeps nobody waiting
        moved = stack.enter_context(second.running(*CONTROL, log="moved"))
        moved.says("ready")


@pytest.mark.slow
def test_a_worker_that_lost_its_redis_to_another_store_rings_nothing(tmp_path: Path, redis: RedisServer) -> None:
    place = place_of(tmp_path / "place", redis)
    client = Redis.from_url(redis.url)
    with place.running(*CONTROL) as worker:
        worker.says("ready")
        client.set(KEY, "0" * 36 + " (elsewhere)", px=60_000)
        with place.running(*CELERY, "beat", "-s", str(place.folder / "beat"), log="beat"):
            worker.says(SAYS)
        assert client.get(KEY) == b"0" * 36 + b" (elsewhere)"
