"""Every metric, defined once and read from the store at each scrape, so that restarts and crashes lose nothing.

This module counts nothing itself. If the store cannot be read, the scrape fails: old numbers are never served.
docs/metrics.md explains each metric.
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
from worker.web.current import OpenStore

PREFIX = "registry_gc_"

# The closed sets of labels. A configured registry has every series from the first scrape, with the value 0.
RUN_OUTCOMES = ("succeeded", "partial", "blocked", "failed", "aborted", "missed")
TRIGGERS = ("schedule", "command", "task", "web")
MODES = ("dry-run", "delete")
SKIP_CAUSES = (
    "changed", "still_needed", "held", "in_use", "used_by_image_lists", "locked", "paused", "mode",
    "repository_changed",
)  # fmt: skip
FAILURE_CAUSES: tuple[str, ...] = get_args(FailureCause)
LIMITS = ("max_images", "max_share", "max_bytes", "vanished", "unusual")

Series = Iterable[tuple[tuple[str, ...], float]]  # the values of the labels after `registry`, and the series' value


@dataclass(frozen=True, slots=True)
class Counter:
    """Read also for registries that were removed from the configuration: a counter never decreases."""

    name: str  # without the prefix and `_total`
    help: str
    read: Callable[[RegistryMeasures], Series | float]  # a number where it has no labels
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gauge:
    """Read for configured registries only."""

    name: str  # without the prefix
    help: str
    read: Callable[["ConfiguredRegistry"], Series | float]  # a number where it has no labels
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConfiguredRegistry:
    """What the gauges of one configured registry are read from."""

    measures: RegistryMeasures
    settings: RegistrySettings
    now: datetime

    def last(self, name: str) -> Any:
        """A field of the last finished run; 0 without such a run."""
        return 0 if self.measures.finished is None else self.measures.finished[name]

    def plan(self, name: str) -> Any:
        """A field of the newest plan; 0 without a plan."""
        return 0 if self.measures.plan is None else self.measures.plan[name]


def _seconds(instant: datetime | None) -> float:
    return 0 if instant is None else instant.timestamp()


def _by_cause(measures: RegistryMeasures, name: str, causes: Iterable[str]) -> Series:
    """A tally by cause. A cause outside the closed set is shown too."""
    tally = measures.tallies.get(name, {})
    return (((cause,), tally.get(cause, 0)) for cause in dict.fromkeys((*causes, *sorted(tally))))


def _requests(measures: RegistryMeasures) -> Series:
    tally = {"GET 200": 0.0, "DELETE 200": 0.0} | measures.tallies.get("api_requests", {})
    for label, value in sorted(tally.items()):
        method, _, code = label.partition(" ")
        yield (method, code), value


def _images(counts: Mapping[Any, Any] | None) -> Series:
    return (((outcome,), (counts or {}).get(outcome, 0)) for outcome in IMAGE_OUTCOMES)


COUNTERS = (
    Counter(
        "runs",
        "Finished runs.",
        lambda m: ((labels, m.runs.get(labels, 0)) for labels in product(RUN_OUTCOMES, TRIGGERS, MODES)),
        ("outcome", "trigger", "mode"),
    ),
    Counter("images", "Images that runs have handled, by outcome.", lambda m: _images(m.images), ("outcome",)),
    Counter(
        "reclaimed_bytes",
        "Bytes of blobs that no image references after a confirmed deletion, each counted once.",
        lambda m: m.reclaimed_bytes,
    ),
    Counter("skipped_images", "Images that a run skipped.", lambda m: _by_cause(m, "skipped", SKIP_CAUSES), ("cause",)),
    Counter(
        "failed_images", "Failed deletions of images.", lambda m: _by_cause(m, "failed", FAILURE_CAUSES), ("cause",)
    ),
    Counter(
        "foreign_deletions",
        "Images that disappeared between two scans and that registry-gc did not delete.",
        lambda m: m.foreign_deletions,
    ),
    Counter("verification_differences", "Differences found by verification after a sweep.", lambda m: m.differences),
    Counter(
        "raced_pushes",
        "Tags that were pushed again, to a new image, while the old image was deleted.",
        lambda m: sum(m.tallies.get("raced_pushes", {}).values()),
    ),
    Counter("api_requests", "Requests sent for the registry, retries included.", _requests, ("method", "code")),
    Counter(
        "rate_wait_seconds",
        "Seconds of waiting for the shared rate limit, summed over threads.",
        lambda m: sum(m.tallies.get("rate_wait_seconds", {}).values()),
    ),
)


def _of_plan(name: str) -> Callable[[ConfiguredRegistry], Any]:
    return lambda registry: registry.plan(name)


def _of_last_run(name: str) -> Callable[[ConfiguredRegistry], Any]:
    return lambda registry: registry.last(name)


def _duration(registry: ConfiguredRegistry) -> float:
    """0 also for a run that failed before its scan: it has no start."""
    started: datetime | None = registry.last("started_at") or None
    return 0 if started is None else (registry.last("finished_at") - started).total_seconds()


def _rules(registry: ConfiguredRegistry) -> Series:
    selected = json.loads(registry.plan("rule_selected") or "{}")
    configured = [rule.name for rule in registry.settings.policy.rules if rule.kind == "delete"]
    return (((name,), selected.get(name, 0)) for name in dict.fromkeys((*configured, *selected)))


def _next_run(registry: ConfiguredRegistry) -> float:
    if registry.settings.schedule is None:
        return 0
    _, following = due(registry.settings.schedule, registry.settings.timezone, registry.now, registry.now)
    return _seconds(following)


def _last_due(registry: ConfiguredRegistry) -> float:
    measures, settings = registry.measures, registry.settings
    if settings.schedule is None or measures.cron_line_since is None or measures.cron_line != schedule_line(settings):
        return 0  # beat has not read this schedule yet, so it was never due
    last, _ = due(settings.schedule, settings.timezone, min(measures.cron_line_since, registry.now), registry.now)
    return _seconds(last)


def _evidence_age(registry: ConfiguredRegistry) -> Series:
    """0 until the first reading of a source: a run whose evidence fails reports that itself."""
    for source in registry.settings.in_use:
        as_of = registry.measures.evidence.get(source.name, registry.now)
        yield (source.name,), max(0.0, (registry.now - as_of).total_seconds())


GAUGES = (
    Gauge(
        "enabled_since_timestamp_seconds",
        "When beat first saw this registry in the configuration; 0: not yet.",
        lambda registry: _seconds(registry.measures.enabled_since),
    ),
    Gauge(
        "last_run_start_timestamp_seconds",
        "Start of the last finished run; 0: never.",
        # A run that failed before its scan has no start; the time at which it was opened replaces it.
        lambda registry: _seconds(registry.last("started_at") or registry.last("opened_at") or None),
    ),
    Gauge(
        "last_success_timestamp_seconds",
        "End of the last run that succeeded in the registry's own mode; 0: never.",
        lambda registry: _seconds(registry.measures.last_success),
    ),
    Gauge("last_run_duration_seconds", "From the start of the last finished run's scan to its end.", _duration),
    Gauge("last_run_candidates", "Images that the last finished run's plan would delete.", _of_last_run("planned")),
    Gauge(
        "last_run_reclaimable_bytes",
        "Bytes the last finished run's plan would free.",
        _of_last_run("reclaimable_bytes"),
    ),
    Gauge("last_run_reclaimed_bytes", "Bytes the last finished run reclaimed.", _of_last_run("reclaimed_bytes")),
    Gauge(
        "last_run_images",
        "Images of the last finished run, by outcome.",
        lambda registry: _images(registry.measures.finished),
        ("outcome",),
    ),
    Gauge("registry_images", "Images in the readable repositories, by the newest plan.", _of_plan("images")),
    Gauge("registry_bytes", "Bytes of their blobs, each counted once, by the newest plan.", _of_plan("registry_bytes")),
    Gauge("reclaimable_bytes", "Bytes that the newest plan would free.", _of_plan("reclaimable_bytes")),
    Gauge("budget_missed_bytes", "Bytes by which the newest plan misses its budgets.", _of_plan("budget_missed_bytes")),
    Gauge(
        "emptied_repositories",
        "Repositories that the last finished run left without an image.",
        lambda registry: len(json.loads(registry.last("emptied_repositories") or "[]")),
    ),
    Gauge(
        "unreadable_repositories",
        "Repositories that the newest plan could not list.",
        lambda registry: len(json.loads(registry.plan("unreadable") or "[]")),
    ),
    Gauge(
        "unreadable_images",
        "Images whose manifests the newest plan could not read and that ignore_unreadable does not list.",
        lambda registry: len(json.loads(registry.plan("unreadable_images") or "[]")),
    ),
    Gauge("rule_selected_images", "Images that each rule of the newest plan selects, before keeps.", _rules, ("rule",)),
    Gauge("backlog_images", "Images that unfinished runs may delete.", lambda registry: registry.measures.backlog),
    Gauge("run_in_progress", "Whether a run is active.", lambda registry: registry.measures.active),
    Gauge(
        "blocked",
        "Whether a plan waits for approval because it exceeds this limit.",
        lambda registry: (((limit,), limit in registry.measures.blocked_by) for limit in LIMITS),
        ("limit",),
    ),
    Gauge("paused", "Whether deletions in the registry are paused.", lambda registry: registry.measures.paused),
    Gauge("dry_run", "Whether the configuration says dry-run.", lambda registry: registry.settings.mode != "delete"),
    Gauge("auth_ok", "Whether the registry accepted the last sign-in.", lambda registry: registry.measures.auth_ok),
    Gauge(
        "evidence_age_seconds",
        "Age of the last reading of a source, by the time that the source reports; 0: not read yet.",
        _evidence_age,
        ("source",),
    ),
    Gauge(
        "evidence_foreign_references",
        "Images that a source named in the last scan and that belong to no configured registry.",
        lambda registry: (
            ((source.name,), registry.measures.foreign_references.get(source.name, 0))
            for source in registry.settings.in_use
        ),
        ("source",),
    ),
    Gauge(
        "evidence_max_age_seconds",
        "Maximum age of a reading when it is read.",
        lambda registry: (((source.name,), source.max_age.total_seconds()) for source in registry.settings.in_use),
        ("source",),
    ),
    Gauge("next_run_timestamp_seconds", "When the next scheduled run is due; 0: no schedule.", _next_run),
    Gauge("last_due_timestamp_seconds", "When a scheduled run was last due; 0: never yet, or no schedule.", _last_due),
)


class StoreCollector(Collector):
    """Reads the store once per scrape. `collect` raises StoreError."""

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
    """All metrics of one reading of the store."""
    known = {name: measures.of(name) for name in settings.registries}
    removed = {name: registry for name, registry in measures.registries.items() if name not in known}
    for counter in COUNTERS:
        family: Metric = CounterMetricFamily(PREFIX + counter.name, counter.help, labels=("registry", *counter.labels))
        for name, registry in (known | removed).items():
            _add(family, "_total", name, counter.labels, counter.read(registry))
        yield family
    for gauge in GAUGES:
        family = GaugeMetricFamily(PREFIX + gauge.name, gauge.help, labels=("registry", *gauge.labels))
        for name, registry in known.items():
            configured = ConfiguredRegistry(registry, settings.registries[name], now)
            _add(family, "", name, gauge.labels, gauge.read(configured))
        yield family
    beat = measures.heartbeats.get("beat")
    yield GaugeMetricFamily(
        PREFIX + "beat_heartbeat_timestamp_seconds",
        "When beat last sent a heartbeat; 0: never.",
        value=0 if beat is None else beat.timestamp(),
    )
    build = GaugeMetricFamily(
        PREFIX + "build_info", "1; the label is the version of this process.", labels=("version",)
    )
    build.add_metric((__version__,), 1)
    yield build


def _add(family: Metric, suffix: str, registry: str, names: tuple[str, ...], read: Series | float) -> None:
    for values, value in (((), read),) if isinstance(read, int | float) else read:
        labels = {"registry": registry} | dict(zip(names, values, strict=True))
        family.add_sample(family.name + suffix, labels, float(value))
