"""Helpers of restore tests: families of images, and the results of their restores."""

from sqlalchemy import func, select

from tests.support.memory_driver import RestoringMemoryDriver
from tests.support.memory_harness import MemoryHarness
from tests.support.memory_registry import MemoryRegistry
from tests.support.oci.manifests import Pushed
from worker.registries.errors import (
    NotFoundError,
)
from worker.restore import restore as restoring
from worker.restore.images import RestoredImage
from worker.restore.restore import RestoreRequest
from worker.store.runs import Run
from worker.store.tables import undo


def count(harness: MemoryHarness) -> int:
    with harness.store.read() as connection:
        rows: int = connection.execute(select(func.count()).select_from(undo)).scalar_one()
        return rows


def find(harness: MemoryHarness, words: str, registry: str | None = None) -> RestoreRequest:
    return restoring.resolve_request(harness.store, harness.settings, words, registry)


def restore(harness: MemoryHarness, words: str) -> dict[str, RestoredImage]:
    """By digest what became of what is asked for; nothing of before is in what was asked of the registry."""
    harness.registry.asked.clear()
    restored = restoring.restore(harness.store, find(harness, words), RestoringMemoryDriver(harness.registry))
    assert len({(image.repository, image.digest) for image in restored}) == len(restored)
    return {image.digest: image for image in restored}


def answers(restored: dict[str, RestoredImage]) -> set[str]:
    return {image.answer for image in restored.values()}


class Family:
    """A nested index with its images, one of them signed, that one run deletes."""

    def __init__(self, registry: MemoryRegistry, path: str = "shop/api") -> None:
        self.children = [registry.push_image(path, layers=["base", f"{path} arm {number}"]) for number in range(3)]
        self.inner = registry.push_index(path, lists=self.children[:2])
        self.outer = registry.push_index(path, "old-1", "old-latest", lists=[self.inner, self.children[2]])
        signed = self.outer.digest.replace(":", "-")
        self.signature = registry.push_image(path, f"{signed}.sig", layers=["signature"])
        self.referrer = registry.push_image(path, layers=["report"], subject=self.children[0])

    @property
    def all(self) -> list[Pushed]:
        return [*self.children, self.inner, self.outer, self.signature, self.referrer]


def unconfirmed(registry: MemoryRegistry, harness: MemoryHarness) -> tuple[Pushed, Run]:
    """An image whose deletion by a run is unconfirmed, and which no longer exists."""
    gone = registry.push_image("shop/api", "old", layers=["a"])
    registry.fail("delete", "shop/api", NotFoundError("not found, and listed all the same"))
    run = harness.sweep()
    assert (run.deleted, run.gone) == (0, 0)
    assert harness.outcomes(run.id) == {gone.digest: ("failed", "unconfirmed")}
    registry.faults.clear()
    registry.remove("shop/api", gone.digest)
    return gone, run
