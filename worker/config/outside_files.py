"""Files that the configuration names and that others wrote: authorities' certificates, docker's own configuration."""

import json
import ssl
from pathlib import Path
from typing import Any

from worker.config.files import is_named_pipe
from worker.config.secret import SecretError

MOST = 1024 * 1024  # bytes of docker's file


def add_certificates(context: ssl.SSLContext, file: Path) -> None:
    """Let `context` trust the certificates of a file, too. Raises SecretError, which names the file."""
    where = f"file {file}"
    if is_named_pipe(file):
        raise SecretError(where, "cannot be read: it is a named pipe")
    try:
        context.load_verify_locations(file)
    except ssl.SSLError:
        raise SecretError(where, "holds no certificate in PEM format, or a broken one") from None
    except OSError as error:
        raise SecretError(where, f"cannot be read: {error.strerror}") from None


def read_docker_config(path: Path) -> dict[str, Any]:
    """Docker's file as a mapping. Raises SecretError, which shows nothing of it."""
    where = f"file {path}"
    if is_named_pipe(path):
        raise SecretError(where, "cannot be read: it is a named pipe")
    try:
        with path.open("rb") as file:
            whole = json.loads(file.read(MOST))
    except OSError as error:
        raise SecretError(where, f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        whole = None
    if not isinstance(whole, dict):
        raise SecretError(where, "is no configuration of docker: it is not a JSON object")
    return whole
