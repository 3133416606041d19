"""`registry-gc check` and `schema`: is the configuration right, and what may it mean that its author did not?"""

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
from worker.config.settings import ConfigError, RegistrySettings, Settings, find
from worker.notify.sender import is_supported_address
from worker.report.report import Column, Report, table_of
from worker.text import counted

EVERYTHING = (
    "all: true alone selects every image of the repositories that the rule applies to, today's pushes too; add a"
    " condition, such as older_than: 30d, or keep rules for what must stay"
)
PLAIN_HTTP = (
    "what is sent by plain http can be read and changed by whoever is on the way, passwords and lists of images alike:"
    " an image may be kept or deleted by a forged answer; use https, with ca_file where the authority is your own"
)


@click.command()
@click.option("--online", is_flag=True, help="Ask what it names, too: registries, evidence, store, Redis.")
@common()
def check(options: Options, online: bool) -> int:
    """Load the configuration, with everything it names, and say every mistake: one line each, exit code 2.
    Where an entry's kind has changed since its last run, say what goes on.

    With --online, sign in to each registry and say what its credentials may do, as far as that can be known without
    deleting anything; how far the clock is off; what each source of evidence counts. Exit code 1: something failed.
    """
    try:
        settings = options.settings()
        check_addresses(settings, find(options.config, os.environ))
    except ConfigError as error:
        if options.format == "table":
            raise
        mistakes = [{"path": one.path, "what": one.got, "remedy": one.remedy} for one in error.mistakes]
        options.report(Report(head={"file": str(error.path), "mistakes": mistakes}))
        return USAGE
    said = list(remarks(settings))
    registries = counted(len(settings.registries), "registry", "registries")
    first = f"{settings.path}: no mistakes: {registries}, {counted(len(settings.policies), 'policy', 'policies')}"
    lines = [f"warning: {path}: {sentence}" for path, sentence in said]
    right: dict[str, Any] = {"file": str(settings.path), "mistakes": []}
    warnings = {"warnings": [{"path": path, "message": sentence} for path, sentence in said]} if said else {}
    if online:
        report, code = _asked(options, settings, right | warnings, [first, *lines])
    else:
        changed = _moved(settings)
        also = {"moved": changed} if changed else {}
        changes = (f"{name}: {sentence}" for name, sentence in changed.items())
        report, code = Report(head=right | also | warnings, above=(first, *changes, *lines)), DONE
    options.report(report)
    return code


def _moved(settings: Settings) -> dict[str, str]:
    """As the store tells. Without --online it is read only where it is a file: a check waits for nobody."""
    file = settings.store.removeprefix("sqlite:///")
    if not settings.registries or file == settings.store or not Path(file).exists():
        return {}
    from worker.cli.moved import moved  # noqa: PLC0415 - SQLAlchemy, loaded only where there is a store

    return moved(settings)


def _asked(options: Options, settings: Settings, known: dict[str, Any], lines: list[str]) -> tuple[Report, int]:
    """What asking has found beside what is `known`, and the exit code."""
    from worker.cli.online import probe  # noqa: PLC0415 - what talks to registries, loaded only to ask them

    findings = probe(settings, datetime.now(UTC), verbose=options.verbose)
    report = Report(
        whole=known | {"online": findings},
        rows=findings,
        above=lambda _width: (*lines, *table_of(ASKED, findings)),  # the end of a line says what to do
    )
    return report, FAILED if any(one.status == "failed" for one in findings) else DONE


ASKED = (
    Column("REGISTRY", lambda one: one.registry or ""),
    Column("CHECK", lambda one: one.check),
    Column("STATUS", lambda one: one.status),
    Column("DETAIL", lambda one: one.detail),
)


def check_addresses(settings: Settings, path: Path) -> None:
    """Raises ConfigError: apprise does not support an address."""
    remedy = "look its form up in apprise's list of services"
    wrong = [number for number, one in enumerate(settings.notify) if not is_supported_address(one.address())]
    if wrong:
        what = "apprise does not support this address"
        raise ConfigError(tuple(Mistake(f"notify[{number}].url", what, remedy) for number in wrong), path)


def remarks(settings: Settings) -> Iterator[tuple[str, str]]:
    """The path of a key, and a sentence about it. Raises SecretError."""
    if is_sqlite_with_remote_redis(settings.store, settings.redis_url()):
        yield "redis", SQLITE_WITH_REMOTE_REDIS
    for policy in settings.policies.values():
        for number, rule in enumerate(policy.rules):
            if rule.kind == "delete" and rule.conditions == (All(),) and rule.count is None:
                yield f"policies.{policy.name}[{number}].delete", EVERYTHING
    for name, registry in settings.registries.items():
        if registry.insecure_http:
            yield f"registries.{name}.insecure_http", PLAIN_HTTP
        weak = [] if registry.reports_push_time else list(_counts(registry))
        if weak:
            yield (
                f"registries.{name}",
                f"push_time is first_seen: images that one scan saw first have no known order, and all that tie at the"
                f" border of a count stay; weak here: {', '.join(weak)}; {INSTEAD}",
            )


def _counts(registry: RegistrySettings) -> Iterator[str]:
    for rule in registry.policy.rules:
        if rule.count is not None:
            yield f"{'beyond_newest' if rule.count.beyond else 'newest'} (rule {rule.name!r})"
    if registry.keep_per_repository:
        yield "keep_per_repository"


@click.command()
@common(config=False, formats=("json",))
def schema(options: Options) -> None:
    """Write the JSON Schema (draft 2020-12) of the configuration file.

    Editors with the YAML language server read it through a first line such as
    `# yaml-language-server: $schema=registry-gc.schema.json`.
    """
    options.report(Report(head=json.dumps(made_schema(), indent=2, ensure_ascii=False).encode()))
