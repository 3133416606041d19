"""A plan as a table, JSON or NDJSON. Decisions are streamed: no form holds all of a registry in memory."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from policies.image import Unreadable, UnreadableImage
from policies.limits import Exceeded, Totals, exceeded_text
from policies.plan import Decision
from policies.units import bytes_text
from policies.warnings import PlanWarning
from worker.report.report import Column, Report, table_of
from worker.text import counted, cut, escaped, instant, short

LISTED = 40  # more deletions than these are grouped by repository and rule
TAGS_WIDTH = 32


class PlanHead(msgspec.Struct, frozen=True, kw_only=True):
    """A plan without its decisions: the first line of its NDJSON."""

    registry: str | None
    policy: str
    now: datetime
    complete: bool
    unreadable: tuple[Unreadable, ...]
    totals: Totals
    exceeded: tuple[Exceeded, ...] = ()
    warnings: tuple[PlanWarning, ...] = ()
    undecidable: int = 0  # images kept because their order among other images is unknown
    unreadable_images: tuple[UnreadableImage, ...] = ()
    # True: images that the registry does not list may share some of these bytes. UNSET: it lists all images.
    reclaimable_is_upper_bound: bool | UnsetType = UNSET


def plan_report(
    head: PlanHead, decisions: Iterable[Decision], lines: Iterable[bytes], *, suspicion: str = ""
) -> Report:
    """`lines` are the same decisions, encoded, in pieces of any length; each form reads only one of the two."""
    return Report(
        head=head,
        key="decisions",
        rows=lines,
        above=lambda width: plan_table(head, decisions, width, suspicion=suspicion),
    )


@dataclass
class _Group:
    """The deletions of one rule in one repository."""

    repository: str
    rule: str
    images: int = 0
    size: int = 0  # the sum of the known sizes, in bytes
    unknown: int = 0  # images whose size is unknown
    example: str = ""


def plan_table(
    head: PlanHead, decisions: Iterable[Decision], width: int | None = None, *, suspicion: str = ""
) -> Iterator[str]:
    """The planned deletions, the kept images by cause, the totals, the warnings."""
    deletions: list[Decision] = []
    groups: dict[tuple[str, str], _Group] = {}
    kept = Counter[tuple[str, str]]()  # by cause and rule
    for decision in decisions:
        if decision.verdict == "keep":
            kept[decision.cause, decision.rule or ""] += 1
            continue
        if len(deletions) <= LISTED:
            deletions.append(decision)
        key = (decision.repository, decision.rule or "")
        group = groups.setdefault(key, _Group(*key))
        group.images += 1
        group.size += decision.size or 0
        group.unknown += decision.size is None
        group.example = group.example or decision.reason
    registry = f"{head.registry}: " if head.registry else ""
    yield f"{escaped(registry)}policy {escaped(head.policy)}, as of {instant(head.now)}"
    yield ""
    if groups:
        if len(deletions) <= LISTED:
            yield from table_of(LISTED_COLUMNS, deletions, width)
        else:
            yield from table_of(GROUP_COLUMNS, [groups[key] for key in sorted(groups)], width)
        yield ""
    yield from (
        table_of(KEPT_COLUMNS, sorted(kept.items(), key=lambda row: (-row[1], row[0]))) if kept else ("Keeps nothing.",)
    )
    yield ""
    yield from _totals(head)
    yield from warnings(head, suspicion)


# The columns of an image in every table.
IMAGE_COLUMNS = (
    Column("REPOSITORY", lambda image: image.repository),
    Column("DIGEST", lambda image: short(image.digest)),
    Column("TAGS", lambda image: cut(" ".join(image.tags), TAGS_WIDTH)),
    Column("PUSHED", lambda image: image.created_at.strftime("%Y-%m-%d") if image.created_at else "unknown"),
    Column("SIZE", lambda image: "unknown" if image.size is None else bytes_text(image.size), right=True),
)
LISTED_COLUMNS = (
    *IMAGE_COLUMNS,
    Column("RULE", lambda decision: decision.rule or ""),
    Column("REASON", lambda decision: decision.reason),
)
GROUP_COLUMNS = (
    Column("REPOSITORY", lambda group: group.repository),
    Column("RULE", lambda group: group.rule),
    Column("IMAGES", lambda group: f"{group.images:,}", right=True),
    Column(
        "SIZE",  # `1 GiB`; `1 GiB+` if some sizes are unknown
        lambda group: (
            "unknown" if group.unknown == group.images else bytes_text(group.size) + "+" * bool(group.unknown)
        ),
        right=True,
    ),
    Column("REASON (OF THE NEWEST IMAGE)", lambda group: group.example),
)
CAUSES = {
    "no_rule": "no rule selects them",
    "kept_by_rule": "kept by rule",
    "needed": "needed by kept images",
    "in_use": "in use",
    "held": "held",
    "locked": "locked by the registry",
    "unreadable": "unreadable, or affected by an unreadable image",
    "unsettled": "seen for less time than settle",
    "keep_per_repository": "kept by keep_per_repository",
}
KEPT_COLUMNS = (  # of ((cause, rule), number)
    Column("KEPT", lambda row: f"{row[1]:,}", right=True),
    Column("CAUSE", lambda row: " ".join(filter(None, (CAUSES.get(row[0][0], row[0][0]), row[0][1])))),
)


def _totals(head: PlanHead) -> Iterator[str]:
    totals = head.totals
    registry_bytes = bytes_text(totals.registry_bytes)
    if not totals.delete:
        yield f"This plan deletes nothing and keeps {counted(totals.images, 'image')}, {registry_bytes}."
        return
    yield f"This plan deletes {totals.delete:,} of {counted(totals.images, 'image')} and keeps {totals.keep:,}."
    bound = "at most " if head.reclaimable_is_upper_bound is True else ""
    freed, selected = bytes_text(totals.reclaimable_bytes), bytes_text(totals.selected_bytes)
    yield f"It frees {bound}{freed} of {registry_bytes} ({selected} if shared layers count for every image)."


UPPER_BOUND = (
    "The bytes are an upper bound: this registry does not list untagged images, which may share some of these layers."
    " The registry's own garbage collector frees the bytes."
)


def warnings(head: PlanHead, suspicion: str = "") -> Iterator[str]:
    """The warnings of a plan, the same in every form. `suspicion`: why its push times are not trusted."""
    if not head.complete:
        number = counted(len(head.unreadable), "repository", "repositories")
        yield f"The plan is incomplete: {number} could not be read."
        for repository in head.unreadable:
            yield f"  All images of {escaped(repository.repository)} are kept: {escaped(repository.reason)}"
    for image in head.unreadable_images:
        yield f"{escaped(image.repository)}@{escaped(image.digest)} could not be read: {escaped(image.reason)}"
    for warning in head.warnings:
        yield escaped(warning.message)
    if head.exceeded:
        yield f"The plan is over its limits: {exceeded_text(head.exceeded)}."
    if head.reclaimable_is_upper_bound is True and head.totals.delete:
        yield UPPER_BOUND
    if suspicion:
        yield (
            f"Push times are not trusted: {escaped(suspicion)}. Conditions on age and counts by age are unknown until"
            " the registry's trust_times_after says from when push times can be trusted."
        )
