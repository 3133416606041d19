"""Holds and pauses as tables and JSON."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from worker.report.report import Column, Report
from worker.text import escaped, instant, short

if TYPE_CHECKING:  # the store imports SQLAlchemy
    from policies.holds import Hold
    from worker.store.holds import Pause, StoredHold


def held_json(row: "StoredHold") -> dict[str, Any]:
    names = ("kind", "repository", "value", "digest", "until", "reason", "who")
    return {"id": row.id, "registry": row.registry, "at": row.at} | {name: getattr(row.hold, name) for name in names}


def pause_json(pause: "Pause") -> dict[str, Any]:
    registry = None if pause.of_all else pause.registry
    return {"registry": registry, "at": pause.at, "who": pause.who, "reason": pause.reason}


def holds_report(held: Sequence["StoredHold"], pauses: Sequence["Pause"]) -> Report:
    """A line for each pause, then one hold per row."""
    columns = (
        Column("HOLD", lambda row: str(row.id), right=True),
        Column("REGISTRY", lambda row: row.registry),
        Column("REFERENCE", lambda row: what_text(row.hold)),
        Column("DIGEST WHEN HELD", lambda row: short(row.hold.digest or "")),
        Column("UNTIL", lambda row: instant(row.hold.until) or "for ever"),
        Column("SINCE", lambda row: instant(row.at)),
        Column("WHO", lambda row: row.hold.who),
        Column("REASON", lambda row: row.hold.reason),
    )
    lines = []
    for pause in pauses:
        command = "registry-gc resume" if pause.of_all else f"registry-gc resume {pause.registry}"
        lines.append(escaped(f"{_pause_text(pause)}; nothing is deleted until `{command}`"))
    return Report(
        whole={"holds": [held_json(row) for row in held], "pauses": [pause_json(pause) for pause in pauses]},
        rows=held,
        row=held_json,
        above=lines,
        columns=columns,
        nothing="No holds.",
    )


def held_report(row: "StoredHold") -> Report:
    """A new hold."""
    digest = f" ({row.hold.digest})" if row.hold.digest else ""
    line = f"hold {row.id} on {what_text(row.hold)}{digest} of {row.registry}: {row.hold.sentence()}"
    return Report(head=held_json(row), above=(escaped(line),))


def released_report(released: Sequence["StoredHold"]) -> Report:
    lines = (escaped(f"released hold {row.id} on {what_text(row.hold)} of {row.registry}") for row in released)
    return Report(head={"released": [row.id for row in released]}, above=lines)


def pauses_report(registry: str | None, pauses: Sequence["Pause"], ended: "Pause | None" = None) -> Report:
    """The pauses in force for a registry, or for all, and the pause that has just ended."""
    lines = [_pause_text(pause) for pause in pauses] or [f"{registry or 'all registries together'}: not paused"]
    document: dict[str, Any] = {"pauses": [pause_json(pause) for pause in pauses]}
    if ended is not None:
        lines.append(f"resumed by {ended.resumed_by}; {ended.sentence()}")
        document["resumed"] = pause_json(ended) | {"resumed_at": ended.resumed_at, "resumed_by": ended.resumed_by}
    return Report(head=document, above=map(escaped, lines))


def _pause_text(pause: "Pause") -> str:
    return pause.sentence() if pause.of_all else f"{pause.registry}: {pause.sentence()}"


def what_text(hold: "Hold") -> str:
    """The reference of a hold, as its author typed it."""
    match hold.kind:
        case "tag":
            return f"{hold.repository}:{hold.value}"
        case "digest":
            return f"{hold.repository}@{hold.value}"
    return hold.value
