"""Sources of evidence: which images are in use, by whom, as of when. One module per kind of source.

`read` reads one source; `judge` checks whether the reading can be trusted. `policies` decides the effect on a plan.
"""

from collections.abc import Callable
from importlib import import_module

from worker.config.settings import EvidenceSettings
from worker.evidence.judgement import judge
from worker.evidence.reading import EvidenceError, Reading, Use

__all__ = ["EvidenceError", "Reading", "Use", "judge", "read"]

# kind -> module. A module is imported when its source is read: httpx and the Kubernetes client load slowly.
SOURCES = {"file": "document", "http": "http", "kubernetes": "kubernetes"}


def read(settings: EvidenceSettings) -> Reading:
    """The complete reading of a source. Raises EvidenceError. Takes at most a few minutes. Whether it can be trusted is
    not checked here: call `judge`.
    """
    read_source: Callable[[EvidenceSettings], Reading] = import_module(f"{__name__}.{SOURCES[settings.kind]}").read
    return read_source(settings)
