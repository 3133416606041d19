"""Plans a saved inventory of any size, a repository at a time, with its decisions in a spool.

The caller gets the plan after the whole file was read.
"""

import gc
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from policies.context import PlanContext
from policies.plan import Plan, make_plan
from policies.push_times import UNCHECKED_TIMES
from policies.rules import Policy
from worker.config.files import stream
from worker.planning.inventory_file import BLOCK, InventoryError, NotGroupedError, open_inventory
from worker.planning.spool import Decisions

__all__ = ["InventoryError", "OfflinePlan", "plan_inventory"]


@dataclass(frozen=True, slots=True)
class OfflinePlan:
    """The plan of a saved inventory, its decisions in a spool."""

    plan: Plan
    decisions: Decisions


@contextmanager
def plan_inventory(
    path: Path, policy: Policy, now: datetime, *, keep_per_repository: int = 0, block: int = BLOCK
) -> Iterator[OfflinePlan]:
    """Plan a saved inventory; `-` is standard input. The plan can be read until the context ends.

    `block`: bytes decoded at once. Raises InventoryError, OSError.
    """
    with tempfile.TemporaryDirectory(prefix="registry-gc-plan-") as folder, _without_garbage_collection():
        inventory = open_inventory(_regular(path, Path(folder)), block)

        def make() -> OfflinePlan:
            decisions = Decisions()
            plan = make_plan(
                inventory.read,
                policy,
                now,
                lambda decided: decisions.add(decided, deletions=False),
                unreadable=inventory.unreadable,
                keep_per_repository=keep_per_repository,
                plan_context=PlanContext(push_times=UNCHECKED_TIMES),
                number_blobs=False,
            )
            return OfflinePlan(plan, decisions)

        try:
            planned = make()
        except NotGroupedError:
            inventory.index()
            planned = make()
        yield planned


def _regular(path: Path, folder: Path) -> Path:
    """A seekable file: the contents of a pipe are saved first."""
    if str(path) != "-" and (path.is_file() or not path.exists() or path.is_dir()):
        return path
    saved = folder / "inventory.ndjson"
    with saved.open("wb") as to:
        if str(path) == "-":
            shutil.copyfileobj(sys.stdin.buffer, to)
        else:
            to.writelines(stream(path))
    return saved


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Records have no reference cycles, and the search for cycles costs a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
