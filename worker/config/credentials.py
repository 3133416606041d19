"""Reads how to sign in to a registry: one way, or a list of ways for one repository and another."""

import shutil
from pathlib import Path
from typing import Any

from policies.units import shown
from worker.config import kind_checks
from worker.config.collecting import Collector
from worker.config.document import CredentialsModel, RepositoryCredentialsModel
from worker.config.kinds import Kind
from worker.config.outside_files import read_docker_config
from worker.config.secret import SecretError
from worker.config.settings import Credentials, WorkloadIdentity
from worker.config.yaml_reader import join


def read_credentials(collector: Collector, value: Any, at: str, kind: Kind | None) -> tuple[Credentials, ...]:
    """What `value` says, one for each item of a list; with mistakes fewer. `kind` None: of which kind is not known."""
    if not isinstance(value, list):
        model = collector.model(CredentialsModel, value, at)
        return () if model is None else (_read(collector, model, at, kind),)
    if kind is not None and "repositories" not in kind.keys:
        collector.add(at, f"expected a mapping, got {shown(value)}", f"kind {kind.name} has one way to sign in for all")
    if not value:
        collector.add(at, "expected at least one way to sign in, got an empty list", "write {anonymous: true} for none")
    found: list[Credentials] = []
    for number, item in enumerate(value):
        here = join(at, number)
        model = collector.model(RepositoryCredentialsModel, item, here)
        if model is None:
            continue
        if model.repositories is None and number < len(value) - 1:
            collector.add(here, "is for every repository, so that none after it is used", "write it last")
        found.append(_read(collector, model, here, kind))
    return tuple(found)


def _read(collector: Collector, model: CredentialsModel, at: str, kind: Kind | None) -> Credentials:
    if kind is not None:
        kind_checks.check_ways_in(collector, kind, model, at)
    identity, pod = model.workload_identity, None
    if identity is not None:
        token = collector.secret(identity.token, join(at, "workload_identity.token"))
        pod = WorkloadIdentity(identity.service_account, token) if token else None
    folder = collector.path.parent
    credentials = Credentials(
        repositories=(model.repositories or ()) if isinstance(model, RepositoryCredentialsModel) else (),
        iam_token=collector.secret(model.iam_token, join(at, "iam_token")),
        service_account_key=collector.secret(model.service_account_key, join(at, "service_account_key")),
        metadata=bool(model.metadata),
        username=model.username,
        password=collector.secret(model.password, join(at, "password")),
        anonymous=bool(model.anonymous),
        helper=model.helper,
        docker_config=folder / model.docker_config if model.docker_config else None,
        command=model.command or (),
        folder=folder if model.command else None,
        workload_identity=pod,
    )
    if collector.look_for_secrets and (what := _what_is_wrong(credentials, collector.environ.get("PATH"))):
        remedy = "what signs in must be there before anything starts, for the user that runs it"
        collector.add(join(at, model.given[0]), what, remedy)
    return credentials


def _what_is_wrong(credentials: Credentials, path: str | None) -> str:
    """Why these credentials cannot work, as far as it shows without running anything; empty: nothing shows.

    `path`: where programs are looked for, as the variable PATH lists folders.
    """
    if credentials.docker_config is not None:
        try:
            read_docker_config(credentials.docker_config)
        except SecretError as error:
            return str(error)
    program = f"docker-credential-{credentials.helper}" if credentials.helper else "".join(credentials.command[:1])
    if not program or _is_there(program, credentials.folder, path):
        return ""
    return f"there is no program {program}"


def _is_there(program: str, folder: Path | None, path: str | None) -> bool:
    if "/" in program:  # relative ones begin where the command runs
        return shutil.which(str((folder or Path()) / program)) is not None
    return shutil.which(program, path=path) is not None
