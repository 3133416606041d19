"""A history whose steps the test itself writes down."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.system.histories.history import History
from tests.system.histories.history_store import HistoryStore
from worker.runs import checkpoints


@pytest.fixture
def history() -> Iterator[History]:
    """An empty in-memory registry and an empty store; at its end every run finishes and every invariant holds."""
    history_store = HistoryStore.of_this_process()
    history_store.empty()
    made = History(history_store, Counter())
    checkpoints.observers.append(made.at_checkpoint)
    try:
        yield made
        made.settle()
    finally:
        checkpoints.observers.remove(made.at_checkpoint)
        made.close()


@pytest.fixture(autouse=True)
def no_real_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch does not wait for an unavailable registry: the clock of a history does not move while it waits."""
    monkeypatch.setattr("worker.sweep.outage.LONGEST", 0.0)
