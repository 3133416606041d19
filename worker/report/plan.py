"""A plan as a table, JSON or NDJSON. Decisions stream through: none of the forms needs a registry's worth in memory."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
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

LISTED = 40  # deletions up to this many are listed one by one; more are grouped by repository and rule
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
    undecidable: int = 0  # images kept because nobody reported an order between them and others
    unreadable_images: tuple[UnreadableImage, ...] = ()
    # True: what the registry does not list may need some of the reclaimable bytes. Left out where it lists everything.
    reclaimable_is_upper_bound: bool | UnsetType = UNSET


def plan_report(
    head: PlanHead, decisions: Iterable[Decision], lines: Iterable[bytes], *, suspicion: str = ""
) -> Report:
    """`lines` are the same decisions, encoded, in pieces of any length; only one of the two is read."""
    return Report(
        head=head,
        key="decisions",
        rows=lines,
        above=lambda width: plan_table(head, decisions, width, suspicion=suspicion),
    )


@dataclass
class _Group:
    """What goes of one repository by one rule."""

    repository: str
    rule: str
    images: int = 0
    size: int = 0  # bytes, where told
    untold: int = 0
    example: str = ""


@dataclass
class _Digest:
    """What the table needs of all decisions."""

    listed: list[Decision] = field(default_factory=list)
    groups: dict[tuple[str, str], _Group] = field(default_factory=dict)
    kept: Counter[tuple[str, str]] = field(default_factory=Counter)  # (cause, rule or "")

    def take(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            if decision.verdict == "keep":
                self.kept[decision.cause, decision.rule or ""] += 1
                continue
            if len(self.listed) <= LISTED:
                self.listed.append(decision)
            key = (decision.repository, decision.rule or "")
            group = self.groups.setdefault(key, _Group(*key))
            group.images += 1
            group.size += decision.size or 0
            group.untold += decision.size is None
            group.example = group.example or decision.reason


def plan_table(
    head: PlanHead, decisions: Iterable[Decision], width: int | None = None, *, suspicion: str = ""
) -> Iterator[str]:
    """What goes, why, and how many bytes; what stays, by cause; what is wrong with the plan."""
    digest = _Digest()
    digest.take(decisions)
    of = f"{head.registry}: " if head.registry else ""
    yield f"{escaped(of)}policy {escaped(head.policy)}, as of {instant(head.now)}"
    yield ""
    if digest.groups:
        if len(digest.listed) <= LISTED:
            yield from table_of(GOING, digest.listed, width)
        else:
            yield from table_of(GROUPS, [digest.groups[key] for key in sorted(digest.groups)], width)
        yield ""
    kept = sorted(digest.kept.items(), key=lambda one: (-one[1], one[0]))
    yield from table_of(KEPT, kept) if kept else ("Nothing stays.",)
    yield ""
    yield from _totals(head)
    yield from warnings(head, suspicion)


# How every table shows an image.
DELETIONS = (
    Column("REPOSITORY", lambda one: one.repository),
    Column("DIGEST", lambda one: short(one.digest)),
    Column("TAGS", lambda one: cut(" ".join(one.tags), TAGS_WIDTH)),
    Column("PUSHED", lambda one: one.created_at.strftime("%Y-%m-%d") if one.created_at else "unknown"),
    Column("SIZE", lambda one: "unknown" if one.size is None else bytes_text(one.size), right=True),
)
GOING = (*DELETIONS, Column("RULE", lambda one: one.rule or ""), Column("WHY IT GOES", lambda one: one.reason))
GROUPS = (
    Column("REPOSITORY", lambda group: group.repository),
    Column("RULE", lambda group: group.rule),
    Column("IMAGES", lambda group: f"{group.images:,}", right=True),
    Column("SIZE", lambda group: size_text(group.size, group.untold, group.images), right=True),
    Column("WHY THEY GO, THE NEWEST FOR EXAMPLE", lambda group: group.example),
)


def size_text(size: int, untold: int, images: int) -> str:
    """A sum of sizes, of which some may be unknown."""
    if untold == images:
        return "unknown"
    return f"{bytes_text(size)}{'+' if untold else ''}"


KEPT_BECAUSE = {
    "no_rule": "no rule selects them",
    "kept_by_rule": "kept by rule",
    "needed": "what needs them stays",
    "in_use": "in use",
    "held": "held by hand",
    "locked": "locked by the registry",
    "unreadable": "something about them could not be read",
    "unsettled": "not settled yet",
    "keep_per_repository": "among the newest that every repository keeps",
}
KEPT = (  # a row: cause and rule, and how many
    Column("STAY", lambda row: f"{row[1]:,}", right=True),
    Column("BECAUSE", lambda row: " ".join(filter(None, (KEPT_BECAUSE.get(row[0][0], row[0][0]), row[0][1])))),
)


def _totals(head: PlanHead) -> Iterator[str]:
    totals = head.totals
    if not totals.delete:
        yield f"Nothing goes: all of {counted(totals.images, 'image')} stay, {bytes_text(totals.registry_bytes)}."
        return
    goes, stays = "goes" if totals.delete == 1 else "go", "stays" if totals.keep == 1 else "stay"
    yield f"{counted(totals.delete, 'image')} of {totals.images:,} {goes}, {totals.keep:,} {stays}."
    freed, whole = bytes_text(totals.reclaimable_bytes), bytes_text(totals.registry_bytes)
    bound = "at most " if head.reclaimable_is_upper_bound is True else ""
    shared = bytes_text(totals.selected_bytes)
    yield f"That frees {bound}{freed} of {whole} ({shared} counting layers that others share)."


UPPER_BOUND = (
    "The bytes are an upper bound: this registry does not list images without tags, and what one of them needs stays."
    " They are freed when the registry's own collector has run."
)


def warnings(head: PlanHead, suspicion: str = "") -> Iterator[str]:
    """What whoever acts on this plan must know, whatever the form they read it in. `doubt`: of the push times."""
    if not head.complete:
        unread = counted(len(head.unreadable), "repository", "repositories")
        yield f"The plan is incomplete: {unread} could not be read."
        for one in head.unreadable:
            yield f"  {escaped(one.repository)} is kept whole: {escaped(one.reason)}"
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
            " trust_times_after of the registry says from when push times can be trusted."
        )
