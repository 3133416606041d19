"""Everything twice and ten times: messages, workers, beats."""

from pathlib import Path

import pytest

from tests.support.drill import PLANNED, Drill
from tests.support.servers import redis_server
from tests.support.simulator.client import Simulator


@pytest.mark.slow
def test_messages_ten_times_two_workers_two_beats(running: Simulator, tmp_path: Path) -> None:
    with redis_server() as redis:
        drill = Drill(running, tmp_path, redis)
        try:
            drill.begin()
            for name in ("worker", "another"):
                drill.start_worker(name)
            for name in ("beat", "second-beat"):
                drill.start_beat(name)
            drill.open()
            run_id = drill.opened()
            for _ in range(10):
                drill.call("gc.scan", run_id)
                for path in ("shop/api", "shop/web"):
                    drill.call("gc.look", run_id, path)
                for number in range(6):
                    drill.call("gc.delete_batch", run_id, number)

            drill.whole(drill.finished(run_id))

            assert len(drill.asked("DELETE")) == PLANNED
        finally:
            drill.stop()
            drill.night.store.dispose()
