"""Patterns that can match nothing are mistakes with a remedy; one that might match something is never refused."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.document import parse_policy
from policies.grammar import refuse_impossible
from policies.holds import Hold, Holds
from policies.patterns import Patterns
from tests.support.builders import image

SEVERAL = "write several patterns: "
OF_TAGS = [
    ("^v[0-9]+$", "a tag cannot contain '^'; write re:v[0-9]+"),
    (r"v\d+", r"\d in a glob is the letter d; write re:v\d+"),
    (r"v\d*", r"\d in a glob is the letter d; write re:v\d*"),
    ("v1|v2", "a tag cannot contain '|'; write re:v1|v2"),
    ("v.+", "a tag cannot contain '+'; write re:v.+"),
    ("[0-9]{8}", "a tag cannot contain '{'; write re:[0-9]{8}"),
    ("{main,release}-*", f'a tag cannot contain \'{{\'; {SEVERAL}["main-*", "release-*"]'),
    ("v*, x-*", f'a tag cannot contain \',\'; {SEVERAL}["v*", "x-*"]'),
    ("v*,x-*", f'a tag cannot contain \',\'; {SEVERAL}["v*", "x-*"]'),
    ("v* x-*", f'a tag cannot contain \' \'; {SEVERAL}["v*", "x-*"]'),
    (" v*", "a tag cannot contain ' '; write v*"),
    ("!v*", "a tag cannot contain '!'; write v* under except_tags"),
    (
        "shop/api:v*",
        "a tag cannot contain '/'; write the tag alone, and its path under repositories, beside delete or keep",
    ),
    ("sha256:9f86", "a tag cannot contain ':'; write digests: [sha256:9f86]"),
    ("[@&]x", r"a tag cannot contain '[\\@\\&]'; a tag has at most 128"),
    ("é*", "a tag cannot contain 'é'; a tag has at most 128"),
    ("-rc*", "a tag cannot begin with '-'; a tag has at most 128"),
    (".*", "a tag cannot begin with '.'; a tag has at most 128"),
    ("[.-]x", "a tag cannot begin with '[\\\\.-]'; a tag has at most 128"),
    ("?" * 129, "no tag is longer than 128 characters; a tag has at most 128"),
    ("re:v1 .*", "a tag cannot contain ' '; write an expression"),
    ("re:{main,release}-.*", "a tag cannot contain '{'; write an expression"),
    (r"re:v\d+/.*", "a tag cannot contain '/'; write an expression"),
]
OF_PATHS = [
    ("shop/api/", "a path has no / at its beginning or end, and no //; write shop/api"),
    ("/shop", "a path has no / at its beginning or end, and no //; write shop"),
    ("shop//api", "a path has no / at its beginning or end, and no //; write shop/api"),
    ("https://cr.yandex/shop", "a path cannot contain ':'; write cr.yandex/shop"),
    ("localhost:5000/shop", "a path cannot contain ':'; write the path alone, without host, tag or digest"),
    ("{a,b}/**", f'a path cannot contain \'{{\'; {SEVERAL}["a/**", "b/**"]'),
    ("shop, web", f'a path cannot contain \',\'; {SEVERAL}["shop", "web"]'),
    ("!ml/**", "a path cannot contain '!'; write ml/** under except_repositories"),
    ("^ml/.*$", "a path cannot contain '^'; write re:ml/.*"),
    ("a" * 256, "no path is longer than 255 characters; write the path alone"),
    ("re:ml .*", "a path cannot contain ' '; write an expression"),
]


def refused(text: str, *, paths: bool) -> str | None:
    try:
        refuse_impossible(text, paths=paths)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("text", "words"), OF_TAGS)
def test_rejects_a_pattern_that_no_tag_can_match(text: str, words: str) -> None:
    said = refused(text, paths=False)
    assert said is not None
    assert said.startswith("expected a pattern that a tag can match, got ")
    assert f": {words}" in said


@pytest.mark.parametrize(("text", "words"), OF_PATHS)
def test_rejects_a_pattern_that_no_path_can_match(text: str, words: str) -> None:
    said = refused(text, paths=True)
    assert said is not None
    assert f": {words}" in said


@pytest.mark.parametrize(
    "text",
    [
        "latest", "v*.*.*", "*", "**", "?", "[a-z]*", "[!a]*", "[^.]x", "_x", "v1-*", r"v1\.2", "PR-*", "a" * 128,
        "*" + "a" * 128, "re:^v[0-9]+$", "re:v1|v 2", "re:(a b)?x", "re:a ?b", "re:a{0}/?x", "re:[ /]*x", r"re:\s*x",
        r"re:\Qa b\E|x", r"re:\x20*v", "re:(?i)rc", "re:v{3}", "re:[[:alpha:]]+", "re:[]/]*x", "re:[^]]+", "re:.*",
    ],
)  # fmt: skip
def test_accepts_a_pattern_that_a_tag_may_match(text: str) -> None:
    assert refused(text, paths=False) is None


@pytest.mark.parametrize("text", ["Shop/API", "shop/**", "**", "*/api", "a-b_c.d/e", "re:(shop|ml)/.*", "re:a/.*"])
def test_accepts_a_pattern_that_a_path_may_match(text: str) -> None:
    assert refused(text, paths=True) is None


PIECES = st.lists(
    st.sampled_from([
        "a", "v", "1", "-", ".", "_", " ", ",", "!", "{", "}", "^", "$", "+", "(", ")", "|", "*", "?", "[a-z]", "[ ,]",
        "[^a]", "\\.", "\\d", "\\ ", "/", "{2}", "{0}", "{a,b}", "(?i)", "(a )", "(?:-,)",
    ]),
    min_size=1,
    max_size=6,
).map("".join)  # fmt: skip
TAGS = st.from_regex(re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,5}", re.ASCII), fullmatch=True)


@given(PIECES, st.booleans(), st.lists(TAGS, min_size=20, max_size=20))
def test_a_rejected_pattern_matches_no_tag(text: str, expression: bool, tags: list[str]) -> None:
    pattern = f"re:{text}" if expression else text
    try:
        match = Patterns((pattern,)).match
    except ValueError:
        return
    said = refused(pattern, paths=False)
    if said is not None and "is the letter" not in said:
        assert [tag for tag in tags if match(tag) is not None] == []


SUGGESTED = re.compile(r"write several patterns: \[(.*)\]|write (.*) under except_tags")


@given(st.text("abv1[]{},! *-/\\", min_size=1, max_size=12))
@example("[ ]*")
@example("{a,[}*")
@example("!")
@example("![ ]*")
def test_a_remedy_suggests_a_pattern_that_a_tag_can_match(text: str) -> None:
    try:
        Patterns((text,))
    except ValueError:
        return
    message = refused(text, paths=False)
    suggested = SUGGESTED.search(message or "")
    if suggested is None:
        return
    for pattern in re.findall(r'"([^"]*)"', suggested[1]) if suggested[1] is not None else [suggested[2]]:
        Patterns((pattern,))
        assert refused(pattern, paths=False) is None


def test_rejects_a_policy_with_an_impossible_pattern() -> None:
    rules = [
        {"name": "kept", "keep": {"tags": ["v*", "^v[0-9]+$"]}},
        {"name": "gone", "delete": {"except_tags": ["!x"], "any_tag": ["a b"]}, "repositories": ["shop/"]},
    ]
    parsed, mistakes = parse_policy("p", rules, "p")
    assert parsed is None
    assert sorted(mistake.path for mistake in mistakes) == [
        "p[0].keep.tags[1]", "p[1].delete.any_tag[0]", "p[1].delete.except_tags[0]", "p[1].repositories[0]"
    ]  # fmt: skip


def test_holds_take_any_pattern() -> None:
    """A hold only ever keeps: one that matches nothing by today's grammar is no mistake."""
    holds = Holds((Hold(kind="repository", value="shop/ api"),))
    assert list(holds.on("shop/ api", [image(1)]))
