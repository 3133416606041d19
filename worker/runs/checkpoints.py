"""Named points of a run's life at which a test may halt a process, to kill it or to break what it needs.

Without the environment variable a checkpoint does nothing. The variable names a folder: a file with a checkpoint's name
requests one halt there. The first process to reach it removes the file and writes its process id to `POINT.halted`; it
goes on when that file is gone. A test within the process observes every checkpoint through `observers`.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

HALTS = "REGISTRY_GC_HALTS"
POLL_SECONDS = 0.01

# In the order of a run.
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

observers: list[Callable[[Checkpoint], None]] = []  # called at every checkpoint; an exception ends the work there


def reach(name: Checkpoint) -> None:
    """Pass the checkpoint, or halt until a test removes the file."""
    for observe in observers:
        observe(name)
    if not (folder := os.environ.get(HALTS)):
        return
    try:
        Path(folder, name).unlink()
    except FileNotFoundError:
        return  # no halt is requested, or another process took it
    halted, new = Path(folder, f"{name}.halted"), Path(folder, f"{name}.new")
    new.write_text(str(os.getpid()))
    new.replace(halted)
    while halted.exists():
        threading.Event().wait(POLL_SECONDS)
