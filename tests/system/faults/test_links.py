"""A bad link to Redis, the store or the registry in the middle of a run: the invariants hold as after a crash."""

import os
import time
from collections.abc import Callable

import pytest

from tests.support.scenario import SOON
from tests.support.scenarios import Scenarios
from tests.support.tcp_fault_proxy import TcpFaultProxy
from tests.support.waiting import until
from worker.runs.checkpoints import Checkpoint

# REGISTRY_GC_BLACK_HOLE=60 tests a whole minute. Our time-outs are 2 s for the rate limit in Redis, 10 s for publishing
# and 8 s for a registry call: 4 s outlast a lease, a reconcile and the rate limit's time-out, and no other.
BLACK_HOLE = float(os.environ.get("REGISTRY_GC_BLACK_HOLE", "4"))

FAULTS: dict[str, Callable[[TcpFaultProxy], None]] = {
    "first reply lost": lambda link: link.lose_replies(),
    "ten replies lost": lambda link: link.lose_replies(10),
    "cut after 3 bytes": lambda link: link.cut_after(3),
    "five cut after 40 bytes": lambda link: link.cut_after(40, 5),
    "black hole": lambda link: link.black_hole(BLACK_HOLE),
}
CASES: list[tuple[str, str, Checkpoint]] = [
    *(("registry", fault, "intent_recorded") for fault in FAULTS),
    *(("redis", fault, "operation_done") for fault in FAULTS),
    *(("store", fault, "delete_sent") for fault in FAULTS),
    ("registry", "first reply lost", "scan_claimed"),
    ("redis", "black hole", "run_opened"),
    ("store", "black hole", "plan_stored"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("link", "fault", "point"), CASES)
def test_a_run_survives_a_bad_link(link: str, fault: str, point: Checkpoint, scenarios: Scenarios) -> None:
    with scenarios.case("links") as scenario:
        scenario.come_to(point)
        bad = scenario.links[link]
        struck = bad.struck

        FAULTS[fault](bad)
        scenario.breakpoints.release(point)

        until(lambda: bad.struck > struck, timeout=SOON, what="the link to strike")
        until(lambda: bad.well, timeout=BLACK_HOLE + SOON, what="the link to recover")
        well = time.monotonic()
        # Within one attempt the client repeats a request with the same key while responses are lost.
        repeats = (
            4 if (link, fault) in (("registry", "ten replies lost"), ("registry", "five cut after 40 bytes")) else 1
        )
        scenario.check_invariants(
            scenario.finished(scenario.run_id, timeout=SOON, supervised=True), started=well, repeats=repeats
        )
