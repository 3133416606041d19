"""Files, named pipes, byte order marks, and the pipes of process substitution."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from tests.support.command import COMMAND
from worker.config.files import private_folder, read_file, state_folder, stream
from worker.config.settings import ConfigError, Secret, SecretError, load
from worker.registries.http.network import NetworkError, tls_context

POLICIES = {"p": [{"name": "old", "delete": {"tags": ["old"]}}]}
INVENTORY = (
    b'{"id":"crp1","name":"crp/shop/api","digest":"sha256:%s","tags":["old"],"compressedSize":"5",'
    b'"createdAt":"2026-01-01T00:00:00Z"}\n' % (b"a" * 64)
)
HEAD = b'{"registry":"crp","listed_at":"2026-11-23T03:00:00Z","unreadable":[]}\n'
MARK = b"\xef\xbb\xbf"
NOBODY = "it is a named pipe without a writer"


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.timeout(20)
def test_a_pipe_without_a_writer_is_refused_at_once(pipe: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=NOBODY):
        read_file(pipe, 10)
    with pytest.raises(SecretError, match=NOBODY):
        Secret(file=pipe).read()
    with pytest.raises(ConfigError, match=NOBODY):
        load(pipe, environ={})
    with pytest.raises(NetworkError, match="is a named pipe"):
        tls_context(pipe)
    registry = {"kind": "oci", "url": "http://127.0.0.1:9", "policy": "p"}
    registry |= {"credentials": {"username": "u", "password": {"file": "pipe"}}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"registries": {"production": registry}, "policies": POLICIES}))
    with pytest.raises(ConfigError, match=NOBODY):
        load(tmp_path / "c.yaml", environ={})


@pytest.mark.timeout(20)
def test_an_inventory_without_a_writer_is_refused(pipe: Path, tmp_path: Path) -> None:
    (tmp_path / "registry-gc.yaml").write_text(yaml.safe_dump({"policies": POLICIES}))
    words = [*COMMAND, "plan", "--inventory", str(pipe), "--policy", "p"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{pipe}: {NOBODY}\n")


@pytest.mark.timeout(20)
def test_a_pipe_with_a_writer_is_read(pipe: Path) -> None:
    writer = threading.Thread(target=lambda: pipe.write_bytes(b"x" * 200_000))
    writer.start()
    assert b"".join(stream(pipe)) == b"x" * 200_000
    writer.join()


@pytest.mark.timeout(20)
def test_reads_at_most_one_byte_more_than_requested() -> None:
    assert read_file(Path("/dev/zero"), 10) == bytes(11)
    with pytest.raises(IsADirectoryError):
        read_file(Path("/"), 10)


@pytest.mark.parametrize("words", ["check --config <(cat c.yaml)", "check --config /dev/stdin < c.yaml",
                                   "check --config /dev/stdin < <(cat c.yaml)",
                                   "plan --config c.yaml --policy p --inventory <(cat i.ndjson)",
                                   "plan --config c.yaml --policy p --inventory - < i.ndjson"])  # fmt: skip
def test_reads_a_pipe_of_process_substitution(tmp_path: Path, words: str) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"policies": POLICIES}))
    (tmp_path / "i.ndjson").write_bytes(INVENTORY)
    command = ["bash", "-c", f"'{sys.executable}' -m worker.cli {words}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "sha256:aaaa" in done.stdout or "no mistakes" in done.stdout


def test_strips_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(MARK + b"sesame\n")
    assert Secret(file=tmp_path / "secret").read() == "sesame"
    (tmp_path / "c.yaml").write_bytes(MARK + yaml.safe_dump({"policies": POLICIES}).encode())
    assert list(load(tmp_path / "c.yaml", environ={}).policies) == ["p"]


@pytest.mark.parametrize("content", [MARK + INVENTORY, MARK + HEAD + INVENTORY])
@pytest.mark.parametrize("scattered", [False, True])
def test_strips_a_byte_order_mark_of_an_inventory(tmp_path: Path, content: bytes, scattered: bool) -> None:
    if scattered:  # one repository in two places: the file is read in another way
        others = INVENTORY.replace(b"shop/api", b"shop/web").replace(b"a" * 64, b"b" * 64)
        content += others + INVENTORY.replace(b"a" * 64, b"c" * 64)
    (tmp_path / "registry-gc.yaml").write_text(yaml.safe_dump({"policies": POLICIES}))
    (tmp_path / "i.ndjson").write_bytes(content)
    words = [*COMMAND, "plan", "--inventory", "i.ndjson", "--policy", "p"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("sha256:") == (3 if scattered else 1)


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"STATE_DIRECTORY": "/var/lib/registry-gc", "HOME": "/h"}, "/var/lib/registry-gc"),
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/registry-gc"),
        ({"HOME": "/h"}, "/h/.local/state/registry-gc"),
    ],
)
def test_the_state_folder_is_that_of_systemd_or_of_the_user(environ, folder):
    assert str(state_folder(environ)) == folder


def test_a_private_folder_is_closed_to_others_even_if_it_was_open(tmp_path):
    (tmp_path / "beat").mkdir(mode=0o755)
    assert private_folder("beat", {"STATE_DIRECTORY": str(tmp_path)}).stat().st_mode & 0o777 == 0o700
