"""What a registry's kind decides of its file: which keys it has, and which conditions it can ever answer."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from policies.units import shown
from worker.config import fields
from worker.config.collecting import Collector
from worker.config.document import CredentialsModel, RegistryModel, ways_in
from worker.config.kinds import KINDS, Kind
from worker.config.settings import RegistrySettings
from worker.config.yaml_reader import join

# Which fact of a kind a condition asks for: the fact's name in the table of kinds, and what a kind without it does.
PULLS = ("tells_pulls", "does not tell when images were pulled")
UNTAGGED = ("lists_untagged", "does not list images without tags")
ASKS: Mapping[str, tuple[str, str]] = {
    "untagged": UNTAGGED,
    "untagged_for": UNTAGGED,
    "not_pulled_for": PULLS,
    "pulled_within": PULLS,
    "labels": ("tells_labels", "does not tell the labels of images"),
    "media_types": ("tells_media_types", "does not tell media types"),
}
RANKED_BY = {"pulled": PULLS, "used": PULLS}  # `by`
ONLY_SOME_HAVE = frozenset[str]().union(*(kind.keys for kind in KINDS.values()))


def check_keys(collector: Collector, kind: Kind, name: str, own: Mapping[str, Any], shared: Mapping[str, Any]) -> None:
    """Every key of another kind is a mistake where it stands: in the registry, or in `defaults`."""
    at = join("registries", name)
    for key in ONLY_SOME_HAVE - kind.keys & {*own, *shared}:
        having = fields.listed([one.name for one in KINDS.values() if key in one.keys], "or")
        if key in own:
            instead = f"write {kind.identity} instead" if key in ("id", "url") else "leave it out"
            collector.add(join(at, key), f"is a key of kind {having}, and this is of kind {kind.name}", instead)
        else:
            what = f"is a key of kind {having}, and {at} is of kind {kind.name}"
            collector.add(join("defaults", key), what, "write it in the registries that have it")


def check_ways_in(collector: Collector, kind: Kind, model: CredentialsModel, at: str) -> None:
    """Each kind has its own ways to sign in."""
    if kind.ways_in and model.given not in kind.ways_in:
        having = fields.listed([one.name for one in KINDS.values() if model.given in one.ways_in], "or")
        what = f"is how to sign in to kind {having}, and this is of kind {kind.name}"
        collector.add(join(at, model.given[0]), what, f"write one of {ways_in(kind.ways_in)}")


def check_identity(collector: Collector, kind: Kind, given: Mapping[str, Any], at: str) -> None:
    """It must say which registry it is. Who says it as another kind does has been told so already."""
    if not any(one.identity in given for one in KINDS.values()):
        description = str(RegistryModel.model_fields[kind.identity].description).removeprefix(f"{kind.name}: ")
        collector.add(join(at, kind.identity), "is missing", f"write {description}")


def check_conditions(collector: Collector, kind: Kind, name: str, policy: str, rules: list[dict[str, Any]]) -> None:
    """What a kind can never be asked makes a rule that never selects, or that keeps everything: neither is meant."""
    for number, rule in enumerate(rules):
        at = join(join("policies", policy), number)
        for verb in ("delete", "keep"):
            for path, lack in unanswerable(kind, rule.get(verb), join(at, verb)):
                what = f"is never answered in registries.{name}: kind {kind.name} {lack}"
                collector.add(path, what, "give that registry a policy without it")


def check_paths(collector: Collector, registry: RegistrySettings, rules: list[dict[str, Any]]) -> None:
    """A pattern on paths that begins with the registry's own host or id matches nothing: a path has neither."""
    own = {registry.id: "id"} if registry.id else {}
    roots = (registry.url, *(f"//{address}" for address in registry.addresses))
    for root in roots if registry.url else (registry.endpoints.docker,):
        parts = urlsplit(root)
        own |= dict.fromkeys((parts.netloc, parts.hostname or ""), "host")
    written = [(join("registries", registry.name), {"repositories": registry.repositories})]
    written += [(join(join("policies", registry.policy.name), number), rule) for number, rule in enumerate(rules)]
    for at, mapping in written:
        for key in ("repositories", "except_repositories"):
            for number, text in enumerate(mapping.get(key) or ()):
                first, _, rest = text.partition("/")
                if which := own.get(first if first in own else first.lower()):
                    path = rest.removeprefix(f"{registry.id}/") if registry.id else rest
                    what = f"{shown(text)} begins with the {which} of registries.{registry.name}, which no path has"
                    collector.add(join(join(at, key), number), what, f"write {path or '**'}")


def unanswerable(kind: Kind, conditions: Any, at: str) -> Iterator[tuple[str, str]]:
    """Where a mapping of conditions, or one inside it, asks what a kind never tells, and what the kind lacks."""
    if not isinstance(conditions, dict):
        return
    for key, value in conditions.items():
        here = join(at, str(key))
        asks = RANKED_BY.get(str(value)) if key == "by" else ASKS.get(key)
        if asks and not getattr(kind, asks[0]):
            yield here, asks[1]
        elif key == "not":
            yield from unanswerable(kind, value, here)
        elif key in ("all_of", "any_of") and isinstance(value, list):
            for number, one in enumerate(value):
                yield from unanswerable(kind, one, join(here, number))
