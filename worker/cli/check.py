"""`registry-gc check`: is the configuration right?"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import click

from worker.cli.errors import DONE, FAILED, USAGE
from worker.cli.moved import moved
from worker.cli.options import Options, common
from worker.cli.output import Output
from worker.cli.remarks import remarks
from worker.config.settings import ConfigError, Settings, find
from worker.text import counted, table


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
        mistakes = [{"path": one.path, "what": one.what, "remedy": one.remedy} for one in error.mistakes]
        with options.open() as output:
            output.line(json.dumps({"file": str(error.path), "mistakes": mistakes}, ensure_ascii=False))
        return USAGE
    if online:
        return _online(options, settings)
    changed, said = moved(settings), list(remarks(settings))
    with options.open() as output:
        if options.format == "table":
            output.line(_no_mistakes(settings))
            for name, sentence in changed.items():
                output.line(f"{name}: {sentence}")
            _warn(output, said)
        else:
            also = ({"moved": changed} if changed else {}) | _warnings(said)
            output.line(json.dumps({"file": str(settings.path), "mistakes": [], **also}, ensure_ascii=False))
    return 0


def _warn(output: Output, said: list[tuple[str, str]]) -> None:
    for path, sentence in said:
        output.line(f"warning: {path}: {sentence}")


def _warnings(said: list[tuple[str, str]]) -> dict[str, list[dict[str, str]]]:
    """As JSON has them; the key is there only where there are some."""
    return {"warnings": [{"path": path, "message": sentence} for path, sentence in said]} if said else {}


def _no_mistakes(settings: Settings) -> str:
    registries = counted(len(settings.registries), "registry", "registries")
    policies = counted(len(settings.policies), "policy", "policies")
    return f"{settings.path}: no mistakes: {registries}, {policies}"


def _online(options: Options, settings: Settings) -> int:
    from worker.cli.live import log_if_asked  # noqa: PLC0415 - what talks to registries, only where one is asked
    from worker.cli.online import probe  # noqa: PLC0415 - as above

    log_if_asked(verbose=options.verbose)
    findings = probe(settings, datetime.now(UTC))
    documents, said = [one.document() for one in findings], list(remarks(settings))
    with options.open() as output:
        if options.format == "table":
            output.line(_no_mistakes(settings))
            _warn(output, said)
            heading = ("REGISTRY", "CHECK", "STATUS", "DETAIL")
            cells = [(one.registry or "", one.check, one.status, one.detail) for one in findings]
            for line in table(heading, cells):  # not cut: the end of a line says what to do
                output.line(line)
        elif options.format == "json":
            whole = {"file": str(settings.path), "mistakes": [], **_warnings(said), "online": documents}
            output.line(json.dumps(whole, ensure_ascii=False))
        else:
            for document in documents:
                output.line(json.dumps(document, ensure_ascii=False))
    return FAILED if any(one.status == "failed" for one in findings) else DONE


def check_addresses(settings: Settings, path: Path) -> None:
    """Raises ConfigError: apprise does not understand one. Only asked here: apprise is slow to load."""
    if not settings.notify:
        return
    from policies.document import Mistake  # noqa: PLC0415 -- only where somebody is to be told
    from worker.notify.sender import understood  # noqa: PLC0415 -- as above

    remedy = "look its form up in apprise's list of services"
    wrong = [number for number, one in enumerate(settings.notify) if not understood(one.address())]
    if wrong:
        what = "apprise does not understand this address"
        raise ConfigError(tuple(Mistake(f"notify[{number}].url", what, remedy) for number in wrong), path)
