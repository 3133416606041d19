"""The scan history: staged with a plan, applied when it is stored, loaded with the deletions since."""

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection, insert

from policies.scan_history import NO_HISTORY, RepositoryHistory, update_history
from tests.store.rows import HOUR, KEY, NOW, SECOND, add_item, add_run, column
from tests.support.builders import digest, image
from worker.store import Store, StoreError, scan_history
from worker.store.runs import accept_vanished, record_registry
from worker.store.scan_history import (
    DELETION_WINDOW,
    LAST_SCAN_PATH,
    REMOVED,
    LastScan,
    RegistryHistory,
    pack_last_scan,
    pack_repository,
)
from worker.store.tables import audit, scan_history_next
from worker.store.tables import scan_history as history_table

PATH = "shop/api"
SEEN = update_history(NO_HISTORY, [image("a", "v1"), image("b")], NOW)


def saved_history(connection: Connection, head: LastScan | None = None, **seen: RepositoryHistory) -> RegistryHistory:
    """Save the history of one scan of `production` and load it again."""
    rows = [(path.replace("_", "/"), pack_repository(value)) for path, value in seen.items()]
    head_row = [] if head is None else [(LAST_SCAN_PATH, pack_last_scan(head))]
    scan_history.stage(connection, "scan", [*rows, *head_row])
    scan_history.apply_staged(connection, "scan", KEY)
    return scan_history.load(connection, KEY, "production")


def known(seen: RepositoryHistory) -> set[str]:
    return set(seen.lookup([digest("a"), digest("b")]))


def test_a_registry_that_was_never_scanned_has_no_history(store: Store) -> None:
    with store.write() as connection:
        history = saved_history(connection)
        assert (history, history.repository(PATH), history.last_scan) == (RegistryHistory(), NO_HISTORY, None)
        assert scan_history.load_repository(connection, KEY, PATH) is NO_HISTORY


def test_applies_staged_history(store: Store) -> None:
    head = LastScan(scanned_at=NOW, lagging={"shop/web": NOW - HOUR}, suspicion="all at once", returned=(NOW,))
    with store.write() as connection:
        scan_history.stage(connection, "scan", [(PATH, pack_repository(SEEN)), (LAST_SCAN_PATH, pack_last_scan(head))])
        scan_history.stage(connection, "scan", [])
        assert scan_history.load(connection, KEY, "production") == RegistryHistory()
        scan_history.apply_staged(connection, "scan", KEY)
        history = scan_history.load(connection, KEY, "production")
        assert (history.last_scan, set(history.seen), len(history.seen)) == (head, {PATH}, 1)
        assert (
            known(history.repository(PATH))
            == known(scan_history.load_repository(connection, KEY, PATH))
            == {digest("a"), digest("b")}
        )
        assert column(connection, scan_history_next, "path") == []
    assert (head.listed_at(PATH), head.listed_at("shop/web")) == (NOW, NOW - HOUR)


def test_applies_only_the_paths_that_the_scan_staged(store: Store) -> None:
    less = update_history(NO_HISTORY, [image("a")], NOW)
    with store.write() as connection:
        saved_history(connection, LastScan(scanned_at=NOW), a=SEEN, b=SEEN, c=SEEN)
        scan_history.stage(connection, "later", [("a", pack_repository(less)), ("b", REMOVED)])
        scan_history.stage(connection, "unstored", [("c", REMOVED)])
        scan_history.apply_staged(connection, "later", KEY)
        history = scan_history.load(connection, KEY, "production")
        assert {path: len(known(seen)) for path, seen in history.seen.items()} == {"a": 1, "c": 2}
        assert scan_history.load(connection, "another", "production") == RegistryHistory()
    assert pack_repository(NO_HISTORY) == REMOVED


@pytest.mark.parametrize("path", [LAST_SCAN_PATH, PATH])
def test_an_unreadable_row_is_an_error_that_names_it(store: Store, path: str) -> None:
    with store.write() as connection:
        saved_history(connection, LastScan(scanned_at=NOW), shop_api=SEEN)
        connection.execute(history_table.update().where(history_table.c.path == path).values(seen=b"rubbish"))
    with (
        store.read() as connection,
        pytest.raises(StoreError, match=path or "the last scan of production"),
    ):
        scan_history.load(connection, KEY, "production").repository(PATH)


def test_loads_when_a_person_accepted_vanished_images(store: Store) -> None:
    with store.write() as connection:
        record_registry(connection, "production", None, NOW)
        accept_vanished(connection, "production", NOW)
        assert saved_history(connection, LastScan(scanned_at=NOW)).accepted_at == NOW


def deleted(connection: Connection, of: str, at: datetime, *, run_id: str = "run-1", **facts: Any) -> None:
    """An audited item of a run."""
    number = len(column(connection, audit, "seq"))
    owners = facts.pop("owners", ())
    add_item(connection, number, image(of), run_id=run_id, state="deleted", owners=owners)
    values = {"registry": "production", "repository": PATH, "digest": digest(of), "image_id": "", "tags": "[]"}
    values |= {"run_id": run_id, "item": number, "decision": "{}", "outcome": "deleted", "reclaimed_bytes": 0, "at": at}
    connection.execute(insert(audit).values(values | facts))


@pytest.mark.parametrize(
    ("started", "at", "outcome", "ours", "went"),
    [
        pytest.param(NOW, NOW + HOUR, "deleted", True, True, id="deleted since"),
        pytest.param(NOW, NOW + HOUR, "gone", False, True, id="found gone since"),
        pytest.param(NOW - HOUR, NOW - HOUR, "deleted", False, False, id="deleted before the scan"),
        pytest.param(NOW - HOUR, NOW + HOUR, "deleted", True, True, id="of an earlier plan, approved later"),
        pytest.param(NOW, NOW - HOUR, "deleted", True, True, id="of this scan's run, whose clock was set back"),
    ],
)
def test_lists_deletions_since_the_last_scan(
    store: Store, started: datetime, at: datetime, outcome: str, ours: bool, went: bool
) -> None:
    with store.write() as connection:
        add_run(connection, started_at=started)
        add_run(connection, "other", registry="staging", registry_key="staging", started_at=NOW)
        deleted(connection, "a", at, outcome=outcome)
        deleted(connection, "b", NOW + HOUR, run_id="other", registry="staging")
        history = saved_history(connection, LastScan(scanned_at=NOW), shop_api=SEEN)
    assert history.deleted_by_us == ({PATH: (digest("a"),)} if ours else {})
    assert history.gone == ({PATH: frozenset({digest("a")})} if went else {})
    assert known(history.seen[PATH]) == {digest("a"), digest("b")}
    assert known(history.without_gone[PATH]) == ({digest("b")} if went else {digest("a"), digest("b")})
    assert (list(history.without_gone), len(history.without_gone)) == ([PATH], 1)


@pytest.mark.parametrize(
    ("facts", "started", "ours", "went"),
    [
        pytest.param({"state": "intent", "intent_at": NOW + SECOND}, NOW, True, True, id="intended"),
        pytest.param({"state": "accepted", "intent_at": NOW + SECOND}, NOW, True, True, id="accepted"),
        pytest.param({"state": "failed", "outcome_cause": "unconfirmed"}, NOW, True, True, id="unconfirmed"),
        pytest.param({"state": "failed", "outcome_cause": "other"}, NOW, False, False, id="failed"),
        pytest.param({"state": "planned"}, NOW, False, False, id="planned"),
        pytest.param(
            {"state": "intent", "intent_at": NOW - SECOND},
            NOW - DELETION_WINDOW,
            True,
            False,
            id="begun before, perhaps done later",
        ),
        pytest.param(
            {"state": "intent", "intent_at": NOW - SECOND},
            NOW - DELETION_WINDOW - SECOND,
            False,
            False,
            id="begun long before",
        ),
    ],
)
def test_lists_deletions_that_may_have_been_carried_out(
    store: Store, facts: dict[str, Any], started: datetime, ours: bool, went: bool
) -> None:
    with store.write() as connection:
        add_run(connection, started_at=started)
        add_item(connection, 0, image("a"), **facts)
        history = saved_history(connection, LastScan(scanned_at=NOW), shop_api=SEEN)
    assert (PATH in history.deleted_by_us, PATH in history.gone) == (ours, went)


def test_counts_images_deleted_with_their_owner_as_ours(store: Store) -> None:
    with store.write() as connection:
        add_run(connection, started_at=NOW)
        deleted(connection, "index", NOW + SECOND)
        deleted(connection, "inner", NOW + SECOND, outcome="gone", owners=[digest("index")])
        deleted(connection, "child", NOW + SECOND, outcome="gone", owners=[digest("inner")])
        deleted(connection, "a", NOW + SECOND, outcome="gone", owners=[digest("elsewhere")])
        history = saved_history(connection, LastScan(scanned_at=NOW))
    assert set(history.deleted_by_us[PATH]) == {digest("index"), digest("inner"), digest("child")}


def test_deletions_of_a_lagging_repository_count_from_its_last_listing(store: Store) -> None:
    with store.write() as connection:
        add_run(connection, started_at=NOW - HOUR)
        deleted(connection, "a", NOW - SECOND)
        lagging = LastScan(scanned_at=NOW, lagging={PATH: NOW - HOUR})
        assert saved_history(connection, LastScan(scanned_at=NOW)).deleted_by_us == {}
        assert saved_history(connection, lagging).deleted_by_us == {PATH: (digest("a"),)}
