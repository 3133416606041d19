"""`make drill`: thousands of random histories in two processes.

HISTORIES is their number (10,000); SEED repeats a drill. A failing history is printed after Hypothesis shortened it.
"""

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.system.histories.coverage import report
from tests.system.histories.invariants import VIOLATIONS
from tests.system.histories.machine import Histories, SideBySide

PARTS = 2
CHUNK = 250  # histories of one Hypothesis search; a long search produces similar histories
SIDE_BY_SIDE = 8  # one chunk in eight runs batches with threads


def main() -> int:
    match sys.argv[1:]:
        case []:
            return _drill(
                int(os.environ.get("HISTORIES", "10000")), int(os.environ.get("SEED") or secrets.randbits(32))
            )
        case [first, histories, file]:
            return _part(int(first), int(histories), Path(file))
    sys.stderr.write("usage: python -m tests.system.histories.drill\n")
    return 2


def _drill(histories: int, first: int) -> int:
    sys.stdout.write(f"{histories:,} histories, SEED={first}\n")
    sys.stdout.flush()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"part-{number}.json" for number in range(PARTS)]
        parts = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.system.histories.drill",
                    str(first + number),
                    str(histories // PARTS),
                    str(file),
                ]
            )
            for number, file in enumerate(files)
        ]
        codes = [part.wait() for part in parts]
        stats: Counter[str] = Counter()
        for file in files:
            stats.update(json.loads(file.read_text()) if file.exists() else {})
    sys.stdout.write("\n".join(report(stats)) + "\n")
    result = "an invariant was broken" if any(codes) else "no invariant was broken"
    sys.stdout.write(f"\n{time.monotonic() - began:.0f} s; {result}\n")
    return max(map(abs, codes))


def _part(first: int, histories: int, file: Path) -> int:
    """Run a part of the histories in chunks; the counts are written to the file even if a history fails."""
    try:
        for number in range(-(-histories // CHUNK)):
            machine = SideBySide if number % SIDE_BY_SIDE == SIDE_BY_SIDE - 1 else Histories
            count = min(CHUNK, histories - number * CHUNK)
            run_state_machine_as_test(
                seed(first * 1000 + number)(machine),
                settings=settings(
                    max_examples=count,
                    stateful_step_count=12,
                    database=None,
                    deadline=None,
                    report_multiple_bugs=False,
                    phases=[Phase.generate, Phase.shrink],
                    suppress_health_check=list(HealthCheck),
                ),
            )
    finally:
        if VIOLATIONS:
            sys.stderr.write(f"the first invariant that was broken: {VIOLATIONS[0]}\n")
        file.write_text(json.dumps(Histories.stats))
    return 0


if __name__ == "__main__":
    sys.exit(main())
