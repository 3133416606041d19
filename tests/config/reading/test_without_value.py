"""A key without a value is a mistake that names the key, everywhere in the file."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from policies.document import parse_policy
from policies.forms import DeleteConditions, KeepConditions
from tests.config.test_settings import WHOLE
from worker.config.settings import ConfigError, load
from worker.config.yaml_reader import join

SAMPLE = yaml.safe_load(WHOLE)
REMEDY = {True: "write one, or leave the item out", False: "write one, or leave the key out"}


def ways(tree: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to every value of a tree but the whole."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path for step, value in inner for path in [(*way, step), *ways(value, (*way, step))]]


def without(tree: Any, way: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(tree)
    parent = changed
    for step in way[:-1]:
        parent = parent[step]
    parent[way[-1]] = None
    return changed


def path_of(way: tuple[Any, ...]) -> str:
    path = ""
    for step in way:
        path = join(path, step)
    return path


def lines(tmp_path: Path, content: str) -> list[str]:
    file = tmp_path / "registry-gc.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError) as raised:
        load(file, environ={}, look_for_secrets=False)
    return [line.removeprefix(f"{file}: ") for line in raised.value.lines]


@pytest.mark.parametrize("way", ways(SAMPLE), ids=path_of)
def test_reports_every_key_without_a_value(tmp_path: Path, way: tuple[Any, ...]) -> None:
    path = path_of(way)
    wanted = f"{path}: has no value; {REMEDY[isinstance(way[-1], int)]}"
    assert wanted in lines(tmp_path, yaml.safe_dump(without(SAMPLE, way)))


@pytest.mark.parametrize(("kind", "form"), [("delete", DeleteConditions), ("keep", KeepConditions)])
def test_reports_every_condition_without_a_value(tmp_path: Path, kind: str, form: type[DeleteConditions]) -> None:
    for key in form.model_fields:
        rule = {"name": "a", kind: {"older_than": "14d"} | {key: None}}
        mistake = f"policies.nightly[0].{kind}.{key}: has no value; write one, or leave the key out"
        assert lines(tmp_path, yaml.safe_dump({"policies": {"nightly": [rule]}})) == [mistake]
        policy, mistakes = parse_policy("nightly", [rule], "policies.nightly")
        assert (policy, [str(problem) for problem in mistakes]) == (None, [mistake])


@pytest.mark.parametrize("written", ["", "~", "null", "Null", "NULL"])
def test_reports_every_notation_of_an_empty_value(tmp_path: Path, written: str) -> None:
    text = f"policies:\n  p:\n    - name: a\n      delete:\n        tags: [pr-*]\n        older_than: {written}\n"
    assert lines(tmp_path, text) == ["policies.p[0].delete.older_than: has no value; write one, or leave the key out"]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"policies": {"p": [{"name": "a", "delete": {"all": true}, "repositories": null}]}}', "p[0].repositories"),
        ("policies: {p: [{name: a, delete: {tags: [pr-*], older_than}}]}", "p[0].delete.older_than"),
        ("policies: {p: [{name: a, delete: {tags: [pr-*, null]}}]}", "p[0].delete.tags[1]"),
        ("policies:\n  p:\n    - {name: a, delete: {all: true}}\n    -\n", "p[1]"),
        ("policies: {p: }", "p"),
    ],
)
def test_reports_empty_values_in_flow_mappings_and_lists(tmp_path: Path, text: str, path: str) -> None:
    assert lines(tmp_path, text) == [f"policies.{path}: has no value; {REMEDY[path.endswith(']')]}"]


def test_accepts_quoted_text_that_looks_empty(tmp_path: Path) -> None:
    file = tmp_path / "registry-gc.yaml"
    file.write_text('policies: {p: [{name: a, delete: {tags: ["null", "Null"]}}]}')
    assert list(load(file, environ={}).policies) == ["p"]
