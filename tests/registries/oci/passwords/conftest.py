"""Programs that give passwords; drivers that ask each thing once, and no proxies, as in the tests of the network."""

import os
from pathlib import Path

import pytest

from tests.registries.http.network.conftest import _no_proxies, opened, plain
from tests.registries.oci.passwords.tools import Program

__all__ = ["_no_proxies", "opened", "plain"]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Writes a program in Python into a folder of the PATH; the file `calls` has the input of each call."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def write(name: str, body: str) -> Path:
        file = folder / name
        head = (
            f"#!/usr/bin/env python3\nimport sys, os, time, json\nreceived = sys.stdin.read()\nhere = {str(folder)!r}\n"
        )
        file.write_text(f"{head}print(sys.argv[1:], received, file=open(here + '/calls', 'a'))\n{body}\n")
        file.chmod(0o755)
        return file

    return write
