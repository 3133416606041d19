"""Named points of a run's life at which a test may halt a process, to hurt it or what it needs exactly there.

Without the environment variable a checkpoint does nothing. With it, it names a folder: a file called like the point
asks for one halt there. Who comes by first takes the file away and writes its process number into `POINT.halted`; it
goes on when that file is gone. A test within the process hears of every point by `visitors`.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

HALTS = "REGISTRY_GC_HALTS"
POLL_SECONDS = 0.01  # seconds

# In the order in which a run comes by.
Checkpoint = Literal[
    "run_opened",
    "scan_claimed",
    "inventory_taken",
    "plan_stored",
    "run_advanced",
    "recheck_claimed",
    "recheck_recorded",
    "batch_claimed",
    "repository_listed_again",
    "image_read_again",
    "chunk_read_again",
    "intent_recorded",
    "delete_sent",
    "chunk_sent",
    "operation_accepted",
    "operation_done",
    "outcome_recorded",
    "batch_swept",
    "verification_claimed",
    "verified",
    "run_finished",
]

observers: list[Callable[[Checkpoint], None]] = []  # told of every point; what one raises ends the work there


def reach(name: Checkpoint) -> None:
    """Pass the checkpoint, or halt here until a test lets go."""
    for visit in observers:
        visit(name)
    if folder := os.environ.get(HALTS):
        _halt(Path(folder), name)


def _halt(folder: Path, name: str) -> None:
    try:
        (folder / name).unlink()
    except FileNotFoundError:
        return  # nobody asked, or another came by first
    halted, new = folder / f"{name}.halted", folder / f"{name}.new"
    new.write_text(str(os.getpid()))
    new.replace(halted)
    while halted.exists():
        threading.Event().wait(POLL_SECONDS)
