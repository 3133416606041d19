"""Repeated messages, a second worker and a second beat change nothing."""

from pathlib import Path

import pytest

from tests.support.scenario import PLANNED, Scenario
from tests.support.servers import redis_server
from tests.support.simulator.client import Simulator


@pytest.mark.slow
def test_messages_sent_ten_times_to_two_workers_delete_each_image_once(running: Simulator, tmp_path: Path) -> None:
    running.reset()
    with redis_server() as redis:
        scenario = Scenario(running, tmp_path, redis)
        try:
            scenario.begin()
            for name in ("worker", "another"):
                scenario.start_worker(name)
            for name in ("beat", "second-beat"):
                scenario.start_beat(name)
            scenario.open()
            run_id = scenario.opened()
            for _ in range(10):
                scenario.call("gc.scan", run_id)
                for path in ("shop/api", "shop/web"):
                    scenario.call("gc.recheck", run_id, path)
                for number in range(6):
                    scenario.call("gc.delete_batch", run_id, number)

            scenario.check_invariants(scenario.finished(run_id))

            assert len(scenario.asked("DELETE")) == PLANNED
        finally:
            scenario.stop()
            scenario.harness.store.dispose()
