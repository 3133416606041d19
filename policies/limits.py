"""The limits of a plan: whether it deletes too much, and a sentence about each limit that it exceeds."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from pydantic import Field

from policies.findings import Form
from policies.forms import Share, Size
from policies.units import bytes_text

DEFAULT_SHARE = 0.5  # of the readable images, if the user sets no share
HARMLESS_DELETIONS = 3  # in a registry of any size: the default share does not limit so few
UNUSUAL_WINDOW = 14  # latest plans of a registry, with which the next plan is compared
UNUSUAL_FROM = 5  # plans; fewer do not show what is usual
UNUSUAL_TIMES = 3  # a plan with more deletions than so many times the median is unusual


class Totals(Struct, frozen=True, kw_only=True):
    """The numbers of a plan. They leave out images of unreadable repositories."""

    images: int = 0
    keep: int = 0
    delete: int = 0
    selected_bytes: int = 0  # sum of the known compressedSize of deleted images
    reclaimable_bytes: int = 0  # blobs that only deleted images reference, each once
    registry_bytes: int = 0  # blobs of the registry, each once


class Limits(Form):
    """The most that one plan may delete: a plan over a limit is carried out only after its approval.

    None: no limit. Without `max_share`, a plan of more than three deletions may delete at most half of the images.
    """

    max_images: int | None = Field(default=None, ge=0, strict=True)
    max_share: Share | None = None  # 0..1 of the readable images
    max_bytes: Size | None = Field(default=None, description="reclaimable bytes")


class Exceeded(Struct, frozen=True):
    """A limit that a plan exceeds."""

    limit: str
    value: int | float
    allowed: int | float


def exceeded(totals: Totals, limits: Limits) -> tuple[Exceeded, ...]:
    """Every limit that the plan exceeds. A plan may reach a limit."""
    share = totals.delete / totals.images if totals.images else 0.0
    allowed_share = limits.max_share
    if allowed_share is None and totals.delete > HARMLESS_DELETIONS:
        allowed_share = DEFAULT_SHARE
    values: tuple[tuple[str, int | float, int | float | None], ...] = (
        ("max_images", totals.delete, limits.max_images),
        ("max_share", share, allowed_share),
        ("max_bytes", totals.reclaimable_bytes, limits.max_bytes),
    )
    return tuple(Exceeded(name, value, most) for name, value, most in values if most is not None and value > most)


def unusual(totals: Totals, earlier: Sequence[int]) -> tuple[Exceeded, ...]:
    """The limit `unusual`, if the plan exceeds it. `earlier`: how many images each of the earlier plans deletes."""
    if len(earlier) < UNUSUAL_FROM:
        return ()
    ordered = sorted(earlier)
    twice_the_median = ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]
    allowed = UNUSUAL_TIMES * max(twice_the_median, 2) // 2
    return (Exceeded("unusual", totals.delete, allowed),) if totals.delete > allowed else ()


_SENTENCES = {
    "vanished": "{value} of the images of the last complete scan are missing, not deleted by us, allowed {allowed}",
    "unusual": "{value} images are more than three times what a plan usually deletes here, allowed {allowed}",
}


def exceeded_text(limits: Iterable[Exceeded | Mapping[str, Any]]) -> str:
    """`max_share is 75%, allowed 10%; max_bytes is 59.1 KiB, allowed 1000 B`; also for mappings of the store."""
    sentences = []
    for limit in limits:
        over = msgspec.convert(limit, Exceeded, from_attributes=True)
        for digits in (4, 15):  # rounded, unless the rounded value would equal the limit
            value, allowed = (_amount(over.limit, number, digits) for number in (over.value, over.allowed))
            if value != allowed:
                break
        sentence = _SENTENCES.get(over.limit, "{limit} is {value}, allowed {allowed}")
        sentences.append(sentence.format(limit=over.limit, value=value, allowed=allowed))
    return "; ".join(sentences)


def _amount(limit: str, number: float, digits: int) -> str:
    if limit in ("max_share", "vanished"):
        return f"{number * 100:.{digits}g}%"
    if limit == "max_bytes" and digits == 4:
        return bytes_text(int(number))
    return f"{int(number):,}{' B' if limit == 'max_bytes' else ''}"
