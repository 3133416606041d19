"""`registry-gc check`: is the configuration right?"""

import json

import click

from worker.cli.errors import USAGE
from worker.cli.options import Options, common
from worker.config import ConfigError
from worker.report.text import counted


@click.command()
@common()
def check(options: Options) -> int:
    """Load the configuration, with everything it names, and say every mistake: one line each, exit code 2."""
    try:
        settings = options.settings()
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
