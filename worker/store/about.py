"""What a store says of itself: which one it is, wherever it is opened from."""

from sqlalchemy import Connection, select

from worker.store.tables import about


def store_id(connection: Connection) -> str:
    """The store's own id, made with its schema."""
    found: str = connection.execute(select(about.c.value).where(about.c.name == "store_id")).scalar_one()
    return found
