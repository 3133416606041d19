"""Queries of the audit: every deletion that was carried out, newest first."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, select

from policies.plan import Decision
from worker.store.audit import FACTS, RAW, facts_text
from worker.store.tables import EPOCH, audit
from worker.text import Reference, parse_reference


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One deletion: what, when, by which run and rule, its operation."""

    at: datetime
    registry: str
    repository: str
    digest: str
    id: str
    tags: tuple[str, ...]
    run: str
    item: int  # its number in the run
    outcome: str  # deleted or gone
    operation_id: str | None
    reclaimed_bytes: int
    decision: Decision
    seq: int
    sha256: str  # of the row before and of this one
    facts: str  # the text of this row in its hash


def deletions(
    connection: Connection,
    *,
    registry: str | None = None,
    reference: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[AuditRecord]:
    """Newest first, read as they are asked for; `reference`: `path:tag`, `path@sha256:…`, or an image's id.

    `since` is in, `until` is out.
    """
    columns = [one.label({"image_id": "id", "run_id": "run"}.get(one.name, one.name)) for one in (*RAW, audit.c.sha256)]
    found: Select[Any] = select(*columns).order_by(audit.c.seq.desc()).execution_options(yield_per=500)
    if since is not None:
        found = found.where(audit.c.at >= since)
    if until is not None:
        found = found.where(audit.c.at < until)
    if registry is not None:
        found = found.where(audit.c.registry == registry)
    named = Reference() if reference is None else parse_reference(reference)
    if named.digest:
        found = found.where(audit.c.repository == named.path, audit.c.digest == named.digest)
    elif named.tag:
        # The tags are JSON text, the tag one of its strings; LIKE may take upper case for lower: see below.
        tagged = audit.c.tags.contains(f'"{named.tag}"', autoescape=True)
        found = found.where(audit.c.repository == named.path, tagged)
    elif named.id:
        found = found.where(audit.c.image_id == named.id)
    return (one for one in map(_audited, connection.execute(found)) if not named.tag or named.tag in one.tags)


def _audited(row: Row[Any]) -> AuditRecord:
    decoded = {
        "at": EPOCH + timedelta(microseconds=row.at),
        "tags": tuple(json.loads(row.tags)),
        "decision": msgspec.json.decode(row.decision, type=Decision, strict=False),
        "facts": facts_text(row[: len(FACTS)]),
    }
    return AuditRecord(**{**row._mapping, **decoded})
