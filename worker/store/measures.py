"""Reads the facts for metrics: sums over all runs, the newest run of each kind, tallies, pauses.

Run rows have their own sums and are never deleted, so a scrape reads no items, and no counter ever falls.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select

from worker.store.holds import ALL
from worker.store.tables import ACTIVE, evidence, heartbeat, pause, registry, run, tally

IMAGE_OUTCOMES = ("deleted", "gone", "skipped", "failed")
SHOWN = (
    *("registry", "opened_at", "started_at", "finished_at", "exceeded", "unreadable", "unreadable_images"),
    *("rule_selected", "images", "planned", *IMAGE_OUTCOMES, "reclaimable_bytes", "reclaimed_bytes", "registry_bytes"),
    *("budget_missed_bytes", "emptied_repositories"),
)


@dataclass(slots=True)
class RegistryMeasures:
    """The facts of one registry; zero or None where the store has seen nothing yet."""

    runs: dict[tuple[str, str, str], int] = field(default_factory=dict)  # (outcome, trigger, mode) -> finished runs
    images: dict[str, int] = field(default_factory=dict)  # outcome -> images of all runs, finished or not
    reclaimed_bytes: int = 0
    foreign_deletions: int = 0  # images that vanished without a deletion by us
    differences: int = 0  # found by verifications of finished runs
    tallies: dict[str, dict[str, float]] = field(default_factory=dict)  # name -> label -> value
    backlog: int = 0  # images that a run may still delete
    active: bool = False
    last_success: datetime | None = None  # of a run in the registry's own mode
    enabled_since: datetime | None = None
    cron_line: str | None = None  # its cron line and zone, as beat knows it
    cron_line_since: datetime | None = None  # nothing is due before
    auth_ok: bool = True
    paused: bool = False
    evidence: dict[str, datetime] = field(default_factory=dict)  # source -> as of its last trusted reading
    foreign_references: dict[str, int] = field(default_factory=dict)  # source -> number in its last scan's reading
    finished: RowMapping | None = None  # the newest finished run, missed ones aside
    plan: RowMapping | None = None  # the newest run with a plan
    blocked_by: frozenset[str] = frozenset()  # limits that the newest blocked run exceeded


@dataclass(frozen=True, slots=True)
class Measures:
    registries: Mapping[str, RegistryMeasures]  # by configured name, also those that left the configuration
    heartbeats: Mapping[str, datetime]
    all_paused: bool = False

    def of(self, name: str) -> RegistryMeasures:
        """The facts of a configured registry, also if the store has seen nothing of it yet. It is `paused` also while
        all registries are paused.
        """
        measures = self.registries.get(name) or RegistryMeasures()
        return replace(measures, paused=measures.paused or self.all_paused)


def measure(connection: Connection) -> Measures:
    """Read all facts, in one transaction so that they are consistent."""
    measures: defaultdict[str, RegistryMeasures] = defaultdict(RegistryMeasures)
    kinds = (run.c.registry, run.c.state, run.c.outcome, run.c.trigger, run.c.mode, run.c.registry_mode)
    counts = (run.c.planned, *(run.c[name] for name in (*IMAGE_OUTCOMES, "reclaimed_bytes", "foreign_deletions")))
    totals = (func.count().label("runs"), func.max(run.c.finished_at).label("finished_at"))
    sums = select(*kinds, *totals, *(func.sum(count).label(count.name) for count in counts)).group_by(*kinds)
    for row in connection.execute(sums).mappings():
        _add(measures[row["registry"]], row)
    for row in connection.execute(select(tally)).mappings():
        measures[row["registry"]].tallies.setdefault(row["name"], {})[row["label"]] = row["value"]
    for known in connection.execute(select(registry)):
        configured = measures[known.name]
        configured.enabled_since, configured.auth_ok = known.enabled_since, known.auth_ok
        configured.cron_line, configured.cron_line_since = known.cron_line, known.cron_line_since
    columns = (evidence.c.registry, evidence.c.source, evidence.c.as_of, evidence.c.foreign_references)
    for reading in connection.execute(select(*columns)):
        measures[reading.registry].evidence[reading.source] = reading.as_of
        measures[reading.registry].foreign_references[reading.source] = reading.foreign_references
    differences = select(run.c.registry, func.sum(run.c.difference_count)).group_by(run.c.registry)
    for name, count in connection.execute(differences.where(run.c.state == "finished")):
        measures[name].differences = int(count or 0)
    for row in _newest(connection, run.c.finished_at, run.c.state == "finished", run.c.outcome != "missed"):
        measures[row["registry"]].finished = row
    for row in _newest(connection, run.c.planned_at):
        measures[row["registry"]].plan = row
    for row in _newest(connection, run.c.planned_at, run.c.state == "blocked"):
        measures[row["registry"]].blocked_by = frozenset(limit["limit"] for limit in json.loads(row["exceeded"]))
    paused = set(connection.execute(select(pause.c.registry).where(pause.c.resumed_at.is_(None))).scalars())
    for name in paused - {ALL}:
        measures[name].paused = True
    return Measures(dict(measures), heartbeats(connection), ALL in paused)


def heartbeats(connection: Connection) -> dict[str, datetime]:
    """The time of the last heartbeat of each process that sends them."""
    return {row.name: row.at for row in connection.execute(select(heartbeat.c.name, heartbeat.c.at))}


def _add(measures: RegistryMeasures, row: RowMapping) -> None:
    done = {name: int(row[name]) for name in IMAGE_OUTCOMES}
    for name, count in done.items():
        measures.images[name] = measures.images.get(name, 0) + count
    measures.reclaimed_bytes += int(row["reclaimed_bytes"])
    measures.foreign_deletions += int(row["foreign_deletions"])
    measures.active |= row["state"] in ACTIVE
    if row["state"] == "finished":
        kind = (row["outcome"], row["trigger"], row["mode"])
        measures.runs[kind] = measures.runs.get(kind, 0) + row["runs"]
        if row["outcome"] == "succeeded" and row["mode"] == row["registry_mode"]:
            measures.last_success = max(filter(None, (measures.last_success, row["finished_at"])))
    elif row["mode"] == "delete":  # a dry run's plan is not carried out
        measures.backlog += int(row["planned"]) - sum(done.values())


def _newest(connection: Connection, at: Any, *where: Any) -> Iterator[RowMapping]:
    """The newest run of each registry by the instant `at`, among the runs that have it and meet `where`."""
    place = func.row_number().over(partition_by=run.c.registry, order_by=(at.desc(), run.c.opened_at.desc(), run.c.id))
    ranked = select(*(run.c[name] for name in SHOWN), place.label("place")).where(at.is_not(None), *where).subquery()
    yield from connection.execute(select(ranked).where(ranked.c.place == 1)).mappings()
