"""What is in use, by whom, as of when: one file a source. What it means for a plan is not decided here.

`read` asks one source; `judge` says whether its answer can be believed. Both raise EvidenceError, with one line.
"""

from worker.config.settings import EvidenceSettings
from worker.evidence.judgement import judge
from worker.evidence.reading import EvidenceError, Reading, Use

__all__ = ["EvidenceError", "Reading", "Use", "judge", "read"]


def read(settings: EvidenceSettings) -> Reading:
    """What a source says now, whole or not at all. Raises EvidenceError. Takes at most some minutes."""
    # Each source is loaded only where it is asked.
    if settings.kind == "file":
        from worker.evidence.file import read as read_file  # noqa: PLC0415 - as said above

        return read_file(settings)
    if settings.kind == "http":
        from worker.evidence.http import read as read_service  # noqa: PLC0415 - brings httpx

        return read_service(settings)
    from worker.evidence.kubernetes import read as read_clusters  # noqa: PLC0415 - brings the client of Kubernetes

    return read_clusters(settings)
