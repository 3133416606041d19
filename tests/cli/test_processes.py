"""The long-running commands: a mistake is one line, and --slots needs a node."""

import pytest

from tests.support.sandbox import OURS, Sandbox


@pytest.fixture
def sandbox(tmp_path):
    return Sandbox(tmp_path)


@pytest.mark.parametrize("command", ["up", "worker", "beat", "web"])
def test_a_mistake_in_the_configuration_is_one_line(sandbox, command):
    sandbox.write(redis="ftp://nowhere")
    ended = sandbox.run(*OURS, command)
    assert ended.returncode == 2
    assert "redis: expected a Redis URL" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not sandbox.state.exists()


def test_slots_needs_a_node(sandbox):
    ended = sandbox.run(*OURS, "worker", "--slots", "3")
    assert (ended.returncode, "--slots needs a NODE" in ended.stderr) == (2, True)
