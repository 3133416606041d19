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
    """One deletion: the image, the time, the run, the rule and the operation."""

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
    sha256: str  # of the row before and of this row
    facts: str  # the text of this row that goes into its hash


def deletions(
    connection: Connection,
    *,
    registry: str | None = None,
    reference: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[AuditRecord]:
    """Deletions since `since` and before `until`, newest first, read while the caller iterates.

    `reference`: `path:tag`, `path@sha256:…`, or an image's id.
    """
    labels = {"image_id": "id", "run_id": "run"}
    columns = [column.label(labels.get(column.name, column.name)) for column in (*RAW, audit.c.sha256)]
    query: Select[Any] = select(*columns).order_by(audit.c.seq.desc()).execution_options(yield_per=500)
    if since is not None:
        query = query.where(audit.c.at >= since)
    if until is not None:
        query = query.where(audit.c.at < until)
    if registry is not None:
        query = query.where(audit.c.registry == registry)
    named = Reference() if reference is None else parse_reference(reference)
    if named.digest:
        query = query.where(audit.c.repository == named.path, audit.c.digest == named.digest)
    elif named.tag:
        # The column is JSON text with the tags as strings. LIKE may ignore case, so records are compared once more.
        tagged = audit.c.tags.contains(f'"{named.tag}"', autoescape=True)
        query = query.where(audit.c.repository == named.path, tagged)
    elif named.id:
        query = query.where(audit.c.image_id == named.id)
    records = map(_record, connection.execute(query))
    return (record for record in records if not named.tag or named.tag in record.tags)


def _record(row: Row[Any]) -> AuditRecord:
    decoded = {
        "at": EPOCH + timedelta(microseconds=row.at),
        "tags": tuple(json.loads(row.tags)),
        "decision": msgspec.json.decode(row.decision, type=Decision, strict=False),
        "facts": facts_text(row[: len(FACTS)]),
    }
    return AuditRecord(**{**row._mapping, **decoded})
