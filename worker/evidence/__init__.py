"""What is in use, by whom, as of when: one file a source. What it means for a plan is not decided here.

`read` asks one source; `judge` says whether its answer can be believed. Both raise EvidenceError, with one line.
"""

from worker.config import EvidenceSettings
from worker.evidence.judgement import judge
from worker.evidence.reading import EvidenceError, Reading, Use

__all__ = ["EvidenceError", "Reading", "Use", "judge", "read"]


def read(settings: EvidenceSettings) -> Reading:
    """What a source says now, whole or not at all. Raises EvidenceError. Takes at most some minutes."""
    if settings.kind == "file":
        from worker.evidence import file  # noqa: PLC0415 - each source is loaded only where it is asked

        return file.read(settings)
    if settings.kind == "http":
        from worker.evidence import http  # noqa: PLC0415 - brings httpx

        return http.read(settings)
    from worker.evidence import kubernetes  # noqa: PLC0415 - brings the Kubernetes client, where it is installed

    return kubernetes.read(settings)
