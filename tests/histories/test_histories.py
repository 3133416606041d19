"""Some hundreds of histories, always the same ones; `make drill` goes through other thousands."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.histories.machine import Histories, SideBySide

ALWAYS_THE_SAME = settings(
    derandomize=True,
    database=None,
    deadline=None,
    stateful_step_count=12,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],  # explaining a failure costs more than it tells here
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize(
    ("machine", "histories"),
    [
        pytest.param(Histories, 300, id="one image at a time"),
        pytest.param(SideBySide, 40, id="images side by side"),
    ],
)
def test_nothing_is_lost_or_wrongly_deleted(machine: type[Histories], histories: int) -> None:
    run_state_machine_as_test(machine, settings=settings(ALWAYS_THE_SAME, max_examples=histories))
