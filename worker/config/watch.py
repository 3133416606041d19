"""The current configuration, reread whenever the file changes, so that a change of `mode` takes effect at once."""

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from policies.mistakes import Mistake
from worker.config.settings import ConfigError, RegistrySettings, Settings, find, load
from worker.logs import Log

log = Log(__name__)

Stamp = tuple[int, int, int]  # time of the last write, size, inode
ABSENT: Stamp = (0, -1, 0)  # no file
NEVER: Stamp = (0, -2, 0)  # matches no file

STILL = 1.0  # seconds without a change before a changed file is read: it may be incomplete
LONGEST = 10.0  # seconds to wait for a stable file
POLL = 0.05  # seconds


class SettingsWatch:
    """Provides the current settings. Safe to use from several threads.

    The first read is immediate. A changed file is read after its size and time have been stable for a second, and
    callers wait: no intent is recorded by an incomplete file. An invalid or missing file raises ConfigError at every
    call until it is corrected: the rest of a run is then skipped, never deleted by old settings.
    """

    def __init__(
        self, path: Path | None = None, *, environ: Mapping[str, str] = os.environ, still: float = STILL
    ) -> None:
        self._path = find(path, environ).absolute()
        self._environ = environ
        self._still = still
        self._lock = threading.Lock()
        self._seen: Stamp | None = None
        self._settings: Settings | ConfigError | None = None
        self._known: dict[str, RegistrySettings] = {}  # by key, from the last valid file

    @property
    def path(self) -> Path:
        return self._path

    def current(self) -> Settings:
        """Raises ConfigError."""
        with self._lock:
            if self._settings is None:
                self._seen, self._settings = self._stamp(), self._load()
            elif self._stamp() != self._seen:
                self._read_when_still()
                if isinstance(self._settings, ConfigError):
                    log.error("configuration_refused", file=str(self._path), reason=str(self._settings))
                else:
                    log.info("configuration_reloaded", file=str(self._path))
            if isinstance(self._settings, ConfigError):
                raise self._settings
            self._known |= {registry.key: registry for registry in self._settings.registries.values()}
            return self._settings

    def last_known(self, key: str) -> RegistrySettings | None:
        """A registry by its key, from the last valid file that contained it and that this process read. None: no such
        file contained it. It may be out of date: use it to resolve begun deletions, never to begin more.
        """
        with self._lock:
            return self._known.get(key)

    def _read_when_still(self) -> None:
        """Read the file after its stamp has been stable for `still` seconds and is unchanged after the read."""
        stamp, since = self._stamp(), time.monotonic()
        ends = since + LONGEST
        while (now := time.monotonic()) <= ends:
            settings = None
            if now - since < self._still:
                time.sleep(min(POLL, self._still))
            else:
                settings = self._load()
            if (later := self._stamp()) != stamp:
                stamp, since = later, time.monotonic()
            elif settings is not None:
                self._seen, self._settings = stamp, settings
                return
        changing = Mistake("", f"the file has kept changing for {LONGEST:.0f} s", "write a new file and rename it")
        self._seen, self._settings = NEVER, ConfigError((changing,), self._path)  # reread at the next call

    def _stamp(self) -> Stamp:
        try:
            seen = self._path.stat()
        except OSError:
            return ABSENT
        return seen.st_mtime_ns, seen.st_size, seen.st_ino

    def _load(self) -> Settings | ConfigError:
        try:
            return load(self._path, environ=self._environ)
        except ConfigError as error:
            return error
