"""The audit as a table or JSON, and the result of verifying its hash chain."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from policies.units import bytes_text
from worker.report.report import Column, Report
from worker.text import counted, instant, short

if TYPE_CHECKING:  # the store imports SQLAlchemy
    from worker.store.audit import AuditCheck
    from worker.store.history import AuditRecord


def audited_json(deletion: "AuditRecord") -> dict[str, Any]:
    """A deletion: the image and its outcome, the decision, then its position in the chain."""
    own = ("at", "registry", "repository", "digest", "id", "tags", "run", "outcome", "operation_id", "reclaimed_bytes")
    decided = ("created_at", "size", "cause", "rule", "reason")
    chained = ("seq", "sha256", "facts")
    document = {key: getattr(deletion, key) for key in own}
    document |= {key: getattr(deletion.decision, key) for key in decided}
    return document | {key: getattr(deletion, key) for key in chained}


def audit_report(deletions: Iterable["AuditRecord"]) -> Report:
    """One deletion per row."""
    columns = (
        Column("AT", lambda row: instant(row.at)),
        Column("REGISTRY", lambda row: row.registry),
        Column("REPOSITORY", lambda row: row.repository),
        Column("DIGEST", lambda row: short(row.digest)),
        Column("TAGS", lambda row: " ".join(row.tags)),
        Column(
            "FREED",
            lambda row: bytes_text(row.reclaimed_bytes) if row.outcome == "deleted" else row.outcome,
            right=True,
        ),
        Column("RUN", lambda row: row.run),
        Column("RULE", lambda row: row.decision.rule or ""),
        Column("OPERATION", lambda row: row.operation_id or ""),
        Column("REASON", lambda row: row.decision.reason),
    )
    return Report(key="deletions", rows=deletions, row=audited_json, columns=columns, nothing="No deletions.")


def verified_report(result: "AuditCheck") -> Report:
    """One line to keep. Its head proves later that nobody has changed the rows up to it. The line is right only if
    `result.broken` is None: of a broken chain, use only the JSON, whose `broken` says why.
    """
    span = f", from {instant(result.first_at)} to {instant(result.last_at)}" if result.rows else ""
    line = f"the audit chain is intact: {counted(result.rows, 'row')}{span}; head {result.head or 'none yet'}"
    rows = {"rows": result.rows, "from": result.first_at, "to": result.last_at}
    return Report(head=rows | {"anchor": result.anchor, "head": result.head, "broken": result.broken}, above=(line,))
