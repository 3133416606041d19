"""Holds and pauses as tables and JSON."""

import json
from datetime import timedelta
from typing import Any

import pytest

from policies.holds import Hold
from tests.support.records import NOW
from worker.report.hold import held_report, holds_report, pauses_report, released_report, what_text
from worker.store.holds import ALL, Pause, StoredHold

DIGEST = f"sha256:{1:064x}"
TAG = Hold(kind="tag", repository="shop/api", value="v1", digest=DIGEST, who="anna", reason="trial\x1b")
GLOB = Hold(kind="repository", repository="ml/**", value="ml/**", until=NOW + timedelta(days=1))
ROWS = [
    StoredHold(id=3, registry="production", hold=TAG, at=NOW),
    StoredHold(id=12, registry="staging", hold=GLOB, at=NOW),
]
OF_ONE = Pause("production", NOW, "anna", "moving")
OF_ALL = Pause(ALL, NOW, "bert", "")


@pytest.mark.parametrize(
    ("held", "text"),
    [
        (TAG, "shop/api:v1"),
        (Hold(kind="digest", repository="shop/api", value=DIGEST), f"shop/api@{DIGEST}"),
        (Hold(kind="image", value="crp00000000000000001"), "crp00000000000000001"),
        (GLOB, "ml/**"),
    ],
    ids=["a tag", "a digest", "an id", "a glob"],
)
def test_a_hold_is_shown_with_the_reference_of_its_author(held: Hold, text: str) -> None:
    assert what_text(held) == text


def test_pauses_are_listed_above_holds() -> None:
    report = holds_report(ROWS, [OF_ALL, OF_ONE])
    above, of_one, heading, first, second = report.table()
    assert above == (
        "all registries are paused by bert since 2026-11-23T03:00:00Z; nothing is deleted until `registry-gc resume`"
    )
    assert of_one.startswith("production: paused by anna since 2026-11-23T03:00:00Z: moving; ")
    assert of_one.endswith("nothing is deleted until `registry-gc resume production`")
    assert heading.split()[0] == "HOLD"
    assert first.split() == [
        "3", "production", "shop/api:v1", DIGEST[:19], "for", "ever", "2026-11-23T03:00:00Z", "anna", "trial\\x1b",
    ]  # fmt: skip
    assert second.split() == ["12", "staging", "ml/**", "2026-11-24T03:00:00Z", "2026-11-23T03:00:00Z"]
    document = json.loads(b"".join(report.json()))
    assert [row["id"] for row in document["holds"]] == [3, 12]
    assert [row["registry"] for row in document["pauses"]] == [None, "production"]
    assert [json.loads(line)["value"] for line in report.ndjson()] == ["v1", "ml/**"]


def test_no_holds_is_shown_with_and_without_a_pause() -> None:
    assert list(holds_report([], []).table()) == ["No holds."]
    assert list(holds_report([], [OF_ONE]).table())[-1] == "No holds."


def test_a_new_and_a_released_hold_are_one_line_each() -> None:
    (line,) = held_report(ROWS[0]).table()
    assert line == f"hold 3 on shop/api:v1 ({DIGEST}) of production: held by anna: trial\\x1b"
    (line,) = held_report(ROWS[1]).table()
    assert line == "hold 12 on ml/** of staging: held until 2026-11-24T03:00:00Z"
    released = released_report(ROWS)
    assert released.head == {"released": [3, 12]}
    assert list(released.table()) == [
        "released hold 3 on shop/api:v1 of production", "released hold 12 on ml/** of staging",
    ]  # fmt: skip


ENDED = Pause("production", NOW, "anna", "moving", NOW + timedelta(hours=1), "carl")


@pytest.mark.parametrize(
    ("registry", "left", "ended", "lines"),
    [
        pytest.param("production", [], None, ["production: not paused"], id="one is not"),
        pytest.param(None, [], None, ["all registries together: not paused"], id="all are not"),
        pytest.param(
            "production", [OF_ONE], None, ["production: paused by anna since 2026-11-23T03:00:00Z: moving"], id="paused"
        ),
        pytest.param(
            "production",
            [OF_ALL],
            ENDED,
            [
                "all registries are paused by bert since 2026-11-23T03:00:00Z",
                "resumed by carl; paused by anna since 2026-11-23T03:00:00Z: moving",
            ],
            id="resumed, and all are paused still",
        ),
    ],
)
def test_the_report_of_pause_and_resume(
    registry: str | None, left: list[Pause], ended: Pause | None, lines: list[str]
) -> None:
    report = pauses_report(registry, left, ended)
    assert list(report.table()) == lines
    document: dict[str, Any] = report.head
    assert [row["who"] for row in document["pauses"]] == [row.who for row in left]
    assert document.get("resumed", {}).get("resumed_by") == (ended.resumed_by if ended else None)
