"""The run of `make demo`: two and a half thousand images, of which hundreds are deleted."""

from pathlib import Path

import pytest

from tests.support.simulator.client import Simulator
from tests.tasks.test_night import bytes_agree


@pytest.mark.slow
def test_plan_metrics_and_registry_agree_on_the_reclaimed_bytes(simulator: Simulator, tmp_path: Path) -> None:
    simulator.fill("demo")
    before = {image["id"] for image in simulator.images()}
    bytes_agree(simulator, tmp_path)
    assert len(before - {image["id"] for image in simulator.images()}) > 500
