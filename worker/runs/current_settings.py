"""The settings that bind a run right now: the configuration file as it is now, and the terms of the run's plan.

Which of the two is the stricter, `worker.runs.terms` says; when the file is read again, `worker.config.watch`.
"""

from datetime import timedelta
from typing import Protocol

from worker.config.settings import ConfigError, RegistrySettings, Settings, Timing
from worker.runs.terms import registry_of, stricter, why_not_there
from worker.store.runs import Run


class Watch(Protocol):
    """Hands out the settings as the file is now. Raises ConfigError while it is not valid."""

    def current(self) -> Settings: ...

    def last_known(self, key: str) -> RegistrySettings | None: ...


def registry_now(watch: Watch, run: Run) -> RegistrySettings | None:
    """A run's registry by the file as it is now (terms.registry_of); None: the file is invalid, or does not have it."""
    try:
        return registry_of(watch.current(), run)
    except ConfigError:
        return None


def registry_last(watch: Watch, run: Run) -> RegistrySettings | None:
    """A run's registry by the last valid file that had it: to ask how what was begun has ended, never to begin more."""
    found = watch.last_known(run.registry_key)
    return None if found is None else stricter(found, run.terms)


def permitted_now(watch: Watch, run: Run, repository: str) -> RegistrySettings | str:
    """A run's registry, if the file as it is now lets the run delete in a repository; else why it does not."""
    registry = registry_now(watch, run)
    if registry is None:
        return absence_now(watch, run)
    if registry.mode != "delete":
        return "the configuration file says dry-run"
    if not registry.asks_for(repository):
        return f"the configuration file's repositories no longer name {repository}"
    return registry


def absence_now(watch: Watch, run: Run) -> str:
    """Why the file does not have a run's registry now."""
    try:
        return why_not_there(watch.current(), run)
    except ConfigError:
        return "the configuration file is invalid"


def lease_now(watch: Watch) -> timedelta:
    try:
        return watch.current().timing.lease
    except ConfigError:
        return Timing().lease
