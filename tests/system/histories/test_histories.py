"""Some hundreds of histories, always the same ones; `make drill` goes through other thousands."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import HypothesisException
from hypothesis.stateful import run_state_machine_as_test

from tests.system.histories.ledger import BROKEN
from tests.system.histories.machine import Histories, SideBySide

ALWAYS_THE_SAME = settings(
    derandomize=True,
    database=None,
    deadline=None,
    stateful_step_count=8,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],  # explaining a failure costs more than it tells here
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize(
    ("machine", "histories"),
    [
        pytest.param(Histories, 240, id="one image at a time"),
        pytest.param(SideBySide, 30, id="images side by side"),
    ],
)
@pytest.mark.timeout(900)  # minutes on a busy machine: each history rewrites files and rechecks repositories
def test_nothing_is_lost_or_wrongly_deleted(machine: type[Histories], histories: int) -> None:
    BROKEN.clear()
    try:
        run_state_machine_as_test(machine, settings=settings(ALWAYS_THE_SAME, max_examples=histories))
    except HypothesisException as error:  # with threads, what was found may not come again when it is asked to
        error.add_note(f"the first promise that was broken: {BROKEN[:1]}")
        raise
