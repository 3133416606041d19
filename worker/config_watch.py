"""The configuration as it is now, read again whenever the file has changed: a mode switched off is obeyed at once."""

import os
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from worker.config import ConfigError, RegistrySettings, Settings, Timing, find, load
from worker.store.runs import Run


class SettingsWatch:
    """Hands out the current settings. Safe to use from several threads.

    A file that became invalid or vanished raises ConfigError at every call until it is mended: what is left of a run is
    then skipped, never deleted by old settings.
    """

    def __init__(self, path: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> None:
        self._path = find(path, environ).absolute()
        self._environ = environ
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._settings: Settings | ConfigError | None = None

    @property
    def path(self) -> Path:
        return self._path

    def current(self) -> Settings:
        """Raises ConfigError."""
        with self._lock:
            stamp = self._stamp()
            if self._settings is None or stamp is None or stamp != self._seen:
                self._seen, self._settings = stamp, self._load()
            if isinstance(self._settings, ConfigError):
                raise self._settings
            return self._settings

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            seen = self._path.stat()
        except OSError:
            return None
        return seen.st_mtime_ns, seen.st_size, seen.st_ino

    def _load(self) -> Settings | ConfigError:
        try:
            return load(self._path, environ=self._environ)
        except ConfigError as error:
            return error


class Watch(Protocol):
    """Hands out the settings as the file is now. Raises ConfigError while it is not valid."""

    def current(self) -> Settings: ...


def registry_now(watch: Watch, run: Run) -> RegistrySettings | None:
    """A run's registry as the file has it now; None: the file is invalid, or that registry left it.

    A name that means another registry by now is none of the run's.
    """
    try:
        found = watch.current().registries.get(run.registry)
    except ConfigError:
        return None
    return found if found is not None and found.key == run.registry_key else None


def mode_reason(registry: RegistrySettings | None) -> str:
    if registry is None:
        return "the configuration file is invalid, or no longer has this registry"
    return "the configuration file says dry-run"


def lease_now(watch: Watch) -> timedelta:
    try:
        return watch.current().timing.lease
    except ConfigError:
        return Timing().lease
