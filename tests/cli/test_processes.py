"""The commands that serve: a mistake is one line, and slots are of one node."""

import pytest

from tests.support.place import OURS, Place


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.mark.parametrize("command", ["up", "worker", "beat", "web"])
def test_a_mistake_in_the_configuration_is_one_line(place, command):
    place.write(redis="ftp://nowhere")
    ended = place.run(*OURS, command)
    assert ended.returncode == 2
    assert "redis: expected a URL of Redis" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not place.state.exists()


def test_slots_are_of_one_node(place):
    ended = place.run(*OURS, "worker", "--slots", "3")
    assert (ended.returncode, "--slots needs a NODE" in ended.stderr) == (2, True)
