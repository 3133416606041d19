"""Renames columns and tables by what they hold; their contents stay."""

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
    ("run", "raced", "raced_pushes"),
    ("run", "different", "difference_count"),
    ("run", "after_run_over", "after_run_done"),
    ("run", "after_run_again", "after_run_retry_at"),
    ("item", "barred", "stop_reason"),
    ("blob", "ours", "deleted_by_us"),
    ("blob", "kept", "still_referenced"),
    ("registry", "line", "cron_line"),
    ("registry", "line_since", "cron_line_since"),
)
TABLES = (("memory", "scan_history"), ("memory_next", "scan_history_next"), ("about", "store_info"))


def upgrade() -> None:
    for table, old, new in COLUMNS:
        op.execute(f"alter table {table} rename column {old} to {new}")
    for old, new in TABLES:
        op.rename_table(old, new)
