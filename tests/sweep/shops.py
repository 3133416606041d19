"""One repository with the same few commands, whatever its registry's kind, and runs on it up to a point."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from tests.support.harness import Harness
from tests.support.oci.fake import FakeRegistry
from tests.support.oci.real_runs import served
from tests.support.simulator.client import Simulator
from worker.runs.lifecycle import TaskCall
from worker.store.tables import batch

DAY = timedelta(days=1)


PATH = "shop/api"


RULES = [
    {"name": "releases", "keep": {"tags": ["v*", "production"]}},
    {"name": "pull requests", "delete": {"tags": ["pr-*"]}},
    {"name": "leftovers", "delete": {"untagged": True}},
]


FAST = {"requests_per_second": 500, "concurrency": 4}


class Shop:
    """One repository with the same few commands, whatever its registry's kind."""

    def __init__(self, kind: str, served: Simulator | FakeRegistry, folder: Path) -> None:
        self.kind, self.served, self.folder = kind, served, folder
        self.harnesses: list[Harness] = []

    def push(self, *tags: str, content: str) -> str:
        if isinstance(self.served, FakeRegistry):
            return self.served.push(PATH, *tags, layers=[content.encode()]).digest
        return str(self.served.push(PATH, tags=list(tags), content=content, age=30 * DAY)["digest"])

    def push_index(self, *children: str, tag: str) -> str:
        if isinstance(self.served, FakeRegistry):
            return self.served.push_index(PATH, tag, children=children).digest
        return str(self.served.push_index(PATH, children, tags=[tag])["digest"])

    def sign(self, digest: str) -> str:
        return self.push(f"sha256-{digest.removeprefix('sha256:')}.sig", content=f"signature of {digest}")

    def there(self) -> set[str]:
        if isinstance(self.served, FakeRegistry):
            return set(self.served.state()[PATH])
        return {image["digest"] for image in self.served.images()}

    def harness(self, **keys: Any) -> Harness:
        if isinstance(self.served, FakeRegistry):
            first_seen = {"push_time": "first_seen"}
            keys = {"rules": RULES[:2], "rate": FAST, "mode": "delete"} | first_seen | keys
            self.harnesses.append(Harness(served(self.served) | first_seen, self.folder, **keys))
        else:
            cloud = self.kind == "yandex-cloud-registry"
            endpoints = self.served.cloud_endpoints() if cloud else self.served.endpoints()
            keys = {"rules": RULES, "kind": self.kind, "endpoints": endpoints} | keys
            self.harnesses.append(Harness(self.served, self.folder, **keys))
        return self.harnesses[-1]


def first_deletion(harness: Harness) -> tuple[str, list[TaskCall]]:
    """A run after its first batch, and the task calls that are left."""
    run_id, task_calls = harness.plan()
    while "deleted" not in {state for state, _ in harness.outcomes(run_id).values()}:
        task_calls += harness.do(task_calls.pop(0))
    return run_id, task_calls


def stored_batches(harness: Harness, run_id: str) -> dict[str, int]:
    """Path -> number."""
    with harness.store.read() as connection:
        rows = connection.execute(select(batch.c.repository, batch.c.number).where(batch.c.run_id == run_id))
        return {row.repository: row.number for row in rows}


STILL_NEEDED = ("skipped", "still_needed")
