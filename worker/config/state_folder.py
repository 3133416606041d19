"""Where one machine keeps what must outlive a process: the store's file, beat's file, the own Redis."""

import os
from collections.abc import Mapping
from pathlib import Path


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """systemd's folder for our state, else the user's. It may not be there yet."""
    if given := environ.get("STATE_DIRECTORY", "").split(":")[0]:
        return Path(given)
    home = environ.get("XDG_STATE_HOME") or os.path.join(environ.get("HOME") or Path.home(), ".local", "state")
    return Path(home) / "registry-gc"


def private_folder(name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """A folder of the state folder that only this user can enter. Raises OSError."""
    folder = state_folder(environ) / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    return folder
