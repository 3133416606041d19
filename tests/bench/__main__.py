"""`make bench`: the cost of a plan of a saved inventory, in ratios to `orjson.loads` of its lines in the same run.

    make bench ARGS="--images 1000000"

Both are CPU time; reading with orjson, no result kept, is 1.0. The plan is made and written as NDJSON with its reasons
by a fresh interpreter, whose start and imports are printed apart; its bytes are the peaks of all its processes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

from tests.bench import data

MOST_RATIO, GOAL_RATIO, MOST_BYTES = 3.0, 2.0, 300
MANY = 1_000_000  # images from which the bytes of each are bounded: below, the interpreter's own count
_PLAN = """
import json, sys, time
from pathlib import Path
import msgspec
from policies.document import parse_policy
from tests.bench import data
from worker.planning.offline import plan_inventory

policy, _ = parse_policy("bench", data.POLICY, "policies.bench")
started = time.process_time()
with plan_inventory(Path(sys.argv[1]), policy, data.NOW) as planned, open(sys.argv[2], "wb") as file:
    for piece in planned.decisions.lines():
        file.write(piece)
    totals = msgspec.to_builtins(planned.plan.totals)
print(json.dumps({"totals": totals, "start": started, "plan": time.process_time() - started}))
"""


def read_with_orjson(path: Path) -> float:
    """Seconds of CPU to read every line and keep nothing."""
    started = time.process_time()
    with path.open("rb") as file:
        for line in file:
            orjson.loads(line)
    return time.process_time() - started


def peaks(pid: int, peak_of: dict[int, int]) -> None:
    """Note the greatest memory so far of a process and its children, in bytes."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return  # it has ended since
    for line in status:
        if line.startswith("VmHWM:"):
            peak_of[pid] = max(peak_of.get(pid, 0), int(line.split()[1]) * 1024)
    for child in children:
        peaks(int(child), peak_of)


def plan(path: Path, output: Path) -> tuple[dict[str, Any], int]:
    """The measurements that the planning process prints, and the peaks of all its processes in bytes."""
    command = [sys.executable, "-c", _PLAN, str(path), str(output)]
    peak_of: dict[int, int] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        while process.poll() is None:
            peaks(process.pid, peak_of)
            time.sleep(0.01)
        assert process.stdout is not None
        said = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"planning ended with exit code {process.returncode}")
    return json.loads(said), sum(peak_of.values())


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description="Ratios to orjson.loads of the same lines.")
    parser.add_argument("--images", type=int, nargs="*", default=[200_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    well = [measured(images, options.rounds) for images in options.images]
    return 0 if all(well) else 1


def measured(images: int, rounds: int) -> bool:
    """Print the cost of a plan of `count` images; return whether the cost is within the bounds."""
    with tempfile.TemporaryDirectory(prefix="registry-gc-bench-") as folder:
        path, output = Path(folder) / "inventory.ndjson", Path(folder) / "plan.ndjson"
        data.write(path, images)
        size = path.stat().st_size
        say(f"{images:,} images, {size / images:,.0f} B a line, {len(data.POLICY)} rules")
        ratios = []
        for _ in range(rounds):
            before = read_with_orjson(path)
            said, memory = plan(path, output)
            reading = (before + read_with_orjson(path)) / 2
            ratios.append(said["plan"] / reading)
            start = said["start"] / reading
            say(f"orjson.loads 1.00, plan {ratios[-1]:.2f} (start and imports {start:.2f} more)")
        best, median = min(ratios), sorted(ratios)[len(ratios) // 2]
        say(
            f"plan / orjson.loads: best {best:.2f}, median {median:.2f}; at most {MOST_RATIO:.1f}, aim {GOAL_RATIO:.1f}"
        )
        say(f"memory: {memory / images:,.0f} B an image; at most {MOST_BYTES} at a million")
        say(f"totals: {json.dumps(said['totals'])}")
    return median <= MOST_RATIO and (images < MANY or memory <= MOST_BYTES * images)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
