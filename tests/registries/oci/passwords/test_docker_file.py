"""Docker's own file: whose password a key of it has, helpers that it names, identity tokens that are exchanged."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.registries.http.network.conftest import Opener
from tests.registries.oci.passwords.tools import NONE, Program, calls, printing, signed_in
from tests.support.oci.fake import BasicAuth, FakeRegistry, TokenAuth
from worker.config.settings import Credentials
from worker.registries.errors import SignInError
from worker.registries.oci import passwords
from worker.registries.oci.passwords import in_docker_config, server_of


def auth(name: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:{password}".encode()).decode()}


@pytest.mark.parametrize("key", ["HOST", "http://HOST", "https://HOST/", "https://HOST/v1/", "https://HOST/v2/"])
def test_docker_s_file_gives_the_password_of_its_server(opened: Opener, tmp_path: Path, key: str) -> None:
    file = tmp_path / "config.json"
    with FakeRegistry(BasicAuth("gc", "pa:ss")) as registry:
        others = {"other.example": auth("x", "y"), f"x{registry.host}": auth("x", "z")}
        mine = key.replace("HOST", registry.host)
        file.write_text(json.dumps({"auths": {**others, mine: auth("gc", "pa:ss")}}))
        driver = opened(registry.url, credentials=Credentials(docker_config=file))
        assert driver.clock()
        registry.auth = BasicAuth("gc", "new")
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
        ("https://index.docker.io/v1/access-token", HUB, False),  # a setting of Docker Desktop
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
def test_matches_a_key_of_docker_s_file_to_a_server(tmp_path: Path, key: str, url: str, is_of_it: bool) -> None:
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
def test_rejects_a_helper_whose_name_is_not_text(tmp_path: Path, helper: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"credsStore": helper, "auths": {"\ud800://registry.example.com": {}}}))
    with pytest.raises(SignInError, match="cannot be started: its name or an argument is not valid text"):
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


def test_an_empty_entry_hides_no_password(tmp_path: Path) -> None:
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
    with FakeRegistry(BasicAuth("gc", "s")) as registry:
        file.write_text(json.dumps(document).replace("HOST", registry.host))
        signed_in(opened, registry, docker_config=file)
    assert calls(tmp_path) == [f"['get'] {registry.host}"]


def test_a_helper_is_asked_by_the_key_that_the_file_marks(opened: Opener, program: Program, tmp_path: Path) -> None:
    program(
        "docker-credential-fake",
        f"if '/v2/' not in received: print({NONE!r}); sys.exit(1)\n{printing(Username='gc', Secret='s')}",
    )
    file = tmp_path / "config.json"
    with FakeRegistry(BasicAuth("gc", "s")) as registry:
        marks = {f"https://{registry.host}/v2/": {}, f"https://{registry.host}/v3/": {}, "other.example": {}}
        file.write_text(json.dumps({"credsStore": "fake", "auths": marks}))
        signed_in(opened, registry, docker_config=file)
    names = (registry.host, f"https://{registry.host}", f"https://{registry.host}/v2/")
    assert calls(tmp_path) == [f"['get'] {name}" for name in names]


def test_the_file_s_own_password_where_the_helper_has_none(opened: Opener, program: Program, tmp_path: Path) -> None:
    program("docker-credential-fake", f"print({NONE!r}); sys.exit(1)")
    file = tmp_path / "config.json"
    with FakeRegistry(BasicAuth("gc", "s")) as registry:
        file.write_text(json.dumps({"credsStore": "fake", "auths": {registry.host: auth("gc", "s")}}))
        signed_in(opened, registry, docker_config=file)


@pytest.mark.parametrize("by_helper", [False, True])
def test_an_identity_token_is_exchanged(opened: Opener, program: Program, tmp_path: Path, by_helper: bool) -> None:
    tokens = TokenAuth(identity="identity-1")
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
    tokens, file = TokenAuth(identity="identity-1"), tmp_path / "config.json"
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
        pytest.param({"auths": {"HOST": {"identitytoken": "hunter2\ud800"}}}, "has invalid characters", id="no text"),
        pytest.param(
            {"auths": {"HOST": {"username": "a", "password": "hunter2\ud800"}}}, "has invalid characters", id="half"
        ),
        pytest.param({}, "has no password for HOST", id="nothing"),
        pytest.param({"auths": []}, "has no password for HOST", id="a list"),
        pytest.param({"auths": {"HOST": {"auth": "hunter2"}}}, "is not base64 of NAME:PASSWORD", id="no base64"),
        pytest.param("hunter2", "is not a Docker configuration", id="no JSON"),
        pytest.param(None, "cannot be read: No such file", id="missing"),
    ],
)
def test_docker_s_file_without_a_password(opened: Opener, tmp_path: Path, content: Any, message: str) -> None:
    file = tmp_path / "config.json"
    with FakeRegistry(BasicAuth("gc", "s")) as registry:
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
