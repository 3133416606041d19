"""`registry-gc check`: is the configuration right?"""

import json
import os
from pathlib import Path

import click

from worker.cli.errors import USAGE
from worker.cli.options import Options, common
from worker.config import ConfigError, Settings, find
from worker.report.text import counted


@click.command()
@common()
def check(options: Options) -> int:
    """Load the configuration, with everything it names, and say every mistake: one line each, exit code 2."""
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
    with options.open() as output:
        if options.format == "table":
            registries = counted(len(settings.registries), "registry", "registries")
            policies = counted(len(settings.policies), "policy", "policies")
            output.line(f"{settings.path}: no mistakes: {registries}, {policies}")
        else:
            output.line(json.dumps({"file": str(settings.path), "mistakes": []}, ensure_ascii=False))
    return 0


def check_addresses(settings: Settings, path: Path) -> None:
    """Raises ConfigError: apprise does not understand one. Only asked here: apprise is slow to load."""
    if not settings.notify:
        return
    from policies.document import Mistake  # noqa: PLC0415 -- only where somebody is to be told
    from worker.messenger import understood  # noqa: PLC0415 -- as above

    remedy = "look its form up in apprise's list of services"
    wrong = [number for number, one in enumerate(settings.notify) if not understood(one.address())]
    if wrong:
        what = "apprise does not understand this address"
        raise ConfigError(tuple(Mistake(f"notify[{number}].url", what, remedy) for number in wrong), path)
