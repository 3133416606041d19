"""The harness on the in-memory registry: the real runs, scan, sweep and restore, without HTTP."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.support.harness import Harness, write
from tests.support.memory_driver import RestoringMemoryDriver
from tests.support.memory_registry import MemoryRegistry
from tests.support.stores import opened
from worker.config.settings import RegistrySettings, Settings, load
from worker.registries import Driver

KIND = "memory"


class MemoryHarness(Harness):
    """Carries out runs on it; `driver` has to be registered for KIND first."""

    def __init__(self, folder: Path, registry: MemoryRegistry, *, store: str | None = None, **changes: Any) -> None:
        self.folder, self.registry = folder, registry
        written = {
            "store": store or f"sqlite:///{folder}/registry-gc.db",
            "timing": {"reconcile": "2s", "lease": "4s"},
            "registries": {"production": self.entry()},
            "policies": {"nightly": [{"name": "old", "delete": {"any_tag": ["old*"]}}]},
        }
        self.path = write(folder, written | changes)
        self._settings = _in_memory(load(self.path, environ={"TOKEN": "t"}))
        self.watch = self  # type: ignore[assignment]  # it is asked for nothing but the settings
        self.store = opened(self._settings.store)

    @staticmethod
    def entry() -> dict[str, Any]:
        """A registry's entry in the file."""
        return {
            "kind": "yandex-container-registry",  # a file can name; KIND once it is read
            "id": "crp1",
            "credentials": {"iam_token": {"env": "TOKEN"}},
            "mode": "delete",
            "policy": "nightly",
            "limits": {"max_share": "100%"},
            "rate": {"requests_per_second": 1000, "concurrency": 8},
        }

    @property
    def settings(self) -> Settings:
        return self._settings

    def current(self) -> Settings:
        return self._settings

    def last_known(self, key: str) -> RegistrySettings | None:
        return next((registry for registry in self._settings.registries.values() if registry.key == key), None)

    def change(self, **changes: Any) -> None:
        """Change the entry of the registry."""
        production = self._settings.registries["production"].model_copy(update=changes)
        self._settings = self._settings.model_copy(update={"registries": {"production": production}})

    @property
    def driver(self) -> Driver:
        return lambda _settings, _limiter, _retries, _manifests: RestoringMemoryDriver(self.registry)


MakeMemoryHarness = Callable[..., MemoryHarness]


def _in_memory(settings: Settings) -> Settings:
    registries = {name: _one_in_memory(registry) for name, registry in settings.registries.items()}
    return settings.model_copy(update={"registries": registries})


def _one_in_memory(registry: RegistrySettings) -> RegistrySettings:
    return registry.model_copy(update={"kind": KIND, "settle": timedelta()})
