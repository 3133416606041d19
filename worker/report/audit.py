"""What was deleted, as a table or JSON."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from policies.units import bytes_text
from worker.report.text import instant, short, table

if TYPE_CHECKING:  # the store brings SQLAlchemy along
    from worker.store.history import Audited

_encoder = msgspec.json.Encoder()


def audited_json(one: "Audited") -> dict[str, Any]:
    """A deletion: where and what, then by what it went."""
    what = ("at", "registry", "repository", "digest", "id", "tags", "run", "outcome", "operation_id", "reclaimed_bytes")
    why = ("created_at", "size", "cause", "rule", "reason")
    return {key: getattr(one, key) for key in what} | {key: getattr(one.decision, key) for key in why}


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
