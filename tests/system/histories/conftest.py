"""A world without chance: what happens in it is written down in the test."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.system.histories.history_store import HistoryStore
from tests.system.histories.world import World
from worker.runs import checkpoints


@pytest.fixture
def world() -> Iterator[World]:
    """An empty registry in memory, and an empty store; at the end every run has ended, and every promise was kept."""
    history_store = HistoryStore.of_this_process()
    history_store.empty()
    made = World(history_store, Counter())
    checkpoints.observers.append(made.at_checkpoint)
    try:
        yield made
        made.settle()
    finally:
        checkpoints.observers.remove(made.at_checkpoint)
        made.close()


@pytest.fixture(autouse=True)
def no_real_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that is away in a history does not come back while a batch waits: its time stands still."""
    monkeypatch.setattr("worker.sweep.outage.LONGEST", 0.0)
