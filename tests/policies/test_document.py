"""Policies as people write them: the rules that are read, and every mistake with its exact message."""

from datetime import timedelta
from typing import Any

import pytest
import yaml

from policies.conditions import AnyTag, EveryTag, LargerThan, NoTag, OlderThan, SomeTag, Tagged
from policies.document import parse_policy
from policies.forms import LATER
from policies.mistakes import Mistake
from policies.patterns import Patterns
from policies.rules import Count, Policy
from tests.support.builders import DAY, digest

DESIGN = """
- {name: releases,      keep: {tags: ["v*.*.*", latest]}}
- {name: newest ten,    keep: {newest: 10, tagged: true}}
- {name: pull requests, delete: {tags: ["pr-*"], older_than: 14d}}
- {name: leftovers,     delete: {untagged: true, older_than: 7d}}
- {name: giants,        delete: {larger_than: 5GiB, older_than: 30d}, repositories: ["ml/**"]}
"""
SHARED = (
    "tags, except_tags, tagged, untagged, digests, older_than, newer_than, untagged_for, larger_than, smaller_than, "
    "per, all"
)
IN_DELETE = f"{SHARED}, any_tag, beyond_newest"
IN_KEEP = f"{SHARED}, newest"
IN_RULE = "name, delete, keep, repositories, except_repositories"


def read(text: str) -> tuple[Policy | None, tuple[Mistake, ...]]:
    return parse_policy("nightly", yaml.safe_load(text), "policies.nightly")


def rules(text: str) -> Policy:
    policy, mistakes = read(text)
    assert mistakes == ()
    assert policy is not None
    return policy


def test_reads_the_policy_of_the_design() -> None:
    policy = rules(DESIGN)
    assert policy.name == "nightly"
    assert [(rule.name, rule.kind) for rule in policy.rules] == [
        ("releases", "keep"), ("newest ten", "keep"), ("pull requests", "delete"), ("leftovers", "delete"),
        ("giants", "delete"),
    ]  # fmt: skip
    releases, newest, pull_requests, leftovers, giants = policy.rules
    assert releases.conditions == (SomeTag(Patterns(("v*.*.*", "latest"))),)
    assert newest.conditions == (Tagged(),)
    assert newest.count == Count(10)
    assert pull_requests.conditions == (EveryTag(Patterns(("pr-*",))), OlderThan(14 * DAY))
    assert leftovers.conditions == (Tagged(False), OlderThan(7 * DAY))
    assert set(giants.conditions) == {LargerThan(5 << 30), OlderThan(30 * DAY)}
    assert giants.applies_to("ml/a/b")
    assert not giants.applies_to("ml")


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ("{except_tags: [v*]}", {"delete": NoTag(Patterns(("v*",))), "keep": SomeTag(None, Patterns(("v*",)))}),
        ("{any_tag: [v*]}", {"delete": AnyTag(Patterns(("v*",)))}),
        ("{tags: [a], except_tags: [b]}", {"keep": SomeTag(Patterns(("a",)), Patterns(("b",)))}),
    ],
)
def test_tags_mean_every_tag_to_delete_and_some_tag_to_keep(text: str, conditions: dict[str, object]) -> None:
    for kind, condition in conditions.items():
        assert rules(f"[{{name: a, {kind}: {text}}}]").rules[0].conditions == (condition,)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("delete: {beyond_newest: 0}", Count(0, beyond=True)),
        ("keep: {newest: 3, per: registry}", Count(3, per="registry")),
        ("keep: {newest: 3, per: repository}", Count(3)),
    ],
)
def test_newest_and_beyond_newest_are_read_as_counts(text: str, count: Count) -> None:
    assert rules(f"[{{name: a, {text}}}]").rules[0].count == count


def test_a_rule_applies_to_the_repositories_that_it_names() -> None:
    rule = rules("[{name: a, delete: {all: true}, repositories: ['shop/*'], except_repositories: [shop/web]}]").rules[0]
    assert [path for path in ("shop/api", "shop/web", "shop/a/b", "ml/a") if rule.applies_to(path)] == ["shop/api"]


@pytest.mark.parametrize("text", ["[]", "[{name: a, keep: {all: true}}]"])
def test_a_policy_that_never_deletes_is_a_policy(text: str) -> None:
    assert rules(text).rules == rules(text).rules


def test_equal_policies_have_equal_hashes() -> None:
    first = rules("[{name: a, delete: {older_than: 2w, tags: [x]}}]")
    same = rules("- name: a\n  delete:\n    tags: ['x']\n    older_than: 14d\n")
    assert first.sha256 == same.sha256
    assert len(first.sha256) == 64
    others = ["[{name: b, delete: {older_than: 2w, tags: [x]}}]", "[{name: a, delete: {older_than: 15d, tags: [x]}}]",
              "[{name: a, keep: {older_than: 2w, tags: [x]}}]"]  # fmt: skip
    assert first.sha256 not in {rules(other).sha256 for other in others}


def delete(text: str) -> str:
    return f"[{{name: a, delete: {text}}}]"


def keep(text: str) -> str:
    return f"[{{name: a, keep: {text}}}]"


MISTAKES = [
    ("nonsense", "expected a list of rules, got 'nonsense'; write, for example, - {name: …, delete: {…}}"),
    ("", "expected a list of rules, got nothing; write, for example, - {name: …, delete: {…}}"),
    ("{a: 1}", "expected a list of rules, got a mapping; write, for example, - {name: …, delete: {…}}"),
    (
        "[nothing]",
        "[0]: expected a mapping of name, delete or keep, got 'nothing'; write, for example, {name: …, delete: {…}}",
    ),
    ("[{delete: {all: true}}]", "[0].name: expected a name, got nothing; write what the rule is for, in a few words"),
    (
        "[{name: '', keep: {all: true}}]",
        "[0].name: expected a name, got ''; write what the rule is for, in a few words",
    ),
    ("[{name: 5, keep: {all: true}}]", "[0].name: expected a name, got 5; write it in quotes"),
    (
        "[{name: null, keep: {all: true}}]",
        "[0].name: has no value; write one, or leave the key out",
    ),
    ("[{name: a}]", "[0]: expected either delete or keep, got neither; say which"),
    (
        "[{name: a, delete: {all: true}, keep: {all: true}}]",
        "[0]: expected either delete or keep, got both; write one rule for each",
    ),
    (
        "[{name: a, keep: {all: true}}, {name: a, keep: {all: true}}]",
        "[1].name: 'a' is already the name of policies.nightly[0]; give each rule its own name",
    ),
    ("[{name: a, delet: {all: true}}]", f"[0].delet: unknown key 'delet'; did you mean delete? known here: {IN_RULE}"),
    (
        "[{name: a, keep: {all: true}, older_than: 3d}]",
        "[0].older_than: older_than is a condition; write it inside keep: {…}",
    ),
    (
        "[{name: a, delete: {all: true}, highest: 3}]",
        "[0].highest: highest is a condition; write it inside delete: {…}",
    ),
    ("[{name: a, keep: {all: true}, 5: 6}]", "[0]: expected text as a key, got 5; put it in quotes"),
    (
        "[{name: a, keep: {all: true}, repositories: ml/**}]",
        "[0].repositories: expected a list of patterns, got 'ml/**'; write, for example, [\"ml/**\"]",
    ),
    (
        "[{name: a, keep: {all: true}, except_repositories: []}]",
        '[0].except_repositories: expected a list of patterns, got an empty list; write, for example, ["ml/**"]',
    ),
    (
        "[{name: a, keep: {all: true}, repositories: ['[']}]",
        r"[0].repositories[0]: expected a pattern, got '[', whose [ is never closed; write \[ for that character",
    ),
    (delete("5"), "[0].delete: expected a mapping of conditions, got 5; write, for example, {older_than: 14d}"),
    (
        delete("[]"),
        "[0].delete: expected a mapping of conditions, got an empty list; write, for example, {older_than: 14d}",
    ),
    (delete("{}"), "[0].delete: expected at least one condition; write all: true if every image is meant"),
    (keep("{}"), "[0].keep: expected at least one condition; write all: true if every image is meant"),
    (
        delete("{all: false}"),
        "[0].delete.all: expected true, got false; leave it out, and write conditions for the images",
    ),
    (
        delete("{tagged: false}"),
        "[0].delete.tagged: expected true, got false; write untagged: true for images without tags",
    ),
    (
        delete("{untagged: 'yes'}"),
        "[0].delete.untagged: expected true, got 'yes'; write tagged: true for images with tags",
    ),
    (delete("{untagged: 1}"), "[0].delete.untagged: expected true, got 1; write tagged: true for images with tags"),
    (
        delete("{tags: 'pr-*'}"),
        "[0].delete.tags: expected a list of patterns, got 'pr-*'; write, for example, [\"pr-*\"]",
    ),
    (
        delete("{tags: []}"),
        '[0].delete.tags: expected a list of patterns, got an empty list; write, for example, ["pr-*"]',
    ),
    (delete("{tags: [1.0]}"), "[0].delete.tags[0]: expected a pattern, got 1.0; write it in quotes"),
    (delete("{tags: [a, '']}"), "[0].delete.tags[1]: expected a pattern, got an empty one; write, for example, pr-*"),
    (
        delete("{tags: ['re:(']}"),
        "[0].delete.tags[0]: expected an RE2 expression, got 're:(': missing ): (; "
        "write it in RE2 syntax, without look-around and back-references",
    ),
    (
        delete("{digests: [abc]}"),
        "[0].delete.digests[0]: expected a digest, got 'abc'; write sha256: and 64 digits 0-9a-f",
    ),
    (
        delete(f"{{digests: ['{digest(1).upper()}']}}"),
        f"[0].delete.digests[0]: expected a digest, got '{digest(1).upper()}'; write sha256: and 64 digits 0-9a-f",
    ),
    (
        delete("{digests: []}"),
        '[0].delete.digests: expected a list of digests, got an empty list; write, for example, ["sha256:9f86…"]',
    ),
    (
        delete("{older_than: ten days}"),
        "[0].delete.older_than: expected a duration, got 'ten days'; write, for example, 10d",
    ),
    (delete("{newer_than: 14}"), "[0].delete.newer_than: expected a duration, got 14; write 14d, 14h, 14m or 14s"),
    (delete("{larger_than: 5}"), "[0].delete.larger_than: expected a size, got 5; write, for example, 5B"),
    (
        delete("{smaller_than: big}"),
        "[0].delete.smaller_than: expected a size, got 'big'; write, for example, 5GiB or 500MB",
    ),
    (
        keep("{newest: -1}"),
        "[0].keep.newest: expected a whole number from 0 to 1000000000, got -1; write, for example, 10",
    ),
    (
        keep("{newest: true}"),
        "[0].keep.newest: expected a whole number from 0 to 1000000000, got true; write, for example, 10",
    ),
    (
        keep("{newest: '3'}"),
        "[0].keep.newest: expected a whole number from 0 to 1000000000, got '3'; write, for example, 10",
    ),
    (
        keep("{newest: 1.0}"),
        "[0].keep.newest: expected a whole number from 0 to 1000000000, got 1.0; write, for example, 10",
    ),
    (delete("{newest: 3}"), "[0].delete.newest: is for keep rules; write it in a keep rule, or beyond_newest here"),
    (
        keep("{beyond_newest: 3}"),
        "[0].keep.beyond_newest: is for select rules; write it in a select rule, or newest here",
    ),
    (
        keep("{any_tag: [a]}"),
        "[0].keep.any_tag: is for select rules; write tags: in a keep rule one matching tag is enough",
    ),
    (keep("{per: registry}"), "[0].keep.per: the rule counts nothing; write newest: N beside it"),
    (
        delete("{per: repository, all: true}"),
        "[0].delete.per: the rule counts nothing; write beyond_newest: N beside it",
    ),
    (
        keep("{newest: 1, per: team}"),
        "[0].keep.per: expected repository or registry, got 'team'; leave it out to count in each repository",
    ),
    (
        keep("{newest: 1, per: 're:(a)'}"),
        "[0].keep.per: counting by capture groups is not supported yet; write repository or registry",
    ),
    (
        delete("{oldr_than: 3d}"),
        f"[0].delete.oldr_than: unknown key 'oldr_than'; did you mean older_than? known here: {IN_DELETE}",
    ),
    (keep("{colour: red}"), f"[0].keep.colour: unknown key 'colour'; known here: {IN_KEEP}"),
]


@pytest.mark.parametrize("row", MISTAKES, ids=lambda row: row[0])
def test_each_mistake_of_a_policy_has_its_exact_line(row: tuple[str, str]) -> None:
    text, message = row
    policy, mistakes = read(text)
    assert policy is None
    assert [str(mistake) for mistake in mistakes] == [
        f"policies.nightly{'' if message.startswith('[') else ': '}{message}"
    ]


@pytest.mark.parametrize("key", sorted(LATER))
@pytest.mark.parametrize(("kind", "known"), [("delete", IN_DELETE), ("keep", IN_KEEP)])
def test_rejects_conditions_that_are_not_built_yet_by_name(kind: str, known: str, key: str) -> None:
    _, mistakes = read(f"[{{name: a, {kind}: {{all: true, {key}: 3}}}}]")
    assert [str(mistake) for mistake in mistakes] == [
        f"policies.nightly[0].{kind}.{key}: is not supported yet; known here: {known}"
    ]


def test_reports_all_mistakes_at_once() -> None:
    _, mistakes = read(
        "[{name: a, delete: {older_than: 5, larger_than: x, tags: ['re:(', ok, '[']}}, {name: a},"
        " {name: b, keep: {new: 3}}]"
    )
    assert [mistake.path.removeprefix("policies.nightly") for mistake in mistakes] == [
        "[0].delete.tags[0]", "[0].delete.tags[2]", "[0].delete.older_than", "[0].delete.larger_than",
        "[1].name", "[1]", "[2].keep.new",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "document", [None, 5, "x", {}, [None], [{"name": {}}], [{"delete": [1], "keep": 2}], [{None: 1}]]
)
def test_no_document_raises_an_error(document: Any) -> None:
    policy, mistakes = parse_policy("x", document, "policies.x")
    assert policy is None
    assert all(str(mistake).startswith("policies.x") for mistake in mistakes)
    assert mistakes


def test_ages_are_read_as_durations() -> None:
    assert rules(delete("{older_than: 36h}")).rules[0].conditions == (OlderThan(timedelta(hours=36)),)
