"""Refuses a plan that deletes too much."""

from dataclasses import dataclass

from msgspec import Struct

DEFAULT_SHARE = 0.5  # of the readable images, where a user says no share
DEFAULT_FROM = 20  # readable images; below, half a registry is a handful


class Totals(Struct, frozen=True, kw_only=True):
    """A plan in numbers. Images of unreadable repositories are in none of them."""

    images: int = 0
    keep: int = 0
    delete: int = 0
    selected_bytes: int = 0  # sum of compressedSize, where told, of what goes
    reclaimable_bytes: int = 0  # blobs that only what goes references, each once
    registry_bytes: int = 0  # blobs of the registry, each once


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one plan may delete; None: no such limit, but a share of the half is always there."""

    max_images: int | None = None
    max_share: float | None = None  # 0..1 of the readable images
    max_bytes: int | None = None  # reclaimable bytes


class Exceeded(Struct, frozen=True):
    """A limit that a plan is over."""

    limit: str
    value: int | float
    allowed: int | float


def exceeded(totals: Totals, limits: Limits) -> tuple[Exceeded, ...]:
    """Every limit that the plan is over: more than allowed, not as much."""
    share = totals.delete / totals.images if totals.images else 0.0
    allowed_share = limits.max_share
    if allowed_share is None and totals.images >= DEFAULT_FROM:
        allowed_share = DEFAULT_SHARE
    found: tuple[tuple[str, int | float, int | float | None], ...] = (
        ("max_images", totals.delete, limits.max_images),
        ("max_share", share, allowed_share),
        ("max_bytes", totals.reclaimable_bytes, limits.max_bytes),
    )
    return tuple(Exceeded(name, value, most) for name, value, most in found if most is not None and value > most)
