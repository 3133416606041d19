"""Every metric, defined once, read from the store at each scrape: right across restarts, crashes, workers and machines.

Nothing is counted here. If the store cannot be read the scrape fails: old numbers are never served. docs/metrics.md
explains each metric to those who read them.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from worker import __version__
from worker.config.settings import RegistrySettings, Settings
from worker.registries.errors import FailureCause
from worker.runs.lifecycle import line_of
from worker.runs.schedule import due
from worker.store import Store
from worker.store.measures import IMAGE_OUTCOMES, Measures, RegistryMeasures, measure

PREFIX = "registry_gc_"

# The closed sets of labels: each series of a configured registry is there, at 0, from the first scrape.
RUN_OUTCOMES = ("succeeded", "partial", "blocked", "failed", "aborted", "missed")
TRIGGERS = ("schedule", "command", "task", "web")
MODES = ("dry-run", "delete")
SKIP_CAUSES = (
    "changed", "still_needed", "held", "in_use", "used_by_image_lists", "locked", "paused", "mode",
    "repository_changed",
)  # fmt: skip
FAILURE_CAUSES: tuple[str, ...] = get_args(FailureCause)
LIMITS = ("max_images", "max_share", "max_bytes", "vanished", "unusual")

Series = Iterable[tuple[tuple[str, ...], float]]  # values of the labels after `registry`, value


@dataclass(frozen=True, slots=True)
class Counter:
    """Also read for registries that left the configuration: a counter never falls."""

    name: str  # without the prefix and `_total`
    help: str
    labels: tuple[str, ...]
    read: Callable[[RegistryMeasures], Series]


@dataclass(frozen=True, slots=True)
class Gauge:
    """Read for configured registries only."""

    name: str  # without the prefix
    help: str
    labels: tuple[str, ...]
    read: Callable[[RegistryMeasures, RegistrySettings, datetime], Series]


def _one(value: float) -> Series:
    return (((), value),)


def _at(instant: datetime | None) -> Series:
    return _one(0 if instant is None else instant.timestamp())


def _tallied(measures: RegistryMeasures, name: str, closed: Iterable[str]) -> Series:
    """A tally with one label; a label outside the closed set is shown rather than lost."""
    found = measures.tallies.get(name, {})
    return (((label,), found.get(label, 0)) for label in dict.fromkeys((*closed, *sorted(found))))


def _requests(measures: RegistryMeasures) -> Series:
    found = {"GET 200": 0.0, "DELETE 200": 0.0} | measures.tallies.get("api_requests", {})
    for label, value in sorted(found.items()):
        method, _, code = label.partition(" ")
        yield (method, code), value


def _runs(measures: RegistryMeasures) -> Series:
    return ((kind, measures.runs.get(kind, 0)) for kind in product(RUN_OUTCOMES, TRIGGERS, MODES))


COUNTERS = (
    Counter("runs", "Finished runs.", ("outcome", "trigger", "mode"), _runs),
    Counter(
        "images",
        "Images that runs have dealt with, by what became of them.",
        ("outcome",),
        lambda m: (((outcome,), m.images.get(outcome, 0)) for outcome in IMAGE_OUTCOMES),
    ),
    Counter(
        "reclaimed_bytes",
        "Bytes of blobs that nothing references any more, counted once, after the deletion was confirmed.",
        (),
        lambda m: _one(m.reclaimed_bytes),
    ),
    Counter(
        "skipped_images",
        "Planned images left alone.",
        ("cause",),
        lambda m: _tallied(m, "skipped", SKIP_CAUSES),
    ),
    Counter(
        "failed_images", "Planned images not deleted.", ("cause",), lambda m: _tallied(m, "failed", FAILURE_CAUSES)
    ),
    Counter(
        "foreign_deletions",
        "Images that vanished between two scans and were not deleted by us.",
        (),
        lambda m: _one(m.foreign_deletions),
    ),
    Counter(
        "verification_differences",
        "What the verification after a sweep found wrong.",
        (),
        lambda m: _one(m.differences),
    ),
    Counter(
        "raced_pushes",
        "Tags that were pushed again while the image they named was deleted, and that name the new one.",
        (),
        lambda m: _one(sum(m.tallies.get("raced_pushes", {}).values())),
    ),
    Counter("api_requests", "Requests sent for the registry, repeats included.", ("method", "code"), _requests),
    Counter(
        "rate_wait_seconds",
        "Time spent waiting for the shared rate limit, summed over threads.",
        (),
        lambda m: _one(sum(m.tallies.get("rate_wait_seconds", {}).values())),
    ),
)


def _start(m: RegistryMeasures) -> datetime | None:
    """A run that failed before its scan never started: the instant it was opened stands for it."""
    if m.finished is None:
        return None
    start: datetime = m.finished["started_at"] or m.finished["opened_at"]
    return start


def _duration(m: RegistryMeasures) -> float:
    if m.finished is None or m.finished["started_at"] is None:
        return 0
    seconds: float = (m.finished["finished_at"] - m.finished["started_at"]).total_seconds()
    return seconds


def _of_last(name: str) -> Callable[[RegistryMeasures, RegistrySettings, datetime], Series]:
    return lambda m, _s, _now: _one(0 if m.finished is None else m.finished[name])


def _of_plan(name: str) -> Callable[[RegistryMeasures, RegistrySettings, datetime], Series]:
    return lambda m, _s, _now: _one(0 if m.plan is None else m.plan[name])


def _emptied(m: RegistryMeasures, _settings: RegistrySettings, _now: datetime) -> Series:
    return _one(len(json.loads(m.finished["emptied_repositories"])) if m.finished is not None else 0)


def _unreadable(m: RegistryMeasures, _settings: RegistrySettings, _now: datetime) -> Series:
    return _one(0 if m.plan is None else len(json.loads(m.plan["unreadable"])))


def _unreadable_images(m: RegistryMeasures, _settings: RegistrySettings, _now: datetime) -> Series:
    return _one(0 if m.plan is None else len(json.loads(m.plan["unreadable_images"])))


def _rules(m: RegistryMeasures, settings: RegistrySettings, _now: datetime) -> Series:
    found = {} if m.plan is None else json.loads(m.plan["rule_selected"])
    configured = [rule.name for rule in settings.policy.rules if rule.kind == "delete"]
    return (((name,), found.get(name, 0)) for name in dict.fromkeys((*configured, *found)))


def _next_run(_m: RegistryMeasures, settings: RegistrySettings, now: datetime) -> Series:
    if settings.schedule is None:
        return _one(0)
    _, following = due(settings.schedule, settings.timezone, now, now)
    return _at(following)


def _last_due(m: RegistryMeasures, settings: RegistrySettings, now: datetime) -> Series:
    if settings.schedule is None or m.line_since is None or m.line != line_of(settings):
        return _one(0)  # a line that beat has not seen yet was never due
    last, _ = due(settings.schedule, settings.timezone, min(m.line_since, now), now)
    return _at(last)


def _evidence_age(m: RegistryMeasures, settings: RegistrySettings, now: datetime) -> Series:
    """0 until a source was first read: a run whose evidence fails says so itself."""
    for source in settings.in_use:
        as_of = m.evidence.get(source.name, now)
        yield (source.name,), max(0.0, (now - as_of).total_seconds())


GAUGES = (
    Gauge(
        "enabled_since_timestamp_seconds",
        "When beat first saw this registry in the configuration; 0: not yet.",
        (),
        lambda m, _s, _now: _at(m.enabled_since),
    ),
    Gauge(
        "last_run_start_timestamp_seconds",
        "Start of the last finished run; 0: never.",
        (),
        lambda m, _s, _now: _at(_start(m)),
    ),
    Gauge(
        "last_success_timestamp_seconds",
        "End of the last run that succeeded in the registry's own mode; 0: never.",
        (),
        lambda m, _s, _now: _at(m.last_success),
    ),
    Gauge(
        "last_run_duration_seconds",
        "From the start of the last finished run's scan to its end.",
        (),
        lambda m, _s, _now: _one(_duration(m)),
    ),
    Gauge("last_run_candidates", "Images that the last finished run's plan would delete.", (), _of_last("planned")),
    Gauge(
        "last_run_reclaimable_bytes",
        "Bytes that the last finished run's plan would free.",
        (),
        _of_last("reclaimable_bytes"),
    ),
    Gauge("last_run_reclaimed_bytes", "Bytes the last finished run reclaimed.", (), _of_last("reclaimed_bytes")),
    Gauge(
        "last_run_images",
        "Images of the last finished run, by what became of them.",
        ("outcome",),
        lambda m, _s, _now: (((name,), m.finished[name] if m.finished else 0) for name in IMAGE_OUTCOMES),
    ),
    Gauge("registry_images", "Images in the readable repositories, by the newest plan.", (), _of_plan("images")),
    Gauge("registry_bytes", "Bytes of their blobs, each once, by the newest plan.", (), _of_plan("registry_bytes")),
    Gauge("reclaimable_bytes", "Bytes that the newest plan would free.", (), _of_plan("reclaimable_bytes")),
    Gauge(
        "budget_missed_bytes", "Bytes by which the newest plan misses its budgets.", (), _of_plan("budget_missed_bytes")
    ),
    Gauge("emptied_repositories", "Repositories that the last finished run left without an image.", (), _emptied),
    Gauge("unreadable_repositories", "Repositories the newest plan could not list.", (), _unreadable),
    Gauge(
        "unreadable_images",
        "Images whose manifests the newest plan could not read, and that are not set aside.",
        (),
        _unreadable_images,
    ),
    Gauge("rule_selected_images", "Images each rule of the newest plan selects, before keeps.", ("rule",), _rules),
    Gauge(
        "backlog_images",
        "Images that an unfinished run may still delete.",
        (),
        lambda m, _s, _now: _one(m.backlog),
    ),
    Gauge("run_in_progress", "Whether a run is active.", (), lambda m, _s, _now: _one(m.active)),
    Gauge(
        "blocked",
        "Whether a plan waits for approval because it exceeds this limit.",
        ("limit",),
        lambda m, _s, _now: (((limit,), limit in m.blocked_by) for limit in LIMITS),
    ),
    Gauge(
        "paused", "Whether nothing is deleted there until somebody resumes it.", (), lambda m, _s, _now: _one(m.paused)
    ),
    Gauge("dry_run", "Whether the configuration says dry-run.", (), lambda _m, s, _now: _one(s.mode != "delete")),
    Gauge("auth_ok", "Whether the last sign-in to the registry was accepted.", (), lambda m, _s, _now: _one(m.auth_ok)),
    Gauge(
        "evidence_age_seconds",
        "How old what a source last said is, by the source's own word; 0: not read yet.",
        ("source",),
        _evidence_age,
    ),
    Gauge(
        "evidence_foreign_references",
        "Images that a source named in the last scan and that are of no registry of the file.",
        ("source",),
        lambda m, s, _now: (((source.name,), m.foreign_references.get(source.name, 0)) for source in s.in_use),
    ),
    Gauge(
        "evidence_max_age_seconds",
        "How old a source's word may be when it is read.",
        ("source",),
        lambda _m, s, _now: (((source.name,), source.max_age.total_seconds()) for source in s.in_use),
    ),
    Gauge("next_run_timestamp_seconds", "When the next scheduled run is due; 0: only by hand.", (), _next_run),
    Gauge(
        "last_due_timestamp_seconds", "When a scheduled run was last due; 0: never yet, or only by hand.", (), _last_due
    ),
)


class StoreCollector(Collector):
    """Reads the store once a scrape. Raises StoreError out of `collect`."""

    def __init__(
        self,
        store: Callable[[], AbstractContextManager[Store]],
        settings: Callable[[], Settings],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._settings = settings
        self._now = now

    def collect(self) -> Iterator[Metric]:
        settings, now = self._settings(), self._now()
        with self._store() as store, store.read() as connection:
            measures = measure(connection)
        yield from families(measures, settings, now)


def families(measures: Measures, settings: Settings, now: datetime) -> Iterator[Metric]:
    """All metrics of one reading."""
    known = {name: measures.of(name) for name in settings.registries}
    former = {name: found for name, found in measures.registries.items() if name not in known}
    for counter in COUNTERS:
        family: Metric = CounterMetricFamily(PREFIX + counter.name, counter.help, labels=("registry", *counter.labels))
        for name, found in (known | former).items():
            for labels, value in counter.read(found):
                family.add_sample(PREFIX + counter.name + "_total", _labels(name, counter.labels, labels), value)
        yield family
    for gauge in GAUGES:
        family = GaugeMetricFamily(PREFIX + gauge.name, gauge.help, labels=("registry", *gauge.labels))
        for name, found in known.items():
            for labels, value in gauge.read(found, settings.registries[name], now):
                family.add_sample(PREFIX + gauge.name, _labels(name, gauge.labels, labels), float(value))
        yield family
    beat = measures.heartbeats.get("beat")
    yield GaugeMetricFamily(
        PREFIX + "beat_heartbeat_timestamp_seconds",
        "When beat was last heard of; 0: never.",
        value=0 if beat is None else beat.timestamp(),
    )
    build = GaugeMetricFamily(PREFIX + "build_info", "1, with the version that answers.", labels=("version",))
    build.add_metric((__version__,), 1)
    yield build


def _labels(registry: str, names: tuple[str, ...], values: tuple[str, ...]) -> dict[str, str]:
    return {"registry": registry} | dict(zip(names, values, strict=True))
