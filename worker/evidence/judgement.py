"""Checks whether a reading can be trusted: not too old, not empty, not suddenly halved, about these registries.

A source that names no image of a configured registry protects nothing. A reference matches if its address belongs to a
configured registry, or if the inventory of the registry contains its digest. No I/O, no clock.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from policies.image import Repository
from policies.warnings import PlanWarning
from worker.config.kinds import kind_of
from worker.config.settings import EvidenceSettings, RegistrySettings
from worker.evidence.reading import EvidenceError, Reading, Use

AHEAD = timedelta(minutes=5)  # by how much two clocks may differ
ON_PURPOSE = "if this is intended, write allow_empty: true"
_UNITS = ((timedelta(days=1), "days"), (timedelta(hours=1), "hours"), (timedelta(minutes=1), "minutes"))
DOCKER_HUB = "docker.io"  # most clusters pull from it too, so it is not suggested as an address
DigestLookup = Callable[[Collection[str]], Collection[str]]  # returns those of the digests that an inventory contains


def judge(settings: EvidenceSettings, reading: Reading, previous_count: int | None, now: datetime) -> None:
    """Raises EvidenceError if the reading cannot be trusted.

    `previous_count`: the number of uses in the last trusted reading; None: there is none.
    """
    age, count = now - reading.as_of, len(reading.uses) + len(reading.unknown_digests)
    as_of = f"is as of {reading.as_of:%Y-%m-%dT%H:%M:%SZ}"
    if age < -AHEAD:
        what = f"{as_of}, {_age(-age)} ahead of the clock"
        raise EvidenceError(settings.name, what, "correct the clock of the machine that wrote it")
    if age > settings.max_age:
        what = f"{as_of}, {_age(age)} old, at most {_age(settings.max_age)}"
        raise EvidenceError(settings.name, what, "check why it is not renewed, or raise max_age")
    if settings.allow_empty:
        return
    if not count:
        raise EvidenceError(settings.name, "says that nothing is in use", f"check what it reads; {ON_PURPOSE}")
    if previous_count is not None and count * 2 < previous_count:
        what = f"says that {count:,} images are in use, less than half of the {previous_count:,} of last time"
        raise EvidenceError(settings.name, what, f"check whether it still reads everything; {ON_PURPOSE}")


def _age(length: timedelta) -> str:
    """`26 hours`: rounded down, in the largest unit that gives at least 2."""
    for unit, name in _UNITS:
        if length >= 2 * unit:
            return f"{length // unit:,} {name}"
    return f"{length // timedelta(seconds=1)} seconds"


@dataclass(frozen=True, slots=True)
class Scope:
    """The addresses and digests with which the references of a registry's sources are compared."""

    is_configured: Callable[[str], bool]  # whether "host/path" belongs to a configured registry
    is_of_registry: Callable[[str], bool]  # whether it belongs to this registry
    in_inventory: DigestLookup


@dataclass(frozen=True, slots=True)
class Matches:
    """The number of a source's references, and how many of them match nothing."""

    references: int
    foreign: int
    example: str = ""  # a foreign reference
    host: str = ""  # the most frequent host of foreign references, except Docker Hub


def match_references(source: EvidenceSettings, reading: Reading, scope: Scope) -> Matches:
    """Compare the references of a reading. Raises EvidenceError: a digest of this registry has an unknown algorithm."""
    for text in reading.unknown_digests:
        if scope.is_of_registry(text.partition("@")[0]):
            what = f"names {text}, with a digest of an unknown algorithm: the image cannot be identified"
            raise EvidenceError(source.name, what, "name it by a sha256 or sha512 digest, or by its tag alone")
    unknown = [use for use in reading.uses if not _is_named(reading, use, scope)]
    listed = scope.in_inventory({use.digest for use in unknown if use.digest is not None})
    foreign = [_text(reading, use) for use in unknown if use.digest not in listed] + list(reading.unknown_digests)
    hosts = Counter(text.partition("/")[0] for text in foreign if "/" in text)
    hosts.pop(DOCKER_HUB, None)
    host = min(hosts, key=lambda name: (-hosts[name], name), default="")
    return Matches(len(reading.uses) + len(reading.unknown_digests), len(foreign), next(iter(foreign), ""), host)


def any_address_matches(reading: Reading, scope: Scope) -> bool:
    """Whether a reference matches by its address alone, without the inventory."""
    return any(_is_named(reading, use, scope) for use in reading.uses)


def by_address(
    source: EvidenceSettings, registry: RegistrySettings, reading: Reading, scope: Scope
) -> tuple[str, str, bool]:
    """Compare addresses without an inventory: (count in this registry, suspicion, whether the check fails).

    Digests without an address are left out: each may belong to this registry. Raises EvidenceError.
    """
    matches = match_references(source, reading, scope)
    names = [name for use in reading.uses if (name := reading.name_of(use)) is not None]
    foreign = sum(not scope.is_configured(name) for name in names) + len(reading.unknown_digests)
    here = f", {sum(map(scope.is_of_registry, names)):,} here" if names or reading.unknown_digests else ""
    if not foreign or source.allow_foreign:
        return here, "", False
    suspicion = f"{foreign:,} of them by no address of a registry of this file"
    if foreign < matches.references:
        return here, suspicion, False
    return here, f"{suspicion}; {remedy_for(registry, matches.host)}", not any(use.digest for use in reading.uses)


def judge_matches(source: EvidenceSettings, registry: RegistrySettings, matches: Matches) -> None:
    """Raises EvidenceError if no reference of a source matches and `allow_foreign` is not set. A reading without
    references passes: `judge` decides about it.
    """
    if source.allow_foreign or not matches.references or matches.foreign < matches.references:
        return
    count = "1 image" if matches.foreign == 1 else f"{matches.foreign:,} images"
    what = f"names {count}, none of them in a registry of this file, such as {matches.example}"
    raise EvidenceError(source.name, what, remedy_for(registry, matches.host))


def remedy_for(registry: RegistrySettings, host: str) -> str:
    """What to configure if references to a registry count as foreign. `host`: the most frequent host of foreign
    references, as in `Matches`; empty: none to suggest.
    """
    on_purpose = "if this is intended, write allow_foreign: true"
    if host and "addresses" in kind_of(registry.kind).keys:
        return f"if {host} is another host of {registry.name}, add addresses: [{host}] to it; {on_purpose}"
    return f"check that it names images of {registry.name} as they are pulled; {on_purpose}"


def warning_of(source: str, registry: RegistrySettings, matches: Matches) -> PlanWarning:
    """The warning in a plan about a source's foreign references."""
    count, of_all = matches.foreign, matches.references
    names = f"{count:,} of the {of_all:,} images that evidence {source} names"
    are = "is" if count == 1 else "are"
    message = f"{names} {are} in no registry of this file and not in the inventory, such as {matches.example}"
    if matches.host and "addresses" in kind_of(registry.kind).keys:
        message += f"; if {matches.host} is another host of {registry.name}, add addresses: [{matches.host}] to it"
    return PlanWarning("evidence_foreign", message)


def digests_in(repositories: Iterable[Repository], wanted: Collection[str]) -> frozenset[str]:
    """Those of these digests that an inventory contains, as an image, an index or a config."""
    wanted, present = set(wanted), set[str]()
    for repository in repositories if wanted else ():
        for image in repository.images:
            if image.digest in wanted:
                present.add(image.digest)
            if image.config is not None and image.config.digest in wanted:
                present.add(image.config.digest)
        if len(present) == len(wanted):
            break
    return frozenset(present)


def _is_named(reading: Reading, use: Use, scope: Scope) -> bool:
    name = reading.name_of(use)
    return name is not None and scope.is_configured(name)


def _text(reading: Reading, use: Use) -> str:
    name = reading.name_of(use)
    return use.image or (f"{name}@{use.digest}" if name else use.digest or "")
