"""Some hundreds of histories, the same ones each time; `make drill` runs thousands of others."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import HypothesisException
from hypothesis.stateful import run_state_machine_as_test

from tests.system.histories.invariants import VIOLATIONS
from tests.system.histories.machine import Histories, SideBySide

ALWAYS_THE_SAME = settings(
    derandomize=True,
    database=None,
    deadline=None,
    stateful_step_count=8,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],  # Hypothesis's explanation of a failure takes long and adds little here
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
def test_no_history_breaks_an_invariant(machine: type[Histories], histories: int) -> None:
    VIOLATIONS.clear()
    try:
        run_state_machine_as_test(machine, settings=settings(ALWAYS_THE_SAME, max_examples=histories))
    except HypothesisException as error:  # with threads a failure may not come again when Hypothesis repeats it
        error.add_note(f"the first invariant that was broken: {VIOLATIONS[:1]}")
        raise
