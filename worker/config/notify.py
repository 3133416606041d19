"""The key `notify`: where the outcomes of runs are told, which outcomes, and of which registries."""

import re
from collections.abc import Iterable
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, WithJsonSchema

from policies.units import shown
from worker.config.collecting import Collector
from worker.config.document import Given, Left, Model, url_schema
from worker.config.fields import Names, closest, mistake
from worker.config.settings import OUTCOMES, Notification, Outcome
from worker.config.yaml_reader import join

KNOWN: tuple[str, ...] = get_args(Outcome)
DEFAULT = ("blocked", "failed", "partial")
SCHEME = "[A-Za-z][A-Za-z0-9]*://"


def read_outcomes(value: object) -> tuple[str, ...]:
    """A list of outcomes, or `always`."""
    remedy = f"write always, or a list of {', '.join(KNOWN)}"
    if value == "always":
        return KNOWN
    if not isinstance(value, list) or not value:
        got = "an empty list" if value == [] else shown(value)
        raise mistake(f"expected always or a list of outcomes, got {got}", remedy)
    for one in value:
        if one not in KNOWN:
            near = closest(one, KNOWN) if isinstance(one, str) else ""
            raise mistake(f"expected outcomes of runs, got {shown(one)}", near or remedy)
    return tuple(value)


def read_address(value: str) -> str:
    """An address of apprise without a password in it. What apprise makes of it is known when it is used."""
    example = "write, for example, json://127.0.0.1:8080/hook, or keep it in {file: PATH} or {env: NAME}"
    try:
        password = urlsplit(value).password
    except ValueError:
        raise mistake("expected an address of apprise, got something else", example) from None
    if password is not None:
        raise mistake("a password stands in the file", "keep the whole URL in {file: PATH} or {env: NAME}")
    if not re.fullmatch(f"{SCHEME}\\S+", value):
        # Not shown: most of these addresses hold a token.
        raise mistake("expected an address of apprise, got something else", example)
    return value


Outcomes = Annotated[
    tuple[str, ...],
    BeforeValidator(read_outcomes),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "const": "always"},
                {"type": "array", "items": {"enum": list(KNOWN)}, "minItems": 1},
            ]
        }
    ),
]


class NotificationModel(Model):
    """Where outcomes are told, which, and of which registries."""

    url: Annotated[Any, Given, url_schema(SCHEME)] = Field(description="an address of apprise, or where it is kept")
    on: Outcomes = Field(default=DEFAULT, description="always: every outcome")
    registries: Left[Names] = Field(default=None, description="absent: all")


def read_notify(collector: Collector, entries: list[Any], registries: Iterable[str]) -> tuple[Notification, ...]:
    """Every entry that has no mistake; the mistakes of the others are collected."""
    known = list(registries)
    read = (_notification(collector, tree, join("notify", number), known) for number, tree in enumerate(entries))
    return tuple(one for one in read if one is not None)


def _notification(collector: Collector, tree: Any, at: str, known: list[str]) -> Notification | None:
    model = collector.model(NotificationModel, tree, at)
    if model is None:
        return None
    for name in model.registries or ():
        if name not in known:
            remedy = closest(name, known) or f"known: {', '.join(known) or 'none'}"
            collector.add(join(at, "registries"), f"there is no registry {shown(name)}", remedy)
    url = collector.url(model.url, join(at, "url"), read_address)
    if url is None:
        return None
    return Notification(url, on=OUTCOMES & set(model.on), registries=model.registries or ())
