"""What is logged of a run: one event for each outcome of an image, and one for its end. Never a secret.

Plain `logging`: a command that ends a run logs nothing, a process that has set logging up logs every field.
"""

import logging

from worker.store.runs import Run
from worker.store.sweeping import Item
from worker.sweep.outcomes import Outcome

log = logging.getLogger(__name__)
COUNTS = ("planned", "deleted", "gone", "skipped", "failed", "reclaimed_bytes")


def image_settled(registry: str, item: Item, outcome: Outcome) -> None:
    """An image was deleted, found gone, skipped or failed."""
    facts = {"run": item.run_id, "registry": registry, "repository": item.repository, "digest": item.digest}
    level = logging.WARNING if outcome.state == "failed" else logging.INFO
    log.log(level, "image %s", outcome.state, extra=facts | {"cause": outcome.cause, "why": outcome.message})


def run_finished(run: Run, outcome: str, message: str | None) -> None:
    """A run has swept; `run` as it was before its end."""
    facts = {"run": run.id, "registry": run.registry, "outcome": outcome, "why": message}
    log.info("run finished", extra=facts | {name: getattr(run, name) for name in COUNTS})
