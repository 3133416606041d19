"""The reader of YAML: expected values, no constructed objects, no crash on any file."""

import re
import string

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.config.yaml_reader import YamlError, parse


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("010", "010"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("2026-11-23", "2026-11-23"),
        ("~", None),
        ("null", None),
        ("Null", None),
        ("true", True),
        ("-7", -7),
        ("'7'", "7"),
        ('"true"', "true"),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1e", "1e"),
        (".inf", ".inf"),
        ("9" * 30, "9" * 30),
        ("v1.2.3", "v1.2.3"),
        ("[a, 1, {b: c}]", ["a", 1, {"b": "c"}]),
        ("\ufeff", None),
    ],
)
def test_scalars_keep_their_written_type(text, tree):
    assert parse(text.encode()) == (tree, ())


def test_keeps_the_first_of_repeated_keys_and_reports_each():
    tree, flaws = parse(b"a: {b: 1, b: 2, b: 3}\nc: 4\nc: 5\n")
    assert tree == {"a": {"b": 1}, "c": 4}
    assert [(flaw.path, flaw.got) for flaw in flaws] == [
        ("a.b", "is written twice, on lines 1 and 1"),
        ("a.b", "is written twice, on lines 1 and 1"),
        ("c", "is written twice, on lines 2 and 3"),
    ]


# To YAML 1.1, which the writer writes, 1e5 without a point is text; to YAML 1.2 it is a number.
NUMBER_OF_1_2 = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+")
texts = st.text(string.printable.strip(), max_size=12).filter(lambda text: not NUMBER_OF_1_2.fullmatch(text))
names = st.text(string.ascii_letters, min_size=1, max_size=8)
trees = st.recursive(
    st.booleans() | st.integers(-(10**9), 10**9) | texts | names,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(trees)
def test_reads_back_the_output_of_a_yaml_writer(tree):
    assert parse(yaml.safe_dump(tree).encode()) == (tree, ())


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text("[]{}:-,&*!|>'\"%@`# \n\tab1", max_size=80).map(str.encode))
def test_anything_is_read_or_refused(content):
    try:
        _, flaws = parse(content)
    except YamlError as error:
        flaws = (error.mistake,)
    assert all(flaw.got and flaw.remedy for flaw in flaws)
