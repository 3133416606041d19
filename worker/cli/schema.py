"""`registry-gc schema`: what editors need to complete and check the configuration file."""

import json

import click

from worker.cli.options import Options, common
from worker.config.schema import schema as made


@click.command()
@common(config=False, formats=("json",))
def schema(options: Options) -> None:
    """Write the JSON Schema (draft 2020-12) of the configuration file.

    Editors with the YAML language server read it through a first line such as
    `# yaml-language-server: $schema=registry-gc.schema.json`.
    """
    with options.open() as output:
        output.line(json.dumps(made(), indent=2, ensure_ascii=False))
