"""A mistake of a document in one line: its path, the wrong value, and the remedy."""

import pytest

from policies.mistakes import BadValueError, Mistake, closest, join, listed, no_value


@pytest.mark.parametrize(
    ("mistake", "line"),
    [
        (Mistake("a.b", "is missing", "write it"), "a.b: is missing; write it"),
        (Mistake("a.b", "is missing"), "a.b: is missing"),
        (Mistake("", "is empty", "write rules"), "is empty; write rules"),
        (BadValueError("expected a duration, got 'x'", "write 10d"), "expected a duration, got 'x'; write 10d"),
        (BadValueError("expected a duration, got 'x'"), "expected a duration, got 'x'"),
    ],
)
def test_a_mistake_is_one_line(mistake: Mistake | BadValueError, line: str) -> None:
    assert str(mistake) == line


@pytest.mark.parametrize(
    ("steps", "path"),
    [
        (["policies", "nightly", 2, "delete", "older_than"], "policies.nightly[2].delete.older_than"),
        ([0], "[0]"),
        (["a", 0, 1], "a[0][1]"),
        ([], ""),
    ],
)
def test_joins_the_path_of_a_value(steps: list[str | int], path: str) -> None:
    joined = ""
    for step in steps:
        joined = join(joined, step)
    assert joined == path


@pytest.mark.parametrize(("path", "what"), [("a.b", "key"), ("a[1]", "item")])
def test_the_remedy_for_a_missing_value_names_item_or_key(path: str, what: str) -> None:
    assert str(no_value(path)) == f"{path}: has no value; write one, or leave the {what} out"


@pytest.mark.parametrize(
    ("word", "known", "question"),
    [("moed", ["mode", "rate"], "did you mean mode?"), ("xyz", ["mode", "rate"], ""), ("mode", [], "")],
)
def test_suggests_the_closest_word(word: str, known: list[str], question: str) -> None:
    assert closest(word, known) == question


@pytest.mark.parametrize(
    ("words", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c")]
)
def test_lists_words_in_a_sentence(words: list[str], text: str) -> None:
    assert listed(words, "or") == text
