"""The durable record: what was planned, intended and done. SQLite on one machine, PostgreSQL on several."""

from worker.store.engine import Store, StoreError, open_store

__all__ = ["Store", "StoreError", "open_store"]
