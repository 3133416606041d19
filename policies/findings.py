"""Translates pydantic's errors into mistakes of a document, for the configuration file and for policies."""

import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo

from policies.mistakes import BadValueError, Mistake, closest, join, listed
from policies.units import shown

Explanation = tuple[str, str]  # the mistake, and its remedy
TAG = "\0"  # begins the names of a union's members, to hide them from paths; no document has the character


def written(read: Callable[[Any], Any]) -> Callable[[Any, ValidationInfo], Any]:
    """A validator that reads values of documents. The program builds forms from read values, without a context. `read`
    raises BadValueError for a bad value; pydantic collects these errors, and `mistakes_of` adds their paths. Validate a
    document with a context, even an empty one: without a context no value is read.
    """

    def check(value: Any, info: ValidationInfo) -> Any:
        return value if info.context is None else read(value)

    return check


class Form(BaseModel):
    """A mapping of a document without unknown keys. A form explains its missing and unknown keys itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    A_MAPPING: ClassVar[Explanation] = ("a mapping", "write keys and values, indented, below it")

    @classmethod
    def missing(cls, key: str, /) -> Explanation:
        description = cls.model_fields[key].description
        return "is missing", f"write {description}" if description else "write it"

    @classmethod
    def unknown(cls, key: str, _tree: object, /) -> Explanation:
        return unknown_key(key, list(cls.model_fields))


def unknown_key(key: str, known: list[str], cutoff: float = 0.7) -> Explanation:
    return f"unknown key {shown(key)}", f"{closest(key, known, cutoff)} known here: {', '.join(known)}".strip()


def mistakes_of(error: ValidationError, form: type[Form], tree: object, at: str) -> Iterator[Mistake]:
    """The mistakes of `tree`, which is at path `at` and was read as `form`."""
    for detail in error.errors(include_url=False):
        if detail["type"] == "default_factory_not_called":
            continue  # its cause is another mistake
        steps = [step for step in detail["loc"] if not str(step).startswith(TAG)]
        if detail["type"] == "invalid_key":
            steps, got, remedy = steps[:-1], f"expected text as a key, got {shown(steps[-1])}", "put it in quotes"
        elif detail["type"] == "value_error" and isinstance(bad := detail["ctx"]["error"], BadValueError):
            steps, got, remedy = [*steps, *filter(None, [bad.key])], bad.got, bad.remedy
        else:
            got, remedy = _words(detail, form, steps, tree)
        path = at
        for step in steps:
            path = join(path, step)
        yield Mistake(path, got, remedy)


def _words(detail: Mapping[str, Any], form: type[Form], steps: Sequence[str | int], tree: Any) -> Explanation:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        for step in steps[:-1]:
            tree = tree[step]
        return _form_at(form, steps[:-1]).unknown(str(steps[-1]), tree)
    if kind == "missing":
        return _form_at(form, steps[:-1]).missing(str(steps[-1]))
    if kind in ("model_type", "model_attributes_type"):
        expected, remedy = _form_at(form, steps).A_MAPPING
    else:
        expected, remedy = EXPECTED[kind](context) if kind in EXPECTED else (detail["msg"], "")
    if kind == "literal_error" and isinstance(detail["input"], str):
        remedy = closest(detail["input"], _choices(context)) or remedy
    return f"expected {expected}, got {shown(detail['input'])}", remedy


def _choices(context: Mapping[str, Any]) -> list[str]:
    return re.findall("'([^']*)'", context["expected"])


EXPECTED: dict[str, Callable[[Mapping[str, Any]], Explanation]] = {
    "bool_type": lambda _: ("true or false", "write one of them, without quotes"),
    "dict_type": lambda _: Form.A_MAPPING,
    "finite_number": lambda _: ("a finite number", "write, for example, 20"),
    "float_type": lambda _: ("a number", "write, for example, 20"),
    "greater_than": lambda context: (f"a number above {context['gt']:g}", "write, for example, 20"),
    "greater_than_equal": lambda context: (f"at least {context['ge']}", f"write {context['ge']} or more"),
    "int_type": lambda _: ("a whole number", "write, for example, 10, without quotes"),
    "less_than_equal": lambda context: (f"at most {context['le']:g}", f"write {context['le']:g} or less"),
    "list_type": lambda _: ("a list", "write - before each item"),
    "tuple_type": lambda _: ("a list", "write - before each item"),
    "literal_error": lambda context: (choices := listed(_choices(context), "or"), f"write {choices}"),
    "string_too_short": lambda _: ("text that is not empty", "write it"),
    "string_type": lambda _: ("text", "put it in quotes"),
}


def _form_at(form: type[Form], steps: Sequence[str | int]) -> type[Form]:
    """The form at the end of `steps`, which begin at `form`."""
    for step in steps:
        field = form.model_fields.get(str(step))
        form = next(_forms(field.annotation), form) if field else form
    return form


def _forms(annotation: Any) -> Iterator[type[Form]]:
    """The forms of an annotation such as `Web | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Form):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _forms(part)
