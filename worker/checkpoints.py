"""Named points of a run's life at which a test may halt a process, to kill it exactly there.

Without the two environment variables a checkpoint does nothing. With them the first process that comes by makes the
file and waits there for its end; every later one passes.
"""

import os
import threading
from pathlib import Path
from typing import Literal

Checkpoint = Literal[
    "scan_claimed",
    "inventory_taken",
    "plan_stored",
    "run_advanced",
    "batch_claimed",
    "repository_listed_again",
    "image_read_again",
    "intent_recorded",
    "delete_sent",
    "operation_accepted",
    "operation_done",
    "outcome_recorded",
    "batch_swept",
]


def reach(name: Checkpoint) -> None:
    """Pass the checkpoint, or halt here for ever if a test asked for it."""
    if os.environ.get("REGISTRY_GC_HALT_AT") == name and _first(os.environ["REGISTRY_GC_HALT_FILE"]):
        threading.Event().wait()


def _first(file: str) -> bool:
    try:
        Path(file).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
