"""Settings and rows of runs for tests of the store, without a file and without a run."""

from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from policies.limits import Limits
from policies.rules import Policy, Rule
from worker.config.settings import Credentials, RegistrySettings, Settings, Timing, Web
from worker.store import Store
from worker.store.tables import run

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
POLICY = Policy(name="nightly", rules=(Rule(name="releases", kind="keep"), Rule(name="pull requests", kind="delete")))
_numbers = count()


def registry(name: str, **changes: Any) -> RegistrySettings:
    values = {
        "name": name,
        "kind": "yandex-container-registry",
        "id": f"crp{name}",
        "credentials": Credentials(metadata=True),
    }
    return RegistrySettings(**values | {"policy": POLICY, "limits": Limits()} | changes)


def settings(folder: Path, *registries: RegistrySettings, **changes: Any) -> Settings:
    values = {"path": folder / "registry-gc.yaml", "sha256": "0" * 64, "store": f"sqlite:///{folder / 'store.db'}"}
    values |= {
        "registries": {each.name: each for each in registries},
        "policies": {POLICY.name: POLICY},
    }
    return Settings(**values | {"web": Web(listen=("127.0.0.1", 0)), "timing": Timing()} | changes)


def add_run(store: Store, registry: str, **changes: Any) -> None:
    """A run finished well in the registry's own mode, unless `changes` say otherwise."""
    number = next(_numbers)
    opened = changes.pop("opened_at", NOW + timedelta(hours=number))
    values = {"id": f"run-{number}", "registry": registry, "registry_key": f"key of {registry}", "trigger": "schedule"}
    values |= {"mode": "delete", "registry_mode": "delete", "state": "finished", "outcome": "succeeded"}
    values |= {"opened_at": opened, "started_at": opened, "planned_at": opened + timedelta(minutes=1)}
    values |= {"finished_at": opened + timedelta(minutes=5), "policy": "nightly", "policy_sha256": "0" * 64}
    with store.write() as connection:
        connection.execute(run.insert().values(values | changes))
