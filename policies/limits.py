"""Refuses a plan that deletes too much, and says so in words."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from pydantic import Field

from policies.findings import Form
from policies.forms import Share, Size
from policies.units import bytes_text

DEFAULT_SHARE = 0.5  # of the readable images, where a user says no share
DEFAULT_AFTER = 3  # deletions; so few are a handful in a registry of any size
UNUSUAL_AMONG = 14  # plans of a registry that the next one is measured by
UNUSUAL_FROM = 5  # plans; fewer say nothing of what is usual
UNUSUAL_TIMES = 3  # their median


class Totals(Struct, frozen=True, kw_only=True):
    """A plan in numbers. Images of unreadable repositories are in none of them."""

    images: int = 0
    keep: int = 0
    delete: int = 0
    selected_bytes: int = 0  # sum of compressedSize, where told, of what goes
    reclaimable_bytes: int = 0  # blobs that only what goes references, each once
    registry_bytes: int = 0  # blobs of the registry, each once


class Limits(Form):
    """The most that one plan may delete: a plan over one of these is not carried out until it is approved.

    None: no such limit, but more than half never goes unasked.
    """

    max_images: int | None = Field(default=None, ge=0, strict=True)
    max_share: Share | None = None  # 0..1 of the readable images
    max_bytes: Size | None = Field(default=None, description="reclaimable bytes")


class Exceeded(Struct, frozen=True):
    """A limit that a plan is over."""

    limit: str
    value: int | float
    allowed: int | float


def exceeded(totals: Totals, limits: Limits) -> tuple[Exceeded, ...]:
    """Every limit that the plan is over: more than allowed, not as much."""
    share = totals.delete / totals.images if totals.images else 0.0
    allowed_share = limits.max_share
    if allowed_share is None and totals.delete > DEFAULT_AFTER:
        allowed_share = DEFAULT_SHARE
    found: tuple[tuple[str, int | float, int | float | None], ...] = (
        ("max_images", totals.delete, limits.max_images),
        ("max_share", share, allowed_share),
        ("max_bytes", totals.reclaimable_bytes, limits.max_bytes),
    )
    return tuple(Exceeded(name, value, most) for name, value, most in found if most is not None and value > most)


def unusual(totals: Totals, earlier: Sequence[int]) -> tuple[Exceeded, ...]:
    """The limit of being unlike the plans before, if it is over that. `earlier`: images that each of them deletes."""
    if len(earlier) < UNUSUAL_FROM:
        return ()
    ordered = sorted(earlier)
    twice_the_median = ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]
    allowed = UNUSUAL_TIMES * max(twice_the_median, 2) // 2
    return (Exceeded("unusual", totals.delete, allowed),) if totals.delete > allowed else ()


def exceeded_text(found: Iterable[Exceeded | Mapping[str, Any]]) -> str:
    """`max_share is 75%, allowed 10%; max_bytes is 59.1 KiB, allowed 1000 B`; a store's mappings are read as well."""
    return "; ".join(_exceeded_words(msgspec.convert(one, Exceeded, from_attributes=True)) for one in found)


_WORDS = {
    "vanished": "{value} of the images of the last complete scan are missing, not deleted by us, allowed {allowed}",
    "unusual": "{value} images are more than three times what a plan usually deletes here, allowed {allowed}",
}


def _exceeded_words(over: Exceeded) -> str:
    for digits in (4, 15):  # rounded, unless what is over would then read as what is allowed
        value, allowed = (_amount(over.limit, number, digits) for number in (over.value, over.allowed))
        if value != allowed:
            break
    return _WORDS.get(over.limit, "{limit} is {value}, allowed {allowed}").format(
        limit=over.limit, value=value, allowed=allowed
    )


def _amount(limit: str, number: float, digits: int) -> str:
    if limit in ("max_share", "vanished"):
        return f"{number * 100:.{digits}g}%"
    if limit == "max_bytes" and digits == 4:
        return bytes_text(int(number))
    return f"{int(number):,}{' B' if limit == 'max_bytes' else ''}"
