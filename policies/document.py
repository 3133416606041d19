"""A mapping that a person wrote -> Policy; every mistake named by path, value and remedy, all of them at once.

The forms say which keys there are and read each value. What is not built yet is refused by name, never ignored.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
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
from policies.findings import mistakes_of
from policies.forms import A_RULE, DeleteConditions, KeepConditions, RuleForm
from policies.mistakes import Mistake, join, no_value
from policies.patterns import Patterns
from policies.rules import Count, Policy, Rule
from policies.units import shown


def parse_policy(name: str, document: object, at: str) -> tuple[Policy | None, tuple[Mistake, ...]]:
    """A policy, or everything that is wrong with its document. `at`: where that stands, as `policies.nightly`."""
    if not isinstance(document, list):
        what = f"expected a list of rules, got {shown(document)}"
        return None, (Mistake(at, what, f"write, for example, - {A_RULE}"),)
    mistakes: list[Mistake] = []
    rules: list[Rule] = []
    canonical: list[object] = []
    taken: dict[str, str] = {}
    for number, one in enumerate(document):
        here = f"{at}[{number}]"
        name_of_rule = one.get("name") if isinstance(one, dict) else None
        if isinstance(name_of_rule, str) and (other := taken.setdefault(name_of_rule, here)) != here:
            got = f"{shown(name_of_rule)} is the name of {other} already"
            mistakes.append(Mistake(f"{here}.name", got, "give each rule its own"))
        if empty := list(_without_value(one, here)):
            mistakes += empty
            continue
        try:
            form = RuleForm.model_validate(one, context=())
        except ValidationError as error:
            mistakes += mistakes_of(error, RuleForm, one, here)
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


def _without_value(tree: object, here: str) -> Iterator[Mistake]:
    """Every key and item without a value: a condition that lost its value must never count as left out."""
    if tree is None:
        yield no_value(here)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from _without_value(value, join(here, str(key)))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from _without_value(value, join(here, number))


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
        yield Mistake(f"{here}.{kind}.per", "the rule counts nothing", f"write {count}: N beside it")


def _rule(form: RuleForm) -> Rule:
    asked = form.delete or form.keep or KeepConditions()
    beyond = isinstance(asked, DeleteConditions)
    most = asked.beyond_newest if isinstance(asked, DeleteConditions) else asked.newest
    return Rule(
        name=form.name,
        kind="delete" if beyond else "keep",
        conditions=tuple(_conditions(asked)),
        count=None if most is None else Count(most, beyond, asked.per or "repository"),
        repositories=_patterns(form.repositories, paths=True),
        except_repositories=_patterns(form.except_repositories, paths=True),
    )


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


def _conditions(asked: DeleteConditions | KeepConditions) -> Iterator[Condition]:
    tags, except_tags = _patterns(asked.tags), _patterns(asked.except_tags)
    if isinstance(asked, KeepConditions):
        if tags is not None or except_tags is not None:
            yield SomeTag(tags, except_tags)
    else:
        if tags is not None:
            yield EveryTag(tags)
        if except_tags is not None:
            yield NoTag(except_tags)
        if (any_tag := _patterns(asked.any_tag)) is not None:
            yield AnyTag(any_tag)
    for key, condition in _PLAIN.items():
        if (value := getattr(asked, key)) is not None:
            yield condition(value)


def _patterns(texts: list[str] | None, *, paths: bool = False) -> Patterns | None:
    return None if texts is None else Patterns(tuple(texts), paths)
