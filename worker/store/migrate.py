"""Brings a store's schema up to date, once, whoever comes first. Alembic is loaded only where there is work for it."""

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

HEAD = "0006"


class SchemaError(Exception):
    """The store's schema is not one this version can use: `open_store` makes a StoreError of it."""


def bring_up_to_date(engine: Engine, *, create: bool) -> None:
    """Apply what is missing. Raises SchemaError: the schema is newer than this version, or absent."""
    with engine.connect() as connection:
        revision = _revision(connection)
    if revision == HEAD:
        return
    if revision is not None and revision > HEAD:
        raise SchemaError(f"the store has schema {revision}, this version knows {HEAD}; use the version that made it")
    if not create and revision is None:
        raise SchemaError("the store has no schema yet; it is made by the first run")
    if not create:
        raise SchemaError(
            f"the store has schema {revision}, older than this version's {HEAD}; starting a worker, beat, web or "
            "`registry-gc up` brings it up to date"
        )
    _upgrade(engine)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("select version_num from alembic_version")).scalar()
    return revision


def _upgrade(engine: Engine) -> None:
    from alembic import command, config  # noqa: PLC0415 -- a quarter of a second that most starts need not pay

    scripts = config.Config()
    scripts.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.connect().execution_options(immediate=True) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("select pg_advisory_xact_lock(7263347)"))  # two processes may come first together
        if _revision(connection) != HEAD:
            scripts.attributes["connection"] = connection
            command.upgrade(scripts, "head")
