"""The audit's chain: whatever is done to a row is found, only the beginning is forgotten, nobody else touches it."""

import ast
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, insert, text

from policies.image import Image
from tests.support.servers import PostgresServer
from worker.report.audit import audit_ndjson
from worker.store import Store, StoreError, open_store, sweeping
from worker.store import audit as chained
from worker.store.audit import Verified
from worker.store.history import deletions
from worker.store.sweeping import Item
from worker.store.tables import audit, item, run

ROOT = Path(__file__).resolve().parents[2]
DAY = timedelta(days=1)
START = datetime(2026, 1, 1, 3, tzinfo=UTC)
DECISION = {
    "id": "crp1", "repository": "shop/api", "digest": "sha256:1", "tags": ["pr-1"], "created_at": START, "size": 300,
    "verdict": "delete", "cause": "selected", "rule": "old \u2028 \"ones\" \x7f ёж", "needed_by": [], "reason": "old",
}  # fmt: skip


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('audit')}/store.db"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.create_database("audit")
    store = open_store(url)
    yield store
    store.dispose()


@pytest.fixture
def store(opened: Store) -> Store:
    """A store whose audit is empty."""
    do(opened, "delete from audit", "delete from chain")
    do(opened, "insert into chain (name, seq, sha256) values ('anchor', 0, ''), ('head', 0, '')")
    return opened


def do(store: Store, *statements: str) -> None:
    with store.write() as connection:
        for statement in statements:
            connection.execute(text(statement.replace(":", "\\:")))


def row(number: int, at: datetime | None = None) -> dict[str, Any]:
    return {
        "at": at or START + number * DAY,
        "registry": ("production", "staging")[number % 2],
        "repository": "shop/api",
        "digest": f"sha256:{number:064x}",
        "image_id": f"crp{number}",
        "tags": json.dumps([f"pr-{number}", "ёж"]),
        "run_id": "a run",
        "item": number,
        "decision": msgspec.json.encode(DECISION).decode(),
        "outcome": "deleted",
        "operation_id": None if number % 3 else f"op{number}",
        "reclaimed_bytes": 2**40 + number,
    }


def fill(store: Store, count: int, first: int = 1) -> None:
    with store.write() as connection:
        for number in range(first, first + count):
            chained.append(connection, row(number))


def verified(store: Store, noted: str | None = None) -> Verified:
    with store.read() as connection:
        return chained.verify(connection, noted)


def named(number: int) -> str:
    """How verifying names a row."""
    one = row(number)
    return f"seq {number}, {one['at']:%Y-%m-%dT%H:%M:%SZ}, {one['registry']}, shop/api@{one['digest']}"


def test_a_chain_that_nobody_touched_holds(store: Store) -> None:
    assert verified(store) == Verified(0, None, None, "", "", None)
    fill(store, 5)
    found = verified(store)
    assert (found.rows, found.first_at, found.last_at, found.broken) == (5, START + DAY, START + 5 * DAY, None)
    fill(store, 3, first=6)
    assert (verified(store).rows, verified(store, noted=found.head).broken) == (8, None)


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
        "item = 99",
        "decision = replace(decision, '300', '301')",
        "outcome = 'gone'",
        "operation_id = null",
        "operation_id = ''",
        "reclaimed_bytes = 0",
        "sha256 = ''",
        "sha256 = (select before.sha256 from audit before where before.seq = 2)",
    ],
)
def test_a_changed_column_is_found(store: Store, change: str) -> None:
    fill(store, 5)
    do(store, f"update audit set {change} where seq = 3")  # noqa: S608 -- of the table above
    found = verified(store)
    assert found.broken is not None
    assert found.broken.startswith("seq 3, ")
    assert found.broken.endswith("was changed, or inserted")
    assert found.rows == 2


REMOVED = "rows between them were removed, or it was changed"


@pytest.mark.parametrize(
    ("damage", "broken"),
    [
        (["delete from audit where seq = 1"], f"{named(2)} does not follow seq 0: {REMOVED}"),
        (["delete from audit where seq in (2, 3)"], f"{named(4)} does not follow seq 1: {REMOVED}"),
        (["update audit set seq = 33 where seq = 3"], f"{named(4)} does not follow seq 2: {REMOVED}"),
        (["delete from audit where seq > 3"], "the end was cut off: seq 3 is the newest row, and the head says 5"),
        (["delete from audit"], "the end was cut off: seq 0 is the newest row, and the head says 5"),
        (["update chain set seq = 4 where name = 'head'"], f"{named(5)} was inserted behind the head, which is seq 4"),
        (
            ["update chain set seq = 6 where name = 'head'"],
            "the end was cut off: seq 5 is the newest row, and the head says 6",
        ),
        (["update chain set sha256 = 'x' where name = 'head'"], "the head was changed: it is not that of seq 5"),
        (
            ["update chain set seq = 1 where name = 'anchor'"],
            f"{named(1)} was inserted: everything up to seq 1 was forgotten",
        ),
        (["update chain set sha256 = 'x' where name = 'anchor'"], f"{named(1)} was changed, or inserted"),
    ],
)
def test_other_damage_is_found(store: Store, damage: list[str], broken: str | None) -> None:
    fill(store, 5)
    do(store, *damage)
    assert verified(store).broken == broken


def test_swapped_rows_are_found(store: Store) -> None:
    """Everything but their numbers, hashes included."""
    fill(store, 5)
    do(
        store,
        "update audit set seq = -2 where seq = 2",
        "update audit set seq = 2 where seq = 3",
        "update audit set seq = 3 where seq = -2",
    )
    assert str(verified(store).broken).startswith("seq 2, 2026-01-04T03:00:00Z, staging, ")


def test_a_row_slipped_in_is_found(store: Store) -> None:
    fill(store, 5)
    with store.write() as connection:
        connection.execute(insert(audit).values(row(6) | {"seq": 6, "sha256": verified(store).head}))
    assert verified(store).broken == f"{named(6)} was inserted behind the head, which is seq 5"


def test_a_row_slipped_in_keeps_nobody_from_recording(store: Store) -> None:
    """As a worker of an older version would write it."""
    fill(store, 5)
    with store.write() as connection:
        connection.execute(insert(audit).values(row(6) | {"seq": 6}))
    fill(store, 2, first=7)
    broken = verified(store).broken
    assert broken is not None
    assert named(6) in broken


@pytest.mark.parametrize("name", ["head", "anchor"])
def test_without_its_ends_nothing_is_verified(store: Store, name: str) -> None:
    fill(store, 2)
    do(store, f"delete from chain where name = '{name}'")  # noqa: S608 -- of the table above
    with pytest.raises(StoreError, match=f"the audit's chain has lost its {name}"):
        verified(store)


def test_a_chain_written_anew_lacks_the_noted_head(store: Store) -> None:
    fill(store, 5)
    noted = verified(store).head
    do(store, "delete from audit", "update chain set seq = 0, sha256 = ''")
    fill(store, 4, first=2)
    assert verified(store).broken is None
    assert "the noted head is not in the chain" in str(verified(store, noted).broken)


def test_only_the_beginning_is_forgotten_and_the_rest_verifies(store: Store) -> None:
    with store.write() as connection:
        for number, days in enumerate([1, 2, 9, 3, 4], start=1):  # the clock was wrong once
            chained.append(connection, row(number, START + days * DAY))
    assert chained.forget(store, START + DAY) == 0
    assert chained.forget(store, START + 8 * DAY) == 2
    found = verified(store)
    assert (found.rows, found.broken) == (3, None)
    assert verified(store, noted=found.anchor).broken is None
    assert (chained.forget(store, START + 8 * DAY), chained.forget(store, START + 10 * DAY)) == (0, 3)
    head = found.head
    assert verified(store) == Verified(0, None, None, head, head, None)
    fill(store, 1, first=6)
    assert (verified(store).rows, verified(store).broken) == (1, None)


def test_a_forgotten_row_cannot_come_back(store: Store) -> None:
    fill(store, 3)
    chained.forget(store, START + 2 * DAY)
    with store.write() as connection:
        connection.execute(insert(audit).values(row(9) | {"seq": 1, "sha256": ""}))
    assert "was inserted: everything up to seq 1 was forgotten" in str(verified(store).broken)


def test_much_is_forgotten_in_portions(store: Store) -> None:
    fill(store, chained.PORTION + 5)
    late = START + 9999 * DAY
    assert [chained.forget(store, late) for _ in range(3)] == [chained.PORTION, 5, 0]


def test_an_export_proves_itself(store: Store) -> None:
    """By the recipe of docs/operations.md, whatever names hold."""
    fill(store, 5)
    with store.read() as connection:
        lines = [json.loads(line) for line in audit_ndjson(deletions(connection))]
    before = ""
    for line in reversed(lines):
        before = hashlib.sha256(f"{before}\n{line['facts']}".encode()).hexdigest()
        assert line["sha256"] == before
        facts = dict(zip(chained.FACTS, json.loads(line["facts"]), strict=True))
        told = ("seq", "registry", "repository", "digest")
        assert [facts[name] for name in told] == [line[name] for name in told]
        assert json.loads(facts["tags"]) == line["tags"]
        assert json.loads(facts["decision"])["rule"] == line["rule"] == DECISION["rule"]
    assert before == verified(store).head


def test_an_export_is_read_while_it_is_written(postgres: PostgresServer) -> None:
    """By a cursor on the server: the driver would fetch a million rows first. SQLite's are always like that."""
    store = open_store(postgres.create_database("audit_streamed"))
    fill(store, 5)
    with store.read() as connection:
        rows = deletions(connection)
        next(rows)
        assert connection.execute(text("select count(*) from pg_cursors")).scalar() == 1
    store.dispose()


def planned_run(store: Store, name: str, count: int) -> list[Item]:
    """A deleting run of a registry, as far as recording outcomes looks at it."""
    head = {"id": name, "registry": name, "registry_key": name, "trigger": "command", "mode": "delete"}
    more = {"registry_mode": "delete", "state": "deleting", "opened_at": START, "policy": "p", "policy_sha256": ""}
    planned = {"run_id": name, "repository": "shop/api", "digest": "sha256:1", "state": "intent"}
    intended = {"owners": (), "idempotency_key": None, "attempts": 1, "operation_id": None, "intent_at": START}
    image = Image(id="crp1", name="", digest="sha256:1")
    items = [Item(number=number, image=image, **planned, **intended) for number in range(count)]
    decision = msgspec.json.encode(DECISION).decode()
    row = planned | {"batch": 0, "decision": decision, "image": "{}", "owners": "[]", "blobs": b""}
    with store.write() as connection:
        connection.execute(insert(run).values(head | more))
        connection.execute(insert(item), [row | {"number": one.number} for one in items])
    return items


def test_two_runs_at_once_keep_one_chain(store: Store) -> None:
    do(store, "delete from run", "delete from item")
    runs = [planned_run(store, name, 40) for name in ("production", "staging")]
    work = [items[part::3] for items in runs for part in range(3)]
    start = threading.Barrier(len(work))

    def record(items: list[Item]) -> None:
        start.wait(10)
        for one in items:
            with store.write() as connection:
                assert sweeping.record_outcome(connection, one, "deleted", None, None, START)

    threads = [threading.Thread(target=record, args=(items,)) for items in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    found = verified(store)
    assert (found.rows, found.broken) == (80, None)
    with store.read() as connection:
        order = [one.registry for one in deletions(connection)]
    assert {*order[:40]} == {*order[40:]} == {"production", "staging"}  # they did come together


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
            values = row(number) | {"seq": number, "at": chained.microseconds(row(number)["at"])}
            names = ", ".join(values)
            places = ", ".join(f":{name}" for name in values)
            connection.execute(text(f"insert into audit ({names}) values ({places})"), values)  # noqa: S608 -- our names
    engine.dispose()
    return url


def migrate(engine: Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "worker" / "store" / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_what_an_older_store_holds_is_chained(older: str) -> None:
    store = open_store(older)
    found = verified(store)
    assert (found.rows, found.broken) == (3, None)
    fill(store, 2, first=10)
    assert (verified(store).rows, verified(store, found.head).broken) == (5, None)
    do(store, "delete from audit where seq = 4")
    assert verified(store).broken == f"{named(9)} does not follow seq 3: {REMOVED}"
    store.dispose()


VERBS = {"insert", "insert_for", "update", "delete"}
TABLES = {"audit", "chain"}
WRITTEN = re.compile(r"\b(?:insert into|update|delete from|drop table|truncate) +(?:audit|chain)\b", re.IGNORECASE)


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
    migration = "worker/store/migrations/versions/0002_left_alone.py"
    assert found == {
        ("worker/store/audit.py", "insert audit"),
        ("worker/store/audit.py", "delete audit"),
        ("worker/store/audit.py", "update chain"),
        (migration, "update audit"),
        (migration, "insert into chain"),
    }
