"""The state of one history: a registry, a store, two clocks and the waiting task calls. `actions` has what changes it.

Processes of ours are a stack: a process that is halted at a point waits while another one works.
"""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import time_machine

from policies.document import parse_policy
from policies.limits import Limits
from tests.support.memory_registry import MemoryRegistry
from tests.system.histories.contents import plain
from tests.system.histories.driver import HistoryDriver
from tests.system.histories.history_store import HistoryStore
from tests.system.histories.invariants import Invariants
from tests.system.histories.model import POLICIES, ModelPolicy, bytes_of
from tests.system.histories.plan_context import InUse
from tests.system.histories.process import Killed, Process
from worker import reconcile
from worker.config.settings import (
    ConfigError,
    Credentials,
    Endpoints,
    EvidenceSettings,
    Rate,
    RegistrySettings,
    Settings,
    Timing,
)
from worker.planning import scan
from worker.registries import DRIVERS
from worker.registries.errors import LimiterUnavailableError, RegistryError
from worker.runs import evidence_refresh, lifecycle
from worker.runs.lifecycle import (
    AlreadyRunningError,
    NotBlockedError,
    NothingToStopError,
    TaskCall,
    UnknownRegistryError,
    UnknownRunError,
)
from worker.store import StoreError
from worker.sweep import batches, recheck, verify

START = datetime(2026, 11, 24, 2, 50, tzinfo=UTC)
DAY = timedelta(days=1)
LEASE = timedelta(seconds=120)
MOST_TASK_CALLS = 200  # in one `drain`

# Errors that end a task with one line of log, as in worker/tasks.py, or a command with a message.
EXPECTED = (
    StoreError,
    RegistryError,
    LimiterUnavailableError,
    ConfigError,
    UnknownRegistryError,
    UnknownRunError,
    AlreadyRunningError,
    NotBlockedError,
    NothingToStopError,
)


@dataclass(slots=True)
class PlannedAction:
    """An action that runs when a process passes a point, after a number of processes have passed it."""

    point: str  # empty: any point
    passes: int  # still to come before the action
    action: Callable[[], None]
    is_task: bool  # the action is work of another process of ours
    kills: bool = False  # the process that passes is killed


class History:
    """The registry, the store, the clocks and the settings of one history, and the processes of ours in it."""

    def __init__(self, history_store: HistoryStore, stats: Counter[str], *, threads: int = 1) -> None:
        self.engine = history_store.engine
        self.stats = stats
        self.threads = threads
        self.lock = threading.RLock()
        self.moment = 0
        self.true_time = START
        self.ours, self.theirs = timedelta(), timedelta()  # the error of our clock and of the registry's
        self.registry = MemoryRegistry(now=lambda: self.true_time + self.theirs)
        self.invariants = Invariants(self, history_store.raw)
        self.task_calls: list[TaskCall] = []
        self.stack: list[Process] = []
        self.planned_actions: list[PlannedAction] = []
        self.store_troubles: dict[str, list[int]] = {}  # operation -> how many succeed first, how many fail then
        self.policy: ModelPolicy = POLICIES[0]
        self.mode, self.plan_max_age, self.deadline = "delete", timedelta(hours=24), None
        self.deadline: timedelta | None
        self.limits = Limits(max_share=1.0)
        self.schedule: str | None = None
        self.settle_for = timedelta()
        self.valid, self.configured = True, True
        self.in_use: InUse | None = None  # None: no source of evidence is configured
        self.strict_evidence = False
        self.context_changed_at = START  # true time of the last change of holds, pauses or evidence
        self.stepped_back = timedelta()  # how far our clock was set back in total
        self._evidence_file = history_store.folder / "in-use.json"
        self._clock = time_machine.travel(START, tick=False)
        self._traveller = self._clock.start()
        DRIVERS["memory"] = lambda _settings, _limiter, _retries, manifests: HistoryDriver(self.stack[-1], manifests)

    def close(self) -> None:
        self._clock.stop()
        del DRIVERS["memory"]

    def now(self) -> datetime:
        return self.true_time + self.ours

    def tick(self) -> int:
        self.moment += 1
        return self.moment

    def pass_time(self, much: timedelta) -> None:
        with self.lock:
            self.true_time += much
            self._traveller.move_to(self.now(), tick=False)

    def step_clock(self, much: timedelta) -> None:
        """Set our clock forward or back; no time passes."""
        with self.lock:
            self.ours += much
            self.stepped_back += max(timedelta(), -much)
            self._traveller.move_to(self.now(), tick=False)

    def add_evidence_source(self, strict: bool) -> None:
        """Configure a source of evidence. `strict`: evidence that names no image is refused."""
        self.in_use, self.strict_evidence = InUse(self._evidence_file), strict
        if strict:  # an empty list would be refused
            self.in_use.since[plain(9).digest] = self.true_time
        self.write_evidence()

    def write_evidence(self) -> None:
        if self.in_use is not None:
            self.context_changed_at = self.in_use.changed_at = self.true_time
            self.in_use.write(self.now(), f"{urlsplit(Endpoints().docker).netloc}/crp1")

    def settings(self) -> Settings | None:
        """The configuration as the file now has it; None: the file is invalid."""
        if not self.valid:
            return None
        policy, mistakes = parse_policy(self.policy.name, self.policy.document, "policies")
        assert policy is not None, mistakes
        registry = RegistrySettings(
            name="production",
            kind="memory",
            id="crp1",
            credentials=Credentials(anonymous=True),
            schedule=self.schedule,
            mode=self.mode,
            settle=self.settle_for,
            in_use=self._sources(),
            policy=policy,
            keep_per_repository=self.policy.keep_per_repository,
            limits=self.limits,
            rate=Rate(requests_per_second=1000.0, concurrency=self.threads),
            plan_max_age=self.plan_max_age,
            deadline=self.deadline,
        )
        return Settings(
            path=Path("/registry-gc.yaml"),
            sha256="",
            store="",
            timing=Timing(lease=LEASE),
            registries={"production": registry} if self.configured else {},
        )

    def _sources(self) -> tuple[EvidenceSettings, ...]:
        if self.in_use is None:
            return ()
        lenient = not self.strict_evidence
        path = self.in_use.file
        return (
            EvidenceSettings(name="list", kind="file", max_age=DAY, allow_empty=lenient, allow_foreign=True, path=path),
        )

    def store_fails(self, where: str) -> bool:
        with self.lock:
            trouble = self.store_troubles.get(where)
            if trouble is None:
                return False
            trouble[0] -= 1
            if trouble[0] >= 0:
                return False
            trouble[1] -= 1
            if trouble[1] <= 0:
                del self.store_troubles[where]
            self.stats[f"fault: store {where}"] += 1
            return True

    def reach_point(self, process: Process, name: str, *, inside: bool) -> None:
        """A process passes a point: run the actions that are planned for it."""
        self.tick()
        due: list[PlannedAction] = []
        with self.lock:
            for planned in [planned for planned in self.planned_actions if planned.point in ("", name)]:
                if planned.passes > 0:
                    planned.passes -= 1
                elif planned.kills or not inside:
                    self.planned_actions.remove(planned)
                    due.append(planned)
        for planned in due:
            self.stats[f"halted at: {name}"] += 1
            if planned.kills:
                self.stats[f"killed at: {name}"] += 1
                process.dead = True
            elif not planned.is_task or (self.threads == 1 and len(self.stack) < 4):
                planned.action()

    def at_checkpoint(self, name: str) -> None:
        self.stats[f"checkpoint: {name}"] += 1
        if self.stack:
            self.stack[-1].point(f"checkpoint {name}")

    def work(self, body: Callable[[Process], tuple[TaskCall, ...]], task_call: TaskCall | None = None) -> None:
        """Start a process of ours, let it carry out `body`, and end it."""
        self.pass_time(timedelta(milliseconds=1))
        process = Process(self, task_call)
        process.began = self.true_time
        process.changes_before, process.effects_before = self.registry.changes, len(self.registry.effects)
        process.blobs_before = bytes_of(instance for _, instance in self.registry.instances())
        self.stack.append(process)
        try:
            self.task_calls += body(process)
        except EXPECTED as error:
            if isinstance(error, StoreError) and "this history" not in str(error):
                raise  # no action of the history caused it
            self.stats[f"ended early: {type(error).__name__}"] += 1
        except Killed:
            self.stats["processes killed"] += 1
        finally:
            self.stack.pop()

    def carry_out(self, task_call: TaskCall) -> None:
        self.stats[f"task call: {task_call.task}"] += 1
        self.work(lambda process: self._task(process, task_call), task_call)

    def _task(self, process: Process, task_call: TaskCall) -> tuple[TaskCall, ...]:
        store, watch = process.store(), process.watch()
        match task_call.task, task_call.args:
            case "gc.scan", (str(run_id),):
                return scan.carry_out_scan(store, watch.current(), run_id)
            case "gc.recheck", (str(run_id), str(repository)):
                return recheck.recheck_repository(store, watch, run_id, repository)
            case "gc.delete_batch", (str(run_id), int(number)):
                return batches.delete_batch(store, watch, run_id, number)
            case "gc.refresh_evidence", (str(run_id),):
                return evidence_refresh.refresh_evidence(store, watch, run_id)
            case "gc.verify", (str(run_id),):
                return verify.verify(store, watch, run_id)
        raise AssertionError(f"unknown task call: {task_call}")

    def reconcile(self) -> None:
        def body(process: Process) -> tuple[TaskCall, ...]:
            try:
                settings = process.watch().current()
            except ConfigError:
                settings = None
            return reconcile.reconcile(process.store(), settings, self.now())

        self.work(body)

    def open_run(self, *, dry_run: bool = False, task_id: str | None = None) -> None:
        def body(process: Process) -> tuple[TaskCall, ...]:
            return lifecycle.open_run(
                process.store(),
                process.watch().current(),
                "production",
                trigger="task" if task_id else "command",
                now=self.now(),
                task_id=task_id,
                dry_run=dry_run,
            ).task_calls

        self.work(body)

    def drain(self) -> None:
        """Carry out the waiting task calls in order, and those that they publish, until none waits."""
        for _ in range(MOST_TASK_CALLS):
            if not self.task_calls:
                return
            self.carry_out(self.task_calls.pop(0))
        raise AssertionError(f"task calls without end: {self.task_calls[:5]}")

    def clear_faults(self) -> None:
        """Clear all faults; operations that are under way keep their fate."""
        self.registry.faults.clear()
        self.registry.fates.clear()
        self.store_troubles.clear()
        self.valid = self.configured = True

    def settle(self) -> None:
        """Clear all faults, and pass time until every run is finished; then check the final state."""
        self.clear_faults()
        self.planned_actions.clear()
        self.schedule = None
        if self.in_use is not None:
            self.in_use.trusted, self.in_use.broken_since = True, None
            self.write_evidence()
        for step in range(80):
            if not self.invariants.rows("select 1 from run where state != 'finished'"):
                break
            self.reconcile()
            self.drain()
            self.invariants.check()
            self.pass_time(timedelta(hours=25) if step == 40 else LEASE + timedelta(seconds=1))
            self.registry.settle()
        self.invariants.check()
        self.invariants.check_end()
        self._count_outcomes()

    def _count_outcomes(self) -> None:
        for run in self.invariants.rows("select outcome, stop, mode from run"):
            self.stats[f"run: {run['outcome']}"] += 1
            if run["stop"]:
                self.stats[f"stop: {run['stop']}"] += 1
        for item in self.invariants.rows("select state, outcome_cause from item"):
            cause = f" {item['outcome_cause']}" if item["outcome_cause"] else ""
            self.stats[f"item: {item['state']}{cause}"] += 1
