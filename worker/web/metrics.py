"""Every metric, defined once and read from the store at each scrape, so that restarts and crashes lose nothing.

This module counts nothing itself. If the store cannot be read, the scrape fails: old numbers are never served.
docs/metrics.md explains each metric.
"""

import json
from collections import defaultdict
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
REQUESTS = {"GET 200": 0.0, "DELETE 200": 0.0}
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
    last: Mapping[Any, Any]  # the last finished run; every field is 0 without such a run
    plan: Mapping[Any, Any]  # the newest plan; every field is 0 without a plan


def _seconds(instant: datetime | None) -> float:
    return 0 if instant is None else instant.timestamp()


def _by_label(closed: Iterable[str], tally: Mapping[str, float]) -> Series:
    """A tally by its label. A label outside the closed set is shown too."""
    return (((label,), tally.get(label, 0)) for label in dict.fromkeys((*closed, *sorted(tally))))


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
    Counter(
        "skipped_images",
        "Images that a run skipped.",
        lambda m: _by_label(SKIP_CAUSES, m.tallies.get("skipped", {})),
        ("cause",),
    ),
    Counter(
        "failed_images",
        "Failed deletions of images.",
        lambda m: _by_label(FAILURE_CAUSES, m.tallies.get("failed", {})),
        ("cause",),
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
    Counter(
        "api_requests",
        "Requests sent for the registry, retries included.",
        lambda m: (
            (label.partition(" ")[::2], value)
            for label, value in sorted((REQUESTS | m.tallies.get("api_requests", {})).items())
        ),
        ("method", "code"),
    ),
    Counter(
        "rate_wait_seconds",
        "Seconds of waiting for the shared rate limit, summed over threads.",
        lambda m: sum(m.tallies.get("rate_wait_seconds", {}).values()),
    ),
)


def _last_due(registry: ConfiguredRegistry) -> float:
    measures, settings = registry.measures, registry.settings
    if settings.schedule is None or measures.cron_line_since is None or measures.cron_line != schedule_line(settings):
        return 0  # beat has not read this schedule yet, so it was never due
    last, _ = due(settings.schedule, settings.timezone, min(measures.cron_line_since, registry.now), registry.now)
    return _seconds(last)


GAUGES = (
    Gauge(
        "enabled_since_timestamp_seconds",
        "When beat first saw this registry in the configuration; 0: not yet.",
        lambda r: _seconds(r.measures.enabled_since),
    ),
    Gauge(
        "last_run_start_timestamp_seconds",
        "Start of the last finished run; 0: never.",
        # A run that failed before its scan has no start; the time at which it was opened replaces it.
        lambda r: _seconds(r.last["started_at"] or r.last["opened_at"] or None),
    ),
    Gauge(
        "last_success_timestamp_seconds",
        "End of the last run that succeeded in the registry's own mode; 0: never.",
        lambda r: _seconds(r.measures.last_success),
    ),
    Gauge(
        "last_run_duration_seconds",
        "From the start of the last finished run's scan to its end.",
        # 0 also for a run that failed before its scan: it has no start.
        lambda r: (r.last["finished_at"] - r.last["started_at"]).total_seconds() if r.last["started_at"] else 0,
    ),
    Gauge("last_run_candidates", "Images that the last finished run's plan would delete.", lambda r: r.last["planned"]),
    Gauge(
        "last_run_reclaimable_bytes",
        "Bytes the last finished run's plan would free.",
        lambda r: r.last["reclaimable_bytes"],
    ),
    Gauge("last_run_reclaimed_bytes", "Bytes the last finished run reclaimed.", lambda r: r.last["reclaimed_bytes"]),
    Gauge(
        "last_run_images",
        "Images of the last finished run, by outcome.",
        lambda r: _images(r.measures.finished),
        ("outcome",),
    ),
    Gauge("registry_images", "Images in the readable repositories, by the newest plan.", lambda r: r.plan["images"]),
    Gauge(
        "registry_bytes",
        "Bytes of their blobs, each counted once, by the newest plan.",
        lambda r: r.plan["registry_bytes"],
    ),
    Gauge("reclaimable_bytes", "Bytes that the newest plan would free.", lambda r: r.plan["reclaimable_bytes"]),
    Gauge(
        "budget_missed_bytes",
        "Bytes by which the newest plan misses its budgets.",
        lambda r: r.plan["budget_missed_bytes"],
    ),
    Gauge(
        "emptied_repositories",
        "Repositories that the last finished run left without an image.",
        lambda r: len(json.loads(r.last["emptied_repositories"] or "[]")),
    ),
    Gauge(
        "unreadable_repositories",
        "Repositories that the newest plan could not list.",
        lambda r: len(json.loads(r.plan["unreadable"] or "[]")),
    ),
    Gauge(
        "unreadable_images",
        "Images whose manifests the newest plan could not read and that ignore_unreadable does not list.",
        lambda r: len(json.loads(r.plan["unreadable_images"] or "[]")),
    ),
    Gauge(
        "rule_selected_images",
        "Images that each rule of the newest plan selects, before keeps.",
        lambda r: _by_label(
            (rule.name for rule in r.settings.policy.rules if rule.kind == "delete"),
            json.loads(r.plan["rule_selected"] or "{}"),
        ),
        ("rule",),
    ),
    Gauge("backlog_images", "Images that unfinished runs may delete.", lambda r: r.measures.backlog),
    Gauge("run_in_progress", "Whether a run is active.", lambda r: r.measures.active),
    Gauge(
        "blocked",
        "Whether a plan waits for approval because it exceeds this limit.",
        lambda r: (((limit,), limit in r.measures.blocked_by) for limit in LIMITS),
        ("limit",),
    ),
    Gauge("paused", "Whether deletions in the registry are paused.", lambda r: r.measures.paused),
    Gauge("dry_run", "Whether the configuration says dry-run.", lambda r: r.settings.mode != "delete"),
    Gauge("auth_ok", "Whether the registry accepted the last sign-in.", lambda r: r.measures.auth_ok),
    Gauge(
        "evidence_age_seconds",
        "Age of the last reading of a source, by the time that the source reports; 0: not read yet.",
        lambda r: (
            ((source.name,), max(0.0, (r.now - r.measures.evidence.get(source.name, r.now)).total_seconds()))
            for source in r.settings.in_use
        ),
        ("source",),
    ),
    Gauge(
        "evidence_foreign_references",
        "Images that a source named in the last scan and that belong to no configured registry.",
        lambda r: (((source.name,), r.measures.foreign_references.get(source.name, 0)) for source in r.settings.in_use),
        ("source",),
    ),
    Gauge(
        "evidence_max_age_seconds",
        "Maximum age of a reading when it is read.",
        lambda r: (((source.name,), source.max_age.total_seconds()) for source in r.settings.in_use),
        ("source",),
    ),
    Gauge(
        "next_run_timestamp_seconds",
        "When the next scheduled run is due; 0: no schedule.",
        lambda r: (
            0 if (cron := r.settings.schedule) is None else _seconds(due(cron, r.settings.timezone, r.now, r.now)[1])
        ),
    ),
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
        """The metrics of one reading of the store. Raises StoreError before the first metric."""
        settings, now = self._settings(), self._now()
        with self._store() as store, store.read() as connection:
            measures = measure(connection)
        yield from families(measures, settings, now)


def families(measures: Measures, settings: Settings, now: datetime) -> Iterator[Metric]:
    """All metrics of one reading of the store."""
    known = {name: measures.of(name) for name in settings.registries}
    none: Mapping[Any, Any] = defaultdict(int)
    configured = {}
    for name, registry in known.items():
        last, plan = (none if run is None else run for run in (registry.finished, registry.plan))
        configured[name] = ConfiguredRegistry(registry, settings.registries[name], now, last, plan)
    removed = {name: registry for name, registry in measures.registries.items() if name not in known}
    for metric in (*COUNTERS, *GAUGES):
        family: Metric
        labels = ("registry", *metric.labels)
        if isinstance(metric, Counter):
            family, suffix = CounterMetricFamily(PREFIX + metric.name, metric.help, labels=labels), "_total"
            readings = {name: metric.read(registry) for name, registry in (known | removed).items()}
        else:
            family, suffix = GaugeMetricFamily(PREFIX + metric.name, metric.help, labels=labels), ""
            readings = {name: metric.read(registry) for name, registry in configured.items()}
        for name, reading in readings.items():
            for values, value in (((), reading),) if isinstance(reading, int | float) else reading:
                family.add_sample(family.name + suffix, dict(zip(labels, (name, *values), strict=True)), float(value))
        yield family
    yield GaugeMetricFamily(
        PREFIX + "beat_heartbeat_timestamp_seconds",
        "When beat last sent a heartbeat; 0: never.",
        value=_seconds(measures.heartbeats.get("beat")),
    )
    build = GaugeMetricFamily(
        PREFIX + "build_info", "1; the label is the version of this process.", labels=("version",)
    )
    build.add_metric((__version__,), 1)
    yield build
