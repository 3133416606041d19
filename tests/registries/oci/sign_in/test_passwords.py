"""Names and passwords that a helper, a command or docker's file gives: asked for when needed, never shown."""

import base64
import json
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.registries.http.network.conftest import Opener
from tests.support.oci.fake import Basic, FakeRegistry, Tokens
from worker.config.secret import Origin
from worker.config.settings import ConfigError, Credentials, Secret, load
from worker.registries.errors import SignInError
from worker.registries.oci import passwords
from worker.registries.oci.passwords import in_docker_config, server_of

Program = Callable[[str, str], Path]
FILE = """
registries:
  r: {kind: oci, url: "https://registry.example.com", credentials: CREDENTIALS, policy: p}
policies: {p: []}
"""
NONE = "credentials not found in native keychain"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Writes a program in Python into a folder of the PATH; `calls` beside it has a line for each call's input."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def write(name: str, body: str) -> Path:
        file = folder / name
        head = f"#!/usr/bin/env python3\nimport sys, os, time, json\ntold = sys.stdin.read()\nhere = {str(folder)!r}\n"
        file.write_text(f"{head}print(sys.argv[1:], told, file=open(here + '/calls', 'a'))\n{body}\n")
        file.chmod(0o755)
        return file

    return write


def calls(tmp_path: Path) -> list[str]:
    file = tmp_path / "bin" / "calls"
    return file.read_text().splitlines() if file.exists() else []


def printing(**document: Any) -> str:
    return f"print({json.dumps(json.dumps(document))})"


def signed_in(opened: Opener, registry: FakeRegistry, folder: Path | None = None, **way: Any) -> None:
    """`folder`: where the configuration file is."""
    origin = Origin(folder=folder, environ=os.environ, look_for_secrets=False) if folder else None
    assert opened(registry.url, credentials=Credentials.model_validate(way, context=origin)).clock()


def test_a_helper_is_asked_by_docker_s_protocol(opened: Opener, program: Program, tmp_path: Path) -> None:
    program("docker-credential-fake", printing(ServerURL="x", Username="AWS", Secret="pa:ss"))
    with FakeRegistry(Basic("AWS", "pa:ss")) as registry:
        signed_in(opened, registry, helper="fake")
        signed_in(opened, registry, helper="fake")
    assert calls(tmp_path) == [f"['get'] {registry.host}"], "not once for both clients of the process"


def test_a_helper_may_know_the_server_by_its_address(opened: Opener, program: Program, tmp_path: Path) -> None:
    program(
        "docker-credential-fake",
        f"if 'https://' not in told: print({NONE!r}); sys.exit(1)\n{printing(Username='gc', Secret='s')}",
    )
    with FakeRegistry(Basic("gc", "s")) as registry:
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
def test_a_command(opened: Opener, program: Program, tmp_path: Path, document: dict[str, Any]) -> None:
    file = program("password", printing(**document))
    with FakeRegistry(Tokens(user=Basic("gc", "s"))) as registry:
        signed_in(opened, registry, command=(str(file), "$HOME", "a b"))
    assert calls(tmp_path) == ["['$HOME', 'a b'] "], "a shell read it"


def test_what_expires_is_asked_for_again(opened: Opener, program: Program, tmp_path: Path) -> None:
    until = "time.time() + (1 if len(open(here + '/calls').readlines()) == 1 else 3600)"
    file = program("password", f"print(json.dumps({{'username': 'gc', 'password': 's', 'expires_at': {until}}}))")
    with FakeRegistry(Basic("gc", "s")) as registry:
        driver = opened(registry.url, credentials=Credentials(command=(str(file),)))
        deadline = time.monotonic() + 10
        while len(calls(tmp_path)) < 2 and time.monotonic() < deadline:
            driver.clock()
        driver.clock()
    assert len(calls(tmp_path)) == 2
    assert {one.status for one in registry.requests if one.authorization} == {200}


def test_what_is_refused_is_asked_for_again(opened: Opener, program: Program, tmp_path: Path) -> None:
    secret = "'s' + str(len(open(here + '/calls').readlines()))"
    program("docker-credential-fake", f"print(json.dumps({{'Username': 'gc', 'Secret': {secret}}}))")
    with FakeRegistry(Basic("gc", "s1")) as registry:
        driver = opened(registry.url, credentials=Credentials(helper="fake"))
        assert driver.clock()
        registry.auth = Basic("gc", "s2")
        assert driver.clock()
        registry.auth = Basic("gc", "s3")
        signed_in(opened, registry, helper="fake")  # another client, with what the process remembers
    assert len(calls(tmp_path)) == 3


def test_what_stays_refused_is_no_endless_loop(opened: Opener, program: Program, tmp_path: Path) -> None:
    program("docker-credential-fake", printing(Username="gc", Secret="wrong secret"))
    with FakeRegistry(Basic("gc", "right")) as registry:
        driver = opened(registry.url, credentials=Credentials(helper="fake"))
        with pytest.raises(SignInError) as raised:
            driver.clock()
    assert "the user name and the password were refused; docker-credential-fake gives no other" in str(raised.value)
    assert "wrong secret" not in str(raised.value) + repr(driver.__dict__)
    assert len(calls(tmp_path)) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param("print('hunter2'); sys.exit(3)", "failed with exit code 3; run the command as", id="3"),
        pytest.param("print('hunter2')", "printed no user name with a password; it is to print", id="no JSON"),
        pytest.param("print('[\"hunter2\"]')", "printed no user name with a password", id="a list"),
        pytest.param(printing(Username="gc", hunter2="s"), "printed no user name with a password", id="no secret"),
        pytest.param(printing(Username="", Secret="hunter2"), "printed no user name with a password", id="no name"),
        pytest.param(printing(Username="a:b", Secret="hunter2"), "printed no user name", id="a colon in the name"),
        pytest.param(printing(Username="gc", Secret=["hunter2"]), "printed no user name", id="a list of secrets"),
        pytest.param(
            printing(username="gc", password="hunter2", expires_at="2020-01-01T00:00:00Z"), "has expired", id="expired"
        ),
        pytest.param(
            printing(username="gc", password="hunter2", expires_at="tomorrow"), "no instant with its zone", id="words"
        ),
        pytest.param(
            printing(username="gc", password="hunter2", expires_at="2999-01-01T00:00:00"), "no instant", id="no zone"
        ),
        pytest.param(printing(Username="gc", Secret="hunter2\ud800"), "characters that do not exist", id="no text"),
        pytest.param("print('hunter2' * 20_000)", "printed more than 64 KiB", id="too much"),
        pytest.param("while True: print('hunter2' * 20_000)", "printed more than 64 KiB", id="without an end"),
        pytest.param("print('hunter2', file=sys.stderr); sys.exit(1)", "failed with exit code 1", id="on stderr"),
    ],
)
def test_a_command_that_gives_nothing(
    opened: Opener,
    program: Program,
    tmp_path: Path,
    body: str,
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    file = program("password", body)
    with FakeRegistry(Basic("gc", "s")) as registry:
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
    with FakeRegistry(Basic("gc", "s")) as registry:
        started = time.monotonic()
        with pytest.raises(SignInError, match="did not end within 0 s and was killed; it must not ask anybody"):
            signed_in(opened, registry, command=(str(file),))
        assert time.monotonic() - started < 10


def test_what_a_program_leaves_running_is_not_waited_for(
    opened: Opener, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the program's output open, in a session of its own, so that killing the program does not end it."""
    monkeypatch.setattr(passwords, "SECONDS", 5.0)
    leave = "import subprocess\nleft = subprocess.Popen(['sleep', '60'], start_new_session=True)"
    file = program(
        "password", f"{printing(Username='gc', Secret='s')}\n{leave}\nprint(left.pid, file=open(here + '/pid', 'w'))"
    )
    try:
        with FakeRegistry(Basic("gc", "s")) as registry:
            started = time.monotonic()
            signed_in(opened, registry, command=(str(file),))
            assert time.monotonic() - started < 10
    finally:
        os.kill(int((tmp_path / "bin" / "pid").read_text()), signal.SIGKILL)


def test_a_program_that_is_not_there(opened: Opener, tmp_path: Path) -> None:
    with FakeRegistry(Basic("gc", "s")) as registry, pytest.raises(SignInError) as raised:
        signed_in(opened, registry, command=("no-such-program",))
    assert "no-such-program cannot be started: No such file" in str(raised.value)


def test_nobody_is_asked_where_nobody_need_sign_in(opened: Opener, program: Program, tmp_path: Path) -> None:
    program("docker-credential-fake", "sys.exit(1)")
    with FakeRegistry() as registry:
        signed_in(opened, registry, helper="fake")
    assert calls(tmp_path) == []


# Docker's file.


def auth(name: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:{password}".encode()).decode()}


@pytest.mark.parametrize("key", ["HOST", "http://HOST", "https://HOST/", "https://HOST/v1/", "https://HOST/v2/"])
def test_docker_s_file(opened: Opener, tmp_path: Path, key: str) -> None:
    file = tmp_path / "config.json"
    with FakeRegistry(Basic("gc", "pa:ss")) as registry:
        others = {"other.example": auth("x", "y"), f"x{registry.host}": auth("x", "z")}
        mine = key.replace("HOST", registry.host)
        file.write_text(json.dumps({"auths": {**others, mine: auth("gc", "pa:ss")}}))
        driver = opened(registry.url, credentials=Credentials(docker_config=file))
        assert driver.clock()
        registry.auth = Basic("gc", "new")
        file.write_text(json.dumps({"auths": {mine: {"username": "gc", "password": "new"}}}))
        assert driver.clock(), "the file was not read again"


HUB = "https://registry-1.docker.io"
OWN, PORT = "https://registry.example.com", "https://registry.example.com:5000"


@pytest.mark.parametrize(
    ("key", "url", "is_of_it"),
    [
        ("https://index.docker.io/v1/", HUB, True),
        ("https://index.docker.io/v1/", "https://docker.io", True),
        ("index.docker.io", HUB, True),
        ("docker.io", HUB, True),
        ("registry-1.docker.io", HUB, True),
        ("https://registry-1.docker.io/v2/", HUB, True),
        ("https://index.docker.io/v1/access-token", HUB, False),  # what Docker Desktop keeps for itself
        ("https://index.docker.io/v1/refresh-token", HUB, False),
        ("docker.io/mine", HUB, False),  # a part of a registry, as podman writes it
        ("https://index.docker.io/v1/", OWN, False),
        ("registry.example.com", OWN, True),
        ("Registry.Example.com", OWN, True),
        ("https://registry.example.com", OWN, True),
        ("http://registry.example.com", OWN, True),
        ("https://registry.example.com/", OWN, True),
        ("https://registry.example.com/v1/", OWN, True),
        ("https://registry.example.com/v2/", OWN, True),
        ("https://registry.example.com/v2", OWN, True),
        ("registry.example.com/v2/", OWN, True),
        ("https://registry.example.com:443/v2/", OWN, True),
        ("registry.example.com", f"{OWN}:443", True),
        ("registry.example.com", f"{OWN}/prefix", True),
        ("registry.example.com:5000", PORT, True),
        ("https://registry.example.com:5000/v2/", PORT, True),
        ("registry.example.com:5000", OWN, False),
        ("registry.example.com", PORT, False),
        ("https://registry.example.com/v3/", OWN, False),
        ("registry.example.com/mine", OWN, False),
        ("example.com", OWN, False),
        ("registry.example.com.evil.example", OWN, False),
        ("https://evil.example/registry.example.com", OWN, False),
        ("https://evil.example/v2/https://registry.example.com", OWN, False),
        ("", OWN, False),
        ("http://[::1", OWN, False),
        ("[::1", OWN, False),
    ],
)
def test_whose_password_a_key_of_docker_s_file_has(tmp_path: Path, key: str, url: str, is_of_it: bool) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"auths": {"other.example": auth("x", "y"), key: auth("gc", "s")}}))
    if is_of_it:
        assert in_docker_config(file, server_of(url)).value == "gc:s"
        return
    with pytest.raises(SignInError, match="has no password for"):
        in_docker_config(file, server_of(url))


@pytest.mark.parametrize(
    ("globs", "url", "password"),
    [
        ((), OWN, "host"),
        ((), f"{OWN}/v2/team", "team"),
        ((), f"{OWN}/v2/team/api", "api"),
        (("team/**",), OWN, "team"),
        (("team/api/*", "team/api"), OWN, "api"),
        (("team/api", "team/web"), OWN, "team"),
        (("team/**", "other/**"), OWN, "host"),
        (("team-b/**",), OWN, "host"),
        (("te*/**",), OWN, "host"),
    ],
)
def test_the_longest_path_that_leads_to_every_repository_counts(
    tmp_path: Path, globs: tuple[str, ...], url: str, password: str
) -> None:
    host, file = "Registry.example.com:443", tmp_path / "config.json"
    keys = {host: "host", f"{host}/team": "team", f"https://{host}/team/api/": "api", f"{host}/Team": "x"}
    file.write_text(json.dumps({"auths": {key: auth("gc", password) for key, password in keys.items()}}))
    user = passwords.fetched_user(Credentials(docker_config=file, repositories=globs), url)
    assert user is not None
    assert base64.b64decode(user.sign().removeprefix("Basic ")).decode() == f"gc:{password}"


@pytest.mark.parametrize("helper", ["a\0b", "a\ud800b"])
def test_a_helper_whose_name_is_no_text(tmp_path: Path, helper: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"credsStore": helper, "auths": {"\ud800://registry.example.com": {}}}))
    with pytest.raises(SignInError, match="cannot be started: its name or an argument is no text"):
        in_docker_config(file, server_of(OWN))


@pytest.mark.parametrize(
    "others",
    [
        pytest.param({"https://registry.example.com/v1/": auth("old", "y")}, id="another key of the server"),
        pytest.param({"https://registry.example.com": {}}, id="an empty mark"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_the_key_that_is_the_server_s_name_counts(tmp_path: Path, others: dict[str, Any], first: bool) -> None:
    mine, file = {"registry.example.com": auth("gc", "s")}, tmp_path / "config.json"
    file.write_text(json.dumps({"auths": {**mine, **others} if first else {**others, **mine}}))
    assert in_docker_config(file, server_of(OWN)).value == "gc:s"


def test_an_empty_mark_hides_no_password(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    marks = {"registry.example.com": {}, "https://registry.example.com/v2/": auth("gc", "s")}
    file.write_text(json.dumps({"auths": marks}))
    assert in_docker_config(file, server_of(OWN)).value == "gc:s"


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"credHelpers": {"HOST": "fake", "other": "none"}, "credsStore": "none"}, id="credHelpers"),
        pytest.param({"credsStore": "fake", "auths": {"HOST": {}}}, id="credsStore"),
    ],
)
def test_docker_s_file_names_a_helper(
    opened: Opener, program: Program, tmp_path: Path, document: dict[str, Any]
) -> None:
    program("docker-credential-fake", printing(Username="gc", Secret="s"))
    file = tmp_path / "config.json"
    with FakeRegistry(Basic("gc", "s")) as registry:
        file.write_text(json.dumps(document).replace("HOST", registry.host))
        signed_in(opened, registry, docker_config=file)
    assert calls(tmp_path) == [f"['get'] {registry.host}"]


def test_a_helper_is_asked_by_the_key_that_the_file_marks(opened: Opener, program: Program, tmp_path: Path) -> None:
    program(
        "docker-credential-fake",
        f"if '/v2/' not in told: print({NONE!r}); sys.exit(1)\n{printing(Username='gc', Secret='s')}",
    )
    file = tmp_path / "config.json"
    with FakeRegistry(Basic("gc", "s")) as registry:
        marks = {f"https://{registry.host}/v2/": {}, f"https://{registry.host}/v3/": {}, "other.example": {}}
        file.write_text(json.dumps({"credsStore": "fake", "auths": marks}))
        signed_in(opened, registry, docker_config=file)
    names = (registry.host, f"https://{registry.host}", f"https://{registry.host}/v2/")
    assert calls(tmp_path) == [f"['get'] {name}" for name in names]


def test_the_file_s_own_password_where_the_helper_has_none(opened: Opener, program: Program, tmp_path: Path) -> None:
    program("docker-credential-fake", f"print({NONE!r}); sys.exit(1)")
    file = tmp_path / "config.json"
    with FakeRegistry(Basic("gc", "s")) as registry:
        file.write_text(json.dumps({"credsStore": "fake", "auths": {registry.host: auth("gc", "s")}}))
        signed_in(opened, registry, docker_config=file)


@pytest.mark.parametrize("by_helper", [False, True])
def test_an_identity_token_is_exchanged(opened: Opener, program: Program, tmp_path: Path, by_helper: bool) -> None:
    tokens = Tokens(identity="identity-1")
    with FakeRegistry(tokens) as registry:
        registry.push("shop/api", "v1")
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"auths": {registry.host: {"auth": "", "identitytoken": "identity-1"}}}))
        program("docker-credential-fake", printing(Username="<token>", Secret="identity-1"))
        way: dict[str, Any] = {"helper": "fake"} if by_helper else {"docker_config": file}
        driver = opened(registry.url, credentials=Credentials(**way))
        assert [image.tags for image in driver.images("shop/api")] == [("v1",)]
    assert ("repository:shop/api:pull",) in tokens.asked


def test_an_identity_token_that_was_refused_is_read_again(opened: Opener, tmp_path: Path) -> None:
    tokens, file = Tokens(identity="identity-1"), tmp_path / "config.json"
    with FakeRegistry(tokens) as registry:
        file.write_text(json.dumps({"auths": {registry.host: {"identitytoken": "identity-2"}}}))
        driver = opened(registry.url, credentials=Credentials(docker_config=file))
        with pytest.raises(SignInError) as raised:
            driver.clock()
        assert "identity-2" not in str(raised.value)
        file.write_text(json.dumps({"auths": {registry.host: {"identitytoken": "identity-1"}}}))
        assert driver.clock()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param({"auths": {"HOST": {}}}, "has no password for HOST; run `docker login HOST`", id="empty"),
        pytest.param({"auths": {"HOST": {"identitytoken": "hunter2\ud800"}}}, "do not exist", id="no text"),
        pytest.param({"auths": {"HOST": {"username": "a", "password": "hunter2\ud800"}}}, "do not exist", id="half"),
        pytest.param({}, "has no password for HOST", id="nothing"),
        pytest.param({"auths": []}, "has no password for HOST", id="a list"),
        pytest.param({"auths": {"HOST": {"auth": "hunter2"}}}, "is not base64 of name:password", id="no base64"),
        pytest.param("hunter2", "is no configuration of docker", id="no JSON"),
        pytest.param(None, "cannot be read: No such file", id="missing"),
    ],
)
def test_docker_s_file_without_a_password(opened: Opener, tmp_path: Path, content: Any, message: str) -> None:
    file = tmp_path / "config.json"
    with FakeRegistry(Basic("gc", "s")) as registry:
        if content is not None:
            written = content if isinstance(content, str) else json.dumps(content)
            file.write_text(written.replace("HOST", registry.host))
        with pytest.raises(SignInError) as raised:
            signed_in(opened, registry, docker_config=file)
    assert message.replace("HOST", registry.host) in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_docker_hub_has_a_name_of_its_own() -> None:
    assert server_of("https://registry-1.docker.io") == "https://index.docker.io/v1/"
    assert server_of("https://registry.example.com:5000/prefix") == "registry.example.com:5000"


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
            " [/usr/local/bin/registry-password, production]; no shell reads it",
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
            ".docker_config: file FOLDER/odd.json is no configuration of docker: it is not a JSON object",
            id="an odd file",
        ),
        pytest.param(
            "{helper: sh, anonymous: true}",
            ": expected one way to sign in, got anonymous and helper; keep one of ",
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
    found = load(file, environ=dict(os.environ)).registries["r"].credentials
    assert (found.command, found.folder) == (("bin/password", "now"), tmp_path)
    file.write_text(FILE.replace("CREDENTIALS", "{helper: no-such}"))
    assert load(file, environ={}, look_for_secrets=False)


def test_a_command_runs_where_the_file_is(opened: Opener, program: Program, tmp_path: Path) -> None:
    program("password", printing(Username="gc", Secret="s"))
    with FakeRegistry(Basic("gc", "s")) as registry:
        signed_in(opened, registry, folder=tmp_path, command=["bin/password"])


def test_an_instant_of_our_own_form() -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    assert 3500 < passwords._seconds_until(at.isoformat(), "x") <= 3600


def test_a_password_of_the_environment_that_is_no_text(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2\udcff")
    with FakeRegistry(Basic("gc", "s")) as registry:
        driver = opened(registry.url, credentials=Credentials(username="gc", password=Secret(env="SECRET")))
        with pytest.raises(SignInError, match="environment variable SECRET has characters that do not exist") as raised:
            driver.clock()
    assert "hunter2" not in str(raised.value)
