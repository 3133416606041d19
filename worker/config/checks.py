"""Checks of several keys together: keys, conditions and credentials against the kind of the registry."""

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

UNTAGGED = ("untagged", "untagged_for")  # conditions on images that some kinds do not list


Add = Callable[[str, str, str], None]  # records a mistake: path, what is wrong, what to write


def check_keys(add: Add, kind: Kind, name: str, own: Mapping[str, Any], shared: Mapping[str, Any]) -> None:
    """Every key of another kind is a mistake, in the registry or in `defaults`."""
    at = join("registries", name)
    for key in sorted(ONLY_SOME_HAVE - kind.keys & {*own, *shared}):
        owners = listed([other.name for other in KINDS.values() if key in other.keys], "or")
        if key in own:
            remedy = f"write {kind.identity} instead" if key in ("id", "url") else "remove it"
            add(join(at, key), f"is a key of kind {owners}, but this registry is of kind {kind.name}", remedy)
        else:
            got = f"is a key of kind {owners}, but {at} is of kind {kind.name}"
            add(join("defaults", key), got, "move it to the registries of that kind")


def check_identity(add: Add, kind: Kind, given: Mapping[str, Any], at: str) -> None:
    """A registry needs `id` or `url`. `check_keys` reports the identity key of another kind."""
    if not any(known.identity in given for known in KINDS.values()):
        description = str(RegistryKeys.model_fields[kind.identity].description).removeprefix(f"{kind.name}: ")
        add(join(at, kind.identity), "is missing", f"write {description}")


def check_credentials(
    add: Add, credentials: Credentials | tuple[Credentials, ...], at: str, kind: Kind | None, path: str | None
) -> None:
    """One sign-in method, or a list of them, each for some repositories. `kind` None: the kind is unknown.

    `path`: the folders of programs, as in the variable PATH; None: programs and files are not checked.
    """
    several = credentials if isinstance(credentials, tuple) else None
    ways = credentials if isinstance(credentials, tuple) else (credentials,)
    if several is not None and kind is not None and "repositories" not in kind.keys:
        add(at, "expected a mapping, got a list", f"kind {kind.name} has one sign-in method for all repositories")
    if several == ():
        add(at, "expected at least one sign-in method, got an empty list", "write {anonymous: true} for none")
    for number, method in enumerate(ways):
        here = at if several is None else join(at, number)
        if several is None and method.repositories:
            add(join(here, "repositories"), "is a key of the items of a list", "write credentials as a list")
        if several is not None and not method.repositories and number < len(several) - 1:
            add(here, "matches every repository, so the items after it are never used", "write it last")
        if kind is not None and kind.ways_in and method.given not in kind.ways_in:
            owners = listed([other.name for other in KINDS.values() if method.given in other.ways_in], "or")
            got = f"is a sign-in method of kind {owners}, but this registry is of kind {kind.name}"
            add(join(here, method.given[0]), got, f"write one of {ways_in(kind.ways_in)}")
        if path is not None and (got := _credentials_flaw(method, path)):
            remedy = "install it for the user that runs registry-gc"
            add(join(here, method.given[0]), got, remedy)


def _credentials_flaw(credentials: Credentials, path: str) -> str:
    """Why these credentials cannot work, checked without running a program; empty: no problem."""
    if credentials.docker_config is not None:
        try:
            read_docker_config(credentials.docker_config)
        except SecretError as error:
            return str(error)
    program = f"docker-credential-{credentials.helper}" if credentials.helper else "".join(credentials.command[:1])
    if "/" in program:  # a relative path starts in the command's working folder
        executable = shutil.which(str((credentials.folder or Path()) / program))
    else:
        executable = shutil.which(program, path=path or None)
    return f"there is no program {program}" if program and executable is None else ""


def check_sources(add: Add, sources: Iterable[EvidenceSettings], at: str) -> None:
    """Add a mistake for each source with the name of an earlier source in the list. Metrics identify a source by its
    registry and this name. `at`: the path of the list.
    """
    names: set[str] = set()
    for number, source in enumerate(sources):
        if source.name in names:
            here = join(join(at, number), "name")
            add(here, f"another source already has the name {shown(source.name)}", "choose another name")
        names.add(source.name)


def check_conditions(add: Add, kind: Kind, name: str, policy: str, rules: list[dict[str, Any]]) -> None:
    """A condition that is always unknown makes a rule that never selects, or that keeps every image."""
    for number, rule in enumerate([] if kind.lists_untagged else rules):
        for verb in ("delete", "keep"):
            for key in (key for key in rule.get(verb) or () if key in UNTAGGED):
                at = f"{join(join('policies', policy), number)}.{verb}.{key}"
                what = f"is always unknown in registries.{name}: kind {kind.name} does not list untagged images"
                add(at, what, "give that registry a policy without it")


def check_paths(add: Add, registry: RegistrySettings, rules: list[dict[str, Any]]) -> None:
    """A pattern that starts with the registry's own host or id matches nothing: a path contains neither."""
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
                    owner = join("registries", registry.name)
                    got = f"{shown(text)} starts with the {which} of {owner}, which is not part of a path"
                    add(join(join(at, key), number), got, f"write {path or '**'}")
