"""Records for tests, in a few words each: images by number, repositories, policies by their document."""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from policies.document import parse_policy
from policies.image import Blob, Image, Repository
from policies.reclaim import PlanSummary, PlanSummaryBuilder, RepositoryTotals
from policies.rules import Policy

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def digest(of: object) -> str:
    """The digest of a name; the same name always has the same digest."""
    return f"sha256:{hashlib.sha256(str(of).encode()).hexdigest()}"


def image(
    of: object,
    *tags: str,
    days: float | None = 50,
    size: int | None = 100,
    layers: Iterable[object] | Mapping[object, int] = (),
    **facts: Any,
) -> Image:
    """An image pushed `days` ago (None: unknown). `layers`: names of blobs of 10 bytes, or names with their bytes."""
    sizes = layers if isinstance(layers, Mapping) else dict.fromkeys(layers, 10)
    return Image(
        digest=digest(of),
        id=f"crp{of}",
        tags=tags,
        created_at=None if days is None else NOW - timedelta(days=days),
        compressed_size=size,
        layers=tuple(Blob(digest(name), size) for name, size in sizes.items()),
        **facts,
    )


def index(of: object, *tags: str, lists: Iterable[object] | None, **facts: Any) -> Image:
    """An index of the images `lists` names; None: its children could not be read."""
    return image(of, *tags, children=None if lists is None else tuple(map(digest, lists)), **facts)


def signature(of: object, kind: str = "sig", **facts: Any) -> Image:
    """Cosign's signature of an image, by its tag."""
    return image(f"{kind} of {of}", f"sha256-{digest(of).removeprefix('sha256:')}.{kind}", **facts)


def repository(path: str, *images: Image) -> Repository:
    return Repository(path=path, images=images)


def policy(*rules: Mapping[str, Any]) -> Policy:
    """A policy by its document; rules without a name are named by their number."""
    named = [{"name": f"rule {number}"} | dict(rule) for number, rule in enumerate(rules)]
    made, mistakes = parse_policy("test", named, "policies.test")
    assert made is not None, "; ".join(map(str, mistakes))
    return made


def add_up(repositories: Iterable[RepositoryTotals]) -> PlanSummary:
    """The summary of decided repositories."""
    builder = PlanSummaryBuilder()
    for totals in repositories:
        builder.add(totals)
    return builder.build()
