"""The cost of the scan history for a run: bytes per image, rows and seconds, by the number of images.

    python -m tests.bench.memory --images 1000000 --repositories 3000 [--store postgresql+psycopg://…]

Four scans: the first sees every image for the first time; before each later scan one repository in ten changes, by one
image in a hundred. On a busy machine seconds mean little.
"""

import argparse
import hashlib
import random
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from policies.blobs import digest_rows
from policies.image import Image
from policies.plan import Survey
from worker.planning.scan_history import ScanHistoryRows, compare
from worker.store import Store, open_store, scan_history
from worker.store.tables import scan_history as history_table

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
SCANS = 4
KEY, NAME = "production|crp1", "production"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.memory")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--repositories", type=int, default=300)
    parser.add_argument("--store")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="registry-gc-bench-") as folder:
        store = open_store(options.store or f"sqlite:///{folder}/bench.db")
        random_ = random.Random(20261124)
        per = options.images // options.repositories
        registry = {f"team/service-{n:05d}": [_image(random_) for _ in range(per)] for n in range(options.repositories)}
        count = per * options.repositories
        say(f"{count:,} images in {options.repositories:,} repositories, {store.engine.dialect.name}")
        for number in range(SCANS):
            if number:
                _change(random_, registry)
            scan(store, registry, number, count)


def scan(store: Store, registry: dict[str, list[Image]], number: int, count: int) -> None:
    """Time the scan history of one scan, without the rest of the scan (listing, digests in columns)."""
    surveys = [Survey(path, digest_rows([image.digest for image in images])) for path, images in registry.items()]
    started = time.perf_counter()
    with store.read() as connection:
        before = scan_history.load(connection, KEY, NAME)
    loaded_at = time.perf_counter()
    compared = compare(before, surveys, ())
    compared_at = time.perf_counter()
    history_rows = ScanHistoryRows(compared, NOW + number * timedelta(days=1))
    rows = [row for path, images in registry.items() for row in history_rows.repository_rows(path, images)]
    made = time.perf_counter()
    for at in range(0, len(rows), 500):
        with store.write() as connection:
            scan_history.stage(connection, "run", rows[at : at + 500])
    with store.write() as connection:
        scan_history.stage(connection, "run", history_rows.remaining_rows(suspicion=""))
        scan_history.apply_staged(connection, "run", KEY)
    written = time.perf_counter()
    size, most = _size(store)
    parts = {"load": loaded_at - started, "compare": compared_at - loaded_at, "make": made - compared_at}
    parts["write"] = written - made
    timings = ", ".join(f"{name} {seconds * 1000:,.0f} ms" for name, seconds in parts.items())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    say(
        f"scan {number}: {len(rows) + 1:,} rows, {sum(len(seen) for _, seen in rows):,} B written; "
        f"{size / count:.1f} B an image, the largest row {most:,} B; {timings}; peak {peak} MiB"
    )


def _size(store: Store) -> tuple[int, int]:
    length = func.length(history_table.c.seen)
    with store.read() as connection:
        total, most = connection.execute(select(func.sum(length), func.max(length))).one()
    return int(total), int(most)


def _image(random_: random.Random) -> Image:
    digest = f"sha256:{hashlib.sha256(random_.randbytes(16)).hexdigest()}"
    kind = random_.random()
    tags = () if kind < 0.2 else (f"main-{random_.getrandbits(40):010x}",) if kind < 0.9 else ("v1", "latest")
    return Image(digest=digest, tags=tags, created_at=NOW)


def _change(random_: random.Random, registry: dict[str, list[Image]]) -> None:
    changed = random_.sample(sorted(registry), max(1, len(registry) // 10))
    for path in changed:
        images = registry[path]
        for place in random_.sample(range(len(images)), max(1, len(images) // 100)):
            images[place] = _image(random_)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
