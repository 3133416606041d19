"""`make bench`, of a run's scan: the cost of planning a large registry, relative to `orjson.loads` of the same pages.

    python -m tests.bench.scan --images 200000

A run is opened, then listed, decided and stored by a process of its own, its rate no limit, against the simulator; it
is the second run, so manifests that are read once were read before.
Both are CPU time; the start of that process and its imports are printed apart, its memory is its peak.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import orjson

from tests.bench import data
from tests.support.harness import Harness
from tests.support.simulator.client import Simulator

NO_LIMIT = {"requests_per_second": 1000, "concurrency": 32}
_SCAN = """
import json, sys, time
from pathlib import Path
from worker.config.watch import SettingsWatch
from worker.planning.scan import carry_out_scan
from worker.store import open_store

settings = SettingsWatch(Path(sys.argv[1]), environ={}, still=0.02).current()
store = open_store(settings.store)
started = time.process_time()
carry_out_scan(store, settings, sys.argv[2])
scan = time.process_time() - started
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(json.dumps({"start": started, "scan": scan, "peak": int(peak) * 1024}))
"""


def pages(simulator: Simulator) -> list[bytes]:
    """Every page of images that the simulator serves."""
    bodies: list[bytes] = []
    root, token = simulator.endpoints()["container_registry"], ""
    with httpx.Client(headers={"Authorization": f"Bearer {simulator.token}"}, timeout=60) as client:
        while True:
            asked = {"registryId": simulator.registry_id, "pageSize": "1000", "pageToken": token}
            answer = client.get(f"{root}/container-registry/v1/images", params=asked).raise_for_status()
            bodies.append(answer.content)
            token = orjson.loads(answer.content).get("nextPageToken", "")
            if not token:
                return bodies


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scan")
    parser.add_argument("--images", type=int, default=200_000)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="registry-gc-bench-") as folder,
        Simulator(fill=str(options.images)) as simulator,
    ):
        harness = Harness(simulator, Path(folder), rate=NO_LIMIT, mode="dry-run", rules=data.POLICY)
        harness.sweep()  # a dry run: manifests that are read once, ever, are read now
        run_id = harness.open()
        listed = pages(simulator)
        command = [sys.executable, "-c", _SCAN, str(harness.path), run_id]
        ran = subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[2])
        started = time.process_time()
        for page in listed:
            orjson.loads(page)
        reading = time.process_time() - started
        said, run = json.loads(ran.stdout), harness.run(run_id)
        sys.stdout.write(
            f"scan of {run.images:,} images, {run.planned:,} go: orjson.loads of its {len(listed):,} pages 1.00,"
            f" scan {said['scan'] / reading:.2f} (start and imports {said['start'] / reading:.2f} more);"
            f" peak {said['peak'] / 2**20:,.0f} MiB\n"
        )


if __name__ == "__main__":
    main()
