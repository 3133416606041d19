"""Rows of the store for tests: runs, batches, items and repositories, with default values."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, insert, select

from policies.image import Image
from tests.support.records import decision
from worker.store import freed_bytes
from worker.store.sweeping import ITEM_COLUMNS, Item, item_of
from worker.store.tables import batch, blob, item, repository, run

NOW = datetime(2026, 1, 1, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
KEY = "oci|https://registry.example.com|"
PATH = "shop/api"


def add_run(connection: Connection, run_id: str = "run-1", **facts: Any) -> str:
    """A run that is deleting; its id."""
    values = {"id": run_id, "registry": "production", "registry_key": KEY, "trigger": "command", "mode": "delete"}
    values |= {"registry_mode": "delete", "state": "deleting", "opened_at": NOW, "policy": "nightly"}
    connection.execute(insert(run).values(values | {"policy_sha256": "ab" * 32} | facts))
    return run_id


def add_repository(connection: Connection, path: str = PATH, *, run_id: str = "run-1", **facts: Any) -> None:
    values = {"run_id": run_id, "path": path, "inventory": "", "decisions": b""}
    connection.execute(insert(repository).values(values | facts))


def add_batch(connection: Connection, number: int = 0, *, run_id: str = "run-1", **facts: Any) -> None:
    values = {"run_id": run_id, "number": number, "repository": PATH, "wave": 0}
    connection.execute(insert(batch).values(values | facts))


def add_item(
    connection: Connection,
    number: int,
    image: Image,
    *,
    run_id: str = "run-1",
    owners: Iterable[str] = (),
    blobs: Iterable[int] = (),
    **facts: Any,
) -> Item:
    """A planned deletion of batch 0, and its record."""
    said = decision(repository=facts.get("repository", PATH), digest=image.digest, id=image.id, tags=image.tags)
    values = {"run_id": run_id, "number": number, "batch": 0, "repository": PATH, "digest": image.digest}
    values |= {"image": msgspec.json.encode(image).decode(), "decision": msgspec.json.encode(said).decode()}
    values |= {"owners": json.dumps(list(owners)), "blobs": freed_bytes.pack_numbers(blobs), "state": "planned"}
    connection.execute(insert(item).values(values | facts))
    return get_item(connection, number, run_id=run_id)


def get_item(connection: Connection, number: int, *, run_id: str = "run-1") -> Item:
    query = select(*ITEM_COLUMNS).where(item.c.run_id == run_id, item.c.number == number)
    return item_of(connection.execute(query).one())


def add_blob(connection: Connection, number: int, size: int, remaining: int, **facts: Any) -> None:
    values = {"run_id": "run-1", "number": number, "digest": f"sha256:{number}", "size": size, "remaining": remaining}
    connection.execute(insert(blob).values(values | facts))


def column(connection: Connection, table: Table, name: str, **where: Any) -> list[Any]:
    """A column of those rows that have these values, by the rows' keys."""
    query = select(table.c[name]).where(*(table.c[key] == value for key, value in where.items()))
    return list(connection.execute(query.order_by(*table.primary_key.columns)).scalars())


def only(connection: Connection, table: Table) -> Mapping[str, Any]:
    """The one row of a table."""
    return connection.execute(select(table)).one()._asdict()
