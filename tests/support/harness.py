"""The harness: a registry, a store and a configuration, and runs that are carried out in this process, task by task.

The real `runs`, `scan` and `sweep` over a real store and real HTTP; only Celery is left out. Each task call
does what the Celery task of that name does.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import Executable, update

from tests.support.simulator.client import Simulator
from tests.support.stores import opened
from worker import reconcile
from worker.config.settings import Settings
from worker.config.watch import SettingsWatch
from worker.notify import after_run, notification
from worker.planning import scan
from worker.runs import evidence_refresh, lifecycle
from worker.runs.lifecycle import TaskCall
from worker.store import Store, plans
from worker.store.plans import PlannedItem
from worker.store.runs import Run
from worker.store.tables import batch
from worker.sweep import batches, recheck, verify

LEFTOVERS = [
    {"name": "releases", "keep": {"tags": ["v*"]}},
    {"name": "pull requests", "delete": {"tags": ["pr-*"], "older_than": "14d"}},
    {"name": "leftovers", "delete": {"untagged": True, "older_than": "7d"}},
]


Served = Simulator | Mapping[str, Any]
"""The simulator, or the keys of another registry's entry: which it is, and how to sign in."""


def reached(served: Served, folder: Path) -> Mapping[str, Any]:
    """Those keys."""
    if isinstance(served, Mapping):
        return served
    token = folder / "token"
    token.write_text(served.token)
    return {
        "kind": "yandex-container-registry",
        "id": served.registry_id,
        "credentials": {"iam_token": {"file": str(token)}},
        "endpoints": served.endpoints(),
    }


def document(served: Served, folder: Path, **registry: Any) -> dict[str, Any]:
    """A configuration of one registry, `production`, that deletes; its keys can be overridden."""
    policy = registry.pop("rules", LEFTOVERS)
    timing = registry.pop("timing", {"reconcile": "2s", "lease": "4s"})
    redis = registry.pop("redis", None)
    retention = registry.pop("retention", {})
    notify_ = registry.pop("notify", [])
    store = registry.pop("store", None) or f"sqlite:///{folder}/registry-gc.db"
    production = {
        **reached(served, folder),
        "mode": "delete",
        "policy": "nightly",
        "limits": {"max_share": "100%"},
        "rate": {"requests_per_second": 500, "concurrency": 8},
    }
    written = {
        "store": store,
        "timing": timing,
        "retention": retention,
        "notify": notify_,
        "registries": {"production": {**production, **registry}},
        "policies": {"nightly": policy},
    }
    return written | ({"redis": redis} if redis else {})


def write(folder: Path, written: Mapping[str, Any]) -> Path:
    path = folder / "registry-gc.yaml"
    path.write_text(yaml.safe_dump(dict(written), sort_keys=False))
    return path


class Harness:
    """Carries out task calls, and those that they publish, until none waits."""

    def __init__(self, served: Served, folder: Path, *, store: str | None = None, **registry: Any) -> None:
        self.simulator: Any = served  # the simulator's control plane exists only for the simulator
        self.folder = folder
        self._store_url = store
        self.path = write(folder, document(served, folder, store=store, **registry))
        self.watch = SettingsWatch(self.path, environ={}, still=0.02)
        self.store: Store = opened(self.settings.store)

    @property
    def settings(self) -> Settings:
        return self.watch.current()

    def rewrite(self, **registry: Any) -> None:
        """Change the configuration file while processes use it."""
        self.path = write(self.folder, document(self.simulator, self.folder, store=self._store_url, **registry))

    def open(self, **options: Any) -> str:
        opened = lifecycle.open_run(
            self.store, self.settings, "production", trigger="command", now=datetime.now(UTC), **options
        )
        return opened.run_id

    def do(self, task_call: TaskCall) -> tuple[TaskCall, ...]:
        match task_call.task, task_call.args:
            case "gc.scan", (str(run_id),):
                return scan.carry_out_scan(self.store, self.settings, run_id)
            case "gc.recheck", (str(run_id), str(repository)):
                return recheck.recheck_repository(self.store, self.watch, run_id, repository)
            case "gc.delete_batch", (str(run_id), int(number)):
                return batches.delete_batch(self.store, self.watch, run_id, number)
            case "gc.refresh_evidence", (str(run_id),):
                return evidence_refresh.refresh_evidence(self.store, self.watch, run_id)
            case "gc.verify", (str(run_id),):
                return verify.verify(self.store, self.watch, run_id)
            case "gc.notify" | "gc.after_run", (str(run_id),):
                carry_out = notification.send_messages if task_call.task == "gc.notify" else after_run.start
                carry_out(self.store, self.settings, run_id, datetime.now(UTC))
                return ()
        raise AssertionError(f"unknown task call: {task_call}")

    def carry_out(self, task_calls: Iterable[TaskCall], *, until: str | None = None) -> list[TaskCall]:
        """Carry out task calls and those they publish, up to the first of the task `until`; the remaining calls."""
        waiting = list(task_calls)
        for _ in range(10_000):
            if not waiting or waiting[0].task == until:
                return waiting
            waiting += self.do(waiting.pop(0))
        raise AssertionError(f"task calls without end: {waiting[:5]}")

    def plan_and_recheck(self, **options: Any) -> tuple[str, list[TaskCall]]:
        """A run that is planned and rechecked; the task calls of its batches, not yet carried out."""
        run_id, task_calls = self.plan(**options)
        return run_id, self.carry_out(task_calls, until="gc.delete_batch")

    def go_on(self, run_id: str, *, times: int = 6) -> None:
        """Publish and carry out the remaining task calls of a run, a few times, as some minutes of reconcile would."""
        for _ in range(times):
            self.write(update(batch).values(published_at=None))
            self.carry_out(lifecycle.next_task_calls(self.store, run_id, datetime.now(UTC)))

    def write(self, statement: Executable) -> None:
        """Change the store behind the program's back."""
        with self.store.write() as connection:
            connection.execute(statement)

    def reconcile(self, after: timedelta = timedelta()) -> tuple[TaskCall, ...]:
        return reconcile.reconcile(self.store, self.settings, datetime.now(UTC) + after)

    def plan(self, **options: Any) -> tuple[str, list[TaskCall]]:
        """Open a run and plan it; the task calls of its sweep, not yet carried out."""
        run_id = self.open(**options)
        return run_id, list(self.do(TaskCall("gc.scan", (run_id,))))

    def sweep(self, **options: Any) -> Run:
        """A whole run, from opening to finish."""
        run_id, task_calls = self.plan(**options)
        self.carry_out(task_calls)
        return self.run(run_id)

    def run(self, run_id: str) -> Run:
        return lifecycle.get(self.store, run_id)

    def items(self, run_id: str) -> list[PlannedItem]:
        with self.store.read() as connection:
            return list(plans.items_of(connection, run_id))

    def outcomes(self, run_id: str) -> dict[str, tuple[str, str | None]]:
        """By digest: state and cause."""
        return {item.decision.digest: (item.state, item.outcome_cause) for item in self.items(run_id)}


MakeHarness = Callable[..., Harness]
"""Its keywords are those of the configuration."""
