"""Reads a policy from a document and reports all its mistakes at once, each with path, value and remedy.

The forms define the keys and read each value. They reject the keys of conditions that are not built yet.
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
    """The policy, or all mistakes of its document. `at`: the path of the document, such as `policies.nightly`."""
    if not isinstance(document, list):
        got = f"expected a list of rules, got {shown(document)}"
        return None, (Mistake(at, got, f"write, for example, - {A_RULE}"),)
    mistakes: list[Mistake] = []
    rules: list[Rule] = []
    canonical: list[object] = []
    paths: dict[str, str] = {}  # name of a rule -> path of the first rule with that name
    for number, item in enumerate(document):
        here = f"{at}[{number}]"
        rule_name = item.get("name") if isinstance(item, dict) else None
        if isinstance(rule_name, str) and (other := paths.setdefault(rule_name, here)) != here:
            got = f"{shown(rule_name)} is already the name of {other}"
            mistakes.append(Mistake(f"{here}.name", got, "give each rule its own name"))
        if empty := list(_without_value(item, here)):
            mistakes += empty
            continue
        try:
            form = RuleForm.model_validate(item, context=())
        except ValidationError as error:
            mistakes += mistakes_of(error, RuleForm, item, here)
            continue
        if rule_mistakes := list(_mistakes_of_rule(form, here)):
            mistakes += rule_mistakes
            continue
        rules.append(_rule(form))
        canonical.append(form.model_dump(exclude_none=True))
    if mistakes:
        return None, tuple(mistakes)
    text = json.dumps(canonical, default=timedelta.total_seconds, sort_keys=True, ensure_ascii=False)
    return Policy(name, tuple(rules), hashlib.sha256(text.encode()).hexdigest()), ()


def _without_value(tree: object, here: str) -> Iterator[Mistake]:
    """Every key and item without a value: such a condition must not count as absent."""
    if tree is None:
        yield no_value(here)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from _without_value(value, join(here, str(key)))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from _without_value(value, join(here, number))


def _mistakes_of_rule(form: RuleForm, here: str) -> Iterator[Mistake]:
    """The mistakes of a rule whose values are all valid."""
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
    conditions = form.delete or form.keep or KeepConditions()
    beyond = isinstance(conditions, DeleteConditions)
    most = conditions.beyond_newest if isinstance(conditions, DeleteConditions) else conditions.newest
    return Rule(
        name=form.name,
        kind="delete" if beyond else "keep",
        conditions=tuple(_conditions(conditions)),
        count=None if most is None else Count(most, beyond, conditions.per or "repository"),
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


def _conditions(conditions: DeleteConditions | KeepConditions) -> Iterator[Condition]:
    tags, except_tags = _patterns(conditions.tags), _patterns(conditions.except_tags)
    if isinstance(conditions, KeepConditions):
        if tags is not None or except_tags is not None:
            yield SomeTag(tags, except_tags)
    else:
        if tags is not None:
            yield EveryTag(tags)
        if except_tags is not None:
            yield NoTag(except_tags)
        if (any_tag := _patterns(conditions.any_tag)) is not None:
            yield AnyTag(any_tag)
    for key, condition in _PLAIN.items():
        if (value := getattr(conditions, key)) is not None:
            yield condition(value)


def _patterns(texts: list[str] | None, *, paths: bool = False) -> Patterns | None:
    return None if texts is None else Patterns(tuple(texts), paths)
