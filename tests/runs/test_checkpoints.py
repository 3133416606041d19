"""Checkpoints of a run's life: passed, observed, and halted at where a test requests it."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import until
from worker.runs import checkpoints
from worker.runs.checkpoints import HALTS, Checkpoint, reach


@pytest.fixture
def observed() -> Iterator[list[str]]:
    seen: list[str] = []

    def observe(name: Checkpoint) -> None:
        seen.append(name)

    checkpoints.observers.append(observe)
    yield seen
    checkpoints.observers.remove(observe)


def test_an_observer_is_called_at_every_checkpoint_and_may_end_the_work(observed: list[str]) -> None:
    def refuse(name: Checkpoint) -> None:
        if name == "delete_sent":
            raise ZeroDivisionError

    checkpoints.observers.append(refuse)
    try:
        reach("intent_recorded")
        with pytest.raises(ZeroDivisionError):
            reach("delete_sent")
    finally:
        checkpoints.observers.remove(refuse)
    assert observed == ["intent_recorded", "delete_sent"]


def test_one_process_halts_at_a_requested_checkpoint_until_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, observed: list[str]
) -> None:
    monkeypatch.setenv(HALTS, str(tmp_path))
    reach("run_opened")  # no halt was requested there
    (tmp_path / "delete_sent").touch()
    halted = tmp_path / "delete_sent.halted"
    halting = threading.Thread(target=reach, args=("delete_sent",))
    halting.start()
    until(halted.exists, what="the halt")
    assert halted.read_text() == str(os.getpid())
    reach("delete_sent")  # a second process passes and does not halt
    assert halting.is_alive()
    halted.unlink()
    halting.join(10)
    assert not halting.is_alive()
    assert list(tmp_path.iterdir()) == []
    assert observed == ["run_opened", "delete_sent", "delete_sent"]
