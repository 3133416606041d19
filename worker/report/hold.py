"""Holds and pauses as tables and JSON."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from worker.text import escaped, instant, short, table

if TYPE_CHECKING:  # the store brings SQLAlchemy along
    from policies.holds import Hold
    from worker.store.holds import HeldRow, Pause

_encoder = msgspec.json.Encoder()


def held_json(one: "HeldRow") -> dict[str, Any]:
    names = ("kind", "repository", "value", "digest", "until", "reason", "who")
    return {"id": one.id, "registry": one.registry, "at": one.at} | {name: getattr(one.hold, name) for name in names}


def pause_json(one: "Pause") -> dict[str, Any]:
    registry = None if one.of_all else one.registry
    return {"registry": registry, "at": one.at, "who": one.who, "reason": one.reason}


def resumed_json(ended: "Pause") -> dict[str, Any]:
    """Which pause was ended, when and by whom."""
    return {"resumed": pause_json(ended) | {"resumed_at": ended.resumed_at, "resumed_by": ended.resumed_by}}


def holds_json(held: Iterable["HeldRow"], pauses: Iterable["Pause"]) -> Iterator[bytes]:
    whole = {"holds": [held_json(one) for one in held], "pauses": [pause_json(one) for one in pauses]}
    yield _encoder.encode(whole) + b"\n"


def holds_ndjson(held: Iterable["HeldRow"]) -> Iterator[bytes]:
    for one in held:
        yield _encoder.encode(held_json(one)) + b"\n"


def holds_table(held: Iterable["HeldRow"], pauses: Iterable["Pause"], width: int | None = None) -> Iterator[str]:
    for pause in pauses:
        what = "all registries" if pause.of_all else pause.registry
        yield escaped(f"{what}: {pause.sentence()}; nothing is deleted there until `registry-gc resume`")
    heading = ("HOLD", "REGISTRY", "WHAT", "TODAY'S DIGEST", "UNTIL", "SINCE", "WHO", "WHY")
    rows = [
        (
            str(one.id),
            one.registry,
            what_text(one.hold),
            short(one.hold.digest or ""),
            instant(one.hold.until) or "for ever",
            instant(one.at),
            one.hold.who,
            one.hold.reason,
        )
        for one in held
    ]
    if not rows:
        yield "Nothing is held."
        return
    yield from table(heading, rows, right=frozenset({0}), width=width)


def what_text(held: "Hold") -> str:
    """What a hold was placed on, as it was typed."""
    match held.kind:
        case "tag":
            return f"{held.repository}:{held.value}"
        case "digest":
            return f"{held.repository}@{held.value}"
    return held.value
