"""Columns and tables that are named by what they hold; their contents stay as they are."""

from alembic import op

revision = "0006"
down_revision = "0005"

COLUMNS = (
    ("run", "doubt", "suspicion"),
    ("run", "told", "notified"),
    ("run", "telling", "notifying"),
    ("repository", "looked_at", "rechecked_at"),
    ("repository", "look", "refusal"),
    ("batch", "rung_at", "published_at"),
)
TABLES = (("memory", "scan_history"), ("memory_next", "scan_history_next"))


def upgrade() -> None:
    for table, old, new in COLUMNS:
        op.execute(f"alter table {table} rename column {old} to {new}")
    for old, new in TABLES:
        op.rename_table(old, new)
