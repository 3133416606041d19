"""The scan history of a harness: read it, or move it into the past as if time had passed."""

from datetime import timedelta

from sqlalchemy import select, text, update

from policies.scan_history import RepositoryHistory
from tests.support.harness import Harness
from worker.store import plans, scan_history
from worker.store.runs import Run
from worker.store.scan_history import LAST_SCAN_PATH, LastScan, RegistryHistory, pack_last_scan, pack_repository
from worker.store.tables import scan_history as history_table


def saved_history(harness: Harness) -> RegistryHistory:
    with harness.store.read() as connection:
        registry = harness.settings.registries["production"]
        return scan_history.load(connection, registry.history_key, "production")


def remembered(harness: Harness) -> dict[str, int]:
    """Rows of each repository, missing ones included."""
    return {path: len(seen) for path, seen in saved_history(harness).seen.items()}


def pass_time(harness: Harness, by: timedelta) -> None:
    """Move the whole history into the past by that time."""
    before = saved_history(harness)
    assert before.last_scan is not None
    shift = by // timedelta(microseconds=1)

    def earlier(seen: RepositoryHistory) -> RepositoryHistory:
        missing = seen.missing - shift * (seen.missing != 0)
        return RepositoryHistory(seen.keys, seen.tags, seen.first - shift, seen.since - shift, missing)

    head = LastScan(
        before.last_scan.scanned_at - by,
        {path: at - by for path, at in before.last_scan.lagging.items()},
        before.last_scan.suspicion,
        tuple(at - by for at in before.last_scan.returned),
    )
    rows = {LAST_SCAN_PATH: pack_last_scan(head)} | {
        path: pack_repository(earlier(seen)) for path, seen in before.seen.items()
    }
    with harness.store.write() as connection:
        for path, seen in rows.items():
            connection.execute(update(history_table).where(history_table.c.path == path).values(seen=seen))
        for column in ("audit set at = at", "item set intent_at = intent_at"):
            connection.execute(text(f"update {column} - {shift}"))


def reasons(harness: Harness, run: Run) -> dict[str, tuple[str, str]]:
    """Cause and reason of every image of `shop/api`."""
    with harness.store.read() as connection:
        return {
            decision.digest: (decision.cause, decision.reason)
            for decision in plans.decisions_of(connection, run.id, "shop/api")
        }


def rows(harness: Harness) -> dict[str, bytes]:
    """The packed history of each repository, as in the store."""
    with harness.store.read() as connection:
        rows = connection.execute(select(history_table.c.path, history_table.c.seen))
        return {path: bytes(seen) for path, seen in rows}


def exceeded(run: Run) -> list[str]:
    return [limit["limit"] for limit in run.exceeded]
