"""Errors of pydantic in a document become mistakes with their path and the explanation of their form."""

from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import BeforeValidator, Field, ValidationError

from policies.findings import TAG, Explanation, Form, mistakes_of, written
from policies.mistakes import BadValueError


def read_even(value: object) -> int:
    if not isinstance(value, int) or value % 2:
        raise BadValueError(
            f"expected an even number, got {value!r}", "write, for example, 4", "half" if value == 7 else ""
        )
    return value


class Inner(Form):
    A_MAPPING: ClassVar[Explanation] = ("a mapping of an inner", "write, for example, {even: 4}")

    even: Annotated[int, BeforeValidator(written(read_even))] = 2
    kind: Literal["small", "large"] = "small"
    needed: str = Field(default="x", min_length=1)


class Outer(Form):
    name: str = Field(description="a name")
    inner: Inner | None = None
    inners: list[Inner] = Field(default=[])
    share: float = Field(default=0.5, gt=0, le=1)
    count: int = Field(default=1, ge=0, strict=True)
    on: bool = Field(default=False, strict=True)


def mistakes(tree: object) -> list[str]:
    with pytest.raises(ValidationError) as raised:
        Outer.model_validate(tree, context={})
    return [str(mistake) for mistake in mistakes_of(raised.value, Outer, tree, "top")]


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({}, "top.name: is missing; write a name"),
        ([], "top: expected a mapping, got an empty list; write keys and values, indented, below it"),
        ({"name": 5}, "top.name: expected text, got 5; put it in quotes"),
        ({"name": "a", "nmae": 1}, "top.nmae: unknown key 'nmae'; did you mean name? known here: "
         "name, inner, inners, share, count, on"),
        ({"name": "a", "inner": {"evn": 1}}, "top.inner.evn: unknown key 'evn'; did you mean even? known here: "
         "even, kind, needed"),
        ({"name": "a", "inner": 5}, "top.inner: expected a mapping of an inner, got 5; write, for example, {even: 4}"),
        ({"name": "a", "inners": 5}, "top.inners: expected a list, got 5; write - before each item"),
        ({"name": "a", "inners": [{}, {"even": 3}]},
         "top.inners[1].even: expected an even number, got 3; write, for example, 4"),
        ({"name": "a", "inner": {"even": 7}},
         "top.inner.even.half: expected an even number, got 7; write, for example, 4"),
        ({"name": "a", "inner": {"kind": "larg"}},
         "top.inner.kind: expected small or large, got 'larg'; did you mean large?"),
        ({"name": "a", "inner": {"kind": 5}}, "top.inner.kind: expected small or large, got 5; write small or large"),
        ({"name": "a", "inner": {"needed": ""}}, "top.inner.needed: expected text that is not empty, got ''; write it"),
        ({"name": "a", "share": 0}, "top.share: expected a number above 0, got 0; write, for example, 20"),
        ({"name": "a", "share": 2}, "top.share: expected at most 1, got 2; write 1 or less"),
        ({"name": "a", "count": -1}, "top.count: expected at least 0, got -1; write 0 or more"),
        ({"name": "a", "count": "1"}, "top.count: expected a whole number, got '1'; "
         "write, for example, 10, without quotes"),
        ({"name": "a", "on": "yes"}, "top.on: expected true or false, got 'yes'; write one of them, without quotes"),
        ({"name": "a", 5: 1}, "top: expected text as a key, got 5; put it in quotes"),
    ],
)  # fmt: skip
def test_a_mistake_has_its_path_and_the_explanation_of_its_form(tree: object, line: str) -> None:
    assert mistakes(tree) == [line]


def test_reports_all_mistakes_at_once() -> None:
    tree = {"inner": {"even": 3, "kind": "tiny"}, "inners": [5], "count": -1}
    assert {line.partition(":")[0] for line in mistakes(tree)} == {
        "top.name", "top.inner.even", "top.inner.kind", "top.inners[0]", "top.count",
    }  # fmt: skip


def test_the_path_hides_the_member_of_a_union() -> None:
    class Choice(Form):
        one: dict[str, Inner]

    with pytest.raises(ValidationError) as raised:
        Choice.model_validate({"one": {f"{TAG}hidden": {"even": 3}}}, context={})
    assert [mistake.path for mistake in mistakes_of(raised.value, Choice, {}, "top")] == ["top.one.even"]


def test_does_not_read_values_of_the_program_again() -> None:
    assert Inner(even=3).even == 3
    with pytest.raises(ValidationError):
        Inner.model_validate({"even": 3}, context={})
