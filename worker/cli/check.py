"""`registry-gc check` finds mistakes and risks in the configuration; `registry-gc schema` prints its JSON Schema."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from policies.conditions import All
from policies.mistakes import Mistake
from policies.warnings import INSTEAD
from worker.cli.errors import DONE, FAILED, USAGE
from worker.cli.options import Options, common
from worker.config.connection_urls import SQLITE_WITH_REMOTE_REDIS, is_sqlite_with_remote_redis
from worker.config.schema import schema as made_schema
from worker.config.settings import ConfigError, Settings, find
from worker.notify.sender import is_supported_address
from worker.report.report import Column, Report, table_of
from worker.text import counted

EVERYTHING = (
    "all: true alone selects every image in the rule's repositories, even those pushed today; add a condition, such as"
    " older_than: 30d, or keep rules for the images that must stay"
)
PLAIN_HTTP = (
    "anyone on the network path can read and change plain http, passwords and lists of images included, and a forged"
    " response can keep or delete an image; use https, with ca_file for a certificate authority of your own"
)


@click.command()
@click.option("--online", is_flag=True, help="Also contact the registries, evidence sources, store and Redis.")
@common()
def check(options: Options, online: bool) -> int:
    """Load the configuration and every file that it names, and print one line for each mistake. Exit code 2: there is
    a mistake. If a registry's kind has changed since its last run, say which of its records still apply.

    With --online, sign in to each registry and test what can be tested without deleting anything: permissions, clock
    skew, evidence sources. Exit code 1: a check failed.
    """
    try:
        settings = options.settings()
        check_addresses(settings, find(options.config, os.environ))
    except ConfigError as error:
        if options.format == "table":
            raise
        mistakes = [{"path": row.path, "what": row.got, "remedy": row.remedy} for row in error.mistakes]
        options.report(Report(head={"file": str(error.path), "mistakes": mistakes}))
        return USAGE
    warned = list(risks(settings))
    registries = counted(len(settings.registries), "registry", "registries")
    first = f"{settings.path}: no mistakes: {registries}, {counted(len(settings.policies), 'policy', 'policies')}"
    lines = [f"warning: {path}: {message}" for path, message in warned]
    head: dict[str, Any] = {"file": str(settings.path), "mistakes": []}
    warnings = {"warnings": [{"path": path, "message": message} for path, message in warned]} if warned else {}
    if online:
        return _check_online(options, settings, head | warnings, [first, *lines])
    changes = _kind_changes(settings)
    moved = {"moved": changes} if changes else {}
    change_lines = (f"{name}: {message}" for name, message in changes.items())
    options.report(Report(head=head | moved | warnings, above=(first, *change_lines, *lines)))
    return DONE


def _kind_changes(settings: Settings) -> dict[str, str]:
    """Read only from a store that is a file: without --online, a check waits for no server."""
    file = settings.store.removeprefix("sqlite:///")
    if not settings.registries or file == settings.store or not Path(file).exists():
        return {}
    from worker.cli.kind_changes import kind_changes  # noqa: PLC0415 - SQLAlchemy, loaded only where there is a store

    return kind_changes(settings)


def _check_online(options: Options, settings: Settings, head: dict[str, Any], lines: list[str]) -> int:
    from worker.cli.online import probe  # noqa: PLC0415 - the clients of registries, loaded only for --online

    results = probe(settings, datetime.now(UTC), verbose=options.verbose)
    columns = (
        Column("REGISTRY", lambda result: result.registry or ""),
        Column("CHECK", lambda result: result.check),
        Column("STATUS", lambda result: result.status),
        Column("DETAIL", lambda result: result.detail),
    )
    report = Report(
        whole=head | {"online": results},
        rows=results,
        above=lambda _width: (*lines, *table_of(columns, results)),  # not cut: the end of a line has the remedy
    )
    options.report(report)
    return FAILED if any(result.status == "failed" for result in results) else DONE


def check_addresses(settings: Settings, path: Path) -> None:
    """Check that apprise supports every address of `notify`. Sends nothing. Raises ConfigError with one mistake for
    each address, which quotes no part of it; SecretError.
    """
    wrong = [number for number, target in enumerate(settings.notify) if not is_supported_address(target.address())]
    if wrong:
        message, remedy = "apprise does not support this address", "see apprise's list of services for its form"
        raise ConfigError(tuple(Mistake(f"notify[{number}].url", message, remedy) for number in wrong), path)


def risks(settings: Settings) -> Iterator[tuple[str, str]]:
    """The path of a key, and a warning about its value. Raises SecretError."""
    if is_sqlite_with_remote_redis(settings.store, settings.redis_url()):
        yield "redis", SQLITE_WITH_REMOTE_REDIS
    for policy in settings.policies.values():
        for number, rule in enumerate(policy.rules):
            if rule.kind == "delete" and rule.conditions == (All(),) and rule.count is None:
                yield f"policies.{policy.name}[{number}].delete", EVERYTHING
    for name, registry in settings.registries.items():
        if registry.insecure_http:
            yield f"registries.{name}.insecure_http", PLAIN_HTTP
        counts = [
            f"{'beyond_newest' if rule.count.beyond else 'newest'} (rule {rule.name!r})"
            for rule in registry.policy.rules
            if rule.count is not None
        ]
        counts += ["keep_per_repository"] if registry.keep_per_repository else []
        if counts and not registry.reports_push_time:
            yield (
                f"registries.{name}",
                "push_time is first_seen: images that the same scan saw first have no known order, and all that tie at"
                f" the limit of a count are kept; this weakens {', '.join(counts)}; {INSTEAD}",
            )


@click.command()
@common(config=False, formats=("json",))
def schema(options: Options) -> None:
    """Print the JSON Schema (draft 2020-12) of the configuration file.

    Editors with the YAML language server use it if the file begins with a line such as
    `# yaml-language-server: $schema=registry-gc.schema.json`.
    """
    options.report(Report(head=json.dumps(made_schema(), indent=2, ensure_ascii=False).encode()))
