"""What keys say about each other: which a registry's kind has, what it can be asked, which credentials are for what."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from policies.mistakes import join, listed
from policies.units import shown
from worker.config.document import RegistrySettings
from worker.config.kinds import KINDS, ONLY_SOME_HAVE, Kind
from worker.config.registry import Credentials, EvidenceSettings, RegistryKeys, ways_in
from worker.config.secret import SecretError, read_docker_config

UNTAGGED = ("untagged", "untagged_for")  # conditions on what some kinds do not list


Add = Callable[[str, str, str], None]  # notes a mistake: the place, what is there, what to write instead


def check_keys(add: Add, kind: Kind, name: str, own: Mapping[str, Any], shared: Mapping[str, Any]) -> None:
    """Every key of another kind is a mistake where it stands: in the registry, or in `defaults`."""
    at = join("registries", name)
    for key in sorted(ONLY_SOME_HAVE - kind.keys & {*own, *shared}):
        having = listed([one.name for one in KINDS.values() if key in one.keys], "or")
        if key in own:
            instead = f"write {kind.identity} instead" if key in ("id", "url") else "leave it out"
            add(join(at, key), f"is a key of kind {having}, and this is of kind {kind.name}", instead)
        else:
            got = f"is a key of kind {having}, and {at} is of kind {kind.name}"
            add(join("defaults", key), got, "write it in the registries that have it")


def check_identity(add: Add, kind: Kind, given: Mapping[str, Any], at: str) -> None:
    """It must say which registry it is. Who says it as another kind does has been told so already."""
    if not any(one.identity in given for one in KINDS.values()):
        description = str(RegistryKeys.model_fields[kind.identity].description).removeprefix(f"{kind.name}: ")
        add(join(at, kind.identity), "is missing", f"write {description}")


def check_credentials(
    add: Add, credentials: Credentials | tuple[Credentials, ...], at: str, kind: Kind | None, path: str | None
) -> None:
    """One way to sign in, or several, each for some repositories. `kind` None: of which kind is not known.

    `path`: where programs are looked for, as the variable PATH lists folders; None: nothing is looked for.
    """
    several = credentials if isinstance(credentials, tuple) else None
    ways = credentials if isinstance(credentials, tuple) else (credentials,)
    if several is not None and kind is not None and "repositories" not in kind.keys:
        add(at, "expected a mapping, got a list", f"kind {kind.name} has one way to sign in for all")
    if several == ():
        add(at, "expected at least one way to sign in, got an empty list", "write {anonymous: true} for none")
    for number, one in enumerate(ways):
        here = at if several is None else join(at, number)
        if several is None and one.repositories:
            add(join(here, "repositories"), "is a key of the items of a list", "write credentials as a list")
        if several is not None and not one.repositories and number < len(several) - 1:
            add(here, "is for every repository, so that none after it is used", "write it last")
        if kind is not None and kind.ways_in and one.given not in kind.ways_in:
            having = listed([other.name for other in KINDS.values() if one.given in other.ways_in], "or")
            got = f"is how to sign in to kind {having}, and this is of kind {kind.name}"
            add(join(here, one.given[0]), got, f"write one of {ways_in(kind.ways_in)}")
        if path is not None and (got := _what_is_wrong(one, path)):
            remedy = "what signs in must be there before anything starts, for the user that runs it"
            add(join(here, one.given[0]), got, remedy)


def _what_is_wrong(credentials: Credentials, path: str) -> str:
    """Why these credentials cannot work, as far as it shows without running anything; empty: nothing shows."""
    if credentials.docker_config is not None:
        try:
            read_docker_config(credentials.docker_config)
        except SecretError as error:
            return str(error)
    program = f"docker-credential-{credentials.helper}" if credentials.helper else "".join(credentials.command[:1])
    if "/" in program:  # relative ones begin where the command runs
        there = shutil.which(str((credentials.folder or Path()) / program))
    else:
        there = shutil.which(program, path=path or None)
    return f"there is no program {program}" if program and there is None else ""


def check_sources(add: Add, sources: Iterable[EvidenceSettings], at: str) -> None:
    names: set[str] = set()
    for number, source in enumerate(sources):
        if source.name in names:
            here = join(join(at, number), "name")
            add(here, f"a second source is named {shown(source.name)}", "choose another name")
        names.add(source.name)


def check_conditions(add: Add, kind: Kind, name: str, policy: str, rules: list[dict[str, Any]]) -> None:
    """What a kind can never be asked makes a rule that never selects, or that keeps everything: neither is meant."""
    for number, rule in enumerate([] if kind.lists_untagged else rules):
        for verb in ("delete", "keep"):
            for key in (key for key in rule.get(verb) or () if key in UNTAGGED):
                at = f"{join(join('policies', policy), number)}.{verb}.{key}"
                what = f"is never answered in registries.{name}: kind {kind.name} does not list images without tags"
                add(at, what, "give that registry a policy without it")


def check_paths(add: Add, registry: RegistrySettings, rules: list[dict[str, Any]]) -> None:
    """A pattern on paths that begins with the registry's own host or id matches nothing: a path has neither."""
    own = {registry.id: "id"} if registry.id else {}
    roots = (registry.url, *(f"//{address}" for address in registry.addresses))
    for root in roots if registry.url else (registry.endpoints.docker,):
        parts = urlsplit(root)
        own |= dict.fromkeys((parts.netloc, parts.hostname or ""), "host")
    written: list[tuple[str, Mapping[str, Any]]] = [
        (join("registries", registry.name), {"repositories": registry.repositories})
    ]
    written += [(join(join("policies", registry.policy.name), number), rule) for number, rule in enumerate(rules)]
    for at, mapping in written:
        for key in ("repositories", "except_repositories"):
            for number, text in enumerate(mapping.get(key) or ()):
                first, _, rest = text.partition("/")
                if which := own.get(first if first in own else first.lower()):
                    path = rest.removeprefix(f"{registry.id}/") if registry.id else rest
                    got = f"{shown(text)} begins with the {which} of registries.{registry.name}, which no path has"
                    add(join(join(at, key), number), got, f"write {path or '**'}")
