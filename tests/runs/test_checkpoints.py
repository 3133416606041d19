"""Points of a run's life: passed by, told to visitors, and halted at where a test asks for it."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import until
from worker.runs import checkpoints
from worker.runs.checkpoints import HALTS, Checkpoint, reach


@pytest.fixture
def visited() -> Iterator[list[str]]:
    seen: list[str] = []

    def visit(name: Checkpoint) -> None:
        seen.append(name)

    checkpoints.observers.append(visit)
    yield seen
    checkpoints.observers.remove(visit)


def test_a_visitor_is_told_of_every_point_and_can_end_the_work_there(visited: list[str]) -> None:
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
    assert visited == ["intent_recorded", "delete_sent"]


def test_one_process_halts_where_it_was_asked_and_goes_on_when_it_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visited: list[str]
) -> None:
    monkeypatch.setenv(HALTS, str(tmp_path))
    reach("run_opened")  # nobody asked for a halt there
    (tmp_path / "delete_sent").touch()
    halted = tmp_path / "delete_sent.halted"
    halting = threading.Thread(target=reach, args=("delete_sent",))
    halting.start()
    until(halted.exists, what="the halt")
    assert halted.read_text() == str(os.getpid())
    reach("delete_sent")  # another comes by, and does not halt
    assert halting.is_alive()
    halted.unlink()
    halting.join(10)
    assert not halting.is_alive()
    assert list(tmp_path.iterdir()) == []
    assert visited == ["run_opened", "delete_sent", "delete_sent"]
