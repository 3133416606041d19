"""The documentation's page, against the suite and the code that it shows."""

import subprocess
import sys
from dataclasses import fields

import pytest

from tests.registries.interface.servers import SERVERS
from tests.registries.interface.servers.example import row
from tests.registries.interface.table import cases, table
from tests.support.example_registry import PAGE, blocks
from worker.config.kinds import KINDS, Kind

MAY_BE_EMPTY = {"to_read", "to_restore", "endpoint"}


def test_the_page_has_the_suite_s_table() -> None:
    assert PAGE.read_text().endswith("\n".join(["", *table(SERVERS), ""]))


def test_every_unsupported_case_of_a_server_exists() -> None:
    known = list(cases())
    assert len(known) == len(set(known)) > 40
    for server in SERVERS.values():
        assert server.cannot.keys() <= set(known)


def test_the_suite_is_run_on_every_kind_and_more() -> None:
    kinds = {server.kind for server in SERVERS.values()}
    assert kinds == {*KINDS, "example"}
    assert {case for case in cases() if all(case in server.cannot for server in SERVERS.values())} == set()


def test_the_row_of_the_example_is_whole() -> None:
    empty = {field.name for field in fields(Kind) if getattr(row(), field.name) in ("", (), frozenset())}
    assert empty <= MAY_BE_EMPTY


def test_the_page_shows_the_row_and_the_driver() -> None:
    assert blocks().keys() == {"worker/config/kinds.py", "worker/registries/example.py"}


@pytest.mark.parametrize("words", [["format", "--check"], ["check"]], ids=["form", "rules"])
def test_the_driver_reads_as_ours(words: list[str]) -> None:
    command = [sys.executable, "-m", "ruff", *words, "--stdin-filename", "worker/registries/example.py", "-"]
    text = blocks()["worker/registries/example.py"]
    done = subprocess.run(
        command, cwd=PAGE.parents[1], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
