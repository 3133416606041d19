"""The audit as a table and JSON, and the result of verifying its chain."""

from datetime import timedelta
from typing import Any

import pytest

from tests.support.records import NOW, decision
from worker.report.audit import audit_report, verified_report
from worker.store.audit import AuditCheck
from worker.store.history import AuditRecord


def audited(**more: Any) -> AuditRecord:
    facts = {"at": NOW, "registry": "production", "repository": "shop/api", "digest": f"sha256:{1:064x}", "id": "crp1"}
    facts |= {"tags": ("pr-1", "pr-2"), "run": "run-1", "item": 0, "outcome": "deleted", "operation_id": None, "seq": 7}
    facts |= {"reclaimed_bytes": 1536, "decision": decision(), "sha256": "ab" * 32, "facts": "[1]"}
    return AuditRecord(**facts | more)


@pytest.mark.parametrize(
    ("more", "cells"),
    [
        pytest.param({}, "pr-1 pr-2  1.5 KiB  run-1  pull requests             every tag matches pr-*", id="deleted"),
        pytest.param(
            {"outcome": "gone", "reclaimed_bytes": 0, "operation_id": "op1", "tags": ()},
            "gone  run-1  pull requests  op1        every tag matches pr-*",
            id="gone when its turn came",
        ),
        pytest.param(
            {"decision": decision(rule=None, cause="follows", reason="its index goes")},
            "pr-1 pr-2  1.5 KiB  run-1                   its index goes",
            id="by no rule of its own",
        ),
    ],
)
def test_a_row_has_the_freed_bytes_and_the_reason(more: dict[str, Any], cells: str) -> None:
    _, row = audit_report([audited(**more)]).table()
    assert row.startswith("2026-11-23T03:00:00Z  production  shop/api    sha256:000000000000  ")
    assert row.endswith(cells)


def test_an_empty_audit_says_no_deletions() -> None:
    assert list(audit_report([]).table()) == ["No deletions."]


SPAN = {"first_at": NOW, "last_at": NOW + timedelta(hours=1)}


@pytest.mark.parametrize(
    ("check", "line"),
    [
        (AuditCheck(0, None, None, "", "", None), "the audit chain is intact: 0 rows; head none yet"),
        (
            AuditCheck(rows=1, **SPAN, anchor="", head="", broken=None),
            "the audit chain is intact: 1 row, from 2026-11-23T03:00:00Z to 2026-11-23T04:00:00Z; head none yet",
        ),
        (
            AuditCheck(rows=2000, **SPAN, anchor="x", head="abc", broken=None),
            "the audit chain is intact: 2,000 rows, from 2026-11-23T03:00:00Z to 2026-11-23T04:00:00Z; head abc",
        ),
    ],
    ids=["empty", "no run has finished", "many"],
)
def test_an_intact_chain_is_one_line(check: AuditCheck, line: str) -> None:
    report = verified_report(check)
    assert list(report.table()) == [line]
    assert (report.head["rows"], report.head["head"], report.head["anchor"]) == (check.rows, check.head, check.anchor)


def test_a_broken_chain_names_the_row() -> None:
    check = AuditCheck(rows=1, **SPAN, anchor="", head="", broken="seq 2 does not follow")
    assert verified_report(check).head["broken"] == "seq 2 does not follow"
