"""The progress bar on a terminal."""

from tests.support.command import COMMAND, on_a_terminal


def test_a_terminal_gets_a_progress_bar_and_lines_of_its_width(mixed, make_harness, tmp_path):
    make_harness()
    code, written = on_a_terminal([*COMMAND, "plan", "production"], tmp_path, columns=60)
    assert code == 0
    assert "listing production" in written
    assert "repositories" in written
    table = written[written.rindex("as of") :].splitlines()[1:]
    assert max(len(line) for line in table if line.startswith(("REPO", "shop/"))) == 60
