"""Nights on a shelf whose images are restored: families of images, and what became of them."""

from sqlalchemy import func, select

from tests.support.oci.manifests import Pushed
from tests.support.shelf import Shelf, ShelfDriver, ShelfNight
from worker.registries.errors import (
    NotFoundError,
)
from worker.restore import restore
from worker.restore.images import Restored
from worker.restore.restore import Asked
from worker.store.runs import Run
from worker.store.tables import undo


def count(night: ShelfNight) -> int:
    with night.store.read() as connection:
        found: int = connection.execute(select(func.count()).select_from(undo)).scalar_one()
        return found


def find(night: ShelfNight, words: str, registry: str | None = None) -> Asked:
    return restore.find(night.store, night.settings, words, registry)


def put_back(night: ShelfNight, words: str) -> dict[str, Restored]:
    """By digest what became of what is asked for; nothing of before is in what was asked of the shelf."""
    night.shelf.asked.clear()
    found = restore.restore(night.store, find(night, words), ShelfDriver(night.shelf))
    assert len({(one.repository, one.digest) for one in found}) == len(found)
    return {one.digest: one for one in found}


def answers(found: dict[str, Restored]) -> set[str]:
    return {one.answer for one in found.values()}


class Family:
    """A nested index with its images, one of them signed, that all go in one night."""

    def __init__(self, shelf: Shelf, path: str = "shop/api") -> None:
        self.children = [shelf.image(path, layers=["base", f"{path} arm {number}"]) for number in range(3)]
        self.inner = shelf.index(path, lists=self.children[:2])
        self.outer = shelf.index(path, "old-1", "old-latest", lists=[self.inner, self.children[2]])
        signed = self.outer.digest.replace(":", "-")
        self.signature = shelf.image(path, f"{signed}.sig", layers=["signature"])
        self.referrer = shelf.image(path, layers=["report"], subject=self.children[0])

    @property
    def all(self) -> list[Pushed]:
        return [*self.children, self.inner, self.outer, self.signature, self.referrer]


def unconfirmed(shelf: Shelf, night: ShelfNight) -> tuple[Pushed, Run]:
    """An image that a run asked to be deleted, of which nobody knows whether it was; it is gone by now."""
    gone = shelf.image("shop/api", "old", layers=["a"])
    shelf.broken["delete shop/api"] = NotFoundError("not found, and listed all the same")
    run = night.sweep()
    assert (run.deleted, run.gone) == (0, 0)
    assert night.outcomes(run.id) == {gone.digest: ("failed", "unconfirmed")}
    shelf.broken.clear()
    shelf.take_away("shop/api", gone.digest)
    return gone, run
