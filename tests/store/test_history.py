"""Lists of deletions, newest first, filtered by registry, image or time."""

import json
from datetime import datetime
from typing import Any

import msgspec
import pytest

from tests.store.rows import HOUR, NOW, add_run
from tests.support.records import decision
from worker.store import Store, audit, history

DIGESTS = [f"sha256:{number:064x}" for number in range(4)]
ROWS: list[dict[str, Any]] = [
    {"registry": "production", "repository": "shop/api", "tags": ["pr-1", "PR-2"]},
    {"registry": "production", "repository": "shop/web", "tags": ["pr-1"]},
    {"registry": "staging", "repository": "shop/api", "tags": ["pr_1", 'a"b']},
    {"registry": "production", "repository": "shop/api", "tags": [], "outcome": "gone", "operation_id": "op1"},
]


@pytest.fixture
def audited(store: Store) -> Store:
    """An hour between one row and the next."""
    with store.write() as connection:
        add_run(connection)
        for number, row in enumerate(ROWS):
            facts = {"at": NOW + number * HOUR, "digest": DIGESTS[number], "image_id": f"crp{number}", "item": number}
            facts |= {"run_id": "run-1", "outcome": "deleted", "operation_id": None, "reclaimed_bytes": number * 100}
            said = msgspec.json.encode(decision(number)).decode()
            audit.append(connection, "run-1", [facts | row | {"tags": json.dumps(row["tags"]), "decision": said}], NOW)
    return store


@pytest.mark.parametrize(
    ("asked", "items"),
    [
        pytest.param({}, [3, 2, 1, 0], id="everything, newest first"),
        pytest.param({"registry": "production"}, [3, 1, 0], id="of a registry"),
        pytest.param({"registry": "elsewhere"}, [], id="of none"),
        pytest.param({"since": NOW + HOUR}, [3, 2, 1], id="since is in"),
        pytest.param({"until": NOW + HOUR}, [0], id="until is out"),
        pytest.param({"since": NOW + HOUR, "until": NOW + 2 * HOUR}, [1], id="between"),
        pytest.param({"reference": "shop/api:pr-1"}, [0], id="a tag"),
        pytest.param({"reference": "shop/api:PR-1"}, [], id="a tag in other letters"),
        pytest.param({"reference": "shop/api:PR-2"}, [0], id="a tag in these letters"),
        pytest.param({"reference": "shop/api:pr"}, [], id="the beginning of a tag"),
        pytest.param({"reference": "shop/api:pr_1"}, [2], id="a letter of LIKE is a letter"),
        pytest.param({"reference": f"shop/api@{DIGESTS[3]}"}, [3], id="a digest"),
        pytest.param({"reference": f"shop/web@{DIGESTS[3]}"}, [], id="a digest of another repository"),
        pytest.param({"reference": "crp2"}, [2], id="an id"),
        pytest.param({"reference": "crp2", "registry": "production"}, [], id="an id of another registry"),
    ],
)
def test_lists_the_deletions_that_match_the_filters(audited: Store, asked: dict[str, Any], items: list[int]) -> None:
    with audited.read() as connection:
        assert [int(record.id[3:]) for record in history.deletions(connection, **asked)] == items


def test_reports_a_deletion_as_it_was_recorded(audited: Store) -> None:
    with audited.read() as connection:
        newest = next(history.deletions(connection))
    at: datetime = NOW + 3 * HOUR
    assert (newest.at, newest.registry, newest.repository, newest.digest) == (at, "production", "shop/api", DIGESTS[3])
    assert (newest.tags, newest.run, newest.outcome, newest.operation_id) == ((), "run-1", "gone", "op1")
    assert (newest.reclaimed_bytes, newest.decision, newest.seq) == (300, decision(3), 4)
    assert DIGESTS[3] in newest.facts
    assert len(newest.sha256) == 64
