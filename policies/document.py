"""A mapping that a person wrote -> Policy; every mistake named by path, value and remedy, all of them at once.

The forms say which keys there are and read each value. What is not built yet is refused by name, never ignored.
"""

import difflib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from policies.conditions import (
    All,
    AnyTag,
    Condition,
    Digests,
    EveryTag,
    LargerThan,
    NewerThan,
    NoTag,
    OlderThan,
    SmallerThan,
    SomeTag,
    Tagged,
    UntaggedFor,
)
from policies.forms import Conditions, DeleteConditions, Form, KeepConditions, RuleForm
from policies.patterns import Patterns
from policies.rules import Count, Per, Policy, Rule
from policies.units import shown

__all__ = ["Mistake", "Policy", "Rule", "RuleForm", "DeleteConditions", "KeepConditions", "parse_policy"]
__all__ += ["NO_VALUE", "no_value_remedy"]

LATER = frozenset(
    {"not_pulled_for", "pulled_within", "highest", "beyond_highest", "by", "version", "labels"}
    | {"media_types", "referrer", "orphan", "missing_children", "until_below", "all_of", "any_of", "not"}
)
NO_VALUE = "has no value"
_RULE = "{name: …, delete: {…}}"
_MISPLACED = {
    ("delete", "newest"): ("newest keeps", "write it in a keep rule, or beyond_newest here"),
    ("keep", "beyond_newest"): ("beyond_newest deletes", "write it in a select rule, or newest here"),
    ("keep", "any_tag"): ("any_tag is for select rules", "write tags: in a keep rule one matching tag is enough"),
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong with a document."""

    path: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.what}; {self.remedy}" if self.remedy else f"{self.path}: {self.what}"


_FORMS: dict[tuple[str, ...], type[Form]] = {
    (): RuleForm,
    ("delete",): DeleteConditions,
    ("keep",): KeepConditions,
}


def parse_policy(name: str, document: object, at: str) -> tuple[Policy | None, tuple[Mistake, ...]]:
    """A policy, or everything that is wrong with its document. `at`: where that stands, as `policies.nightly`."""
    if not isinstance(document, list):
        what = f"expected a list of rules, got {shown(document)}"
        return None, (Mistake(at, what, f"write, for example, - {_RULE}"),)
    mistakes: list[Mistake] = []
    rules: list[Rule] = []
    canonical: list[object] = []
    taken: dict[str, str] = {}
    for number, one in enumerate(document):
        here = f"{at}[{number}]"
        mistakes += _taken(one, here, taken)
        if empty := list(_without_value(one, here)):
            mistakes += empty
            continue
        try:
            form = RuleForm.model_validate(one)
        except ValidationError as error:
            mistakes += _mistakes(error, one, here)
            continue
        if wrong := list(_whole(form, here)):
            mistakes += wrong
            continue
        rules.append(_rule(form))
        canonical.append(form.model_dump(exclude_none=True))
    if mistakes:
        return None, tuple(mistakes)
    text = json.dumps(canonical, default=timedelta.total_seconds, sort_keys=True, ensure_ascii=False)
    return Policy(name, tuple(rules), hashlib.sha256(text.encode()).hexdigest()), ()


def no_value_remedy(path: str) -> str:
    """What to do about a key, or an item of a list, that has no value."""
    return f"write one, or leave the {'item' if path.endswith(']') else 'key'} out"


def _without_value(tree: object, here: str) -> Iterator[Mistake]:
    """Every key and item without a value: a condition that lost its value must never count as left out."""
    if tree is None:
        yield Mistake(here, NO_VALUE, no_value_remedy(here))
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from _without_value(value, f"{here}.{key}")
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from _without_value(value, f"{here}[{number}]")


def _taken(rule: object, here: str, taken: dict[str, str]) -> Iterator[Mistake]:
    name = rule.get("name") if isinstance(rule, dict) else None
    if not isinstance(name, str):
        return
    if name in taken:
        yield Mistake(f"{here}.name", f"{shown(name)} is the name of {taken[name]} already", "give each rule its own")
    taken.setdefault(name, here)


def _mistakes(error: ValidationError, rule: object, here: str) -> Iterator[Mistake]:
    """Pydantic's findings in our words."""
    for found in error.errors(include_url=False):
        where = found["loc"]
        path = here + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
        match found["type"]:
            case "extra_forbidden":
                yield _unknown_key(path, tuple(str(part) for part in where[:-1]), str(where[-1]), rule)
            case "missing":
                yield Mistake(path, "expected a name, got nothing", "say in a few words what the rule is for")
            case "value_error":
                what, _, remedy = str(found["ctx"]["error"]).rpartition("; ")
                yield Mistake(path, what, remedy) if what else Mistake(path, remedy)
            case "invalid_key":
                yield Mistake(here, f"expected words for keys, got {shown(where[-1])}", "put it in quotes")
            case _:  # a form that is no mapping
                of, example = ("conditions", "{older_than: 14d}") if where else ("name, delete or keep", _RULE)
                what = f"expected a mapping of {of}, got {shown(found['input'])}"
                yield Mistake(path, what, f"write, for example, {example}")


def _unknown_key(path: str, form: tuple[str, ...], key: str, rule: object) -> Mistake:
    known = list(_FORMS[form].model_fields)
    listed = f"known here: {', '.join(known)}"
    if form and (form[0], key) in _MISPLACED:
        return Mistake(path, *_MISPLACED[form[0], key])
    if form and key in LATER:
        return Mistake(path, "is not built yet", listed)
    conditions = {*DeleteConditions.model_fields, *KeepConditions.model_fields, *LATER}
    if not form and key in conditions:
        kind = "keep" if isinstance(rule, dict) and "keep" in rule else "delete"
        return Mistake(path, f"{key} is a condition", f"write it inside {kind}: {{…}}")
    close = difflib.get_close_matches(key, known, 1)
    meant = f"did you mean {close[0]}? " if close else ""
    return Mistake(path, f"unknown key {shown(key)}", f"{meant}{listed}")


def _whole(form: RuleForm, here: str) -> Iterator[Mistake]:
    """What is wrong with a rule whose every value is right."""
    if (form.delete is None) is (form.keep is None):
        got, remedy = ("neither", "say which") if form.delete is None else ("both", "write one rule for each")
        yield Mistake(here, f"expected either delete or keep, got {got}", remedy)
        return
    kind = "delete" if form.delete is not None else "keep"
    conditions = form.delete or form.keep
    given = set(conditions.model_dump(exclude_none=True)) if conditions is not None else set()
    if not given:
        yield Mistake(f"{here}.{kind}", "expected at least one condition", "write all: true if every image is meant")
    elif "per" in given and not given & {"newest", "beyond_newest"}:
        count = "beyond_newest" if kind == "delete" else "newest"
        yield Mistake(
            f"{here}.{kind}.per", "says where to count, and nothing is counted", f"write {count}: N beside it"
        )


def _rule(form: RuleForm) -> Rule:
    if form.delete is not None:
        asked = (*_delete_tags(form.delete), *_common(form.delete))
        count = _counted(form.delete.beyond_newest, form.delete.per, beyond=True)
    else:
        keep = form.keep or KeepConditions()
        asked = (*_keep_tags(keep), *_common(keep))
        count = _counted(keep.newest, keep.per, beyond=False)
    return Rule(
        name=form.name,
        kind="keep" if form.delete is None else "delete",
        conditions=asked,
        count=count,
        repositories=_patterns(form.repositories, paths=True),
        except_repositories=_patterns(form.except_repositories, paths=True),
    )


def _counted(n: int | None, per: Per | None, *, beyond: bool) -> Count | None:
    return None if n is None else Count(n, beyond, per or "repository")


def _delete_tags(asked: DeleteConditions) -> Iterator[Condition]:
    if (tags := _patterns(asked.tags)) is not None:
        yield EveryTag(tags)
    if (except_tags := _patterns(asked.except_tags)) is not None:
        yield NoTag(except_tags)
    if (any_tag := _patterns(asked.any_tag)) is not None:
        yield AnyTag(any_tag)


def _keep_tags(asked: KeepConditions) -> Iterator[Condition]:
    if asked.tags is not None or asked.except_tags is not None:
        yield SomeTag(_patterns(asked.tags), _patterns(asked.except_tags))


_PLAIN: Mapping[str, Callable[[Any], Condition]] = {
    "tagged": lambda _: Tagged(),
    "untagged": lambda _: Tagged(False),
    "digests": lambda digests: Digests(frozenset(digests)),
    "older_than": OlderThan,
    "newer_than": NewerThan,
    "untagged_for": UntaggedFor,
    "larger_than": LargerThan,
    "smaller_than": SmallerThan,
    "all": lambda _: All(),
}


def _common(asked: Conditions) -> Iterator[Condition]:
    for key, condition in _PLAIN.items():
        if (value := getattr(asked, key)) is not None:
            yield condition(value)


def _patterns(texts: list[str] | None, *, paths: bool = False) -> Patterns | None:
    return None if texts is None else Patterns(tuple(texts), paths)
