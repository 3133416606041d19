"""A secret is read anew each time, and never shown."""

from pathlib import Path

import pytest

from worker.config.secret import MAX_BYTES, Origin, Secret, SecretError


def of_environment(environ):
    """The variable TOKEN of this environment, as a file names it."""
    origin = Origin(folder=Path("/"), environ=environ, look_for_secrets=False)
    return Secret.model_validate({"env": "TOKEN"}, context=origin)


def test_rereads_a_file_at_each_call(tmp_path):
    file = tmp_path / "token"
    secret = Secret(file=file)
    file.write_text("one\n")
    assert secret.read() == "one"
    file.write_text(" two ")
    assert secret.read() == "two"


def test_rereads_a_variable_at_each_call():
    environ = {"TOKEN": "one"}
    secret = of_environment(environ)
    assert secret.read() == "one"
    environ["TOKEN"] = "two"
    assert secret.read() == "two"


def test_a_repr_shows_the_location_and_never_the_secret(tmp_path):
    (tmp_path / "token").write_text("hunter2")
    for secret in (Secret(file=tmp_path / "token"), of_environment({"TOKEN": "hunter2"})):
        assert secret.read() == "hunter2"
        assert "hunter2" not in f"{secret!r} {secret}"
        assert "token" in repr(secret).lower()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        pytest.param(None, "does not exist", id="missing"),
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b" \n", "is empty", id="blank"),
        pytest.param(b"hunter2\xff", "is not text in UTF-8", id="binary"),
        pytest.param(b"x" * (MAX_BYTES + 1), "is larger than 64 KiB", id="too large"),
    ],
)
def test_refuses_a_file_without_a_secret(tmp_path, content, what):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SecretError) as raised:
        Secret(file=file).read()
    assert str(raised.value) == f"file {file} {what}"
    assert raised.value.__cause__ is None


def test_refuses_a_folder_as_a_secret(tmp_path):
    with pytest.raises(SecretError, match="cannot be read: Is a directory"):
        Secret(file=tmp_path).read()


@pytest.mark.parametrize(
    ("environ", "what"), [({}, "is not set"), ({"TOKEN": " "}, "is empty")], ids=["unset", "blank"]
)
def test_refuses_a_variable_without_a_secret(environ, what):
    with pytest.raises(SecretError) as raised:
        of_environment(environ).read()
    assert str(raised.value) == f"environment variable TOKEN {what}"
