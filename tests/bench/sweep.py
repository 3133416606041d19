"""`make bench`, its third part: a sweep beside a shell loop that decides nothing, and how much of a rate is used.

Real processes (`registry-gc worker`, Redis, SQLite or PostgreSQL) against the simulator: at most 1,000 requests a
second, 32 in flight, 20 ms until each answer, operations done at once. Wall time is that of `registry-gc sweep --wait`
with workers running; CPU time is that of the command and of the workers, without server, Redis and database.

    python -m tests.bench.sweep --images 10000 --deletions 2000 8000
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.bench.load import Loaded, loaded
from tests.support.servers import postgres_programs, postgres_server
from tests.support.waiting import until

REPOSITORIES = 10
RATE, CONCURRENCY, LATENCY = 1000, 32, 0.02
MOST = 1.5  # times the shell's wall time, and its CPU time
USED = 0.95  # of a rate
DAYS = 86_400
TICKS = os.sysconf("SC_CLK_TCK")
RULES = [{"name": "old", "delete": {"tags": ["pr-*"], "older_than": "14d"}}]

# A shell loop instead of a garbage collector: it lists, selects by the tag, and deletes in parallel.
SHELL = """
set -euo pipefail
page=
while :; do
  query="registryId=$ID&pageSize=1000&pageToken=$page"
  answer=$(curl -sf -H "Authorization: Bearer $TOKEN" "$URL/container-registry/v1/images?$query")
  jq -r '.images[] | select(.tags // [] | any(startswith("pr-"))) | .id' <<<"$answer"
  page=$(jq -r '.nextPageToken // empty' <<<"$answer")
  [ -n "$page" ] || break
done | xargs -P "$CONCURRENCY" -I{} \\
  curl -sf -o /dev/null -X DELETE -H "Authorization: Bearer $TOKEN" "$URL/container-registry/v1/images/{}"
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of listing a registry and of deleting from it."""

    wall: float  # seconds
    cpu: float  # seconds
    deleted: int
    used: float = 0.0  # share of the rate, from the first DELETE to the last


def fill(made: Loaded, images: int, deletions: int) -> None:
    """Push images to ten repositories; a policy selects some of them."""
    commands: list[dict[str, Any]] = [
        {"repository": f"shop/part{number % REPOSITORIES}", "age": 30 * DAYS, "layers": ["base:9000", 100 + number]}
        | {
            "tags": [
                f"pr-{number}" if number * deletions // images != (number + 1) * deletions // images else f"v{number}"
            ]
        }
        for number in range(images)
    ]
    path = made.folder / "fill.json"
    path.write_text(json.dumps(commands))
    made.harness.simulator.fill(str(path))


def by_shell(images: int, deletions: int) -> Cost:
    with loaded(latency=LATENCY) as made:
        fill(made, images, deletions)
        simulator = made.harness.simulator
        named = {"URL": simulator.url, "TOKEN": simulator.token, "ID": simulator.registry_id}
        environ = os.environ | named | {"CONCURRENCY": str(CONCURRENCY)}
        before, began = os.times(), time.monotonic()
        subprocess.run(["bash", "-c", SHELL], env=environ, check=True)
        wall, after = time.monotonic() - began, os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return Cost(wall, cpu, len(simulator.deleted_ids()))


def cpu_of(folder: str) -> float:
    """Seconds of all processes that were started for this folder, and of their children that have ended."""
    ticks = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if folder.encode() in (entry / "environ").read_bytes():
                ticks += sum(map(int, (entry / "stat").read_text().rpartition(") ")[2].split()[11:15]))
    return ticks / TICKS


def by_us(images: int, deletions: int, *, workers: int = 1, store: str | None = None, rate: int = RATE) -> Cost:
    with loaded(latency=LATENCY) as made:
        fill(made, images, deletions)
        own = {"rate": {"requests_per_second": rate, "concurrency": CONCURRENCY}}
        made.write({"production": own}, RULES, **({"store": store} if store else {}))
        for number in range(workers):
            made.start(f"worker-{number}", "worker.cli", "worker")
        ready(made, workers)
        folder = str(made.folder)
        began, before, ours = time.monotonic(), cpu_of(folder), os.times()
        words = [sys.executable, "-m", "worker.cli", "sweep", "production", "--wait"]
        ended = subprocess.run(words, env=made.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        wall, after = time.monotonic() - began, os.times()
        cpu = cpu_of(folder) - before
        cpu += after.children_user + after.children_system - ours.children_user - ours.children_system
        if ended.returncode:
            sys.stdout.write(ended.stderr.decode()[-2000:] + made.log("worker-0")[-2000:])
        return Cost(wall, cpu, len(made.harness.simulator.deleted_ids()), say_rate(made, rate))


def ready(made: Loaded, workers: int) -> None:
    """Wait until each node of each worker answers."""
    until(
        lambda: sum(made.log(f"worker-{number}").count(" ready.") for number in range(workers)) >= 3 * workers,
        timeout=60,
        what="the workers",
    )


def say_rate(made: Loaded, rate: int) -> float:
    """How much of the rate the deletion phase used, from its first DELETE to its last."""
    asked = [
        (request["method"], datetime.fromisoformat(request["at"]).timestamp())
        for request in made.harness.simulator.requests()
    ]
    deletes = [at for method, at in asked if method == "DELETE"]
    first, last = min(deletes), max(deletes)
    within = sum(first <= at <= last for _, at in asked)
    used = within / (last - first) / rate
    sys.stdout.write(f"  deletion phase: {within:,} requests in {last - first:.1f} s, {used:.1%} of {rate} a second\n")
    return used


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sweep")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--deletions", type=int, nargs="*", default=[2_000, 8_000])
    parser.add_argument(
        "--cap", type=int, default=100, help="requests a second, of which 95 % are to be used; 0: not measured"
    )
    parser.add_argument("--workers", type=int, default=4, help="on PostgreSQL, beside one; 0: not measured")
    options = parser.parse_args()
    well = True
    for deletions in options.deletions:
        sys.stdout.write(f"\n{options.images:,} images, {deletions:,} deletions\n")
        shell, ours = by_shell(options.images, deletions), by_us(options.images, deletions)
        for name, cost in (("shell", shell), ("registry-gc", ours)):
            sys.stdout.write(f"  {name:<12}{cost.wall:6.1f} s wall {cost.cpu:6.1f} s CPU, {cost.deleted:,} deleted\n")
        wall, cpu = ours.wall / shell.wall, ours.cpu / shell.cpu
        sys.stdout.write(f"  times the shell: wall {wall:.2f}, CPU {cpu:.2f}; at most {MOST}\n")
        sys.stdout.flush()
        well &= wall <= MOST and cpu <= MOST and ours.deleted == deletions
    if options.cap:
        sys.stdout.write(f"\nat {options.cap} requests a second\n")
        well &= by_us(4_000, 3_000, rate=options.cap).used >= USED
    if options.workers and (programs := postgres_programs()) is not None:
        sys.stdout.write(f"\n{options.images:,} images on PostgreSQL, 2,000 deletions\n")
        with postgres_server(programs) as server:
            for workers in (1, options.workers):
                store = server.create_database(f"gc{workers}")
                cost = by_us(options.images, 2_000, workers=workers, store=store)
                sys.stdout.write(f"  {workers} workers   {cost.wall:6.1f} s wall {cost.cpu:6.1f} s CPU\n")
                well &= cost.deleted == 2_000
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
