"""Names and passwords that a helper, a command or docker's file gives: asked for when needed, never shown."""

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.registries.http.network.conftest import Opener
from tests.registries.oci.passwords.tools import NONE, Program, calls, printing, signed_in
from tests.support.oci.fake import BasicAuth, FakeRegistry, TokenAuth
from worker.config.settings import ConfigError, Credentials, Secret, load
from worker.registries.errors import SignInError
from worker.registries.oci import passwords

FILE = """
registries:
  r: {kind: oci, url: "https://registry.example.com", credentials: CREDENTIALS, policy: p}
policies: {p: []}
"""


def test_calls_a_helper_by_docker_s_protocol(opened: Opener, program: Program, tmp_path: Path) -> None:
    program("docker-credential-fake", printing(ServerURL="x", Username="AWS", Secret="pa:ss"))
    with FakeRegistry(BasicAuth("AWS", "pa:ss")) as registry:
        signed_in(opened, registry, helper="fake")
        signed_in(opened, registry, helper="fake")
    assert calls(tmp_path) == [f"['get'] {registry.host}"], "not once for both clients of the process"


def test_a_helper_may_know_the_server_by_its_address(opened: Opener, program: Program, tmp_path: Path) -> None:
    program(
        "docker-credential-fake",
        f"if 'https://' not in received: print({NONE!r}); sys.exit(1)\n{printing(Username='gc', Secret='s')}",
    )
    with FakeRegistry(BasicAuth("gc", "s")) as registry:
        signed_in(opened, registry, helper="fake")
    assert calls(tmp_path) == [f"['get'] {registry.host}", f"['get'] https://{registry.host}"]


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"Username": "gc", "Secret": "s"}, id="docker's words"),
        pytest.param({"username": "gc", "password": "s"}, id="our words"),
        pytest.param({"username": "gc", "password": "s", "expires_at": "2999-01-01T00:00:00Z"}, id="an instant"),
        pytest.param({"username": "gc", "password": "s", "expires_at": 32503680000}, id="seconds since 1970"),
    ],
)
def test_reads_a_name_and_a_password_from_a_command(
    opened: Opener, program: Program, tmp_path: Path, document: dict[str, Any]
) -> None:
    file = program("password", printing(**document))
    with FakeRegistry(TokenAuth(user=BasicAuth("gc", "s"))) as registry:
        signed_in(opened, registry, command=(str(file), "$HOME", "a b"))
    assert calls(tmp_path) == ["['$HOME', 'a b'] "], "a shell read it"


def test_requests_expired_credentials_again(opened: Opener, program: Program, tmp_path: Path) -> None:
    until = "time.time() + (1 if len(open(here + '/calls').readlines()) == 1 else 3600)"
    file = program("password", f"print(json.dumps({{'username': 'gc', 'password': 's', 'expires_at': {until}}}))")
    with FakeRegistry(BasicAuth("gc", "s")) as registry:
        driver = opened(registry.url, credentials=Credentials(command=(str(file),)))
        deadline = time.monotonic() + 10
        while len(calls(tmp_path)) < 2 and time.monotonic() < deadline:
            driver.clock()
        driver.clock()
    assert len(calls(tmp_path)) == 2
    assert {request.status for request in registry.requests if request.authorization} == {200}


def test_requests_refused_credentials_again(opened: Opener, program: Program, tmp_path: Path) -> None:
    secret = "'s' + str(len(open(here + '/calls').readlines()))"
    program("docker-credential-fake", f"print(json.dumps({{'Username': 'gc', 'Secret': {secret}}}))")
    with FakeRegistry(BasicAuth("gc", "s1")) as registry:
        driver = opened(registry.url, credentials=Credentials(helper="fake"))
        assert driver.clock()
        registry.auth = BasicAuth("gc", "s2")
        assert driver.clock()
        registry.auth = BasicAuth("gc", "s3")
        signed_in(opened, registry, helper="fake")  # another client, with the cache of the process
    assert len(calls(tmp_path)) == 3


def test_gives_up_on_credentials_that_stay_refused(opened: Opener, program: Program, tmp_path: Path) -> None:
    program("docker-credential-fake", printing(Username="gc", Secret="wrong secret"))
    with FakeRegistry(BasicAuth("gc", "right")) as registry:
        driver = opened(registry.url, credentials=Credentials(helper="fake"))
        with pytest.raises(SignInError) as raised:
            driver.clock()
    assert "the user name and the password were refused; docker-credential-fake has no others" in str(raised.value)
    assert "wrong secret" not in str(raised.value) + repr(driver.__dict__)
    assert len(calls(tmp_path)) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param("print('hunter2'); sys.exit(3)", "failed with exit code 3; run the command as", id="3"),
        pytest.param("print('hunter2')", "printed no user name with a password; it must print", id="no JSON"),
        pytest.param("print('[\"hunter2\"]')", "printed no user name with a password", id="a list"),
        pytest.param(printing(Username="gc", hunter2="s"), "printed no user name with a password", id="no secret"),
        pytest.param(printing(Username="", Secret="hunter2"), "printed no user name with a password", id="no name"),
        pytest.param(printing(Username="a:b", Secret="hunter2"), "printed no user name", id="a colon in the name"),
        pytest.param(printing(Username="gc", Secret=["hunter2"]), "printed no user name", id="a list of secrets"),
        pytest.param(
            printing(username="gc", password="hunter2", expires_at="2020-01-01T00:00:00Z"), "has expired", id="expired"
        ),
        pytest.param(
            printing(username="gc", password="hunter2", expires_at="tomorrow"), "without a time zone", id="words"
        ),
        pytest.param(
            printing(username="gc", password="hunter2", expires_at="2999-01-01T00:00:00"),
            "expires_at without a time zone",
            id="no zone",
        ),
        pytest.param(printing(Username="gc", Secret="hunter2\ud800"), "invalid characters", id="no text"),
        pytest.param("print('hunter2' * 20_000)", "printed more than 64 KiB", id="too much"),
        pytest.param("while True: print('hunter2' * 20_000)", "printed more than 64 KiB", id="without an end"),
        pytest.param("print('hunter2', file=sys.stderr); sys.exit(1)", "failed with exit code 1", id="on stderr"),
    ],
)
def test_rejects_the_output_of_a_command_without_credentials(
    opened: Opener,
    program: Program,
    tmp_path: Path,
    body: str,
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    file = program("password", body)
    with FakeRegistry(BasicAuth("gc", "s")) as registry:
        driver = opened(registry.url, credentials=Credentials(command=(str(file),)))
        with pytest.raises(SignInError) as raised:
            driver.clock()
    assert message in str(raised.value)
    assert str(file) in str(raised.value)
    assert "hunter2" not in str(raised.value) + "".join(capfd.readouterr())


def test_a_program_that_does_not_end_is_killed_with_its_children(
    opened: Opener, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "SECONDS", 0.5)
    file = program("password", "import subprocess; subprocess.run(['sleep', '60'])")
    with FakeRegistry(BasicAuth("gc", "s")) as registry:
        started = time.monotonic()
        with pytest.raises(SignInError, match="did not end within 0 s and was killed; it must not prompt"):
            signed_in(opened, registry, command=(str(file),))
        assert time.monotonic() - started < 10


def test_does_not_wait_for_children_of_a_program(
    opened: Opener, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the program's output open, in its own session, so that killing the program does not end it."""
    monkeypatch.setattr(passwords, "SECONDS", 5.0)
    leave = "import subprocess\nleft = subprocess.Popen(['sleep', '60'], start_new_session=True)"
    file = program(
        "password", f"{printing(Username='gc', Secret='s')}\n{leave}\nprint(left.pid, file=open(here + '/pid', 'w'))"
    )
    try:
        with FakeRegistry(BasicAuth("gc", "s")) as registry:
            started = time.monotonic()
            signed_in(opened, registry, command=(str(file),))
            assert time.monotonic() - started < 10
    finally:
        os.kill(int((tmp_path / "bin" / "pid").read_text()), signal.SIGKILL)


def test_reports_a_program_that_does_not_exist(opened: Opener, tmp_path: Path) -> None:
    with FakeRegistry(BasicAuth("gc", "s")) as registry, pytest.raises(SignInError) as raised:
        signed_in(opened, registry, command=("no-such-program",))
    assert "no-such-program cannot be started: No such file" in str(raised.value)


def test_reads_no_credentials_without_a_challenge(opened: Opener, program: Program, tmp_path: Path) -> None:
    program("docker-credential-fake", "sys.exit(1)")
    with FakeRegistry() as registry:
        signed_in(opened, registry, helper="fake")
    assert calls(tmp_path) == []


# Docker's file.


# The configuration.


@pytest.mark.parametrize(
    ("written", "message"),
    [
        pytest.param("{helper: no-such}", ".helper: there is no program docker-credential-no-such", id="no helper"),
        pytest.param(
            "{helper: docker-credential-x}",
            ".helper: expected the name of a helper, got 'docker-credential-x'; write x",
            id="the program's whole name",
        ),
        pytest.param(
            "{helper: ../x}",
            ".helper: expected the name of a helper, got '../x'; write, for example, ecr-login",
            id="a path",
        ),
        pytest.param("{command: [./no-such]}", ".command: there is no program ./no-such", id="no command"),
        pytest.param(
            "{command: get hunter2}",
            ".command: expected a list of a program and its arguments; write, for example,"
            " [/usr/local/bin/registry-password, production]; no shell interprets it",
            id="a line of a shell",
        ),
        pytest.param(
            "{docker_config: none.json}",
            ".docker_config: file FOLDER/none.json cannot be read: No such file or directory",
            id="no file",
        ),
        pytest.param(
            "{docker_config: pipe.json}",
            ".docker_config: file FOLDER/pipe.json cannot be read: it is a named pipe",
            id="a named pipe",
        ),
        pytest.param(
            "{docker_config: odd.json}",
            ".docker_config: file FOLDER/odd.json is not a Docker configuration: it is not a JSON object",
            id="an odd file",
        ),
        pytest.param(
            "{helper: sh, anonymous: true}",
            ": expected one sign-in method, got anonymous and helper; keep one of ",
            id="two ways",
        ),
    ],
)
def test_a_mistake_of_the_configuration(tmp_path: Path, written: str, message: str) -> None:
    file = tmp_path / "registry-gc.yaml"
    file.write_text(FILE.replace("CREDENTIALS", written))
    (tmp_path / "odd.json").write_text('"hunter2"')
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ConfigError) as raised:
        load(file, environ={})
    (line,) = raised.value.lines
    assert line.startswith(f"{file}: registries.r.credentials{message.replace('FOLDER', str(tmp_path))}")
    assert "hunter2" not in line


def test_programs_of_the_configuration_are_found(tmp_path: Path, program: Program) -> None:
    file = tmp_path / "registry-gc.yaml"
    program("docker-credential-fake", "")
    program("password", "")
    for written in ("{helper: fake}", "{command: [password]}", "{command: [bin/password, now]}"):
        file.write_text(FILE.replace("CREDENTIALS", written))
        assert load(file, environ=dict(os.environ)).registries["r"].credentials
    credentials = load(file, environ=dict(os.environ)).registries["r"].credentials
    assert (credentials.command, credentials.folder) == (("bin/password", "now"), tmp_path)
    file.write_text(FILE.replace("CREDENTIALS", "{helper: no-such}"))
    assert load(file, environ={}, look_for_secrets=False)


def test_runs_a_command_in_the_folder_of_the_configuration_file(
    opened: Opener, program: Program, tmp_path: Path
) -> None:
    program("password", printing(Username="gc", Secret="s"))
    with FakeRegistry(BasicAuth("gc", "s")) as registry:
        signed_in(opened, registry, folder=tmp_path, command=["bin/password"])


def test_an_instant_of_our_own_form() -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    assert 3500 < passwords._seconds_until(at.isoformat(), "x") <= 3600


def test_rejects_a_password_that_is_not_text(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2\udcff")
    with FakeRegistry(BasicAuth("gc", "s")) as registry:
        driver = opened(registry.url, credentials=Credentials(username="gc", password=Secret(env="SECRET")))
        with pytest.raises(SignInError, match="environment variable SECRET has invalid characters") as raised:
            driver.clock()
    assert "hunter2" not in str(raised.value)
