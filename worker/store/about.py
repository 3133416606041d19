"""What a store says of itself: which one it is, wherever it is opened from."""

from uuid import uuid4

from sqlalchemy import Connection, select

from worker.store.dialect import insert_for
from worker.store.tables import about


def store_id(connection: Connection) -> str:
    """The store's own id, made when it is first asked for. In a transaction that writes."""
    mine = insert_for(connection, about).values(name="store_id", value=str(uuid4()))
    connection.execute(mine.on_conflict_do_nothing())
    found: str = connection.execute(select(about.c.value).where(about.c.name == "store_id")).scalar_one()
    return found
