"""Evidence from a file of this machine."""

import os
import stat
from pathlib import Path

from worker.config.settings import EvidenceSettings
from worker.evidence.document import MAX_BYTES, DocumentError, read_document
from worker.evidence.reading import EvidenceError, Reading

REMEDY = "write it anew, whole, as docs/evidence.md shows"


def read(settings: EvidenceSettings) -> Reading:
    """What the file says, as of when it says so itself: its modification time means nothing. Raises EvidenceError."""
    path = settings.path or Path()  # the configuration insists on one
    try:
        return read_document(_content(path), settings.name)
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror}"
        raise EvidenceError(settings.name, what, "see that it is there and readable") from error
    except DocumentError as error:
        raise EvidenceError(settings.name, f"{path}: {error}", REMEDY) from error


def _content(path: Path) -> bytes:
    # Without waiting: opening a named pipe that nobody writes to would take for ever.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise DocumentError("is no regular file")
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise DocumentError(f"is larger than {MAX_BYTES >> 20} MiB")
    return content
