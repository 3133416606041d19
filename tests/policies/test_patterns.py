"""Globs and expressions on whole names, for tags and for repositories' paths."""

import fnmatch
import pickle
import re

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from policies.patterns import LONGEST, Patterns

TAGS = [
    ("latest", "latest", True), ("latest", "latest2", False), ("latest", "xlatest", False), ("Latest", "latest", False),
    ("pr-*", "pr-", True), ("pr-*", "pr-12", True), ("pr-*", "xpr-12", False), ("*", "anything", True), ("*", "", True),
    ("*-rc", "v1-rc", True), ("*-rc", "v1-rc2", False), ("v*.*.*", "v1.2.3", True), ("v*.*.*", "v1.2", False),
    ("v*.*.*", "v1.2.3.4", True), ("v*.*.*", "v..", True), ("a*a", "a", False), ("a*a", "aa", True),
    ("ab*ba", "aba", False),
    ("**", "a/b", True), ("a**b", "ab", True), ("*a*b*", "xaxb", True), ("*a*b*", "xbxa", False),
    ("*ab*ab", "ab", False),
    ("v?", "v1", True), ("v?", "v", False), ("v?", "v12", False), ("v[0-9]", "v7", True), ("v[0-9]", "vx", False),
    ("v[!0-9]", "vx", True), ("v[!0-9]", "v7", False), ("v[^0-9]", "vx", True), ("[a-]", "-", True),
    ("[]x]", "]", True),
    ("[.]", "x", False), (r"a\*", "a*", True), (r"a\*", "ab", False), (r"a\\b", "a\\b", True), (r"\[x]", "[x]", True),
    ("a.b", "axb", False), ("a+b", "aab", False), ("(a)", "(a)", True), ("v1|v2", "v1", False), ("?", "é", True),
    ("re:v[0-9]+", "v12", True), ("re:v[0-9]+", "v12x", False), ("re:v[0-9]+", "xv12", False), ("re:a|b", "b", True),
    ("re:a|bc", "ac", False), ("re:(?i)rc", "RC", True), ("re:", "", None), ("re:[0-9a-f]{8}", "deadbeef", True),
]  # fmt: skip
PATHS = [
    ("ml/**", "ml/a", True), ("ml/**", "ml/a/b", True), ("ml/**", "ml", False), ("ml/**", "xml/a", False),
    ("ml/*", "ml/a", True),
    ("ml/*", "ml/a/b", False), ("*", "a", True), ("*", "a/b", False), ("**", "a/b/c", True),
    ("**/api", "shop/api", True),
    ("**/api", "a/b/api", True), ("*/api", "a/b/api", False), ("shop-?/x", "shop-1/x", True), ("a?b", "a/b", False),
    ("a[!x]b", "a/b", True), ("shop/api", "shop/api", True), ("shop/api", "shop/apis", False),
    ("re:(shop|ml)/.*", "ml/a/b", True),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "name", "matches"), [row for row in TAGS if row[2] is not None])
def test_a_pattern_matches_the_whole_tag(pattern: str, name: str, matches: bool) -> None:
    assert Patterns((pattern,)).match(name) == (pattern if matches else None)


@pytest.mark.parametrize(("pattern", "name", "matches"), PATHS)
def test_a_pattern_of_paths_matches_the_whole_path(pattern: str, name: str, matches: bool) -> None:
    assert Patterns((pattern,), paths=True).match(name) == (pattern if matches else None)


@pytest.mark.parametrize(
    ("patterns", "name", "expected"),
    [
        (("a*", "ab", "re:.b"), "ab", "ab"), (("b*", "a*"), "ab", "a*"), (("re:x", "re:a."), "ab", "re:a."),
        (("?", "*b*c"), "abc", "*b*c"), (("x", "y*"), "abc", None),
    ],
)  # fmt: skip
def test_the_first_of_several_patterns_that_matches_is_named(
    patterns: tuple[str, ...], name: str, expected: str | None
) -> None:
    assert Patterns(patterns).match(name) == expected


RE2 = "; write it in RE2 syntax, without look-around and back-references"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "expected a pattern, got an empty one; write, for example, pr-*"),
        ("re:", "expected a pattern, got an empty one; write, for example, pr-*"),
        ("v[0-9", r"expected a pattern, got 'v[0-9', whose [ is never closed; write \[ for that character"),
        ("[]", r"expected a pattern, got '[]', whose [ is never closed; write \[ for that character"),
        ("v\\", r"expected a pattern, got 'v\\' with a lone \ at its end; write \\ for that character"),
        (
            "[z-a]",
            "expected a pattern, got '[z-a]': invalid character class range: z-a; "
            "write a class from low to high, for example [a-z]",
        ),
        ("re:(", f"expected an RE2 expression, got 're:(': missing ): ({RE2}"),
        (r"re:(a)\1", rf"expected an RE2 expression, got 're:(a)\\1': invalid escape sequence: \1{RE2}"),
        ("re:a(?=b)", f"expected an RE2 expression, got 're:a(?=b)': invalid perl operator: (?={RE2}"),
        (
            "re:(((x{1000}){1000}){1000})",
            "expected an RE2 expression, got 're:(((x{1000}){1000}){1000})': invalid repetition size: {1000}" + RE2,
        ),
        (
            "x" * (LONGEST + 1),
            f"expected a pattern of at most {LONGEST} characters, got {LONGEST + 1}; write several patterns",
        ),
    ],
)
def test_rejects_a_pattern_that_cannot_be_read(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match="expected") as refused:
        Patterns((pattern,))
    assert str(refused.value) == message


def test_a_hostile_expression_answers_at_once() -> None:
    assert Patterns(("re:(a*)*b",)).match("a" * 5000) is None
    assert Patterns(("*a*a*a*a*a*a*a*a*a*b",)).match("a" * 5000) is None


@given(st.text("ab.", max_size=8), st.text("ab.*", min_size=1, max_size=6))
def test_plain_globs_are_those_of_the_shell(name: str, pattern: str) -> None:
    expected = re.fullmatch(fnmatch.translate(pattern), name) is not None
    assert (Patterns((pattern,)).match(name) is not None) is expected


_EXPRESSIONS = st.recursive(
    st.sampled_from(["a", "b", "B", ".", "[ab]", "[^a]", "é", "0", "\\pL", "\\x{10FFFF}", "(?i:b)", "^", "$", ""]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        inner.map(lambda text: f"(?:{text})*"),
        inner.map(lambda text: f"(?:{text})?"),
        inner.map(lambda text: f"(?:{text}){{2,3}}"),
    ),
    max_leaves=6,
)


@given(st.lists(_EXPRESSIONS, min_size=1, max_size=3), st.text("abBé0\U0010ffff\x7f", max_size=20))
def test_no_shortcut_changes_the_matches_of_an_expression(expressions: list[str], name: str) -> None:
    patterns = tuple(f"re:(?:{text})" for text in expressions)
    expected = [pattern for pattern in patterns if re2.fullmatch(pattern[3:], name)]
    assert Patterns(patterns).match(name) == (expected[0] if expected else None)


@pytest.mark.parametrize("large", [r"(?:\pL{1,30}){1,30}", r"(?:\pL{1,50}x?){1,20}" * 20])
def test_rejects_an_expression_for_which_re2_has_no_memory(large: str) -> None:
    """RE2's answer would be no match for every name, and a keep rule of it would keep nothing."""
    with pytest.raises(ValueError, match=r"needs more than RE2's 32 MiB; write fewer|pattern too large"):
        Patterns((f"re:{large}",))


def test_patterns_can_be_pickled() -> None:
    patterns = Patterns(("re:v[0-9]+", "pr-*"))
    assert pickle.loads(pickle.dumps(patterns)) == patterns  # noqa: S301 - made on this line
