"""What was deleted, as a table or JSON, and whether its chain holds."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from policies.units import bytes_text
from worker.text import counted, instant, short, table

if TYPE_CHECKING:  # the store brings SQLAlchemy along
    from worker.store.audit import Verified
    from worker.store.history import Audited

_encoder = msgspec.json.Encoder()


def audited_json(one: "Audited") -> dict[str, Any]:
    """A deletion: where and what, by what it went, then its place in the chain."""
    what = ("at", "registry", "repository", "digest", "id", "tags", "run", "outcome", "operation_id", "reclaimed_bytes")
    why = ("created_at", "size", "cause", "rule", "reason")
    place = ("seq", "sha256", "facts")
    told = {key: getattr(one, key) for key in what} | {key: getattr(one.decision, key) for key in why}
    return told | {key: getattr(one, key) for key in place}


def audit_json(deletions: Iterable["Audited"]) -> Iterator[bytes]:
    yield b'{"deletions":['
    for number, one in enumerate(deletions):
        yield (b",\n" if number else b"\n") + _encoder.encode(audited_json(one))
    yield b"]}\n"


def audit_ndjson(deletions: Iterable["Audited"]) -> Iterator[bytes]:
    for one in deletions:
        yield _encoder.encode(audited_json(one)) + b"\n"


def audit_table(deletions: Iterable["Audited"], width: int | None = None) -> Iterator[str]:
    heading = ("AT", "REGISTRY", "REPOSITORY", "DIGEST", "TAGS", "FREED", "RUN", "RULE", "OPERATION", "WHY IT WENT")
    rows = [
        (
            instant(one.at),
            one.registry,
            one.repository,
            short(one.digest),
            " ".join(one.tags),
            bytes_text(one.reclaimed_bytes) if one.outcome == "deleted" else one.outcome,
            one.run,
            one.decision.rule or "",
            one.operation_id or "",
            one.decision.reason,
        )
        for one in deletions
    ]
    if not rows:
        yield "Nothing was deleted."
        return
    yield from table(heading, rows, right=frozenset({5}), width=width)


def verified_text(found: "Verified") -> Iterator[str]:
    """One line to keep: with the head, which proves later that nothing up to it was changed."""
    span = f", from {instant(found.first_at)} to {instant(found.last_at)}" if found.rows else ""
    yield f"the audit's chain holds: {counted(found.rows, 'row')}{span}; head {found.head or 'none yet'}"


def broken_text(found: "Verified") -> str:
    return f"the audit's chain does not hold: {found.broken}; {counted(found.rows, 'row')} before that"


def verified_json(found: "Verified") -> Iterator[bytes]:
    span = {"rows": found.rows, "from": found.first_at, "to": found.last_at}
    yield _encoder.encode(span | {"anchor": found.anchor, "head": found.head, "broken": found.broken}) + b"\n"
