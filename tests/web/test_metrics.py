"""The metrics of a store: every series from the first scrape, correct sums, no old numbers."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as tuned
from hypothesis import strategies as st
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import delete, event

from tests.support.servers import postgres_programs, postgres_server
from tests.web.builders import NOW, add_run, registry, settings
from worker import __version__
from worker.config.settings import EvidenceSettings, RegistrySettings
from worker.store import Store, open_store
from worker.store.measures import IMAGE_OUTCOMES
from worker.store.runs import record_heartbeat, record_registry, record_sign_in
from worker.store.tables import evidence, metadata, pause, run, tally
from worker.web.metrics import COUNTERS, GAUGES, MODES, RUN_OUTCOMES, TRIGGERS, StoreCollector

CLUSTER = EvidenceSettings(name="cluster", kind="kubernetes", max_age=timedelta(hours=1))
PRODUCTION = registry("production", mode="delete", schedule="0 3 * * *", timezone="Europe/Moscow", in_use=(CLUSTER,))
STAGING = registry("staging")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Store]:
    if (programs := postgres_programs()) is None:
        pytest.skip("PostgreSQL's programs are not installed: Debian's package postgresql has them")
    with postgres_server(programs) as server:
        opened = open_store(server.create_database("metrics"))
        yield opened
        opened.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of either kind."""
    if request.param == "postgresql":
        emptied: Store = request.getfixturevalue("postgres")
        with emptied.write() as connection:
            for table in metadata.tables.values():
                connection.execute(table.delete())
        yield emptied
        return
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    yield opened
    opened.dispose()


def exposition(store: Store, *registries: RegistrySettings, now: datetime = NOW) -> str:
    @contextmanager
    def opened() -> Iterator[Store]:
        yield store

    configured = settings(Path("/nowhere"), *registries)
    return generate_latest(StoreCollector(opened, lambda: configured, lambda: now)).decode()


def scrape(store: Store, *registries: RegistrySettings, now: datetime = NOW) -> dict[str, float]:
    """Every series as Prometheus writes it, without the prefix: `images_total{registry="a",outcome="gone"}`."""
    series = {}
    for family in text_string_to_metric_families(exposition(store, *registries, now=now)):
        for sample in family.samples:
            series[key(sample.name.removeprefix("registry_gc_"), sample.labels)] = sample.value
    return series


def key(name: str, labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inner}}}" if inner else name


def full(short: str) -> str:
    """`images_total{outcome="gone"}` as the series of the registry production."""
    name, _, labels = short.partition("{")
    return key(name, {"registry": "production"} | dict(re.findall(r'(\w+)="([^"]*)"', labels)))


def of(series: dict[str, float], name: str, **labels: str) -> float:
    return series[key(name, {"registry": "production"} | labels)]


# design.md, section 7, as far as it is built: a change here is a change of the contract.
SKIPS = "changed still_needed held in_use used_by_image_lists locked paused mode repository_changed"
FAILURES = "permission_denied read_only rate_limited unavailable operation_failed unconfirmed poison other"
CLOSED = {
    "runs_total": {
        "outcome": ["succeeded", "partial", "blocked", "failed", "aborted", "missed"],
        "trigger": ["schedule", "command", "task", "web"],
        "mode": ["dry-run", "delete"],
    },
    "images_total": {"outcome": ["deleted", "gone", "skipped", "failed"]},
    "reclaimed_bytes_total": {},
    "skipped_images_total": {"cause": SKIPS.split()},
    "failed_images_total": {"cause": FAILURES.split()},
    "foreign_deletions_total": {},
    "verification_differences_total": {},
    "raced_pushes_total": {},
    "rate_wait_seconds_total": {},
    "enabled_since_timestamp_seconds": {},
    "last_run_start_timestamp_seconds": {},
    "last_success_timestamp_seconds": {},
    "last_run_duration_seconds": {},
    "last_run_candidates": {},
    "last_run_reclaimable_bytes": {},
    "last_run_reclaimed_bytes": {},
    "last_run_images": {"outcome": ["deleted", "gone", "skipped", "failed"]},
    "registry_images": {},
    "registry_bytes": {},
    "reclaimable_bytes": {},
    "budget_missed_bytes": {},
    "emptied_repositories": {},
    "unreadable_repositories": {},
    "unreadable_images": {},
    "rule_selected_images": {"rule": ["pull requests"]},
    "backlog_images": {},
    "run_in_progress": {},
    "blocked": {"limit": ["max_images", "max_share", "max_bytes", "vanished", "unusual"]},
    "paused": {},
    "last_due_timestamp_seconds": {},
}
BORN = {
    key(name, {"registry": at} | dict(zip(labels, values, strict=True))): 0
    for at in ("production", "staging")
    for name, labels in CLOSED.items()
    for values in product(*labels.values())
} | {
    'api_requests_total{code="200",method="GET",registry="production"}': 0,
    'api_requests_total{code="200",method="DELETE",registry="production"}': 0,
    'api_requests_total{code="200",method="GET",registry="staging"}': 0,
    'api_requests_total{code="200",method="DELETE",registry="staging"}': 0,
    'dry_run{registry="production"}': 0,
    'dry_run{registry="staging"}': 1,
    'auth_ok{registry="production"}': 1,
    'auth_ok{registry="staging"}': 1,
    'next_run_timestamp_seconds{registry="production"}': datetime(2026, 11, 24, tzinfo=UTC).timestamp(),
    'next_run_timestamp_seconds{registry="staging"}': 0,
    'evidence_age_seconds{registry="production",source="cluster"}': 0,
    'evidence_foreign_references{registry="production",source="cluster"}': 0,
    'evidence_max_age_seconds{registry="production",source="cluster"}': 3600,
    "beat_heartbeat_timestamp_seconds": 0,
    f'build_info{{version="{__version__}"}}': 1,
}


def test_every_series_exists_from_the_first_scrape(store: Store) -> None:
    assert scrape(store, PRODUCTION, STAGING) == BORN


def test_runs_change_values_but_add_no_series(store: Store) -> None:
    add_run(store, "production", deleted=3, planned=3, reclaimed_bytes=700)
    add_run(store, "production", state="blocked", outcome=None, finished_at=None)
    assert scrape(store, PRODUCTION, STAGING).keys() == BORN.keys()


def test_a_scrape_works_without_registries(store: Store) -> None:
    assert scrape(store) == {"beat_heartbeat_timestamp_seconds": 0, f'build_info{{version="{__version__}"}}': 1}


def test_metric_names_are_unique() -> None:
    names = [metric.name for metric in (*COUNTERS, *GAUGES)]
    assert len(names) == len(set(names))


COUNTS = {"images": 90, "planned": 10, "deleted": 4, "gone": 3, "skipped": 2, "failed": 1}
BYTES = {"selected_bytes": 900, "reclaimable_bytes": 500, "reclaimed_bytes": 400, "registry_bytes": 1200}
OVER = json.dumps([{"limit": "vanished"}, {"limit": "unusual"}])


def differences(*repositories: str) -> str:
    return json.dumps([{"repository": path, "digest": "sha256:0", "difference": "is gone"} for path in repositories])


UNREAD_IMAGES = json.dumps([{"repository": "shop/api", "digest": f"sha256:{n}", "reason": "HTTP 404"} for n in "ab"])
UNREADABLE = json.dumps([{"repository": "shop/api", "reason": "permission denied"}])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param(
            [COUNTS | BYTES, COUNTS | BYTES],
            {
                'runs_total{outcome="succeeded",trigger="schedule",mode="delete"}': 2,
                'images_total{outcome="deleted"}': 8,
                'images_total{outcome="gone"}': 6,
                'images_total{outcome="skipped"}': 4,
                'images_total{outcome="failed"}': 2,
                "reclaimed_bytes_total": 800,
                "last_run_candidates": 10,
                "last_run_reclaimable_bytes": 500,
                "last_run_reclaimed_bytes": 400,
                'last_run_images{outcome="deleted"}': 4,
                "last_run_duration_seconds": 300,
                "registry_images": 90,
                "registry_bytes": 1200,
                "reclaimable_bytes": 500,
                "backlog_images": 0,
            },
            id="two finished runs: counters sum, gauges tell the last",
        ),
        pytest.param(
            [{"state": "deleting", "outcome": None, "finished_at": None} | COUNTS | BYTES | {"deleted": 2}],
            {
                'images_total{outcome="deleted"}': 2,
                "reclaimed_bytes_total": 400,
                "backlog_images": 2,
                "run_in_progress": 1,
                "last_run_candidates": 0,
                "last_run_start_timestamp_seconds": 0,
                'runs_total{outcome="succeeded",trigger="schedule",mode="delete"}': 0,
            },
            id="a running run is counted while it deletes",
        ),
        pytest.param(
            [
                {"mode": "dry-run", "trigger": "command", "planned": 7, "reclaimable_bytes": 500},
                {"mode": "dry-run", "state": "planned", "outcome": None, "finished_at": None, "planned": 7},
            ],
            {
                'runs_total{outcome="succeeded",trigger="command",mode="dry-run"}': 1,
                "reclaimed_bytes_total": 0,
                "last_run_candidates": 7,
                "last_success_timestamp_seconds": 0,
                "backlog_images": 0,
                "run_in_progress": 1,
            },
            id="a dry run of a deleting registry is no success, and its plan no backlog",
        ),
        pytest.param(
            [
                {
                    "state": "blocked",
                    "outcome": None,
                    "finished_at": None,
                    "planned": 9,
                    "exceeded": '[{"limit": "max_share"}]',
                },
            ],
            {
                'blocked{limit="max_share"}': 1,
                'blocked{limit="max_images"}': 0,
                "backlog_images": 9,
                "run_in_progress": 0,
                'runs_total{outcome="blocked",trigger="schedule",mode="delete"}': 0,
            },
            id="a blocked plan waits, and is counted when it ends",
        ),
        pytest.param(
            [{"outcome": "blocked", "planned": 9, "exceeded": '[{"limit": "max_share"}]'}],
            {
                'blocked{limit="max_share"}': 0,
                'runs_total{outcome="blocked",trigger="schedule",mode="delete"}': 1,
                "backlog_images": 0,
            },
            id="a blocked run that ended blocks no more",
        ),
        pytest.param(
            [COUNTS, {"outcome": "missed", "started_at": None, "planned_at": None}],
            {
                'runs_total{outcome="missed",trigger="schedule",mode="delete"}': 1,
                "last_run_candidates": 10,
                "registry_images": 90,
            },
            id="a missed run is counted and is not the last run",
        ),
        pytest.param(
            [
                COUNTS | {"budget_missed_bytes": 5, "foreign_deletions": 4},
                COUNTS | {"budget_missed_bytes": 7, "foreign_deletions": 2},
            ],
            {"budget_missed_bytes": 7, "foreign_deletions_total": 6},
            id="the newest plan's missed budget, and the foreign deletions of all runs",
        ),
        pytest.param(
            [
                COUNTS
                | {"outcome": "partial", "differences": differences("shop/api", "shop/web"), "difference_count": 2},
                COUNTS | {"outcome": "partial", "differences": differences("ml/train"), "difference_count": 1},
                {
                    "state": "deleting",
                    "outcome": None,
                    "finished_at": None,
                    "differences": differences("late"),
                    "difference_count": 1,
                },
            ],
            {"verification_differences_total": 3},
            id="differences are counted when the run ends, for until then it may be verified again",
        ),
        pytest.param(
            [{"state": "blocked", "outcome": None, "finished_at": None, "exceeded": OVER}],
            {'blocked{limit="vanished"}': 1, 'blocked{limit="unusual"}': 1, 'blocked{limit="max_bytes"}': 0},
            id="a plan is blocked by a suspicion as well as by a limit",
        ),
        pytest.param(
            [
                COUNTS
                | {
                    "unreadable": UNREADABLE,
                    "unreadable_images": UNREAD_IMAGES,
                    "rule_selected": '{"pull requests": 12, "former rule": 3}',
                }
            ],
            {
                "unreadable_repositories": 1,
                "unreadable_images": 2,
                'rule_selected_images{rule="pull requests"}': 12,
                'rule_selected_images{rule="former rule"}': 3,
            },
            id="the newest plan reports its rules and its unlistable repositories",
        ),
        pytest.param(
            [
                COUNTS,
                {"outcome": "failed", "started_at": None, "planned_at": None, "finished_at": NOW + timedelta(days=900)},
            ],
            {"registry_images": 90, "last_run_candidates": 0, "last_run_duration_seconds": 0},
            id="a run that failed before its plan leaves the plan's numbers",
        ),
    ],
)
def test_values_of_metrics(store: Store, rows: list[dict[str, Any]], expected: dict[str, float]) -> None:
    for row in rows:
        add_run(store, "production", **row)
    series = scrape(store, PRODUCTION, STAGING)
    values = {name: series[full(name)] for name in expected}
    assert values == expected


@pytest.mark.parametrize(
    ("run_mode", "registry_mode", "outcome", "moves"),
    [
        pytest.param("delete", "delete", "succeeded", True, id="deleting, as the file says"),
        pytest.param("dry-run", "dry-run", "succeeded", True, id="dry run, as the file says"),
        pytest.param("dry-run", "delete", "succeeded", False, id="a more careful run than the file's"),
        pytest.param("delete", "delete", "partial", False, id="partial is no success"),
    ],
)
def test_the_last_success_is_in_the_registry_s_own_mode(
    store: Store, run_mode: str, registry_mode: str, outcome: str, moves: bool
) -> None:
    add_run(store, "production", mode=run_mode, registry_mode=registry_mode, outcome=outcome, finished_at=NOW)
    assert of(scrape(store, PRODUCTION), "last_success_timestamp_seconds") == (NOW.timestamp() if moves else 0)


def test_the_last_run_is_the_run_that_ended_last(store: Store) -> None:
    add_run(store, "production", opened_at=NOW - timedelta(days=2), finished_at=NOW, planned=5)
    add_run(store, "production", opened_at=NOW - timedelta(days=1), finished_at=NOW - timedelta(hours=1), planned=6)
    series = scrape(store, PRODUCTION)
    assert of(series, "last_run_candidates") == 5
    assert of(series, "last_run_start_timestamp_seconds") == (NOW - timedelta(days=2)).timestamp()


def test_values_of_tallies(store: Store) -> None:
    rows = [
        ("skipped", "changed", 4),
        ("failed", "poison", 2),
        ("failed", "unheard_of", 1),
        ("rate_wait_seconds", "", 1.5),
    ]
    rows += [("api_requests", "GET 200", 70), ("api_requests", "DELETE error", 3)]
    with store.write() as connection:
        for name, label, value in rows:
            connection.execute(tally.insert().values(registry="production", name=name, label=label, value=value))
    series = scrape(store, PRODUCTION)
    assert of(series, "skipped_images_total", cause="changed") == 4
    assert of(series, "failed_images_total", cause="poison") == 2
    assert of(series, "failed_images_total", cause="unheard_of") == 1
    assert of(series, "rate_wait_seconds_total") == 1.5
    assert of(series, "api_requests_total", method="GET", code="200") == 70
    assert of(series, "api_requests_total", method="DELETE", code="error") == 3


def test_values_of_a_registry_and_of_beat(store: Store) -> None:
    with store.write() as connection:
        record_registry(connection, "production", None, NOW)
        record_sign_in(connection, "production", works=False)
        record_heartbeat(connection, "beat", NOW)
    series = scrape(store, PRODUCTION)
    assert of(series, "enabled_since_timestamp_seconds") == NOW.timestamp()
    assert of(series, "auth_ok") == 0
    assert series["beat_heartbeat_timestamp_seconds"] == NOW.timestamp()


@pytest.mark.parametrize(
    ("named", "paused"),
    [
        pytest.param((), (0, 0), id="no pause"),
        pytest.param(("production",), (1, 0), id="one registry"),
        pytest.param(("*",), (1, 1), id="all, also those that the store has never seen"),
        pytest.param(("*", "production"), (1, 1), id="both"),
        pytest.param(("former",), (0, 0), id="a registry that left the configuration"),
    ],
)
def test_reports_paused_registries(store: Store, named: tuple[str, ...], paused: tuple[int, int]) -> None:
    with store.write() as connection:
        for name in named:
            connection.execute(pause.insert().values(registry=name, at=NOW, who="ann", reason="a move"))
    series = scrape(store, PRODUCTION, STAGING)
    assert (of(series, "paused"), of(series, "paused", registry="staging")) == paused
    assert not any('registry="*"' in key for key in series)


@pytest.mark.parametrize(
    ("source", "as_of", "age"),
    [
        pytest.param("cluster", NOW - timedelta(hours=5), 5 * 3600, id="by the source's own word"),
        pytest.param("cluster", NOW + timedelta(seconds=3), 0, id="a clock ahead of ours makes no negative age"),
        pytest.param("former", NOW - timedelta(hours=5), 0, id="a source that left the configuration has no series"),
    ],
)
def test_reports_the_age_of_evidence(store: Store, source: str, as_of: datetime, age: float) -> None:
    values = {"registry": "production", "source": source, "as_of": as_of, "read_at": NOW, "count": 1, "baseline": 1}
    with store.write() as connection:
        connection.execute(evidence.insert().values(values | {"sha256": "0" * 64, "uses": b"is not read here"}))
    series = scrape(store, PRODUCTION)
    assert {key: value for key, value in series.items() if key.startswith("evidence_age_seconds")} == {
        'evidence_age_seconds{registry="production",source="cluster"}': age
    }


def test_reports_foreign_references_of_the_last_scan(store: Store) -> None:
    values = {"registry": "production", "source": "cluster", "as_of": NOW, "read_at": NOW, "count": 9, "baseline": 9}
    with store.write() as connection:
        row = values | {"sha256": "0" * 64, "uses": b"is not read here", "foreign_references": 7}
        connection.execute(evidence.insert().values(row))
    assert of(scrape(store, PRODUCTION), "evidence_foreign_references", source="cluster") == 7


@pytest.mark.parametrize(
    ("line", "since", "due_at"),
    [
        pytest.param("0 3 * * * Europe/Moscow", NOW - timedelta(days=3), NOW - timedelta(hours=3), id="last midnight"),
        pytest.param("0 3 * * * Europe/Moscow", NOW - timedelta(hours=2), None, id="known only since after that"),
        pytest.param("0 4 * * * Europe/Moscow", NOW - timedelta(days=3), None, id="beat still has another cron line"),
        pytest.param("0 3 * * * Europe/Moscow", NOW + timedelta(hours=2), None, id="known since a clock ahead of ours"),
    ],
)
def test_reports_the_last_due_time(store: Store, line: str, since: datetime, due_at: datetime | None) -> None:
    with store.write() as connection:
        record_registry(connection, "production", line, since)
    seconds = of(scrape(store, PRODUCTION), "last_due_timestamp_seconds")
    assert seconds == (0 if due_at is None else due_at.timestamp())


def test_a_removed_registry_keeps_its_counters_and_loses_its_gauges(store: Store) -> None:
    add_run(store, "former", deleted=3, reclaimed_bytes=700)
    series = {key: value for key, value in scrape(store, PRODUCTION).items() if 'registry="former"' in key}
    assert series['reclaimed_bytes_total{registry="former"}'] == 700
    assert all(key.split("{")[0].endswith("_total") for key in series)


RUNS = st.lists(
    st.fixed_dictionaries(
        {
            "registry": st.sampled_from(["production", "staging", "former"]),
            "state": st.sampled_from(["finished", "blocked"]),
            "outcome": st.sampled_from(RUN_OUTCOMES),
            "trigger": st.sampled_from(TRIGGERS),
            "mode": st.sampled_from(MODES),
            "reclaimed_bytes": st.integers(0, 2**50),
            **{name: st.integers(0, 10**6) for name in IMAGE_OUTCOMES},
        }
    ),
    max_size=6,
)


@tuned(
    phases=(Phase.generate, Phase.shrink),
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=RUNS)
def test_counters_are_sums_and_never_decrease(store: Store, rows: list[dict[str, Any]]) -> None:
    with store.write() as connection:
        connection.execute(delete(run))
    before: dict[str, float] = {}
    for row in rows:
        add_run(store, **row)
        after = {key: value for key, value in scrape(store, PRODUCTION, STAGING).items() if "_total{" in key}
        assert all(after[key] >= value for key, value in before.items())
        before = after
    for name in {row["registry"] for row in rows}:
        mine = [row for row in rows if row["registry"] == name]
        assert of(before, "reclaimed_bytes_total", registry=name) == sum(row["reclaimed_bytes"] for row in mine)
        for outcome in IMAGE_OUTCOMES:
            assert of(before, "images_total", registry=name, outcome=outcome) == sum(row[outcome] for row in mine)
        finished = sum(before[key] for key in before if key.startswith("runs_total{") and f'registry="{name}"' in key)
        assert finished == sum(row["state"] == "finished" for row in mine)


def test_names_of_registries_are_escaped(store: Store) -> None:
    assert scrape(store, registry('a "b" \\ c\n'))['dry_run{registry="a "b" \\ c\n"}'] == 1


def test_the_number_of_queries_does_not_depend_on_the_amount_of_data(store: Store) -> None:
    """So a thousand runs of a hundred registries are answered within 100 ms."""
    asked: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda _c, _u, statement, *_: asked.append(statement))
    scrape(store, PRODUCTION)
    few = len(asked)
    assert few > 1
    many = [registry(f"r{number}", schedule="0 3 * * *") for number in range(20)]
    for row in many:
        add_run(store, row.name)
    asked.clear()
    scrape(store, *many)
    assert len(asked) == few


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: `make services` does it for root"
)
def test_promtool_accepts_the_metrics(store: Store) -> None:
    add_run(store, "production", deleted=3, reclaimed_bytes=700)
    text = exposition(store, PRODUCTION, STAGING)
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
