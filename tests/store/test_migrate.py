"""The migrations create the schema of the tables, once, from any earlier version, and refuse a later one."""

import json
import threading
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, text

from worker.registries.interface import Manifest
from worker.store import StoreError, open_store
from worker.store.manifests import StoredManifests
from worker.store.tables import metadata

ROOT = Path(__file__).resolve().parents[2]


def test_the_migrations_create_the_schema_of_the_tables(url: str) -> None:
    store = open_store(url)
    with store.read() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    store.dispose()
    assert differences == []


def test_concurrent_processes_create_a_store_once(url: str) -> None:
    errors: list[Exception] = []

    def opening() -> None:
        try:
            open_store(url).dispose()
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=opening) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_refuses_a_store_of_a_later_version(url: str) -> None:
    store = open_store(url)
    with store.write() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    store.dispose()
    with pytest.raises(StoreError, match="the store has schema 9999, this version knows"):
        open_store(url)


def test_an_upgrade_keeps_the_facts_of_manifests(url: str) -> None:
    """A store of the second schema, which had a column a fact."""
    engine = open_at(url, "0002")
    image, index, signature = (f"sha256:{letter * 64}" for letter in "abc")
    rows: list[dict[str, str | None]] = [
        {"digest": image, "media_type": "an image", "children": None, "subject": None},
        {"digest": index, "media_type": "an index", "children": json.dumps([image, signature]), "subject": None},
        {"digest": signature, "media_type": "an image", "children": None, "subject": index},
        {"digest": "sha256:empty", "media_type": "an index", "children": "[]", "subject": image},
    ]
    names = ("registry_key", "digest", "media_type", "children", "subject")
    with engine.begin() as connection:
        into = f"insert into manifest ({', '.join(names)}) values (:{', :'.join(names)})"  # noqa: S608 -- our names
        connection.execute(text(into), [{"registry_key": "one", **row} for row in rows])
        connection.execute(text(into), {"registry_key": "other", **rows[0]})
    engine.dispose()
    store = open_store(url)
    assert StoredManifests(store, "one").load([image, index, signature, "sha256:empty", "sha256:new"]) == {
        image: Manifest(image, "an image", None),
        index: Manifest(index, "an index", (image, signature)),
        signature: Manifest(signature, "an image", None, index),
        "sha256:empty": Manifest("sha256:empty", "an index", (), image),
    }
    assert StoredManifests(store, "other").load([image, index]).keys() == {image}
    with store.write() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    store.dispose()
    assert differences == []


def open_at(url: str, revision: str) -> Engine:
    """A store with an older version's schema."""
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(ROOT / "worker" / "store" / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    return engine
