"""From the file's bytes to `Settings`: reads every part, collects every mistake, fills in every default."""

import hashlib
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from policies.document import NO_VALUE, Mistake, Policy, parse_policy
from policies.limits import Limits
from policies.units import shown
from worker.config import document, fields, kind_checks
from worker.config.addresses import is_proxy_url
from worker.config.collecting import Collector
from worker.config.connection_urls import redis_flaw, store_flaw
from worker.config.credentials import read_credentials
from worker.config.evidence import read_evidence
from worker.config.files import read_file
from worker.config.kinds import KINDS, Kind
from worker.config.notify import read_notify
from worker.config.outside_files import add_certificates
from worker.config.overlaps import overlaps
from worker.config.secret import Secret, SecretError
from worker.config.settings import (
    AfterRun,
    ConfigError,
    Credentials,
    Endpoints,
    EvidenceSettings,
    Mode,
    Network,
    Rate,
    RegistrySettings,
    Retention,
    Settings,
    Timing,
    Web,
    key_of,
)
from worker.config.state_folder import state_folder
from worker.config.yaml_reader import MAX_BYTES, YamlError, join, parse


def read_settings(path: Path, environ: Mapping[str, str], *, look_for_secrets: bool, store_is_needed: bool) -> Settings:
    """The settings that `path` holds. Raises ConfigError."""
    content = _content(path)
    try:
        tree, flaws = parse(content)
    except YamlError as error:
        flaw = error.flaw
        raise ConfigError((Mistake(flaw.path, flaw.what, flaw.remedy),), path) from error
    reading = _Reading(path.absolute(), environ, look_for_secrets, store_is_needed)
    reading.mistakes += [Mistake(flaw.path, flaw.what, flaw.remedy) for flaw in flaws]
    empty = {flaw.path for flaw in flaws if flaw.what == NO_VALUE}
    settings = reading.settings(tree, hashlib.sha256(content).hexdigest())
    if settings is None or reading.mistakes:
        mistakes = [one for one in reading.mistakes if one.what == NO_VALUE or one.path not in empty]
        raise ConfigError(tuple(dict.fromkeys(mistakes)), path)
    return settings


def _content(path: Path) -> bytes:
    try:
        return read_file(path, MAX_BYTES)
    except FileNotFoundError:
        flaw = Mistake("", "there is no such file", "name one with --config or REGISTRY_GC_CONFIG")
    except OSError as error:
        flaw = Mistake("", f"cannot be read: {error.strerror}", "name a file with --config or REGISTRY_GC_CONFIG")
    raise ConfigError((flaw,), path)


@dataclass
class _Reading(Collector):
    names: dict[str, str] = field(default_factory=dict)  # of registries, by what they are

    def settings(self, tree: Any, sha256: str) -> Settings | None:
        if not isinstance(tree, dict):
            what = "is empty" if tree is None else f"expected a mapping, got {shown(tree)}"
            self.add("", what, "docs/configuration.md has an example to start from")
            return None
        whole = self.model(document.DocumentModel, tree, "")
        if whole is None:
            return None
        policies = self.policies(whole.policies)
        registries = self.registries(whole, policies)
        redis = self.url(whole.redis, "redis", fields.read_redis, redis_flaw)
        return Settings(
            path=self.path,
            sha256=sha256,
            redis=redis,
            store=self.store(whole.store),
            web=Web(*whole.web.listen, token=self.secret(whole.web.token, "web.token")),
            timing=Timing(reconcile=whole.timing.reconcile, lease=whole.timing.lease),
            retention=Retention(plans=whole.retention.plans, audit=whole.retention.audit),
            notify=read_notify(self, whole.notify, whole.registries),
            registries=registries,
            policies={name: policy for name, policy in policies.items() if policy is not None},
        )

    def policies(self, documents: Mapping[str, Any]) -> dict[str, Policy | None]:
        """Each policy by its name; None where it has mistakes, so that no registry is told that it is missing."""
        policies: dict[str, Policy | None] = {}
        for name, rules in documents.items():
            at = join("policies", name)
            if self.value(name, at, fields.read_name) is None:
                policies[name] = None
                continue
            policies[name], mistakes = parse_policy(name, rules, at)
            self.mistakes.extend(mistakes)
        return policies

    def registries(
        self, whole: document.DocumentModel, policies: Mapping[str, Policy | None]
    ) -> dict[str, RegistrySettings]:
        before = len(self.mistakes)
        shared = self.model(document.DefaultsModel, whole.defaults, "defaults")
        if shared is not None:
            read_evidence(self, shared.in_use, join("defaults", "in_use"))
            if shared.credentials is not None:
                read_credentials(self, shared.credentials, join("defaults", "credentials"), None)
        wrong = {mistake.path.split(".")[1].split("[")[0] for mistake in self.mistakes[before:] if "." in mistake.path}
        defaults = {key: value for key, value in whole.defaults.items() if key not in wrong}
        registries: dict[str, RegistrySettings] = {}
        for name, own in whole.registries.items():
            registry = self.registry(name, own, defaults, wrong, policies)
            if registry is not None:
                registries[name] = registry
                kind, policy = KINDS[registry.kind], registry.policy.name
                kind_checks.check_conditions(self, kind, name, policy, whole.policies[policy])
                kind_checks.check_paths(self, registry, whole.policies[policy])
        for name, other, address in overlaps(registries.values()):
            what = f"is the same registry as registries.{other}: images of both are {address}/…"
            self.add(join("registries", name), what, "keep one of the two")
        return registries

    def registry(
        self,
        name: str,
        own: Any,
        defaults: Mapping[str, Any],
        wrong: set[str],
        policies: Mapping[str, Policy | None],
    ) -> RegistrySettings | None:
        at = join("registries", name)
        if self.value(name, at, fields.read_name) is None:
            return None
        if not isinstance(own, dict):
            self.add(at, f"expected a mapping, got {shown(own)}", "write kind, id or url, credentials and policy")
            return None
        model = self.model(document.RegistryModel, {**defaults, **own}, at, said_elsewhere=wrong)
        policy_at = join(at if "policy" in own else "defaults", "policy")
        policy = self.policy({**defaults, **own}.get("policy"), policy_at, policies)
        if model is None:
            return None
        kind, signing_in = KINDS[model.kind], join(at if "credentials" in own else "defaults", "credentials")
        kind_checks.check_keys(self, kind, name, own, defaults)
        if not wrong & {"id", "url"}:
            kind_checks.check_identity(self, kind, {**defaults, **own}, at)
        endpoints = self.endpoints(model.endpoints, kind.docker)
        credentials = read_credentials(self, model.credentials, signing_in, kind)
        network = self.network(model, at, own)
        in_use = read_evidence(self, model.in_use, join(at if "in_use" in own else "defaults", "in_use"))
        if getattr(model, kind.identity) is not None:
            self.one_name(key_of(model.kind, endpoints, model.id or "", model.url or ""), kind, name)
        if policy is None or not credentials:
            return None
        return self.whole_registry(name, model, credentials, endpoints, network, in_use, policy)

    def whole_registry(
        self,
        name: str,
        model: document.RegistryModel,
        credentials: tuple[Credentials, ...],
        endpoints: Endpoints,
        network: Network,
        in_use: tuple[EvidenceSettings, ...],
        policy: Policy,
    ) -> RegistrySettings:
        after_run = self.after_run(model.after_run, join(join("registries", name), "after_run"))
        return RegistrySettings(
            name=name,
            kind=model.kind,
            id=model.id or "",
            url=model.url or "",
            repositories=model.repositories or (),
            token_hosts=model.token_hosts or (),
            addresses=model.addresses or (),
            push_time=model.push_time or "first_seen",
            transitional=bool(model.transitional),
            credentials=credentials[0],
            credentials_by_repository=credentials if isinstance(model.credentials, list) else (),
            endpoints=endpoints,
            network=network,
            schedule=model.schedule,
            timezone=model.timezone,
            catch_up=model.catch_up,
            mode=self.mode(model.mode),
            settle=model.settle,
            trust_times_after=model.trust_times_after,
            ignore_unreadable=model.ignore_unreadable or (),
            in_use=in_use,
            policy=policy,
            keep_per_repository=model.keep_per_repository,
            limits=Limits(**model.limits.model_dump()),
            rate=Rate(**model.rate.model_dump()),
            plan_max_age=model.plan_max_age,
            deadline=model.deadline,
            after_run=after_run,
        )

    def after_run(self, model: document.AfterRunModel | None, at: str) -> AfterRun | None:
        if model is None:
            return None
        return AfterRun(model.command or (), model.url, self.secret(model.token, join(at, "token")))

    def one_name(self, key: str, kind: Kind, name: str) -> None:
        """Refuse a second name for a registry: two runs of it at once would be allowed."""
        if (other := self.names.setdefault(key, name)) != name:
            same = "kind, endpoint and id" if kind.endpoint else f"kind and {kind.identity}"
            what = f"is the same registry as registries.{other}: {same}"
            self.add(join("registries", name), what, "keep one of the two")

    def policy(self, name: Any, at: str, policies: Mapping[str, Policy | None]) -> Policy | None:
        if isinstance(name, str) and name not in policies:
            known = fields.closest(name, policies) or f"known: {', '.join(policies) or 'none'}"
            self.add(at, f"there is no policy {shown(name)}", known)
        return policies.get(name) if isinstance(name, str) else None

    def endpoints(self, model: document.EndpointsModel | None, docker: str) -> Endpoints:
        """`docker`: where the images of a kind usually are."""
        given = {"docker": docker} | (model.model_dump(exclude_none=True) if model else {})
        address = self.environ.get("YC_METADATA_ADDR", "")
        if address:
            root = address if "://" in address else f"http://{address}"
            endpoint = self.value(root, "YC_METADATA_ADDR", _metadata_endpoint)
            return Endpoints(**given, metadata=endpoint) if endpoint else Endpoints(**given)
        return Endpoints(**given)

    def network(self, model: document.RegistryModel, at: str, own: Mapping[str, Any]) -> Network:
        """How the registry is reached; `own`: the keys that stand in the registry, not in `defaults`."""
        ca_file = self.path.parent / model.ca_file if model.ca_file else None
        if ca_file is not None and self.look_for_secrets:
            try:
                add_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ca_file)
            except SecretError as error:
                remedy = "write the path of the authority's certificate in PEM format"
                self.add(join(at if "ca_file" in own else "defaults", "ca_file"), str(error), remedy)
        insecure = bool(model.insecure_http)
        for key, url in _plain_urls(model):
            there = join(at if key.partition(".")[0] in own else "defaults", key)
            self.value(url, there, partial(fields.check_plain, insecure=insecure))
        proxy_at = join(at if "proxy" in own else "defaults", "proxy")
        proxy = self.url(model.proxy, proxy_at, fields.read_proxy)
        if self.look_for_secrets and isinstance(proxy, Secret):
            with suppress(SecretError):  # told where the secret was looked for
                text = proxy.read()
                if not is_proxy_url(text if "://" in text else f"http://{text}"):
                    self.add(proxy_at, f"{proxy.where} is no URL of a proxy", fields.PROXY_REMEDY)
        return Network(ca_file, proxy, insecure)

    def mode(self, written: Mode) -> Mode:
        """The file's mode, or a more careful one that the environment asks for."""
        asked = self.environ.get("REGISTRY_GC_MODE", "")
        if asked not in ("", "dry-run", "delete"):
            self.add("REGISTRY_GC_MODE", f"expected dry-run, got {shown(asked)}", "unset it to follow the file")
        return "dry-run" if asked == "dry-run" else written

    def store(self, value: Any) -> str:
        """The store's URL, a file's path in it absolute."""
        url = self.url(value, "store", fields.read_store, store_flaw)
        if isinstance(url, Secret):
            try:
                url = url.read()
            except SecretError:  # told where the secret was looked for, else the store is not asked for
                return ""
        if url is None:
            return f"sqlite:///{state_folder(self.environ) / 'registry-gc.db'}"
        scheme, _, path = url.partition(":///")
        return f"sqlite:///{self.path.parent / path}" if scheme == "sqlite" else url


def _plain_urls(model: document.RegistryModel) -> Iterator[tuple[str, str]]:
    """The addresses that a registry names, by their keys."""
    if model.url is not None:
        yield "url", model.url
    for key, url in (model.endpoints.model_dump(exclude_none=True) if model.endpoints else {}).items():
        yield f"endpoints.{key}", url


def _metadata_endpoint(text: str) -> str:
    url = fields.check_endpoint(text)
    return url if url == f"http://{fields.METADATA_ADDRESS}" else fields.check_plain(url, insecure=None)
