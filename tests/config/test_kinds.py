"""The one table of kinds: each is whole, has a driver, keys of the file that are there, and names no other's."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from worker.config.checks import UNTAGGED
from worker.config.kinds import KINDS, ONLY_SOME_HAVE, UNKNOWN, kind_of
from worker.config.settings import Credentials, Endpoints, RegistrySettings
from worker.registries import DRIVERS

ROOT = Path(__file__).resolve().parents[2]
EVERY = [pytest.param(kind, id=name) for name, kind in KINDS.items()]
MAY_BE_EMPTY = {"to_read", "to_restore", "endpoint"}


@pytest.mark.parametrize("kind", EVERY)
def test_every_kind_has_all_facts(kind):
    empty = {field.name for field in fields(kind) if getattr(kind, field.name) in ("", (), frozenset())}
    assert empty <= MAY_BE_EMPTY
    assert kind_of(kind.name) is kind
    assert kind.name in DRIVERS


@pytest.mark.parametrize("kind", EVERY)
def test_its_keys_are_keys_of_the_settings(kind):
    assert kind.keys | {kind.identity} <= RegistrySettings.model_fields.keys()
    assert {key for way in kind.ways_in for key in way} <= Credentials.model_fields.keys()
    assert kind.endpoint in {"", *Endpoints.model_fields}


def test_an_added_kind_is_unknown():
    assert kind_of("of-its-own") is UNKNOWN


def test_importing_the_kinds_loads_no_driver():
    heavy = ["httpx", "pydantic", "numpy", "sqlalchemy", "msgspec"]
    script = f"import sys, worker.config.kinds; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "[]"


RIGHTS = {
    "to plan": "to_plan",
    "to plan where there are indexes": "to_read",
    "to delete": "to_delete",
    "to restore": "to_restore",
}


def rows(page: str, since: str = "", until: str = "\0") -> dict[str, list[str]]:
    """The cells of every row of every table of a part of a page, by the first."""
    part = (ROOT / "docs" / page).read_text().split(since or "# ", 1)[1].split(until, 1)[0]
    lines = [line.strip("|").split("|") for line in part.splitlines() if line[:1] == "|"]
    return {first.strip(" `"): [cell.strip() for cell in cells] for first, *cells in lines}


REFERENCE = rows("configuration.md", "## A registry", "### `endpoints`")


@pytest.mark.parametrize(("row", "field"), RIGHTS.items())
def test_the_page_names_the_roles_of_every_message(row, field):
    assert rows("registries.md")[row] == [getattr(kind, field) or "none" for kind in KINDS.values()]


def test_the_page_has_a_column_for_each_kind():
    assert rows("registries.md")[""] == [f"`{name}`" for name in KINDS]


def test_the_page_names_the_conditions_that_are_always_unknown():
    never = ", ".join(f"`{key}`" for key in UNTAGGED)
    assert rows("registries.md")["conditions that it never answers"] == [
        "none" if kind.lists_untagged else never for kind in KINDS.values()
    ]


@pytest.mark.parametrize("key", sorted(ONLY_SOME_HAVE))
def test_the_reference_says_which_kinds_have_a_key(key):
    of_kind = REFERENCE[key][0]
    assert of_kind == ", ".join(f"`{kind.name}`" for kind in KINDS.values() if key in kind.keys)


def test_the_reference_says_which_kinds_have_a_sign_in_method():
    for kind in KINDS.values():
        for key in (key for way in kind.ways_in for key in way):
            having = [
                f"`{kind.name}`" for kind in KINDS.values() if key in {key for way in kind.ways_in for key in way}
            ]
            assert REFERENCE[key][0] == ", ".join(having), key
