"""The one table of kinds: each is whole, has a driver, keys of the file that are there, and names no other's."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from worker.config import Credentials, Endpoints, RegistrySettings
from worker.registries import DRIVERS
from worker.registries.kinds import KINDS, UNKNOWN, of

ROOT = Path(__file__).resolve().parents[2]
EVERY = [pytest.param(kind, id=name) for name, kind in KINDS.items()]
MAY_BE_EMPTY = {"to_read", "to_restore", "endpoint"}


@pytest.mark.parametrize("kind", EVERY)
def test_a_kind_is_whole(kind):
    empty = {one.name for one in fields(kind) if getattr(kind, one.name) in ("", (), frozenset())}
    assert empty <= MAY_BE_EMPTY
    assert of(kind.name) is kind
    assert kind.name in DRIVERS


@pytest.mark.parametrize("kind", EVERY)
def test_its_keys_are_keys_of_the_settings(kind):
    assert kind.keys | {kind.identity} <= {one.name for one in fields(RegistrySettings)}
    assert {key for way in kind.ways_in for key in way} <= {one.name for one in fields(Credentials)}
    assert kind.endpoint in {"", *(one.name for one in fields(Endpoints))}


@pytest.mark.parametrize("kind", EVERY)
def test_what_is_needed_to_restore_is_told_where_that_can_be_done(kind):
    assert bool(kind.to_restore) is kind.can_restore
    assert kind.permissions == tuple(filter(None, (kind.to_plan, kind.to_delete, kind.to_restore)))


def test_of_a_kind_that_a_program_added_nothing_is_known():
    assert of("of-its-own") is UNKNOWN


def test_the_table_is_light():
    heavy = ["httpx", "pydantic", "numpy", "sqlalchemy", "msgspec"]
    script = f"import sys, worker.registries.kinds; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "[]"
