"""Who types a command, for the record: `--who`."""

import getpass
import os
from typing import Any

import click

LONGEST = 500  # characters of a reason, or of who gives it


class Words(click.ParamType[str]):
    """One line that a table can show."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = " ".join(str(value).split())
        if len(text) > LONGEST:
            self.fail(f"expected at most {LONGEST} characters, got {len(text)}", param, ctx)
        return text


def me() -> str:
    """user@host, as well as the machine can tell: a user without a name by its number."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user}@{os.uname().nodename}"


who_option = click.option("--who", type=Words(), default=me, show_default="user@host", help="By whom, for the record.")
