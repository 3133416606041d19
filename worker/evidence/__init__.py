"""What is in use, by whom, as of when: one file a source. What it means for a plan is not decided here.

`read` asks one source; `judge` says whether its answer can be believed. Both raise EvidenceError, with one line.
"""

from collections.abc import Callable
from importlib import import_module

from worker.config.settings import EvidenceSettings
from worker.evidence.judgement import judge
from worker.evidence.reading import EvidenceError, Reading, Use

__all__ = ["EvidenceError", "Reading", "Use", "judge", "read"]

# By kind: the module whose `read` asks such a source. Loaded where one is asked: one brings httpx, one a whole client.
SOURCES = {"file": "document", "http": "http", "kubernetes": "kubernetes"}


def read(settings: EvidenceSettings) -> Reading:
    """What a source says now, whole or not at all. Raises EvidenceError. Takes at most some minutes."""
    ask: Callable[[EvidenceSettings], Reading] = import_module(f"{__name__}.{SOURCES[settings.kind]}").read
    return ask(settings)
