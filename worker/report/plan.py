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
from worker.text import counted, cut, escaped, instant, short, table

LISTED = 40  # deletions up to this many are listed one by one; more are grouped by repository and rule
TAGS_WIDTH = 32

_encoder = msgspec.json.Encoder()


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


def decision_lines(decisions: Iterable[Decision]) -> Iterator[bytes]:
    """A decision a line."""
    return (_encoder.encode(decision) + b"\n" for decision in decisions)


def plan_ndjson(head: PlanHead, lines: Iterable[bytes]) -> Iterator[bytes]:
    """The head, then a decision a line. `lines` may come in pieces of any length."""
    yield _encoder.encode(head) + b"\n"
    yield from lines


def plan_json(head: PlanHead, lines: Iterable[bytes]) -> Iterator[bytes]:
    """One object, in pieces, from the same lines."""
    yield _encoder.encode(head).removesuffix(b"}") + b',"decisions":['
    ended = b"\n"  # the line's end that is not yet written: a comma belongs before it only if another line follows
    for piece in lines:
        if piece:
            text = piece.removesuffix(b"\n")
            yield ended + text.replace(b"\n", b",\n")
            ended = b",\n" if len(text) < len(piece) else b""
    yield b"]}\n"


@dataclass
class _Group:
    """What goes of one repository by one rule."""

    images: int = 0
    size: int = 0  # bytes, where told
    untold: int = 0
    example: str = ""

    def add(self, decision: Decision) -> None:
        self.images += 1
        self.size += decision.size or 0
        self.untold += decision.size is None
        self.example = self.example or decision.reason


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
            self.groups.setdefault((decision.repository, decision.rule or ""), _Group()).add(decision)


def plan_table(
    head: PlanHead, decisions: Iterable[Decision], width: int | None = None, *, doubt: str = ""
) -> Iterator[str]:
    """What goes, why, and how many bytes; what stays, by cause; what is wrong with the plan."""
    digest = _Digest()
    digest.take(decisions)
    of = f"{head.registry}: " if head.registry else ""
    yield f"{escaped(of)}policy {escaped(head.policy)}, as of {instant(head.now)}"
    yield ""
    if digest.groups:
        yield from _going(digest, width)
        yield ""
    yield from _staying(digest)
    yield ""
    yield from _totals(head)
    yield from warnings(head, doubt)


def _going(digest: _Digest, width: int | None) -> Iterator[str]:
    if len(digest.listed) <= LISTED:
        heading = ("REPOSITORY", "DIGEST", "TAGS", "PUSHED", "SIZE", "RULE", "WHY IT GOES")
        rows = [(*deletion_cells(one), one.rule or "", one.reason) for one in digest.listed]
        yield from table(heading, rows, right=frozenset({4}), width=width)
        return
    columns = ("REPOSITORY", "RULE", "IMAGES", "SIZE", "WHY THEY GO, THE NEWEST FOR EXAMPLE")
    grouped = [
        (repository, rule, f"{group.images:,}", size_text(group.size, group.untold, group.images), group.example)
        for (repository, rule), group in sorted(digest.groups.items())
    ]
    yield from table(columns, grouped, right=frozenset({2, 3}), width=width)


def deletion_cells(decision: Decision) -> tuple[str, ...]:
    """Repository, digest, tags, pushed, size: how every table shows an image."""
    pushed = decision.created_at.strftime("%Y-%m-%d") if decision.created_at else "unknown"
    return (
        decision.repository,
        short(decision.digest),
        cut(" ".join(decision.tags), TAGS_WIDTH),
        pushed,
        "unknown" if decision.size is None else bytes_text(decision.size),
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


def _staying(digest: _Digest) -> Iterator[str]:
    rows = [
        (f"{images:,}", f"{KEPT_BECAUSE.get(cause, cause)}{f' {rule}' if rule else ''}")
        for (cause, rule), images in sorted(digest.kept.items(), key=lambda one: (-one[1], one[0]))
    ]
    yield from table(("STAY", "BECAUSE"), rows, right=frozenset({0})) if rows else ("Nothing stays.",)


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


def warnings(head: PlanHead, doubt: str = "") -> Iterator[str]:
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
    if doubt:
        yield (
            f"Push times are not believed: {escaped(doubt)}. Conditions on age and counts by age are unknown until the"
            " registry's trust_times_after says from when they are to be."
        )
