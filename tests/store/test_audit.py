"""The chains of the audit: a changed row is detected, only old runs are forgotten, and no other module writes rows."""

import ast
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, insert, text

from policies.image import Image
from tests.support.servers import PostgresServer
from worker.report.audit import audit_report
from worker.store import Store, StoreError, open_store, sweeping
from worker.store import audit as chained
from worker.store import runs as run_rows
from worker.store.audit import AuditCheck
from worker.store.history import deletions
from worker.store.sweeping import Item
from worker.store.tables import audit, item, run

ROOT = Path(__file__).resolve().parents[2]
DAY = timedelta(days=1)
START = datetime(2026, 1, 1, 3, tzinfo=UTC)
RUNS = ("production", "staging")  # each a run of the registry of its name
DECISION = {
    "id": "crp1", "repository": "shop/api", "digest": "sha256:1", "tags": ["pr-1"], "created_at": START, "size": 300,
    "verdict": "delete", "cause": "selected", "rule": "old \u2028 \"ones\" \x7f ёж", "needed_by": [], "reason": "old",
}  # fmt: skip


@pytest.fixture
def store(module_store: Store) -> Store:
    """A store whose audit is empty, with two runs that sweep."""
    do(module_store, "delete from audit", "delete from swept_run", "delete from run", "delete from item")
    do(module_store, "delete from chain")
    for name in ("anchor", "former", "runs", "forgotten"):
        do(module_store, f"insert into chain (name, seq, sha256) values ('{name}', 0, '')")  # noqa: S608 -- as above
    if module_store.engine.dialect.name == "postgresql":
        do(module_store, "alter sequence audit_seq_seq restart")
    for name in RUNS:
        planned_run(module_store, name, 0)
    return module_store


def do(store: Store, *statements: str) -> None:
    with store.write() as connection:
        for statement in statements:
            connection.execute(text(statement.replace(":", "\\:")))


def row(number: int, at: datetime | None = None) -> dict[str, Any]:
    return {
        "at": at or START + number * DAY,
        "registry": RUNS[number % 2],
        "repository": "shop/api",
        "digest": f"sha256:{number:064x}",
        "image_id": f"crp{number}",
        "tags": json.dumps([f"pr-{number}", "ёж"]),
        "run_id": RUNS[number % 2],
        "item": number,
        "decision": msgspec.json.encode(DECISION).decode(),
        "outcome": "deleted",
        "operation_id": None if number % 3 else f"op{number}",
        "reclaimed_bytes": 2**40 + number,
    }


def planned_run(store: Store, name: str, count: int) -> list[Item]:
    """A deleting run of a registry, as far as recording outcomes looks at it."""
    head = {"id": name, "registry": name, "registry_key": name, "trigger": "command", "mode": "delete"}
    more = {"registry_mode": "delete", "state": "deleting", "opened_at": START, "policy": "p", "policy_sha256": ""}
    planned = {"run_id": name, "repository": "shop/api", "digest": "sha256:1", "state": "intent"}
    intended = {"owners": (), "idempotency_key": None, "attempts": 1, "operation_id": None, "intent_at": START}
    image = Image(id="crp1", name="", digest="sha256:1")
    items = [Item(number=number, image=image, **planned, **intended) for number in range(count)]
    decision = msgspec.json.encode(DECISION).decode()
    rows = [
        planned
        | {"batch": 0, "decision": decision, "image": "{}", "owners": "[]", "blobs": b"", "number": planned_item.number}
        for planned_item in items
    ]
    with store.write() as connection:
        connection.execute(insert(run).values(head | more))
        if rows:
            connection.execute(insert(item), rows)
    return items


def fill(store: Store, count: int, first: int = 1) -> None:
    """A row after the other, of both runs by turns."""
    for number in range(first, first + count):
        with store.write() as connection:
            audit_row = row(number)
            chained.append(connection, audit_row["run_id"], [audit_row], audit_row["at"])


def finish(store: Store, *names: str, at: datetime = START) -> None:
    for name in names or RUNS:
        with store.write() as connection:
            assert run_rows.finish_swept(connection, name, "succeeded", at, None)


def last_of(store: Store, name: str) -> str:
    """As the log and the notification have it."""
    with store.read() as connection:
        stored = run_rows.get(connection, name)
    assert stored is not None
    return stored.audit_sha256


def verified(store: Store, noted: str | None = None) -> AuditCheck:
    with store.read() as connection:
        return chained.verify(connection, noted)


def named(number: int) -> str:
    """How verifying names a row."""
    audit_row = row(number)
    return (
        f"seq {number}, {audit_row['at']:%Y-%m-%dT%H:%M:%SZ}, {audit_row['registry']}, shop/api@{audit_row['digest']}"
    )


def broken_row(number: int) -> str:
    return f"{named(number)} does not follow the row before it: {chained.DAMAGED}"


def test_untouched_chains_verify(store: Store) -> None:
    assert verified(store) == AuditCheck(0, None, None, "", "", None)
    fill(store, 5)
    check = verified(store)
    assert (check.rows, check.first_at, check.last_at, check.broken) == (5, START + DAY, START + 5 * DAY, None)
    assert check.head == ""  # no run has finished
    finish(store, "staging")
    first = verified(store)
    assert (first.rows, first.broken, first.head) == (5, None, verified(store, noted=first.head).head)
    fill(store, 2, first=6)
    finish(store, "production", at=START + DAY)
    second = verified(store)
    assert (second.rows, second.broken) == (7, None)
    assert second.head not in ("", first.head)
    for noted in (first.head, second.head, last_of(store, "production"), last_of(store, "staging")):
        assert verified(store, noted).broken is None
    assert "the noted head is not in the chain" in str(verified(store, "0" * 64).broken)


def test_appends_many_rows_of_a_run_at_once(store: Store) -> None:
    rows = [row(number) for number in (2, 4, 6)]
    with store.write() as connection:
        chained.append(connection, "production", rows, START)
    fill(store, 2, first=7)
    with store.read() as connection:
        assert [(record.seq, record.id) for record in deletions(connection)] == [
            (seq, f"crp{number}") for seq, number in zip((5, 4, 3, 2, 1), (8, 7, 6, 4, 2), strict=True)
        ]
    assert (verified(store).rows, verified(store).broken) == (5, None)


def test_adds_a_run_without_deletions_to_the_chain_of_runs(store: Store) -> None:
    fill(store, 1)
    finish(store)
    check = verified(store)
    assert (check.rows, check.broken, last_of(store, "production")) == (1, None, "")
    do(store, "delete from swept_run where run_id = 'production'")
    assert "does not follow" in str(verified(store).broken) or "cut off" in str(verified(store).broken)


@pytest.mark.parametrize(
    "change",
    [
        "at = at + 1",
        "registry = 'staging '",
        "repository = 'shop/web'",
        "digest = 'sha256:0'",
        "image_id = ''",
        "tags = '[]'",
        "run_id = 'another'",
        "run_id = 'production'",
        "item = 99",
        "decision = replace(decision, '300', '301')",
        "outcome = 'gone'",
        "operation_id = null",
        "operation_id = ''",
        "reclaimed_bytes = 0",
        "sha256 = ''",
        "sha256 = (select before.sha256 from audit before where before.seq = 1)",
    ],
)
@pytest.mark.parametrize("finished", [False, True], ids=["in mid-run", "finished"])
def test_detects_a_changed_column(store: Store, change: str, finished: bool) -> None:
    fill(store, 5)
    if finished:
        finish(store)
    do(store, f"update audit set {change} where seq = 3")  # noqa: S608 -- of the table above
    check = verified(store)
    assert str(check.broken).startswith("seq 3, ")
    assert str(check.broken).endswith(chained.DAMAGED)
    assert check.rows == 2


CUT = "was cut off, or the run's own hash was changed"


@pytest.mark.parametrize(
    ("damage", "broken"),
    [
        (["delete from audit where seq = 1"], broken_row(3)),
        (["delete from audit where seq in (2, 3)"], broken_row(4)),
        (["update audit set seq = 33 where seq = 3"], broken_row(5)),
        (["delete from audit where seq > 4"], f"the end of what run staging deleted {CUT}"),
        (["delete from audit where run_id = 'production'"], f"the end of what run production deleted {CUT}"),
        (["update run set audit_sha256 = 'x' where id = 'staging'"], f"the end of what run staging deleted {CUT}"),
        (
            ["update run set audit_sha256 = '' where id = 'staging'"],
            "run staging: what it deleted is not the run's any more, or the run is not there",
        ),
        (
            ["delete from run where id = 'staging'"],
            "run staging: what it deleted is not the run's any more, or the run is not there",
        ),
        (["update chain set seq = 1 where name = 'anchor'"], broken_row(1)),
        (["update chain set seq = 1 where name = 'former'"], broken_row(3)),
        (
            ["update chain set sha256 = 'x' where name = 'anchor'"],
            "the end of the chain that all registries shared was cut off: its last row is seq 0",
        ),
    ],
)
@pytest.mark.parametrize("finished", [False, True], ids=["in mid-run", "finished"])
def test_detects_other_damage(store: Store, damage: list[str], broken: str, finished: bool) -> None:
    fill(store, 5)
    if finished:
        finish(store)
    do(store, *damage)
    assert verified(store).broken == broken


VANISHED = ["delete from audit where run_id = 'production'", "delete from run where id = 'production'"]
NOT_AFTER = f"does not follow the run that swept before it: {chained.DAMAGED}"


@pytest.mark.parametrize(
    ("damage", "broken"),
    [
        (VANISHED, "run production: what it deleted is not the run's any more, or the run is not there"),
        ([*VANISHED, "delete from swept_run where run_id = 'production'"], f"run staging {NOT_AFTER}"),
        (["update swept_run set at = at + 1 where number = 1"], f"run production {NOT_AFTER}"),
        (["update swept_run set last = '' where number = 1"], f"run production {NOT_AFTER}"),
        (["update swept_run set run_id = 'x' where number = 2"], f"run x {NOT_AFTER}"),
        (
            ["delete from swept_run where number = 2"],
            "the end of the chain of runs was cut off: 1 runs are there, and it says 2",
        ),
        (
            [
                "delete from swept_run where number = 2",
                "update chain set seq = 1, sha256 = (select sha256 from swept_run) where name = 'runs'",
            ],
            "run staging has finished, and the chain of runs does not have its last row",
        ),
        (
            ["update chain set seq = 3 where name = 'runs'"],
            "the end of the chain of runs was cut off: 2 runs are there, and it says 3",
        ),
        (
            ["update chain set seq = 3 where name = 'forgotten'"],
            "the chain of runs lacks run 3, up to which all was forgotten",
        ),
        (
            ["update chain set seq = 1 where name = 'forgotten'"],
            "the chain of runs lacks run 1, up to which all was forgotten",
        ),
    ],
)
def test_detects_damage_to_the_chain_of_runs(store: Store, damage: list[str], broken: str) -> None:
    fill(store, 5)
    finish(store, "production", "staging")
    do(store, *damage)
    assert verified(store).broken == broken


def test_detects_swapped_rows(store: Store) -> None:
    """Everything but their numbers, hashes included."""
    fill(store, 5)
    do(
        store,
        "update audit set seq = -3 where seq = 3",
        "update audit set seq = 3 where seq = 5",
        "update audit set seq = 5 where seq = -3",
    )
    assert str(verified(store).broken).startswith("seq 3, 2026-01-06T03:00:00Z, staging, ")


def test_detects_an_inserted_row(store: Store) -> None:
    fill(store, 5)
    with store.write() as connection:
        connection.execute(insert(audit).values(row(6) | {"seq": 6, "sha256": last_of(store, "production")}))
    assert verified(store).broken == broken_row(6)


def test_records_outcomes_despite_an_inserted_row(store: Store) -> None:
    """Although it has the next number."""
    fill(store, 5)
    with store.write() as connection:
        connection.execute(insert(audit).values(row(6) | {"seq": 6}))
    fill(store, 2, first=7)
    assert verified(store).broken == broken_row(6)


@pytest.mark.parametrize("name", ["anchor", "former", "runs", "forgotten"])
def test_verifies_nothing_without_the_ends_of_the_chains(store: Store, name: str) -> None:
    fill(store, 2)
    do(store, f"delete from chain where name = '{name}'")  # noqa: S608 -- of the table above
    with pytest.raises(StoreError, match=f"the audit's chain has lost its {name}"):
        verified(store)


def test_rewritten_chains_lack_the_noted_hashes(store: Store) -> None:
    fill(store, 5)
    finish(store)
    noted, of_run = verified(store).head, last_of(store, "production")
    do(store, "delete from audit", "delete from swept_run", "delete from run")
    do(store, "update chain set seq = 0, sha256 = ''")
    for name in RUNS:
        planned_run(store, name, 0)
    fill(store, 4, first=2)
    finish(store)
    assert verified(store).broken is None
    for hash_ in (noted, of_run):
        assert "the noted head is not in the chain" in str(verified(store, hash_).broken)


def test_chains_an_outcome_recorded_after_the_end_of_its_run(store: Store) -> None:
    """By a worker that lost contact: its deletion is a fact and stays recorded."""
    fill(store, 5)
    finish(store)
    before, noted = verified(store).head, last_of(store, "staging")
    fill(store, 1, first=7)
    check = verified(store)
    assert (check.rows, check.broken) == (6, None)
    assert check.head != before
    assert verified(store, before).broken is verified(store, noted).broken is None
    do(store, "delete from audit where item = 7")
    assert verified(store).broken == f"the end of what run staging deleted {CUT}"


def test_forgets_runs_in_the_order_of_their_ends_and_the_rest_verifies(store: Store) -> None:
    more = ("third", "fourth", "open")
    for name in more:
        planned_run(store, name, 0)
    for number, name in enumerate([*RUNS, *more]):
        with store.write() as connection:
            chained.append(connection, name, [row(9 * number + item) | {"run_id": name} for item in range(3)], START)
    for name, days in (("staging", 1), ("production", 2), ("third", 9), ("fourth", 3)):  # the clock was wrong once
        finish(store, name, at=START + days * DAY)
    of_staging, head = last_of(store, "staging"), verified(store).head
    assert chained.forget(store, START + DAY) == 0
    assert chained.forget(store, START + 8 * DAY) == 6
    check = verified(store, head)
    assert (check.rows, check.broken, check.head) == (9, None, head)
    assert verified(store, of_staging).broken is None  # the chain of runs keeps it
    assert (chained.forget(store, START + 8 * DAY), chained.forget(store, START + 99 * DAY)) == (0, 6)
    assert (verified(store, head).rows, verified(store, head).broken) == (3, None)  # the run that continues
    finish(store, "open", at=START + 100 * DAY)
    assert chained.forget(store, START + 101 * DAY) == 3
    check = verified(store, head)
    assert (check.rows, check.broken) == (0, None)
    planned_run(store, "another", 0)
    with store.write() as connection:
        chained.append(connection, "another", [row(99) | {"run_id": "another"}], START)
    with store.read() as connection:
        assert next(deletions(connection)).seq == 16  # a number is never given twice
    assert (verified(store).rows, verified(store).broken) == (1, None)


def test_keeps_a_late_outcome_of_a_forgotten_run(store: Store) -> None:
    fill(store, 5)
    finish(store)
    assert chained.forget(store, START + DAY) == 5
    fill(store, 1, first=7)
    assert (verified(store).rows, verified(store).broken) == (1, None)
    assert chained.forget(store, START + 8 * DAY) == 1
    assert (verified(store).rows, verified(store).broken) == (0, None)


def test_detects_a_forgotten_row_that_is_inserted_again(store: Store) -> None:
    fill(store, 3)
    finish(store, "staging")
    chained.forget(store, START + DAY)
    with store.write() as connection:
        connection.execute(insert(audit).values(row(1) | {"seq": 1, "sha256": ""}))
    assert verified(store).broken == broken_row(1)


def test_forgets_many_rows_in_portions(store: Store) -> None:
    for name in ("third", "fourth"):
        planned_run(store, name, 0)
    for name, count in ((RUNS[0], chained.PORTION - 1), (RUNS[1], 5), ("third", 5), ("fourth", 0)):
        with store.write() as connection:
            if count:
                chained.append(connection, name, [row(item) | {"run_id": name} for item in range(count)], START)
        finish(store, name)
    late = START + 9999 * DAY
    assert [chained.forget(store, late) for _ in range(3)] == [chained.PORTION + 4, 5, 0]


def test_an_export_verifies_by_the_documented_recipe(store: Store) -> None:
    """By the recipe of docs/audit.md, whatever names hold."""
    fill(store, 5)
    finish(store, "staging")
    assert run_recipe(store) == [
        "5 rows verified",
        f"production {last_of(store, 'production')}",
        f"staging {last_of(store, 'staging')}",
    ]
    with store.read() as connection:
        for line in map(json.loads, audit_report(deletions(connection)).ndjson()):
            facts = dict(zip(chained.FACTS, json.loads(line["facts"]), strict=True))
            assert json.loads(facts["tags"]) == line["tags"]
            assert json.loads(facts["decision"])["rule"] == line["rule"] == DECISION["rule"]
    do(store, "update audit set tags = '[]' where seq = 3")
    assert run_recipe(store) == ["seq 3 does not verify"]


def run_recipe(store: Store, *arguments: str) -> list[str]:
    """The output of the documented script for an export, oldest first."""
    page = (ROOT / "docs" / "audit.md").read_text()
    script = next(code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "hashlib" in code)
    with store.read() as connection:
        export = b"".join(reversed(list(audit_report(deletions(connection)).ndjson())))
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, input=export, capture_output=True, timeout=30, check=False)
    return sorted((done.stdout + done.stderr).decode().splitlines())


def test_an_export_is_read_while_it_is_written(postgres: PostgresServer) -> None:
    """By a cursor on the server: the driver would fetch a million rows first. SQLite's are always like that."""
    store = open_store(postgres.create_database("audit_streamed"))
    for name in RUNS:
        planned_run(store, name, 0)
    fill(store, 5)
    with store.read() as connection:
        rows = deletions(connection)
        next(rows)
        assert connection.execute(text("select count(*) from pg_cursors")).scalar() == 1
    store.dispose()


def test_two_concurrent_runs_have_valid_chains(store: Store) -> None:
    do(store, "delete from run")
    runs = [planned_run(store, name, 40) for name in RUNS]
    work = [items[part::3] for items in runs for part in range(3)]
    start = threading.Barrier(len(work))

    def record(items: list[Item]) -> None:
        start.wait(10)
        for planned_item in items:
            with store.write() as connection:
                deleted = planned_item, sweeping.Outcome("deleted")
                assert sweeping.record_outcomes(connection, planned_item.run_id, [deleted], START) == [deleted]

    at_once([threading.Thread(target=record, args=(items,)) for items in work])
    at_once([threading.Thread(target=finish, args=(store, name)) for name in RUNS])
    check = verified(store)
    assert (check.rows, check.broken) == (80, None)
    with store.read() as connection:
        order = [listed_record.registry for listed_record in deletions(connection)]
    assert {*order[:40]} == {*order[40:]} == {"production", "staging"}  # they did come together


def at_once(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_recording_an_outcome_does_not_wait_for_another_registry(module_store: Store, store: Store) -> None:
    if store.engine.dialect.name == "sqlite":
        pytest.skip("one writer at a time")
    recorded = threading.Event()

    def other() -> None:
        fill(store, 1, first=1)
        recorded.set()

    thread = threading.Thread(target=other)
    with store.write() as connection:
        chained.append(connection, "production", [row(2)], START)
        thread.start()
        assert recorded.wait(10)
    thread.join()
    assert (verified(store).rows, verified(store).broken) == (2, None)


@pytest.fixture(params=["sqlite", "postgresql"])
def older(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store of the first schema, its audit with gaps, as forgetting by registry left it."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/store.db"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.create_database(f"older_{abs(hash(request.node.nodeid))}")
    engine = create_engine(url)
    migrate(engine, "0001")
    with engine.begin() as connection:
        for number in (3, 4, 9):
            insert_raw(connection, row(number) | {"seq": number})
    engine.dispose()
    return url


def insert_raw(connection: Connection, values: dict[str, Any]) -> None:
    """As an earlier version did, into a table as it was then."""
    values = values | {"at": chained.microseconds(values["at"])}
    places = ", ".join(f":{name}" for name in values)
    connection.execute(text(f"insert into audit ({', '.join(values)}) values ({places})"), values)  # noqa: S608 -- our names


def migrate(engine: Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "worker" / "store" / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def append_as_before(url: str, numbers: range) -> str:
    """Rows as the version before wrote them, in one chain; its head."""
    engine = create_engine(url)
    migrate(engine, "0004")
    with engine.begin() as connection:
        link = text("select seq, sha256 from chain where name = 'head'")
        for number in numbers:
            seq, sha256 = connection.execute(link).one()
            values = row(number) | {"seq": seq + 1}
            raw = values | {"at": chained.microseconds(values["at"])}
            sha256 = chained.next_sha256(sha256, chained.facts_text([raw[name] for name in chained.FACTS]))
            insert_raw(connection, values | {"sha256": sha256})
            head = {"seq": seq + 1, "sha": sha256}
            connection.execute(text("update chain set seq = :seq, sha256 = :sha where name = 'head'"), head)
        head_now: str = connection.execute(link).one().sha256
    engine.dispose()
    return head_now


def test_an_upgraded_store_keeps_its_chain_and_runs_continue_it(older: str) -> None:
    heads = [append_as_before(older, range(10, 10)), append_as_before(older, range(10, 13))]
    store = open_store(older)
    check = verified(store, heads[0])
    assert (check.rows, check.broken, check.head) == (6, None, heads[1])
    for name in RUNS:
        planned_run(store, name, 0)  # were in mid-run
    fill(store, 3, first=20)
    assert run_recipe(store)[0] == "9 rows verified"
    finish(store, at=START + 30 * DAY)
    for noted in (*heads, verified(store).head, last_of(store, "staging")):
        assert (verified(store, noted).rows, verified(store, noted).broken) == (9, None)
    assert chained.forget(store, START + 5 * DAY) == 2
    anchor = verified(store).anchor
    assert (verified(store, heads[1]).rows, verified(store).broken) == (7, None)
    assert run_recipe(store)[0] == "seq 9 does not verify"
    assert run_recipe(store, anchor)[0] == "7 rows verified"
    do(store, "delete from audit where seq = 11")
    assert str(verified(store).broken).startswith("seq 12, 2026-01-13T03:00:00Z, production, ")
    store.dispose()


def test_forgets_every_row_of_an_upgraded_store_in_the_end(older: str) -> None:
    head = append_as_before(older, range(10, 13))
    store = open_store(older)
    for name in RUNS:
        planned_run(store, name, 0)
    fill(store, 3, first=20)
    finish(store, at=START + 30 * DAY)
    assert chained.forget(store, START + 29 * DAY) == 6
    assert (verified(store, head).rows, verified(store, head).broken) == (3, None)
    assert chained.forget(store, START + 31 * DAY) == 3
    assert (verified(store, head).rows, verified(store, head).broken) == (0, None)
    store.dispose()


def test_a_running_worker_of_an_earlier_version_records_nothing(older: str) -> None:
    append_as_before(older, range(10, 12))
    store = open_store(older)
    with store.read() as connection:
        assert connection.execute(text("select count(*) from chain where name = 'head'")).scalar() == 0
    store.dispose()


VERBS = {"insert", "insert_for", "update", "delete"}
TABLES = {"audit", "chain", "swept_run"}
WRITTEN = re.compile(
    r"\b(?:insert into|update|delete from|drop table|truncate) +(?:audit|chain|swept_run)\b", re.IGNORECASE
)


def changes_of_the_audit(path: Path) -> Iterator[str]:
    """The statements in a file that change rows of the audit."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in VERBS:
            tables = [argument.id for argument in node.args if isinstance(argument, ast.Name)]
            yield from (f"{node.func.id} {table}" for table in tables if table in TABLES)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (match := WRITTEN.search(node.value)):
            yield match[0]


def test_only_the_audit_module_and_migrations_change_the_audit() -> None:
    changes = {
        (str(path.relative_to(ROOT)), change)
        for path in (ROOT / "worker").rglob("*.py")
        for change in changes_of_the_audit(path)
    }
    migrations = "worker/store/migrations/versions"
    assert changes == {
        ("worker/store/audit.py", "insert audit"),
        ("worker/store/audit.py", "delete audit"),
        ("worker/store/audit.py", "update chain"),
        ("worker/store/audit.py", "insert swept_run"),
        (f"{migrations}/0002_left_alone.py", "update audit"),
        (f"{migrations}/0002_left_alone.py", "insert into chain"),
        (f"{migrations}/0005_a_chain_per_run.py", "update chain"),
        (f"{migrations}/0005_a_chain_per_run.py", "insert into chain"),
    }
