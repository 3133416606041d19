"""pydantic's findings in our words: the path, what was expected, what came, what to write instead."""

import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic_core import ErrorDetails

from policies.document import Mistake
from policies.units import shown
from worker.config.document import Model
from worker.config.fields import closest
from worker.config.yaml_reader import join

Words = tuple[str, str]  # what, remedy


def mistake_of(detail: ErrorDetails, model: type[Model], at: str) -> Mistake:
    """One finding about `model`, which was read at path `at`."""
    path = at
    for step in detail["loc"]:
        path = join(path, step)
    return Mistake(path, *_words(detail, _owner(model, detail["loc"])))


def _words(detail: ErrorDetails, owner: type[Model]) -> Words:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "mistake":
        return context["what"], context["remedy"]
    if kind == "extra_forbidden":
        return _unknown(str(detail["loc"][-1]), owner)
    if kind == "missing":
        description = owner.model_fields[str(detail["loc"][-1])].description
        return "is missing", f"write {description}" if description else "write it"
    got = f"got {shown(detail['input'])}"
    expected, remedy = EXPECTED[kind](context) if kind in EXPECTED else (detail["msg"], "")
    if kind == "literal_error" and isinstance(detail["input"], str):
        remedy = closest(detail["input"], _choices(context)) or remedy
    return f"expected {expected}, {got}", remedy


def _choices(context: Mapping[str, Any]) -> list[str]:
    return [choice.strip("'") for choice in context["expected"].split(" or ")]


EXPECTED: dict[str, Callable[[Mapping[str, Any]], Words]] = {
    "bool_type": lambda _: ("true or false", "write one of them, without quotes"),
    "dict_type": lambda _: ("a mapping", "write keys and values, indented, below it"),
    "finite_number": lambda _: ("a finite number", "write, for example, 20"),
    "float_type": lambda _: ("a number", "write, for example, 20"),
    "greater_than": lambda context: (f"a number above {context['gt']:g}", "write, for example, 20"),
    "greater_than_equal": lambda context: (f"at least {context['ge']}", f"write {context['ge']} or more"),
    "int_type": lambda _: ("a whole number", "write, for example, 10, without quotes"),
    "less_than_equal": lambda context: (f"at most {context['le']:g}", f"write {context['le']:g} or less"),
    "list_type": lambda _: ("a list", "write - before each item"),
    "literal_error": lambda context: (" or ".join(_choices(context)), f"write {' or '.join(_choices(context))}"),
    "model_type": lambda _: ("a mapping", "write keys and values, indented, below it"),
    "string_too_short": lambda _: ("text that is not empty", "write it"),
    "string_type": lambda _: ("text", "put it in quotes"),
}


def _unknown(key: str, owner: type[Model]) -> Words:
    known = list(owner.model_fields)
    listed = f"known here: {', '.join(known)}"
    return f"unknown key {shown(key)}", f"{closest(key, known)} {listed}".strip()


def _owner(model: type[Model], loc: Iterable[str | int]) -> type[Model]:
    """The model whose key the last step of `loc` is."""
    for step in list(loc)[:-1]:
        field = model.model_fields.get(str(step))
        model = next(_models(field.annotation), model) if field else model
    return model


def _models(annotation: Any) -> Iterator[type[Model]]:
    """The models of an annotation such as `WebModel | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models(part)
