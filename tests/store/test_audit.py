"""The audit's chains: whatever is done to a row is found, only the beginning is forgotten, nobody else touches them."""

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
        planned | {"batch": 0, "decision": decision, "image": "{}", "owners": "[]", "blobs": b"", "number": one.number}
        for one in items
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
            one = row(number)
            chained.append(connection, one["run_id"], [one], one["at"])


def finish(store: Store, *names: str, at: datetime = START) -> None:
    for name in names or RUNS:
        with store.write() as connection:
            assert run_rows.finish_swept(connection, name, "succeeded", at, None)


def last_of(store: Store, name: str) -> str:
    """As the log and the notification have it."""
    with store.read() as connection:
        found = run_rows.get(connection, name)
    assert found is not None
    return found.audit_sha256


def verified(store: Store, noted: str | None = None) -> AuditCheck:
    with store.read() as connection:
        return chained.verify(connection, noted)


def named(number: int) -> str:
    """How verifying names a row."""
    one = row(number)
    return f"seq {number}, {one['at']:%Y-%m-%dT%H:%M:%SZ}, {one['registry']}, shop/api@{one['digest']}"


def broken_row(number: int) -> str:
    return f"{named(number)} does not follow the row before it: {chained.DAMAGED}"


def test_chains_that_nobody_touched_hold(store: Store) -> None:
    assert verified(store) == AuditCheck(0, None, None, "", "", None)
    fill(store, 5)
    found = verified(store)
    assert (found.rows, found.first_at, found.last_at, found.broken) == (5, START + DAY, START + 5 * DAY, None)
    assert found.head == ""  # no run has finished
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


def test_many_rows_of_a_run_are_added_at_once(store: Store) -> None:
    rows = [row(number) for number in (2, 4, 6)]
    with store.write() as connection:
        chained.append(connection, "production", rows, START)
    fill(store, 2, first=7)
    with store.read() as connection:
        assert [(one.seq, one.id) for one in deletions(connection)] == [
            (seq, f"crp{number}") for seq, number in zip((5, 4, 3, 2, 1), (8, 7, 6, 4, 2), strict=True)
        ]
    assert (verified(store).rows, verified(store).broken) == (5, None)


def test_a_run_that_deletes_nothing_is_in_the_chain_of_runs(store: Store) -> None:
    fill(store, 1)
    finish(store)
    found = verified(store)
    assert (found.rows, found.broken, last_of(store, "production")) == (1, None, "")
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
def test_a_changed_column_is_found(store: Store, change: str, finished: bool) -> None:
    fill(store, 5)
    if finished:
        finish(store)
    do(store, f"update audit set {change} where seq = 3")  # noqa: S608 -- of the table above
    found = verified(store)
    assert str(found.broken).startswith("seq 3, ")
    assert str(found.broken).endswith(chained.DAMAGED)
    assert found.rows == 2


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
def test_other_damage_is_found(store: Store, damage: list[str], broken: str, finished: bool) -> None:
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
def test_damage_to_the_chain_of_runs_is_found(store: Store, damage: list[str], broken: str) -> None:
    fill(store, 5)
    finish(store, "production", "staging")
    do(store, *damage)
    assert verified(store).broken == broken


def test_swapped_rows_are_found(store: Store) -> None:
    """Everything but their numbers, hashes included."""
    fill(store, 5)
    do(
        store,
        "update audit set seq = -3 where seq = 3",
        "update audit set seq = 3 where seq = 5",
        "update audit set seq = 5 where seq = -3",
    )
    assert str(verified(store).broken).startswith("seq 3, 2026-01-06T03:00:00Z, staging, ")


def test_a_row_slipped_in_is_found(store: Store) -> None:
    fill(store, 5)
    with store.write() as connection:
        connection.execute(insert(audit).values(row(6) | {"seq": 6, "sha256": last_of(store, "production")}))
    assert verified(store).broken == broken_row(6)


def test_a_row_slipped_in_keeps_nobody_from_recording(store: Store) -> None:
    """Though it has the number that comes next."""
    fill(store, 5)
    with store.write() as connection:
        connection.execute(insert(audit).values(row(6) | {"seq": 6}))
    fill(store, 2, first=7)
    assert verified(store).broken == broken_row(6)


@pytest.mark.parametrize("name", ["anchor", "former", "runs", "forgotten"])
def test_without_its_ends_nothing_is_verified(store: Store, name: str) -> None:
    fill(store, 2)
    do(store, f"delete from chain where name = '{name}'")  # noqa: S608 -- of the table above
    with pytest.raises(StoreError, match=f"the audit's chain has lost its {name}"):
        verified(store)


def test_chains_written_anew_lack_the_noted_hashes(store: Store) -> None:
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


def test_an_outcome_that_comes_after_the_end_of_its_run_is_chained(store: Store) -> None:
    """By a worker that was out of touch: what it deleted is true all the same."""
    fill(store, 5)
    finish(store)
    before, noted = verified(store).head, last_of(store, "staging")
    fill(store, 1, first=7)
    found = verified(store)
    assert (found.rows, found.broken) == (6, None)
    assert found.head != before
    assert verified(store, before).broken is verified(store, noted).broken is None
    do(store, "delete from audit where item = 7")
    assert verified(store).broken == f"the end of what run staging deleted {CUT}"


def test_runs_are_forgotten_in_the_order_they_finished_and_the_rest_verifies(store: Store) -> None:
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
    found = verified(store, head)
    assert (found.rows, found.broken, found.head) == (9, None, head)
    assert verified(store, of_staging).broken is None  # the chain of runs keeps it
    assert (chained.forget(store, START + 8 * DAY), chained.forget(store, START + 99 * DAY)) == (0, 6)
    assert (verified(store, head).rows, verified(store, head).broken) == (3, None)  # the run that goes on
    finish(store, "open", at=START + 100 * DAY)
    assert chained.forget(store, START + 101 * DAY) == 3
    found = verified(store, head)
    assert (found.rows, found.broken) == (0, None)
    planned_run(store, "another", 0)
    with store.write() as connection:
        chained.append(connection, "another", [row(99) | {"run_id": "another"}], START)
    with store.read() as connection:
        assert next(deletions(connection)).seq == 16  # a number is never given twice
    assert (verified(store).rows, verified(store).broken) == (1, None)


def test_a_late_outcome_of_a_forgotten_run_is_kept(store: Store) -> None:
    fill(store, 5)
    finish(store)
    assert chained.forget(store, START + DAY) == 5
    fill(store, 1, first=7)
    assert (verified(store).rows, verified(store).broken) == (1, None)
    assert chained.forget(store, START + 8 * DAY) == 1
    assert (verified(store).rows, verified(store).broken) == (0, None)


def test_a_forgotten_row_cannot_come_back(store: Store) -> None:
    fill(store, 3)
    finish(store, "staging")
    chained.forget(store, START + DAY)
    with store.write() as connection:
        connection.execute(insert(audit).values(row(1) | {"seq": 1, "sha256": ""}))
    assert verified(store).broken == broken_row(1)


def test_much_is_forgotten_in_portions(store: Store) -> None:
    for name in ("third", "fourth"):
        planned_run(store, name, 0)
    for name, count in ((RUNS[0], chained.PORTION - 1), (RUNS[1], 5), ("third", 5), ("fourth", 0)):
        with store.write() as connection:
            if count:
                chained.append(connection, name, [row(item) | {"run_id": name} for item in range(count)], START)
        finish(store, name)
    late = START + 9999 * DAY
    assert [chained.forget(store, late) for _ in range(3)] == [chained.PORTION + 4, 5, 0]


def test_an_export_proves_itself(store: Store) -> None:
    """By the recipe of docs/audit.md, whatever names hold."""
    fill(store, 5)
    finish(store, "staging")
    assert run_recipe(store) == [
        "5 rows hold",
        f"production {last_of(store, 'production')}",
        f"staging {last_of(store, 'staging')}",
    ]
    with store.read() as connection:
        for line in map(json.loads, audit_report(deletions(connection)).ndjson()):
            facts = dict(zip(chained.FACTS, json.loads(line["facts"]), strict=True))
            assert json.loads(facts["tags"]) == line["tags"]
            assert json.loads(facts["decision"])["rule"] == line["rule"] == DECISION["rule"]
    do(store, "update audit set tags = '[]' where seq = 3")
    assert run_recipe(store) == ["seq 3 does not hold"]


def run_recipe(store: Store, *arguments: str) -> list[str]:
    """What the script of the documentation says of an export, oldest first."""
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


def test_two_runs_at_once_keep_their_chains(store: Store) -> None:
    do(store, "delete from run")
    runs = [planned_run(store, name, 40) for name in RUNS]
    work = [items[part::3] for items in runs for part in range(3)]
    start = threading.Barrier(len(work))

    def record(items: list[Item]) -> None:
        start.wait(10)
        for one in items:
            with store.write() as connection:
                deleted = one, sweeping.Outcome("deleted")
                assert sweeping.record_outcomes(connection, one.run_id, [deleted], START) == [deleted]

    at_once([threading.Thread(target=record, args=(items,)) for items in work])
    at_once([threading.Thread(target=finish, args=(store, name)) for name in RUNS])
    found = verified(store)
    assert (found.rows, found.broken) == (80, None)
    with store.read() as connection:
        order = [one.registry for one in deletions(connection)]
    assert {*order[:40]} == {*order[40:]} == {"production", "staging"}  # they did come together


def at_once(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_a_runs_outcome_waits_for_no_other_registrys(module_store: Store, store: Store) -> None:
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


def test_what_an_older_store_holds_stays_chained_and_the_runs_go_on_from_there(older: str) -> None:
    heads = [append_as_before(older, range(10, 10)), append_as_before(older, range(10, 13))]
    store = open_store(older)
    found = verified(store, heads[0])
    assert (found.rows, found.broken, found.head) == (6, None, heads[1])
    for name in RUNS:
        planned_run(store, name, 0)  # were in mid-run
    fill(store, 3, first=20)
    assert run_recipe(store)[0] == "9 rows hold"
    finish(store, at=START + 30 * DAY)
    for noted in (*heads, verified(store).head, last_of(store, "staging")):
        assert (verified(store, noted).rows, verified(store, noted).broken) == (9, None)
    assert chained.forget(store, START + 5 * DAY) == 2
    anchor = verified(store).anchor
    assert (verified(store, heads[1]).rows, verified(store).broken) == (7, None)
    assert run_recipe(store)[0] == "seq 9 does not hold"
    assert run_recipe(store, anchor)[0] == "7 rows hold"
    do(store, "delete from audit where seq = 11")
    assert str(verified(store).broken).startswith("seq 12, 2026-01-13T03:00:00Z, production, ")
    store.dispose()


def test_all_of_an_older_store_is_forgotten_at_last(older: str) -> None:
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


def test_a_worker_of_an_earlier_version_that_still_runs_records_nothing(older: str) -> None:
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
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (found := WRITTEN.search(node.value)):
            yield found[0]


def test_nothing_else_changes_the_audit() -> None:
    found = {
        (str(path.relative_to(ROOT)), change)
        for path in (ROOT / "worker").rglob("*.py")
        for change in changes_of_the_audit(path)
    }
    migrations = "worker/store/migrations/versions"
    assert found == {
        ("worker/store/audit.py", "insert audit"),
        ("worker/store/audit.py", "delete audit"),
        ("worker/store/audit.py", "update chain"),
        ("worker/store/audit.py", "insert swept_run"),
        (f"{migrations}/0002_left_alone.py", "update audit"),
        (f"{migrations}/0002_left_alone.py", "insert into chain"),
        (f"{migrations}/0005_a_chain_per_run.py", "update chain"),
        (f"{migrations}/0005_a_chain_per_run.py", "insert into chain"),
    }
