"""From the bytes of the file to `Settings`: reads every part, collects every mistake, applies every default."""

import hashlib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from policies.document import parse_policy
from policies.findings import mistakes_of
from policies.mistakes import NO_VALUE, BadValueError, Mistake, closest, join
from policies.rules import Policy
from policies.units import shown
from worker.config import checks
from worker.config.connection_urls import ENCODE, store_flaw
from worker.config.document import Document, RegistrySettings, Settings, SharedKeys, key_of
from worker.config.files import read_file, state_folder
from worker.config.kinds import KINDS, Kind
from worker.config.overlaps import overlaps
from worker.config.registry import DefaultKeys, EndpointKeys, Endpoints, Mode, RegistryKeys
from worker.config.secret import TO_BE_THERE, Model, Origin, Secret, SecretError, add_certificates
from worker.config.urls import check_plain, read_endpoint
from worker.config.values import read_name
from worker.config.yaml_reader import MAX_BYTES, YamlError, parse

M = TypeVar("M", bound=Model)
METADATA = "http://169.254.169.254"  # link-local: answered by the host of the virtual machine
Policies = Mapping[str, Policy | None]  # None: it has mistakes


@dataclass(eq=False)
class ConfigError(Exception):
    """The configuration is invalid. Contains all mistakes, not only the first."""

    exit_code = 2

    mistakes: tuple[Mistake, ...]
    path: Path

    @property
    def lines(self) -> tuple[str, ...]:
        """One line per mistake: "file: path: what, got …; remedy"."""
        return tuple(f"{self.path}: {mistake}" for mistake in self.mistakes)

    def __str__(self) -> str:
        return "\n".join(self.lines)


def read_settings(path: Path, environ: Mapping[str, str], *, look_for_secrets: bool, store_is_needed: bool) -> Settings:
    """The settings that `path` holds. Raises ConfigError."""
    try:
        content = read_file(path, MAX_BYTES)
        tree, yaml_mistakes = parse(content)
    except FileNotFoundError:
        absent = Mistake("", "the file does not exist", "name one with --config or REGISTRY_GC_CONFIG")
        raise ConfigError((absent,), path) from None
    except OSError as error:
        remedy = "name a file with --config or REGISTRY_GC_CONFIG"
        raise ConfigError((Mistake("", f"cannot be read: {error.strerror}", remedy),), path) from None
    except YamlError as error:
        raise ConfigError((error.mistake,), path) from error
    reading = _Reading(path.absolute(), environ, look_for_secrets, store_is_needed, list(yaml_mistakes))
    empty = {mistake.path for mistake in yaml_mistakes if mistake.got == NO_VALUE}
    settings = reading.settings(tree, hashlib.sha256(content).hexdigest())
    if settings is None or reading.mistakes:
        mistakes = [mistake for mistake in reading.mistakes if mistake.got == NO_VALUE or mistake.path not in empty]
        raise ConfigError(tuple(dict.fromkeys(mistakes)), path)
    return settings


@dataclass
class _Reading:
    """The state of reading one file: its path, the environment, the mistakes so far."""

    path: Path
    environ: Mapping[str, str]
    look_for_secrets: bool
    store_is_needed: bool
    mistakes: list[Mistake]
    names: dict[str, str] = field(default_factory=dict)  # identity of a registry -> its name

    def add(self, at: str, got: str, remedy: str) -> None:
        self.mistakes.append(Mistake(at, got, remedy))

    def value(self, value: Any, at: str, read: Callable[[Any], str]) -> str | None:
        """The result of `read` for a value; None after a mistake. BadValueError becomes a mistake at the path `at`;
        other errors pass.
        """
        try:
            return read(value)
        except BadValueError as error:
            self.add(at, error.got, error.remedy)
            return None

    def model(self, form: type[M], tree: Any, at: str, said_elsewhere: frozenset[str] = frozenset()) -> M | None:
        """The mapping as a model without its invalid keys; None if a required key is invalid."""
        origin = Origin(self.path.parent, self.environ, self.look_for_secrets)
        try:
            return form.model_validate(tree, context=origin)
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False, include_input=False)
            mistakes = mistakes_of(error, form, tree, at)
        missing_by_a_mistake = {
            join(at, key) for key in said_elsewhere if not isinstance(tree, dict) or key not in tree
        }
        self.mistakes += [mistake for mistake in mistakes if mistake.path not in missing_by_a_mistake]
        wrong = {detail["loc"][0] for detail in details if detail["loc"]}
        try:
            valid = {key: value for key, value in tree.items() if key not in wrong} if isinstance(tree, dict) else tree
            return form.model_validate(valid, context=origin)
        except ValidationError:
            return None

    def settings(self, tree: Any, sha256: str) -> Settings | None:
        if not isinstance(tree, dict):
            got = "the file is empty" if tree is None else f"expected a mapping, got {shown(tree)}"
            self.add("", got, "start from the example in docs/configuration.md")
            return None
        whole = self.model(Document, tree, "")
        if whole is None:
            return None
        policies = self.policies(whole.policies)
        registries = self.registries(whole, policies)
        for number, recipient in enumerate(whole.notify):
            for name in (name for name in recipient.registries if name not in whole.registries):
                known = f"known: {', '.join(whole.registries) or 'none'}"
                at = f"notify[{number}].registries"
                self.add(at, f"there is no registry {shown(name)}", closest(name, whole.registries) or known)
        return Settings.model_construct(
            **{key: getattr(whole, key) for key in SharedKeys.model_fields}
            | {"store": self.store(whole.store), "registries": registries, "path": self.path, "sha256": sha256}
            | {"policies": {name: policy for name, policy in policies.items() if policy is not None}}
        )

    def policies(self, documents: Mapping[str, Any]) -> dict[str, Policy | None]:
        """Each policy by its name; None: it has mistakes, so that it is not reported as missing too."""
        policies: dict[str, Policy | None] = {}
        for name, rules in documents.items():
            at = join("policies", name)
            policies[name] = None
            if self.value(name, at, read_name) is not None:
                policies[name], mistakes = parse_policy(name, rules, at)
                self.mistakes += mistakes
        return policies

    def registries(self, whole: Document, policies: Policies) -> dict[str, RegistrySettings]:
        before = len(self.mistakes)
        shared = self.model(DefaultKeys, whole.defaults, "defaults")
        if shared is not None:
            checks.check_sources(self.add, shared.in_use, "defaults.in_use")
            if shared.credentials is not None:
                checks.check_credentials(self.add, shared.credentials, "defaults.credentials", None, self.programs)
        wrong = frozenset(
            mistake.path.split(".")[1].split("[")[0] for mistake in self.mistakes[before:] if "." in mistake.path
        )
        defaults = {key: value for key, value in whole.defaults.items() if key not in wrong}
        registries: dict[str, RegistrySettings] = {}
        for name, own in whole.registries.items():
            registry = self.registry(name, own, defaults, wrong, policies)
            if registry is not None:
                registries[name] = registry
                kind, policy = KINDS[registry.kind], registry.policy.name
                checks.check_conditions(self.add, kind, name, policy, whole.policies[policy])
                checks.check_paths(self.add, registry, whole.policies[policy])
        for name, other, address in overlaps(registries.values()):
            got = f"is the same registry as registries.{other}: both have images at {address}/…"
            self.add(join("registries", name), got, "keep one of the two")
        return registries

    @property
    def programs(self) -> str | None:
        """The folders of programs, as in PATH; None: programs are not checked."""
        return self.environ.get("PATH", "") if self.look_for_secrets else None

    def registry(
        self, name: str, own: Any, defaults: Mapping[str, Any], wrong: frozenset[str], policies: Policies
    ) -> RegistrySettings | None:
        """One registry. `defaults`: those of the file without its invalid keys, which are `wrong`."""
        at = join("registries", name)
        if self.value(name, at, read_name) is None:
            return None
        given = {**defaults, **own} if isinstance(own, dict) else own
        keys = self.model(RegistryKeys, given, at, said_elsewhere=wrong)
        if not isinstance(own, dict):
            return None

        def place(key: str) -> str:
            return join(at if key.partition(".")[0] in own else "defaults", key)

        policy = self.policy(given.get("policy"), place("policy"), policies)
        if keys is None:
            return None
        kind = KINDS[keys.kind]
        checks.check_keys(self.add, kind, name, own, defaults)
        if not wrong & {"id", "url"}:
            checks.check_identity(self.add, kind, given, at)
        checks.check_credentials(self.add, keys.credentials, place("credentials"), kind, self.programs)
        checks.check_sources(self.add, keys.in_use, place("in_use"))
        self.check_network(keys, place)
        endpoints = self.endpoints(keys.endpoints, kind)
        if getattr(keys, kind.identity):
            key = key_of(keys.kind, endpoints, keys.id, keys.url)
            if (other := self.names.setdefault(key, name)) != name:  # it could have two active runs
                same = "kind, endpoint and id" if kind.endpoint else f"kind and {kind.identity}"
                self.add(at, f"is the same registry as registries.{other}: the same {same}", "keep one of the two")
        if policy is None:
            return None
        made = {"name": name, "policy": policy, "endpoints": endpoints, "mode": self.mode(keys.mode)}
        return RegistrySettings.model_construct(**dict(keys) | made)

    def policy(self, name: Any, at: str, policies: Policies) -> Policy | None:
        """The policy of this name. Adds a mistake if the file has no such policy. None: there is none, or it has
        mistakes of its own, which are not reported again.
        """
        if isinstance(name, str) and name and name not in policies:
            known = closest(name, policies) or f"known: {', '.join(policies) or 'none'}"
            self.add(at, f"there is no policy {shown(name)}", known)
        return policies.get(name) if isinstance(name, str) else None

    def endpoints(self, given: EndpointKeys, kind: Kind) -> Endpoints:
        """The endpoints with the default `docker` of the kind, and the metadata service of the environment. An invalid
        YC_METADATA_ADDR adds a mistake; without a scheme, http:// is meant.
        """
        made = dict(given) if "docker" in given.model_fields_set else dict(given) | {"docker": kind.docker}
        if address := self.environ.get("YC_METADATA_ADDR", ""):
            root = address if "://" in address else f"http://{address}"
            made["metadata"] = self.value(root, "YC_METADATA_ADDR", _metadata_endpoint) or root
        return Endpoints.model_construct(**made)

    def check_network(self, keys: RegistryKeys, place: Callable[[str], str]) -> None:
        if keys.ca_file is not None and self.look_for_secrets:
            try:
                add_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), keys.ca_file)
            except SecretError as error:
                remedy = "write the path of the authority's certificate in PEM format"
                self.add(place("ca_file"), str(error), remedy)
        urls = {"url": keys.url} if keys.url else {}
        urls |= {f"endpoints.{key}": getattr(keys.endpoints, key) for key in sorted(keys.endpoints.model_fields_set)}
        for key, url in urls.items():
            self.value(url, place(key), lambda url: check_plain(url, keys.insecure_http))

    def mode(self, written: Mode) -> Mode:
        """The file's mode, or dry-run if REGISTRY_GC_MODE demands it. The environment only makes a run more careful:
        `delete` leaves the file's mode, another value adds a mistake.
        """
        mode = self.environ.get("REGISTRY_GC_MODE", "")
        if mode not in ("", "dry-run", "delete"):
            self.add("REGISTRY_GC_MODE", f"expected dry-run, got {shown(mode)}", "unset it to use the mode of the file")
        return "dry-run" if mode == "dry-run" else written

    def store(self, url: str | Secret | None) -> str:
        """The URL of the store, with an absolute path for a file."""
        if isinstance(url, Secret):
            try:
                where, url = url.where, url.read()
            except SecretError as error:
                if self.store_is_needed:  # otherwise reported already, or not needed
                    self.add("store", str(error), TO_BE_THERE)
                return ""
            if (self.look_for_secrets or self.store_is_needed) and (problem := store_flaw(url)):
                self.add("store", f"{where} cannot be used: {problem}", ENCODE)
        if url is None:
            return f"sqlite:///{state_folder(self.environ) / 'registry-gc.db'}"
        scheme, _, path = url.partition(":///")
        return f"sqlite:///{self.path.parent / path}" if scheme == "sqlite" else url


def _metadata_endpoint(text: str) -> str:
    url = read_endpoint(text)
    return url if url == METADATA else check_plain(url, insecure=None)
