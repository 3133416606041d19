"""Every metric, defined once, read from the store at each scrape: right across restarts, crashes, workers and machines.

Nothing is counted here. If the store cannot be read the scrape fails: old numbers are never served. docs/metrics.md
explains each metric to those who read them.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Any, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from worker import __version__
from worker.config.settings import RegistrySettings, Settings
from worker.registries.errors import FailureCause
from worker.runs.lifecycle import schedule_line
from worker.runs.schedule import due
from worker.store.measures import IMAGE_OUTCOMES, Measures, RegistryMeasures, measure
from worker.web.door import OpenStore

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
    read: Callable[[RegistryMeasures], Series | float]  # a number: of a counter without labels
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gauge:
    """Read for configured registries only."""

    name: str  # without the prefix
    help: str
    read: Callable[["Configured"], Series | float]  # a number: of a gauge without labels
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Configured:
    """A configured registry, as gauges are read from it."""

    measures: RegistryMeasures
    settings: RegistrySettings
    now: datetime

    def last(self, name: str) -> Any:
        """A field of the last finished run; 0: there is none."""
        return 0 if self.measures.finished is None else self.measures.finished[name]

    def plan(self, name: str) -> Any:
        """A field of the newest plan; 0: there is none."""
        return 0 if self.measures.plan is None else self.measures.plan[name]


def _seconds(instant: datetime | None) -> float:
    return 0 if instant is None else instant.timestamp()


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


def _images(counts: Mapping[Any, Any] | None) -> Series:
    return (((outcome,), (counts or {}).get(outcome, 0)) for outcome in IMAGE_OUTCOMES)


COUNTERS = (
    Counter("runs", "Finished runs.", _runs, ("outcome", "trigger", "mode")),
    Counter(
        "images", "Images that runs have dealt with, by what became of them.", lambda m: _images(m.images), ("outcome",)
    ),
    Counter(
        "reclaimed_bytes",
        "Bytes of blobs that nothing references any more, counted once, after the deletion was confirmed.",
        lambda m: m.reclaimed_bytes,
    ),
    Counter("skipped_images", "Planned images left alone.", lambda m: _tallied(m, "skipped", SKIP_CAUSES), ("cause",)),
    Counter(
        "failed_images", "Planned images not deleted.", lambda m: _tallied(m, "failed", FAILURE_CAUSES), ("cause",)
    ),
    Counter(
        "foreign_deletions",
        "Images that vanished between two scans and were not deleted by us.",
        lambda m: m.foreign_deletions,
    ),
    Counter("verification_differences", "What the verification after a sweep found wrong.", lambda m: m.differences),
    Counter(
        "raced_pushes",
        "Tags that were pushed again while the image they named was deleted, and that name the new one.",
        lambda m: sum(m.tallies.get("raced_pushes", {}).values()),
    ),
    Counter("api_requests", "Requests sent for the registry, repeats included.", _requests, ("method", "code")),
    Counter(
        "rate_wait_seconds",
        "Time spent waiting for the shared rate limit, summed over threads.",
        lambda m: sum(m.tallies.get("rate_wait_seconds", {}).values()),
    ),
)


def _duration(of: Configured) -> float:
    """0 also for a run that failed before its scan: it never started."""
    started: datetime | None = of.last("started_at") or None
    return 0 if started is None else (of.last("finished_at") - started).total_seconds()


def _rules(of: Configured) -> Series:
    found = json.loads(of.plan("rule_selected") or "{}")
    configured = [rule.name for rule in of.settings.policy.rules if rule.kind == "delete"]
    return (((name,), found.get(name, 0)) for name in dict.fromkeys((*configured, *found)))


def _next_run(of: Configured) -> float:
    if of.settings.schedule is None:
        return 0
    _, following = due(of.settings.schedule, of.settings.timezone, of.now, of.now)
    return _seconds(following)


def _last_due(of: Configured) -> float:
    m, settings = of.measures, of.settings
    if settings.schedule is None or m.cron_line_since is None or m.cron_line != schedule_line(settings):
        return 0  # a line that beat has not seen yet was never due
    last, _ = due(settings.schedule, settings.timezone, min(m.cron_line_since, of.now), of.now)
    return _seconds(last)


def _evidence_age(of: Configured) -> Series:
    """0 until a source was first read: a run whose evidence fails says so itself."""
    for source in of.settings.in_use:
        as_of = of.measures.evidence.get(source.name, of.now)
        yield (source.name,), max(0.0, (of.now - as_of).total_seconds())


GAUGES = (
    Gauge(
        "enabled_since_timestamp_seconds",
        "When beat first saw this registry in the configuration; 0: not yet.",
        lambda of: _seconds(of.measures.enabled_since),
    ),
    Gauge(
        "last_run_start_timestamp_seconds",
        "Start of the last finished run; 0: never.",
        # A run that failed before its scan never started: the instant it was opened stands for it.
        lambda of: _seconds(of.last("started_at") or of.last("opened_at") or None),
    ),
    Gauge(
        "last_success_timestamp_seconds",
        "End of the last run that succeeded in the registry's own mode; 0: never.",
        lambda of: _seconds(of.measures.last_success),
    ),
    Gauge("last_run_duration_seconds", "From the start of the last finished run's scan to its end.", _duration),
    Gauge(
        "last_run_candidates", "Images that the last finished run's plan would delete.", lambda of: of.last("planned")
    ),
    Gauge(
        "last_run_reclaimable_bytes",
        "Bytes that the last finished run's plan would free.",
        lambda of: of.last("reclaimable_bytes"),
    ),
    Gauge("last_run_reclaimed_bytes", "Bytes the last finished run reclaimed.", lambda of: of.last("reclaimed_bytes")),
    Gauge(
        "last_run_images",
        "Images of the last finished run, by what became of them.",
        lambda of: _images(of.measures.finished),
        ("outcome",),
    ),
    Gauge("registry_images", "Images in the readable repositories, by the newest plan.", lambda of: of.plan("images")),
    Gauge(
        "registry_bytes", "Bytes of their blobs, each once, by the newest plan.", lambda of: of.plan("registry_bytes")
    ),
    Gauge("reclaimable_bytes", "Bytes that the newest plan would free.", lambda of: of.plan("reclaimable_bytes")),
    Gauge(
        "budget_missed_bytes",
        "Bytes by which the newest plan misses its budgets.",
        lambda of: of.plan("budget_missed_bytes"),
    ),
    Gauge(
        "emptied_repositories",
        "Repositories that the last finished run left without an image.",
        lambda of: len(json.loads(of.last("emptied_repositories") or "[]")),
    ),
    Gauge(
        "unreadable_repositories",
        "Repositories the newest plan could not list.",
        lambda of: len(json.loads(of.plan("unreadable") or "[]")),
    ),
    Gauge(
        "unreadable_images",
        "Images whose manifests the newest plan could not read, and that are not set aside.",
        lambda of: len(json.loads(of.plan("unreadable_images") or "[]")),
    ),
    Gauge("rule_selected_images", "Images each rule of the newest plan selects, before keeps.", _rules, ("rule",)),
    Gauge("backlog_images", "Images that an unfinished run may still delete.", lambda of: of.measures.backlog),
    Gauge("run_in_progress", "Whether a run is active.", lambda of: of.measures.active),
    Gauge(
        "blocked",
        "Whether a plan waits for approval because it exceeds this limit.",
        lambda of: (((limit,), limit in of.measures.blocked_by) for limit in LIMITS),
        ("limit",),
    ),
    Gauge("paused", "Whether nothing is deleted there until somebody resumes it.", lambda of: of.measures.paused),
    Gauge("dry_run", "Whether the configuration says dry-run.", lambda of: of.settings.mode != "delete"),
    Gauge("auth_ok", "Whether the last sign-in to the registry was accepted.", lambda of: of.measures.auth_ok),
    Gauge(
        "evidence_age_seconds",
        "How old what a source last said is, by the source's own word; 0: not read yet.",
        _evidence_age,
        ("source",),
    ),
    Gauge(
        "evidence_foreign_references",
        "Images that a source named in the last scan and that are of no registry of the file.",
        lambda of: (((one.name,), of.measures.foreign_references.get(one.name, 0)) for one in of.settings.in_use),
        ("source",),
    ),
    Gauge(
        "evidence_max_age_seconds",
        "How old a source's word may be when it is read.",
        lambda of: (((source.name,), source.max_age.total_seconds()) for source in of.settings.in_use),
        ("source",),
    ),
    Gauge("next_run_timestamp_seconds", "When the next scheduled run is due; 0: only by hand.", _next_run),
    Gauge("last_due_timestamp_seconds", "When a scheduled run was last due; 0: never yet, or only by hand.", _last_due),
)


class StoreCollector(Collector):
    """Reads the store once a scrape. Raises StoreError out of `collect`."""

    def __init__(
        self,
        store: OpenStore,
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
            _add(family, "_total", name, counter.labels, counter.read(found))
        yield family
    for gauge in GAUGES:
        family = GaugeMetricFamily(PREFIX + gauge.name, gauge.help, labels=("registry", *gauge.labels))
        for name, found in known.items():
            _add(family, "", name, gauge.labels, gauge.read(Configured(found, settings.registries[name], now)))
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


def _add(family: Metric, suffix: str, registry: str, names: tuple[str, ...], read: Series | float) -> None:
    for values, value in (((), read),) if isinstance(read, int | float) else read:
        labels = {"registry": registry} | dict(zip(names, values, strict=True))
        family.add_sample(family.name + suffix, labels, float(value))
