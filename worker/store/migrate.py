"""Upgrades a store's schema, in one process at a time. Alembic is imported only for an upgrade."""

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

HEAD = "0006"


class SchemaError(Exception):
    """This version cannot use the store's schema; `open_store` raises a StoreError from it."""


def bring_up_to_date(engine: Engine, *, create: bool) -> None:
    """Apply missing migrations. Raises SchemaError: the schema is newer, or, without `create`, old or absent."""
    with engine.connect() as connection:
        revision = _revision(connection)
    if revision == HEAD:
        return
    if revision is not None and revision > HEAD:
        raise SchemaError(f"the store has schema {revision}, this version knows {HEAD}; use the version that wrote it")
    if not create and revision is None:
        raise SchemaError("the store has no schema yet; the first run creates it")
    if not create:
        raise SchemaError(
            f"the store has schema {revision}, older than this version's {HEAD}; starting a worker, beat, web or "
            "`registry-gc up` upgrades it"
        )
    from alembic import command, config  # noqa: PLC0415 -- a quarter of a second that most starts need not pay

    scripts = config.Config()
    scripts.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.connect().execution_options(immediate=True) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("select pg_advisory_xact_lock(7263347)"))  # two processes may start together
        if _revision(connection) != HEAD:
            scripts.attributes["connection"] = connection
            command.upgrade(scripts, "head")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("select version_num from alembic_version")).scalar()
    return revision
