"""The durable record: what was planned, intended and done. SQLite on one machine, PostgreSQL on several.

Tables, queries, migrations and leases; what is done with them is in the rooms that ask.
"""

from worker.store.engine import Store, StoreError, open_store

__all__ = ["Store", "StoreError", "open_store"]
