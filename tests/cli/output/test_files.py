"""`--output`: files are replaced as a whole; links, pipes and a full disk."""

import os
import stat
import subprocess

import pytest

from tests.support.command import COMMAND
from worker.cli.output import Output

POLICY = "policies: {nightly: [{name: leftovers, delete: {untagged: true, older_than: 7d}}]}\n"


def test_output_replaces_a_file_only_with_a_complete_result(gc, tmp_path):
    (tmp_path / "registry-gc.yaml").write_text(POLICY)
    (tmp_path / "result").write_text("old")
    done = gc("schema", "--output", "result")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert (tmp_path / "result").read_text().startswith("{")
    (tmp_path / "result").write_text("old")
    assert gc("runs", "nowhere", "--output", "result", "--limit", "0").code == 2
    assert (tmp_path / "result").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["registry-gc.yaml", "result"]


def test_an_error_during_writing_leaves_the_old_file(tmp_path):
    result = tmp_path / "result"
    result.write_text("old")
    with pytest.raises(ZeroDivisionError), Output(result, "table") as output:
        output.line(f"half {1 / 0}")
    assert result.read_text() == "old"
    assert list(tmp_path.iterdir()) == [result]
    with Output(result, "table") as output:
        output.line("whole")
    assert result.read_text() == "whole\n"
    assert list(tmp_path.iterdir()) == [result]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param(
            "no/such/file",
            "the folder {folder}/no/such does not exist; create it, or name another file",
            id="no folder",
        ),
        pytest.param(".", "this is a folder; name a file in it", id="a folder"),
        pytest.param("link-to-folder", "this is a folder; name a file in it", id="a link to a folder"),
        pytest.param("registry-gc.yaml/x", "Not a directory; name another file", id="a file as a folder"),
        pytest.param("loop", "Too many levels of symbolic links; name another file", id="links in a circle"),
    ],
)
def test_an_unwritable_output_is_rejected_before_the_work(gc, tmp_path, path, message):
    (tmp_path / "registry-gc.yaml").write_text(f"store: sqlite:///gc.db\n{POLICY}")
    (tmp_path / "link-to-folder").symlink_to(".")
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.iterdir())
    for words in (["schema"], ["runs"], ["sweep", "production"]):
        done = gc(*words, "--output", path)
        assert (done.code, done.out) == (2, ""), words
        assert done.err == f"--output {path}: {message.format(folder=tmp_path)}\n"
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_keeps_its_mode_and_its_links(tmp_path):
    """Replaces the file behind the links, in its own folder, and keeps its mode."""
    folder = tmp_path / "results"
    folder.mkdir()
    kept = folder / "result"
    kept.write_text("old")
    kept.chmod(0o640)
    (tmp_path / "second").symlink_to("results/result")
    (tmp_path / "first").symlink_to("second")
    with Output(tmp_path / "first", "table") as output:
        output.line("whole")
    assert (kept.read_text(), kept.stat().st_mode & 0o7777) == ("whole\n", 0o640)
    assert [os.readlink(tmp_path / name) for name in ("first", "second")] == ["second", "results/result"]
    assert list(folder.iterdir()) == [kept]


def test_a_dangling_link_creates_its_target_with_the_umask(tmp_path):
    (tmp_path / "link").symlink_to("new")
    before = os.umask(0o027)
    try:
        with Output(tmp_path / "link", "table") as output:
            output.line("whole")
    finally:
        os.umask(before)
    assert (tmp_path / "link").is_symlink()
    assert ((tmp_path / "new").read_text(), (tmp_path / "new").stat().st_mode & 0o7777) == ("whole\n", 0o640)


def test_a_file_name_may_have_the_maximum_length(tmp_path):
    with Output(tmp_path / ("x" * 255), "table") as output:
        output.line("whole")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole\n"]


@pytest.mark.parametrize("name", ["pipe", "link"])
def test_a_named_pipe_is_written_through(gc, tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with open(reader, "rb") as pipe:  # it holds more than a schema
        done = gc("schema", "--output", name)
        assert (done.code, done.out, done.err) == (0, "", "")
        assert pipe.read().startswith(b"{")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


def test_a_full_disk_is_reported(tmp_path):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "schema"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, timeout=30, check=False
        )
    assert done.returncode == 1
    assert done.stderr.decode() == "standard output: No space left on device\n"
