"""`make bench`: what a plan of a saved inventory costs, in ratios to `orjson.loads` of its lines in the same run.

    make bench ARGS="--images 1000000"

Reading with orjson, one process, no result kept, is 1.0. The plan is made and written as NDJSON with its reasons by a
fresh interpreter; its bytes are the peaks of all its processes added up. On a busy machine ratios mean little.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson

from tests.bench import data as bench_data

GOAL_RATIO, GOAL_BYTES = 2.0, 600
_PLAN = """
import json, sys, time
started = time.perf_counter()
from pathlib import Path
import msgspec
from policies.document import parse_policy
from tests.bench import data as bench_data
from worker.planning.offline import plan_inventory

path, processes = Path(sys.argv[1]), int(sys.argv[2]) or None
policy, _ = parse_policy("bench", bench_data.POLICY, "policies.bench")
loaded = time.perf_counter()
with plan_inventory(path, policy, bench_data.NOW, processes=processes) as plan, open(sys.argv[3], "wb") as file:
    decided = time.perf_counter()
    file.write(msgspec.json.encode(plan.head) + b"\\n")
    for piece in plan.lines():
        file.write(piece)
    file.flush()
    written = time.perf_counter()
    totals = msgspec.to_builtins(plan.head.totals)
times = {"load": loaded - started, "decide": decided - loaded, "write": written - decided, "plan": written - loaded}
print(json.dumps({"totals": totals, "times": times}))
"""


def read_with_orjson(path: Path) -> float:
    """Seconds to read every line and keep nothing."""
    started = time.perf_counter()
    with path.open("rb") as file:
        for line in file:
            orjson.loads(line)
    return time.perf_counter() - started


def peaks(pid: int, found: dict[int, int]) -> None:
    """Note the greatest memory so far of a process and its children, in bytes."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return  # it has ended since
    for line in status:
        if line.startswith("VmHWM:"):
            found[pid] = max(found.get(pid, 0), int(line.split()[1]) * 1024)
    for child in children:
        peaks(int(child), found)


def plan(path: Path, processes: int, output: Path) -> tuple[dict[str, dict[str, float]], int]:
    """What the planning process says of itself, and the peaks of all its processes in bytes."""
    command = [sys.executable, "-c", _PLAN, str(path), str(processes), str(output)]
    found: dict[int, int] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        while process.poll() is None:
            peaks(process.pid, found)
            time.sleep(0.01)
        assert process.stdout is not None
        said = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"planning ended with exit code {process.returncode}")
    return json.loads(said), sum(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description="Ratios to orjson.loads of the same lines.")
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--processes", type=int, default=0, help="0: as many as the command would take")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="registry-gc-bench-") as folder:
        path, output = Path(folder) / "inventory.ndjson", Path(folder) / "plan.ndjson"
        bench_data.write(path, options.images)
        size = path.stat().st_size
        say(f"{options.images:,} images, {size / options.images:,.0f} B a line, {len(bench_data.POLICY)} rules")
        ratios = []
        for _ in range(options.rounds):
            before = read_with_orjson(path)
            said, memory = plan(path, options.processes, output)
            reading = (before + read_with_orjson(path)) / 2
            ratios.append(said["times"]["plan"] / reading)
            parts = ", ".join(
                f"{name} {seconds / reading:.2f}" for name, seconds in said["times"].items() if name != "plan"
            )
            say(f"orjson.loads 1.00, plan {ratios[-1]:.2f} ({parts}); {memory / options.images:,.0f} B an image")
        best, median = min(ratios), sorted(ratios)[len(ratios) // 2]
        say(f"plan / orjson.loads: best {best:.2f}, median {median:.2f}; aim {GOAL_RATIO:.1f}")
        say(f"memory: {memory / options.images:,.0f} B an image; aim {GOAL_BYTES} at a million")
        say(f"totals: {json.dumps(said['totals'])}")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
