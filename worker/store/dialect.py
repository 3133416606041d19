"""The one difference between the two databases that the queries see: both have ON CONFLICT, each under its own name."""

from typing import Any

from sqlalchemy import Connection, Table


def insert_for(connection: Connection, table: Table) -> Any:
    """An INSERT of this database's kind, with `on_conflict_do_update` and `on_conflict_do_nothing`."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415 -- only the driver in use is loaded

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite  # noqa: PLC0415 -- as above

    return sqlite.insert(table)
