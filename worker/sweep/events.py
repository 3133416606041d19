"""What is logged of an image that a run has settled. Never a secret.

Plain `logging`: a command logs nothing, a process that has set logging up logs every field.
"""

import logging
from collections.abc import Iterable

from worker.logs import Log
from worker.store.sweeping import Item, Outcome

log = Log(__name__)


def images_settled(registry: str, settled: Iterable[tuple[Item, Outcome]]) -> None:
    """Images were deleted, found gone, skipped or failed."""
    for item, outcome in settled:
        facts = {"run": item.run_id, "registry": registry, "repository": item.repository, "digest": item.digest}
        level = logging.WARNING if outcome.state == "failed" else logging.INFO
        log.log(level, f"image {outcome.state}", **facts, cause=outcome.cause, why=outcome.message)
