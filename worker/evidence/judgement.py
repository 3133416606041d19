"""Whether a reading can be believed: not too old, not empty, not suddenly half of what it was, and of these registries.

A source that names nothing of the registries of the file protects nothing. A reference matches if its address is one of
a configured registry, or if the inventory of the registry has its digest. No I/O, no clock.
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
ON_PURPOSE = "if that is so on purpose, say allow_empty: true"
_UNITS = ((timedelta(days=1), "days"), (timedelta(hours=1), "hours"), (timedelta(minutes=1), "minutes"))
DOCKER_HUB = "docker.io"  # most clusters pull from it as well: it is nobody's forgotten address
Listed = Callable[[Collection[str]], Collection[str]]  # those of these digests that an inventory has


def judge(settings: EvidenceSettings, reading: Reading, previous_count: int | None, now: datetime) -> None:
    """Raises EvidenceError where the reading is no evidence.

    `previous_count`: how many uses the last reading that was believed had; None: there was none.
    """
    age, count = now - reading.as_of, len(reading.uses) + len(reading.unknown_digests)
    as_of = f"is as of {reading.as_of:%Y-%m-%dT%H:%M:%SZ}"
    if age < -AHEAD:
        what = f"{as_of}, {_age(-age)} ahead of the clock"
        raise EvidenceError(settings.name, what, "set the clock of whoever wrote it")
    if age > settings.max_age:
        what = f"{as_of}, {_age(age)} old, at most {_age(settings.max_age)}"
        raise EvidenceError(settings.name, what, "see why it is not renewed, or raise max_age")
    if settings.allow_empty:
        return
    if not count:
        raise EvidenceError(settings.name, "says that nothing is in use", f"see what it reads; {ON_PURPOSE}")
    if previous_count is not None and count * 2 < previous_count:
        what = f"says that {count:,} images are in use, less than half of the {previous_count:,} of last time"
        raise EvidenceError(settings.name, what, f"see whether it still reads everything; {ON_PURPOSE}")


def _age(length: timedelta) -> str:
    """`26 hours`: in the largest unit of which there are at least two, rounded down."""
    for unit, name in _UNITS:
        if length >= 2 * unit:
            return f"{length // unit:,} {name}"
    return f"{length // timedelta(seconds=1)} seconds"


@dataclass(frozen=True, slots=True)
class Scope:
    """What the references of a registry's sources are compared with."""

    is_configured: Callable[[str], bool]  # whether "host/path" is of a registry of the file
    is_of_registry: Callable[[str], bool]  # whether it is of this registry
    listed: Listed


@dataclass(frozen=True, slots=True)
class Matches:
    """How many of a source's references match nothing."""

    references: int
    foreign: int
    example: str = ""  # one of the foreign
    host: str = ""  # the most frequent of theirs, Docker Hub aside


def match_references(source: EvidenceSettings, reading: Reading, scope: Scope) -> Matches:
    """The references of a reading, compared. Raises EvidenceError: a digest of this registry is not understood."""
    for text in reading.unknown_digests:
        if scope.is_of_registry(text.partition("@")[0]):
            what = f"names {text}, whose digest is not understood: which image that is cannot be told"
            raise EvidenceError(source.name, what, "name it by a sha256 or sha512 digest, or by its tag alone")
    unknown = [use for use in reading.uses if not _is_named(reading, use, scope)]
    listed = scope.listed({use.digest for use in unknown if use.digest is not None})
    foreign = [_text(reading, use) for use in unknown if use.digest not in listed] + list(reading.unknown_digests)
    hosts = Counter(text.partition("/")[0] for text in foreign if "/" in text)
    hosts.pop(DOCKER_HUB, None)
    host = min(hosts, key=lambda one: (-hosts[one], one), default="")
    return Matches(len(reading.uses) + len(reading.unknown_digests), len(foreign), next(iter(foreign), ""), host)


def any_address_matches(reading: Reading, scope: Scope) -> bool:
    """Whether some reference matches by its address, without a look into the inventory."""
    return any(_is_named(reading, use, scope) for use in reading.uses)


def by_address(
    source: EvidenceSettings, registry: RegistrySettings, reading: Reading, scope: Scope
) -> tuple[str, str, bool]:
    """What the addresses of a reading tell without an inventory: how many are here, what is doubtful, if it fails.

    Digests without an address are left out: each may be one of this registry's. Raises EvidenceError as `matches_of`.
    """
    matches = match_references(source, reading, scope)
    names = [name for use in reading.uses if (name := reading.name_of(use)) is not None]
    foreign = sum(not scope.is_configured(name) for name in names) + len(reading.unknown_digests)
    here = f", {sum(map(scope.is_of_registry, names)):,} here" if names or reading.unknown_digests else ""
    if not foreign or source.allow_foreign:
        return here, "", False
    doubt = f"{foreign:,} of them by no address of a registry of this file"
    if foreign < matches.references:
        return here, doubt, False
    return here, f"{doubt}; {remedy_for(registry, matches.host)}", not any(use.digest for use in reading.uses)


def judge_matches(source: EvidenceSettings, registry: RegistrySettings, matches: Matches) -> None:
    """Raises EvidenceError: none of a source's references matches, and nobody said that this is fine."""
    if source.allow_foreign or not matches.references or matches.foreign < matches.references:
        return
    count = "1 image" if matches.foreign == 1 else f"{matches.foreign:,} images"
    what = f"names {count}, none of them of a registry of this file, such as {matches.example}"
    raise EvidenceError(source.name, what, remedy_for(registry, matches.host))


def remedy_for(registry: RegistrySettings, host: str) -> str:
    """What to write where references to a registry are taken for foreign."""
    on_purpose = "if that is so on purpose, say allow_foreign: true"
    if host and "addresses" in kind_of(registry.kind).keys:
        return f"if that is {registry.name} by another host, say addresses: [{host}] there; {on_purpose}"
    return f"see whether it names images of {registry.name} as they are pulled; {on_purpose}"


def warning_of(source: str, registry: RegistrySettings, matches: Matches) -> PlanWarning:
    """What whoever reads a plan should know of a source's foreign references."""
    count, of_all = matches.foreign, matches.references
    names = f"{count:,} of the {of_all:,} images that evidence {source} names"
    are = "is" if count == 1 else "are"
    message = f"{names} {are} of no registry of this file and not in the inventory, such as {matches.example}"
    if matches.host and "addresses" in kind_of(registry.kind).keys:
        message += f"; if that is {registry.name} by another host, say addresses: [{matches.host}]"
    return PlanWarning("evidence_foreign", message)


def digests_in(repositories: Iterable[Repository], wanted: Collection[str]) -> frozenset[str]:
    """Those of these digests that an inventory has, of an image, an index or a config."""
    left, there = set(wanted), set[str]()
    for repository in repositories if left else ():
        for image in repository.images:
            if image.digest in left:
                there.add(image.digest)
            if image.config is not None and image.config.digest in left:
                there.add(image.config.digest)
        if len(there) == len(left):
            break
    return frozenset(there)


def _is_named(reading: Reading, use: Use, scope: Scope) -> bool:
    name = reading.name_of(use)
    return name is not None and scope.is_configured(name)


def _text(reading: Reading, use: Use) -> str:
    name = reading.name_of(use)
    return use.image or (f"{name}@{use.digest}" if name else use.digest or "")
