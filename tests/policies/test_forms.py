"""The keys of a rule: how each value is read, which key belongs to which verb, and the message for each mistake."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from policies.findings import Form, mistakes_of
from policies.forms import LATER, DeleteConditions, KeepConditions, RuleForm, read_pattern
from policies.mistakes import BadValueError

DIGEST = f"sha256:{'a' * 64}"
A_PATTERN = 'write, for example, ["pr-*"]'


def lines(form: type[Form], tree: object) -> list[str]:
    with pytest.raises(ValidationError) as raised:
        form.model_validate(tree, context={})
    return [str(mistake) for mistake in mistakes_of(raised.value, form, tree, "r")]


@pytest.mark.parametrize(
    ("tree", "key", "value"),
    [
        ({"tags": ["pr-*", "re:v.*"]}, "tags", ["pr-*", "re:v.*"]),
        ({"digests": [DIGEST]}, "digests", [DIGEST]),
        ({"older_than": "36h"}, "older_than", timedelta(hours=36)),
        ({"larger_than": "5GiB"}, "larger_than", 5 * 1024**3),
        ({"smaller_than": "500MB"}, "smaller_than", 500 * 10**6),
        ({"beyond_newest": 0}, "beyond_newest", 0),
        ({"per": "registry"}, "per", "registry"),
        ({"all": True}, "all", True),
        ({}, "all", None),
    ],
)
def test_reads_each_value(tree: object, key: str, value: object) -> None:
    assert getattr(DeleteConditions.model_validate(tree, context={}), key) == value


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"tags": "pr-*"}, f"r.tags: expected a list of patterns, got 'pr-*'; {A_PATTERN}"),
        ({"tags": []}, f"r.tags: expected a list of patterns, got an empty list; {A_PATTERN}"),
        ({"tags": [5]}, "r.tags[0]: expected a pattern, got 5; write it in quotes"),
        ({"digests": ["sha256:abc"]},
         "r.digests[0]: expected a digest, got 'sha256:abc'; write sha256: and 64 digits 0-9a-f"),
        ({"tagged": False}, "r.tagged: expected true, got false; write untagged: true for images without tags"),
        ({"untagged": False}, "r.untagged: expected true, got false; write tagged: true for images with tags"),
        ({"all": "yes"}, "r.all: expected true, got 'yes'; leave it out, and write conditions for the images"),
        ({"beyond_newest": -1},
         "r.beyond_newest: expected a whole number from 0 to 1000000000, got -1; write, for example, 10"),
        ({"beyond_newest": True},
         "r.beyond_newest: expected a whole number from 0 to 1000000000, got true; write, for example, 10"),
        ({"beyond_newest": 1.5},
         "r.beyond_newest: expected a whole number from 0 to 1000000000, got 1.5; write, for example, 10"),
        ({"per": "tag"}, "r.per: expected repository or registry, got 'tag'; leave it out to count in each repository"),
        ({"per": "re:(.*)"},
         "r.per: counting by capture groups is not supported yet; write repository or registry"),
        ({"newest": 3}, "r.newest: is for keep rules; write it in a keep rule, or beyond_newest here"),
    ],
)  # fmt: skip
def test_rejects_each_invalid_value(tree: object, line: str) -> None:
    assert lines(DeleteConditions, tree) == [line]


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"beyond_newest": 3}, "r.beyond_newest: is for select rules; write it in a select rule, or newest here"),
        ({"any_tag": ["a"]},
         "r.any_tag: is for select rules; write tags: in a keep rule one matching tag is enough"),
    ],
)  # fmt: skip
def test_rejects_a_condition_of_the_other_kind_of_rule(tree: object, line: str) -> None:
    assert lines(KeepConditions, tree) == [line]


@pytest.mark.parametrize("form", [DeleteConditions, KeepConditions])
@pytest.mark.parametrize("key", sorted(LATER))
def test_rejects_a_condition_that_is_not_built_yet_by_name(form: type[Form], key: str) -> None:
    (line,) = lines(form, {key: 1})
    assert line.startswith(f"r.{key}: is not supported yet; known here: tags, ")
    assert key not in form.model_fields


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"delete": {"all": True}}, "r.name: expected a name, got nothing; write what the rule is for, in a few words"),
        ({"name": " "}, "r.name: expected a name, got ' '; write what the rule is for, in a few words"),
        ({"name": 5}, "r.name: expected a name, got 5; write it in quotes"),
        ({"name": "a", "older_than": "1d"},
         "r.older_than: older_than is a condition; write it inside delete: {…}"),
        ({"name": "a", "keep": {}, "labels": {}}, "r.labels: labels is a condition; write it inside keep: {…}"),
        ({"name": "a", "keep": 5}, "r.keep: expected a mapping of conditions, got 5; "
         "write, for example, {older_than: 14d}"),
        ({"name": "a", "repositories": ["shop/"]}, None),
    ],
)  # fmt: skip
def test_rejects_an_invalid_rule(tree: object, line: str | None) -> None:
    reported = lines(RuleForm, tree)
    if line is None:
        assert [text.partition(":")[0] for text in reported] == ["r.repositories[0]"]
    else:
        assert reported == [line]


@pytest.mark.parametrize(("pattern", "paths"), [("pr-*", False), ("ml/**", True), ("re:v[0-9]+", False)])
def test_accepts_a_pattern_that_a_name_can_match(pattern: str, paths: bool) -> None:
    assert read_pattern(pattern, paths=paths) == pattern


@pytest.mark.parametrize(
    ("pattern", "paths"), [("a b", False), ("a/b", False), ("a/", True), ("re:(", False), (5, True)]
)
def test_rejects_a_pattern_that_no_name_can_match(pattern: object, paths: bool) -> None:
    with pytest.raises(BadValueError):
        read_pattern(pattern, paths=paths)
