"""What names one image: `path:tag`, `path@sha256:…`, or the registry's own id of it."""

import re
from typing import Any

import click

SEGMENT = r"[^\s/:@]+"
PATH = rf"{SEGMENT}(/{SEGMENT})*"
TAG = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
DIGEST = "sha256:[0-9a-f]{64}|(?!sha256:)[a-z0-9]+([.+_-][a-z0-9]+)*:[0-9a-f]{32,}"
REFERENCE = re.compile(rf"{PATH}(:{TAG}|@({DIGEST}))|[A-Za-z0-9]{{1,50}}")


class Reference(click.ParamType[str]):
    """The text, if it can name an image; whether there is one is another question."""

    name = "reference"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not REFERENCE.fullmatch(value):
            self.fail(f"expected an image, got {value!r}; write path:tag, path@sha256:… or an image's id", param, ctx)
        return str(value)
