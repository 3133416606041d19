"""Remarks on a plan that a person should read before they trust it. A warning changes no verdict."""

from collections.abc import Container, Iterable, Iterator

from msgspec import Struct

INSTEAD = "write push_time: image in the registry, or keep rules on tags"


class PlanWarning(Struct, frozen=True):
    """A remark on a plan: `code` is a constant, `message` a sentence with the facts and a remedy."""

    code: str
    message: str


def undecidable(images: int) -> Iterator[PlanWarning]:
    """A warning if any images are kept because their rank in a count is unknown. `images`: how many."""
    if images:
        kept = "1 image is kept because its" if images == 1 else f"{images:,} images are kept because their"
        yield PlanWarning(
            "undecidable",
            f"{kept} rank in a count is unknown: the registry reports no push times, and one scan of this store first"
            f" saw {'it' if images == 1 else 'them'} together with other images; {INSTEAD}.",
        )


def keeps_nothing(rules: Iterable[str], keeping: Container[str]) -> Iterator[PlanWarning]:
    """A warning for each of these keep rules that matches no image, although the whole registry was read."""
    for name in rules:
        if name not in keeping:
            yield PlanWarning(
                "keep_rule_matches_nothing",
                f"The keep rule {name!r} matches no image of the registry, so it protects nothing; compare its"
                " conditions and repositories with what `registry-gc inventory` shows, or remove it.",
            )
