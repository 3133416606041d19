"""`make bench`, its second half: load. A hundred registries due at the same minute, and one large one under faults.

Real processes (`registry-gc worker`, `beat`, Redis, SQLite) against the simulator. Printed: whether every run ended,
the worst second at the registry against its rate, and the greatest memory of any process of ours.

    python -m tests.bench.load --registries 100 --images 20000
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import func, select

from tests.support.cluster import Cluster
from tests.support.harness import document
from tests.support.servers import redis_server
from tests.support.simulator.client import Simulator
from tests.support.simulator.registry import id_from
from worker.processes.embedded import NODES
from worker.store.tables import run

MOST_MEMORY = 300  # MiB of one process
RETRIES = timedelta(minutes=5)
TIMING = {"reconcile": "10s", "lease": "30s"}
EVEN = r"re:pr-(\d{0,3}|1[0-4]\d\d)[02468]"  # of 20,000 images, of which a third have no tag: 5,000
DAYS = 86_400


@dataclass(slots=True)
class Measured:
    """The measurements taken under load."""

    runs: int  # that were to end
    seconds: float
    outcomes: Counter[str]
    planned: int
    deleted: int
    repeats: int  # DELETE requests beyond one an image
    faults: int
    worst: int  # requests to one registry within one second
    rate: int
    burst: int  # what may be in flight: sent one by one, it may be held up on the way and come at once
    memory: dict[str, int]  # process -> greatest bytes


class Loaded(Cluster):
    """A cluster as it is deployed: a node for each queue, kept running by its supervisor."""

    def start_all(self) -> None:
        self.start("worker", "worker.cli", "worker")
        self.start("beat", "worker.cli", "beat")

    def write(self, registries: dict[str, dict[str, Any]], rules: list[dict[str, Any]], **keys: Any) -> None:
        whole = document(self.harness.simulator, self.folder, redis=self.redis.url, timing=TIMING, **keys)
        like = whole["registries"]["production"]
        whole["registries"] = {name: {**like, **own} for name, own in registries.items()}
        whole["policies"] = {"nightly": rules}
        new = self.harness.path.with_suffix(".new")
        new.write_text(yaml.safe_dump(json.loads(json.dumps(whole))))  # without aliases, which are not read
        new.replace(self.harness.path)

    def running(self) -> set[str]:
        return {name for name, process in self._processes.items() if process.poll() is None}

    def ended(self) -> Counter[str]:
        """How many runs ended, by outcome."""
        outcomes = select(run.c.outcome, func.count()).where(run.c.state == "finished").group_by(run.c.outcome)
        with self.harness.store.read() as connection:
            return Counter({str(name): int(number) for name, number in connection.execute(outcomes)})

    def sums(self) -> tuple[int, int]:
        with self.harness.store.read() as connection:
            planned, deleted = connection.execute(select(func.sum(run.c.planned), func.sum(run.c.deleted))).one()
        return int(planned or 0), int(deleted or 0)

    def carry(self, runs: int, rate: int, concurrency: int, home: dict[str, str]) -> Measured:
        """Wait until `runs` runs have ended, and record the memory of every process until then."""
        began, memory = time.monotonic(), dict[str, int]()
        while (outcomes := self.ended()).total() < runs:
            note_memory(str(self.folder), memory)
            late = time.monotonic() - began > RETRIES.total_seconds()
            if late or not {"worker", "beat"} <= self.running():
                sys.stdout.write(self.log()[-2000:])
                break
            time.sleep(0.5)
        seconds = time.monotonic() - began
        state, asked = self.harness.simulator.state(), self.harness.simulator.requests()
        deletes = [request for request in asked if request["method"] == "DELETE"]
        return Measured(
            runs,
            seconds,
            outcomes,
            *self.sums(),
            repeats=len(deletes) - len({request["image"] for request in deletes}),
            faults=sum(fault["struck"] for fault in state["faults"]),
            worst=worst_second(asked, home),
            rate=rate,
            burst=NODES["delete"].slots * concurrency,
            memory=memory,
        )


def note_memory(folder: str, memory: dict[str, int]) -> None:
    """The greatest memory so far of every process that was started for this folder."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if folder.encode() not in (entry / "environ").read_bytes():
                continue
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").split()
            status = (entry / "status").read_text()
            peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")), "0")
            name = f"{' '.join(word for word in words[-6:] if word.isalpha())} {entry.name}"
            memory[name] = max(memory.get(name, 0), int(peak) * 1024)


def worst_second(asked: Iterable[dict[str, Any]], home: dict[str, str]) -> int:
    """The most requests to one registry in any second. `home`: image id -> registry; else its id is in the request."""
    times: dict[str, list[float]] = {}
    for request in asked:
        where = home.get(request["image"]) or next((part for part in _parts(request) if part.startswith("crp")), "")
        times.setdefault(where, []).append(datetime.fromisoformat(request["at"]).timestamp())
    worst = 0
    for moments in times.values():
        moments.sort()
        first = 0
        for last, at in enumerate(moments):
            while at - moments[first] >= 1.0:
                first += 1
            worst = max(worst, last - first + 1)
    return worst


def _parts(request: dict[str, Any]) -> list[str]:
    return f"{request['path']}/{request['query']}".replace("=", "/").replace("&", "/").split("/")


@contextlib.contextmanager
def loaded(**switches: Any) -> Iterator[Loaded]:
    with (
        tempfile.TemporaryDirectory(prefix="registry-gc-load-") as folder,
        Simulator(operation_seconds_from=0, operation_seconds_to=0, **switches) as simulator,
        redis_server() as redis,
    ):
        made = Loaded(simulator, Path(folder), redis)
        try:
            yield made
        finally:
            made.stop()
            made.harness.store.dispose()


def many_registries(count: int, images: int) -> Measured:
    """Sweep many registries that are all due in the same minute; half of the images of each are deleted."""
    rate, concurrency = 20, 8
    with loaded() as made:
        due = datetime.now(UTC) + timedelta(seconds=75)  # the processes must know the line before it is due
        registries = {
            f"registry-{number}": {
                "id": id_from("load", str(number)),
                "schedule": f"{due.minute} {due.hour} * * *",
                "rate": {"requests_per_second": rate, "concurrency": concurrency},
            }
            for number in range(count)
        }
        home = fill_registries(made, [registry["id"] for registry in registries.values()], images)
        made.write(registries, [{"name": "old", "delete": {"tags": ["pr-*"], "older_than": "14d"}}])
        made.start_all()
        wait = due.replace(second=0, microsecond=0) - datetime.now(UTC)
        time.sleep(max(0.0, wait.total_seconds()))
        return made.carry(count, rate, concurrency, home)


def fill_registries(made: Loaded, ids: list[str], images: int) -> dict[str, str]:
    """Which image is in which registry."""
    commands: list[dict[str, Any]] = [{"command": "add_registry", "id": registry, "name": registry} for registry in ids]
    for registry in ids:
        for number in range(images):
            tag = f"pr-{number}" if number % 2 else f"v{number}"
            commands.append(
                {"repository": f"shop/part{number % 4}", "registry": registry, "tags": [tag], "age": 30 * DAYS}
                | {"layers": ["base:9000", 100 + number]}
            )
    path = made.folder / "fill.json"
    path.write_text(json.dumps(commands))
    made.harness.simulator.fill(str(path))
    return {image["id"]: registry for registry in ids for image in made.harness.simulator.images(registry=registry)}


def one_large(images: int, faults: float) -> Measured:
    """Sweep one large registry, a quarter of whose images are deleted, while a share of all requests fails."""
    rate, concurrency = 100, 16
    with loaded(fill=str(images)) as made:
        simulator = made.harness.simulator
        for kind, share in (("status", 0.5), ("reset", 0.3), ("reply_lost", 0.2)):
            simulator.control("fault", kind=kind, path="^/(container-registry|operations)/", probability=faults * share)
        own = {"rate": {"requests_per_second": rate, "concurrency": concurrency}}
        made.write({"large": own}, [{"name": "even", "delete": {"tags": [EVEN]}}])
        made.start_all()
        made.call("gc.sweep", "large")
        return made.carry(1, rate, concurrency, {image["id"]: "large" for image in simulator.images()} | {"": "large"})


def say(title: str, measured: Measured) -> bool:
    """Print it; whether all is as it should be."""
    heaviest, bytes_ = max(measured.memory.items(), key=lambda pair: pair[1], default=("nothing", 0))
    outcomes = ", ".join(f"{number} {name}" for name, number in sorted(measured.outcomes.items()))
    allowed = measured.rate + measured.burst
    rows = [
        ("runs", f"{outcomes or 'none ended'}; {measured.runs} were due"),
        ("took", f"{measured.seconds:,.0f} s"),
        ("deleted", f"{measured.deleted:,} of {measured.planned:,} planned; {measured.repeats} asked for again"),
        ("faults", f"{measured.faults:,}"),
        ("worst second of a registry", f"{measured.worst} requests; rate {measured.rate}, in flight {measured.burst}"),
        ("greatest memory of a process", f"{bytes_ / 2**20:,.0f} MiB ({heaviest}); at most {MOST_MEMORY}"),
    ]
    sys.stdout.write(f"\n{title}\n" + "".join(f"  {name:<30}{value}\n" for name, value in rows))
    sys.stdout.flush()
    ended = measured.outcomes.total() == measured.runs and set(measured.outcomes) <= {"succeeded", "partial"}
    return ended and measured.worst <= allowed and bytes_ < MOST_MEMORY * 2**20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.load")
    parser.add_argument("--registries", type=int, default=100)
    parser.add_argument("--each", type=int, default=24, help="images in each of them")
    parser.add_argument("--images", type=int, default=20_000, help="in the large one")
    parser.add_argument("--faults", type=float, default=0.01)
    options = parser.parse_args()
    well = True
    if options.registries:
        title = f"{options.registries} registries of {options.each} images, due at the same minute"
        well &= say(title, many_registries(options.registries, options.each))
    if options.images:
        title = f"one registry of {options.images:,} images, {options.faults:.0%} faults"
        well &= say(title, one_large(options.images, options.faults))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
