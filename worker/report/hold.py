"""Holds and pauses as tables and JSON."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from worker.report.report import Column, Report
from worker.text import escaped, instant, short

if TYPE_CHECKING:  # the store brings SQLAlchemy along
    from policies.holds import Hold
    from worker.store.holds import Pause, StoredHold


def held_json(one: "StoredHold") -> dict[str, Any]:
    names = ("kind", "repository", "value", "digest", "until", "reason", "who")
    return {"id": one.id, "registry": one.registry, "at": one.at} | {name: getattr(one.hold, name) for name in names}


def pause_json(one: "Pause") -> dict[str, Any]:
    registry = None if one.of_all else one.registry
    return {"registry": registry, "at": one.at, "who": one.who, "reason": one.reason}


def holds_report(held: Sequence["StoredHold"], pauses: Sequence["Pause"]) -> Report:
    """What is held, one a row, below what is paused."""
    return Report(
        whole={"holds": [held_json(one) for one in held], "pauses": [pause_json(one) for one in pauses]},
        rows=held,
        row=held_json,
        above=map(_paused, pauses),
        columns=HELD,
        nothing="Nothing is held.",
    )


def _paused(pause: "Pause") -> str:
    what = "all registries" if pause.of_all else pause.registry
    return escaped(f"{what}: {pause.sentence()}; nothing is deleted there until `registry-gc resume`")


HELD = (
    Column("HOLD", lambda one: str(one.id), right=True),
    Column("REGISTRY", lambda one: one.registry),
    Column("WHAT", lambda one: what_text(one.hold)),
    Column("TODAY'S DIGEST", lambda one: short(one.hold.digest or "")),
    Column("UNTIL", lambda one: instant(one.hold.until) or "for ever"),
    Column("SINCE", lambda one: instant(one.at)),
    Column("WHO", lambda one: one.hold.who),
    Column("WHY", lambda one: one.hold.reason),
)


def held_report(row: "StoredHold") -> Report:
    """A hold that was placed just now."""
    named = f" ({row.hold.digest})" if row.hold.digest else ""
    line = f"hold {row.id} on {what_text(row.hold)}{named} of {row.registry}: {row.hold.sentence()}"
    return Report(head=held_json(row), above=(escaped(line),))


def released_report(released: Sequence["StoredHold"]) -> Report:
    lines = (escaped(f"released hold {one.id} on {what_text(one.hold)} of {one.registry}") for one in released)
    return Report(head={"released": [one.id for one in released]}, above=lines)


def pauses_report(registry: str | None, left: Sequence["Pause"], ended: "Pause | None" = None) -> Report:
    """What is paused now that concerns a registry, or all, and which pause has just been `ended`."""
    lines = [f"{'all' if one.of_all else one.registry}: {one.sentence()}" for one in left]
    lines = lines or [f"{registry or 'all registries together'}: not paused (any more)"]
    told: dict[str, Any] = {"pauses": [pause_json(one) for one in left]}
    if ended is not None:
        lines.append(f"resumed by {ended.resumed_by}; {ended.sentence()}")
        told["resumed"] = pause_json(ended) | {"resumed_at": ended.resumed_at, "resumed_by": ended.resumed_by}
    return Report(head=told, above=map(escaped, lines))


def what_text(held: "Hold") -> str:
    """What a hold was placed on, as it was typed."""
    match held.kind:
        case "tag":
            return f"{held.repository}:{held.value}"
        case "digest":
            return f"{held.repository}@{held.value}"
    return held.value
