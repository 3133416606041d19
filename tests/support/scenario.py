"""Scenarios of crashes and faults: a fault strikes in a run, and the same list of invariants must hold afterwards.

The processes of a scenario serve several cases. Each case has a registry of its own, so cases do not disturb each
other; counters go on from case to case.
"""

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy import func, select

from tests.support.cluster import Cluster
from tests.support.servers import PostgresServer, RedisServer
from tests.support.simulator.client import Simulator
from tests.support.simulator.registry import id_from
from tests.support.tcp_fault_proxy import TcpFaultProxy
from tests.support.waiting import until
from worker.runs.checkpoints import Checkpoint
from worker.store import Store, audit, open_store
from worker.store import runs as run_rows
from worker.store.runs import Run
from worker.store.tables import ACTIVE, batch, item, repository
from worker.store.tables import run as run_table
from worker.web.metrics import PREFIX, StoreCollector

DAY = timedelta(days=1)
PLANNED = 12  # images that a plan of `fill` deletes
REPOSITORIES = ("shop/api", "shop/web")
BEGINNING = 30.0  # seconds within which a requested run is opened on a busy machine
# A run recovers within a lease (2 s), a reconcile (1 s) and a batch. The batch includes the time in which Celery
# reconnects (after 2 s, then 4 s) and a worker starts, on a machine of two cores that runs two such tests.
ONE_BATCH = 25.0
SOON = 3.0 + ONE_BATCH


def fill(simulator: Simulator, registry: str) -> None:
    """Fill two repositories: images that share a base, an index with children, a signature, and images to keep."""
    for path in REPOSITORIES:
        for number in range(4):
            layers = ["base:9000", 100 + number]
            simulator.push(path, tags=[f"pr-{number}"], age=30 * DAY, layers=layers, registry=registry)
        simulator.push(path, tags=["v1.0.0"], age=90 * DAY, layers=["base:9000", 77], registry=registry)
    children = [
        simulator.push("shop/api", age=30 * DAY, layers=[4000 + number], registry=registry)["digest"]
        for number in range(2)
    ]
    index = simulator.push_index("shop/api", children, tags=["pr-9"], age=30 * DAY, registry=registry)
    arguments = {"repository": "shop/api", "digest": index["digest"], "age": (29 * DAY).total_seconds()}
    simulator.control("sign", **arguments, registry=registry)


class Scenario(Cluster):
    """A cluster that serves several cases in turn."""

    def __init__(
        self,
        simulator: Simulator,
        folder: Path,
        redis: RedisServer,
        *,
        database: tuple[PostgresServer, str] | None = None,
        ways: Mapping[str, Any] = MappingProxyType({}),
        **registry: Any,
    ) -> None:
        """`database`: the server and the name of an empty database; without it the store is on SQLite.

        `ways`: how the processes reach the servers. The test itself connects directly.
        """
        direct = database[0].create_database(database[1]) if database is not None else None
        super().__init__(simulator, folder, redis, ways=ways, store=ways.get("store", direct), **registry)
        self.settings.pop("store")  # the harness keeps it
        if "store" in ways and direct is not None:
            self.harness.store.dispose()
            self.harness.store = open_store(direct)
        self.simulator = simulator
        self.database = database
        self.links: dict[str, TcpFaultProxy] = {}  # proxies to redis, store and registry; empty without proxies
        self.registry_id = ""
        self.task_id = ""
        self.run_id = ""
        self.lost_redis = False  # in this case or an earlier one
        self._numbers = count(1)
        self._asked = 0  # requests of earlier cases
        self._counted: dict[tuple[str, ...], float] = {}  # every counter at the last scrape
        self._should: Counter[str] = Counter()  # the expected counters, from the simulator's requests

    def begin(self, **changes: Any) -> None:
        """Begin a case: another filled registry under the same name."""
        number = next(self._numbers)
        self.registry_id = id_from("drill", str(self.folder), str(number))
        self.simulator.add_registry(self.registry_id, f"case-{number}")
        fill(self.simulator, self.registry_id)
        self.harness.rewrite(**self.settings, id=self.registry_id, **changes)
        self._asked = self.simulator.state()["requests"]
        self.breakpoints.clear()
        self.restart_ended()

    def open(self) -> None:
        """Request a run by a Celery message; `opened` sets `run_id`."""
        self.task_id = self.call("gc.sweep", "production")

    def opened(self) -> str:
        """The id of the requested run, when it is opened."""

        def run_id() -> str | None:
            with self.harness.store.read() as connection:
                run = run_rows.by_task(connection, self.task_id)
            return run.id if run else None

        self.run_id = until(run_id, timeout=BEGINNING, what="the requested run") or ""
        return self.run_id

    def halted(self, point: Checkpoint) -> int:
        """The pid of the process that is halted at the checkpoint, when one is."""

        def is_reached() -> bool:
            self.restart_ended()
            return self.breakpoints.is_reached(point)

        until(is_reached, timeout=BEGINNING, what=f"a process halted at {point}")
        return self.breakpoints.pid(point)

    def come_to(self, point: Checkpoint) -> int:
        """Begin a case and open its run; the pid of the process that halts at the checkpoint."""
        self.begin()
        self.breakpoints.arm(point)
        self.open()
        pid = self.halted(point)
        self.opened()
        self.intents_first()
        self.one_active(most=0 if point == "run_finished" else 1)
        self.audit_holds()
        return pid

    def requests(self, method: str, path: str = "") -> list[dict[str, Any]]:
        """The requests that the registry has received in this case."""
        return self.simulator.requests(method, path, since=self._asked)

    def asked(self, method: str) -> list[str]:
        """The image ids of the requests of this case."""
        return [request["image"] for request in self.requests(method, "/container-registry/v1/images/")]

    def taken_over(self, run_id: str) -> int:
        """How often a batch of a run was claimed after its lease had run out."""
        with self.harness.store.read() as connection:
            sums = select(func.coalesce(func.sum(batch.c.takeovers), 0)).where(batch.c.run_id == run_id)
            return int(connection.execute(sums).scalar_one())

    # Invariants

    def intents_first(self) -> None:
        """Every DELETE so far has an intent in the store, with its key and an earlier time."""
        keys: dict[str, set[str]] = {}
        for asked in self.requests("DELETE"):
            keys.setdefault(asked["key"], set()).add(asked["at"])
        columns = select(item.c.idempotency_key, item.c.intent_at).where(item.c.idempotency_key.in_(list(keys)))
        with self.harness.store.read() as connection:
            written = dict(connection.execute(columns).all())
        assert keys.keys() == written.keys()
        for key, times in keys.items():
            assert written[key] <= min(datetime.fromisoformat(at) for at in times)

    def audit_holds(self) -> None:
        """The audit chain is intact, in the middle of a run as well."""
        with self.harness.store.read() as connection:
            assert audit.verify(connection).broken is None

    def one_active(self, most: int = 1) -> None:
        active = select(func.count()).select_from(run_table).where(run_table.c.state.in_(ACTIVE))
        with self.harness.store.read() as connection:
            assert connection.execute(active.group_by(run_table.c.registry_key)).scalars().all() in ([], [most])

    def check_invariants(self, run: Run, *, started: float | None = None, repeats: int = 1) -> None:
        """Check the whole list. `started`: time.monotonic() at the end of the fault.

        `repeats`: how often a DELETE may be repeated, with the key of the lost attempt.
        """
        if started is not None:
            assert time.monotonic() - started < SOON
        assert (run.state, run.outcome) == ("finished", "succeeded"), run.message
        self._exactly_the_plan(run, repeats)
        self.intents_first()
        self.one_active(most=0)
        self.audit_holds()
        self._nothing_held()
        self._counted_right(run)
        assert self.simulator.state(self.registry_id)["refused"] == []

    def _exactly_the_plan(self, run: Run, repeats: int) -> None:
        state = self.simulator.state(self.registry_id)
        deleted = {image["id"] for image in state["deleted"] if image["registry"] == self.registry_id}
        items = self.harness.items(run.id)
        planned = {item.decision.id for item in items}
        assert deleted == planned  # every image of the plan and no other
        remaining = self.simulator.images(registry=self.registry_id)
        assert sorted(image["tags"] for image in remaining) == [["v1.0.0"], ["v1.0.0"]]
        assert {item.state for item in items} == {"deleted"}
        assert len(items) == run.deleted == run.planned == PLANNED
        assert (run.gone, run.skipped, run.failed) == (0, 0, 0)
        assert run.reclaimed_bytes == run.reclaimable_bytes == state["lost_bytes"] > 0
        assert max(state["deletes"][image_id] for image_id in planned) <= 1 + repeats
        keys: dict[str, set[str]] = {}
        for request in self.requests("DELETE"):
            keys.setdefault(request["image"], set()).add(request["key"])
        assert {len(used) for used in keys.values()} == {1}

    def _nothing_held(self) -> None:
        """Every lease ends within one lease after its run."""

        def held() -> int:
            now = datetime.now(UTC)
            batches = select(func.count()).select_from(batch).where(batch.c.lease_until >= now)
            rechecks = select(func.count()).select_from(repository).where(repository.c.lease_until >= now)
            with self.harness.store.read() as connection:
                return int(connection.execute(batches).scalar_one() + connection.execute(rechecks).scalar_one())

        until(lambda: held() == 0, timeout=SOON, what="an end of every lease")

    def _counted_right(self, run: Run) -> None:
        """Scraped counters are the sums over all cases, and no counter falls."""
        state = self.simulator.state(self.registry_id)
        self._should["reclaimed_bytes_total"] += state["lost_bytes"]
        self._should["images_total"] += len(
            [image for image in state["deleted"] if image["registry"] == self.registry_id]
        )
        self._should["runs_total"] += 1
        counters = scraped(self.harness.store, self)
        assert {key: counters.get(key, 0.0) for key in self._counted} | counters == counters
        assert all(value >= self._counted.get(key, 0.0) for key, value in counters.items())
        for name, value in self._should.items():
            assert sum(v for key, v in counters.items() if key[0] == PREFIX + name) == value, name
        self._counted = counters


def scraped(store: Store, cluster: Cluster) -> dict[tuple[str, ...], float]:
    """Every counter of a scrape: (name, label, value…) -> value."""
    registry = CollectorRegistry()
    registry.register(StoreCollector(lambda: nullcontext(store), lambda: cluster.harness.settings))
    return {
        (sample.name, *(text for pair in sorted(sample.labels.items()) for text in pair)): sample.value
        for family in registry.collect()
        if family.type == "counter"
        for sample in family.samples
    }
