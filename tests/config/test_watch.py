"""A changed file is reread, but not while it is being written."""

import threading
import time
from pathlib import Path

import pytest

from worker.config.settings import ConfigError
from worker.config.watch import SettingsWatch

STILL = 0.3  # seconds


def text(mode: str) -> str:
    return (
        "registries: {r: {kind: oci, url: 'https://r.example', credentials: {anonymous: true}, policy: p,"
        f" mode: {mode}}}}}\npolicies: {{p: [{{name: all, keep: {{all: true}}}}]}}\n"
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "registry-gc.yaml"
    path.write_text(text("delete"))
    return path


def mode(watch: SettingsWatch) -> str:
    return watch.current().registries["r"].mode


def test_reads_the_file_at_once_at_the_start(file: Path) -> None:
    assert mode(SettingsWatch(file, environ={}, still=3600)) == "delete"


def test_reads_a_changed_file_after_it_has_been_stable(file: Path) -> None:
    watch = SettingsWatch(file, environ={}, still=STILL)
    watch.current()
    file.write_text(text("dry-run"))
    began = time.monotonic()
    assert mode(watch) == "dry-run"
    assert time.monotonic() - began >= STILL
    began = time.monotonic()
    watch.current()
    assert time.monotonic() - began < STILL  # it has not changed again


def test_no_caller_reads_an_incomplete_file(file: Path) -> None:
    """The first half is valid by itself, and says something else."""
    watch = SettingsWatch(file, environ={}, still=STILL)
    watch.current()
    file.write_text(text("delete"))  # in several pieces, each of them a whole document
    pieces = threading.Event()

    def write_on() -> None:
        for _ in range(4):
            time.sleep(STILL / 3)
            with file.open("a") as opened:
                opened.write("# more\n")
        file.write_text(text("dry-run"))
        pieces.set()

    writer = threading.Thread(target=write_on)
    writer.start()
    assert mode(watch) == "dry-run"
    assert pieces.is_set()
    writer.join()


def test_a_replaced_file_is_never_missing(file: Path) -> None:
    """Some editors move the old file away before they write the new one."""
    watch = SettingsWatch(file, environ={}, still=STILL)
    watch.current()
    file.rename(file.with_suffix(".bak"))
    back = threading.Timer(STILL / 3, lambda: file.write_text(text("dry-run")))
    back.start()
    assert mode(watch) == "dry-run"
    back.join()


def test_refuses_a_file_that_keeps_changing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.config.watch.LONGEST", 0.2)
    watch = SettingsWatch(file, environ={}, still=0.5)
    watch.current()
    file.write_text(text("dry-run"))
    with pytest.raises(ConfigError, match="has kept changing"):
        watch.current()
    monkeypatch.undo()
    assert mode(watch) == "dry-run"


def test_refuses_a_deleted_file_until_it_exists_again(file: Path) -> None:
    watch = SettingsWatch(file, environ={}, still=0.02)
    watch.current()
    file.unlink()
    with pytest.raises(ConfigError):
        watch.current()
    file.write_text(text("dry-run"))
    assert mode(watch) == "dry-run"
