"""What was deleted, as a table or JSON, and whether its chain holds."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from policies.units import bytes_text
from worker.report.report import Column, Report
from worker.text import counted, instant, short

if TYPE_CHECKING:  # the store brings SQLAlchemy along
    from worker.store.audit import AuditCheck
    from worker.store.history import AuditRecord


def audited_json(one: "AuditRecord") -> dict[str, Any]:
    """A deletion: where and what, by what it went, then its place in the chain."""
    what = ("at", "registry", "repository", "digest", "id", "tags", "run", "outcome", "operation_id", "reclaimed_bytes")
    why = ("created_at", "size", "cause", "rule", "reason")
    place = ("seq", "sha256", "facts")
    told = {key: getattr(one, key) for key in what} | {key: getattr(one.decision, key) for key in why}
    return told | {key: getattr(one, key) for key in place}


def audit_report(deletions: Iterable["AuditRecord"]) -> Report:
    """Deletions, one a row."""
    return Report(key="deletions", rows=deletions, row=audited_json, columns=DELETED, nothing="Nothing was deleted.")


DELETED = (
    Column("AT", lambda one: instant(one.at)),
    Column("REGISTRY", lambda one: one.registry),
    Column("REPOSITORY", lambda one: one.repository),
    Column("DIGEST", lambda one: short(one.digest)),
    Column("TAGS", lambda one: " ".join(one.tags)),
    Column(
        "FREED", lambda one: bytes_text(one.reclaimed_bytes) if one.outcome == "deleted" else one.outcome, right=True
    ),
    Column("RUN", lambda one: one.run),
    Column("RULE", lambda one: one.decision.rule or ""),
    Column("OPERATION", lambda one: one.operation_id or ""),
    Column("WHY IT WENT", lambda one: one.decision.reason),
)


def verified_report(found: "AuditCheck") -> Report:
    """One line to keep: with the head, which proves later that nothing up to it was changed."""
    span = f", from {instant(found.first_at)} to {instant(found.last_at)}" if found.rows else ""
    line = f"the audit's chain holds: {counted(found.rows, 'row')}{span}; head {found.head or 'none yet'}"
    told = {"rows": found.rows, "from": found.first_at, "to": found.last_at}
    return Report(head=told | {"anchor": found.anchor, "head": found.head, "broken": found.broken}, above=(line,))
