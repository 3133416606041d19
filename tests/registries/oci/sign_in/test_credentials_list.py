"""Several ways to sign in to one registry: the first whose globs match a repository counts; the catalog is all's."""

from pathlib import Path

import pytest
from sqlalchemy import select

from tests.registries.http.network.conftest import Opener
from tests.support.harness import Harness
from tests.support.oci.fake import BasicAuth, FakeRegistry, TokenAuth, UserListAuth
from worker.config.settings import ConfigError, Credentials, Secret, load
from worker.registries.errors import PermissionDeniedError, RegistryError
from worker.store import tables

PULL_REQUESTS = [{"name": "pull requests", "delete": {"tags": ["pr-*"]}}]

FILE = """
registries:
  r:
    kind: KIND
    credentials: CREDENTIALS
    policy: p
policies: {p: []}
"""
A, B = BasicAuth("robot-a", "sesame"), BasicAuth("robot-b", "poppy")


@pytest.fixture
def ways(tmp_path: Path) -> tuple[Credentials, ...]:
    """One user for team-a, another for team-b and shared."""
    made = []
    for user, globs in ((A, ("team-a/**",)), (B, ("team-b/**", "shared"))):
        (tmp_path / user.user).write_text(user.password)
        password = Secret(file=tmp_path / user.user)
        made.append(Credentials(repositories=globs, username=user.user, password=password))
    return tuple(made)


def several(ways: tuple[Credentials, ...]) -> dict[str, object]:
    return {"credentials": ways}


def test_reads_each_repository_as_its_own_user(opened: Opener, ways: tuple[Credentials, ...]) -> None:
    with FakeRegistry(UserListAuth({A: ("team-a/api",), B: ("team-b/api", "shared")})) as registry:
        for path in ("team-a/api", "team-b/api", "shared"):
            registry.push(path, "v1")
        driver = opened(registry.url, repositories=("team-a/api", "team-b/api", "shared"), **several(ways))
        assert [len(driver.images(path)) for path in driver.repositories()] == [1, 1, 1]


def test_tokens_are_asked_for_by_the_repository_s_user(opened: Opener, ways: tuple[Credentials, ...]) -> None:
    with FakeRegistry(TokenAuth(user=B)) as registry:
        registry.push("team-a/api", "v1")
        registry.push("team-b/api", "v1")
        driver = opened(registry.url, **several((ways[1], ways[0])))
        assert len(driver.images("team-b/api")) == 1
        with pytest.raises(RegistryError):
            driver.images("team-a/api")


def test_the_first_that_matches_counts(opened: Opener, ways: tuple[Credentials, ...]) -> None:
    everything = Credentials(anonymous=True)
    with FakeRegistry(UserListAuth({A: ("team-a/api",)})) as registry:
        registry.push("team-a/api", "v1")
        assert opened(registry.url, **several((ways[0], everything))).images("team-a/api")
        with pytest.raises(RegistryError):
            opened(registry.url, **several((everything, ways[0]))).images("team-a/api")


def test_a_repository_without_credentials_is_unreadable(opened: Opener, ways: tuple[Credentials, ...]) -> None:
    with FakeRegistry() as registry:
        registry.push("other", "v1")
        driver = opened(registry.url, **several(ways))
        with pytest.raises(RegistryError) as raised:
            driver.images("other")
        assert registry.requests == []
    assert "production: GET other: no credentials match the repository other; add an item" in str(raised.value)
    assert raised.value.systemic is False


def test_the_catalog_is_that_of_any_user_who_may_list_it(opened: Opener, ways: tuple[Credentials, ...]) -> None:
    users = {A: ("team-a/api",), B: ("team-b/api",)}
    with FakeRegistry(UserListAuth(users, catalog=("robot-b",))) as registry:
        registry.push("team-a/api", "v1")
        assert list(opened(registry.url, **several(ways)).repositories()) == ["team-a/api"]
        registry.auth = UserListAuth(users)
        with pytest.raises(RegistryError, match="does not list its repositories"):
            list(opened(registry.url, **several(ways)).repositories())


def written(ways: tuple[Credentials, ...]) -> list[dict[str, object]]:
    """The same as the file has them."""
    return [
        {"repositories": list(way.repositories), "username": way.username, "password": {"file": str(way.password.file)}}
        for way in ways
        if way.password is not None
    ]


@pytest.mark.parametrize("wrong", [0, 1])
@pytest.mark.parametrize("named", [True, False], ids=["repositories named", "by the catalog"])
def test_one_wrong_password_ends_no_run(tmp_path: Path, ways: tuple[Credentials, ...], wrong: int, named: bool) -> None:
    users = {A: ("team-a/api",), B: ("team-b/api",)}
    paths = ("team-a/api", "team-b/api")
    with FakeRegistry(UserListAuth(users, catalog=("robot-a", "robot-b"))) as registry:
        images = {path: registry.push(path, "pr-1", layers=[path.encode()]).digest for path in paths}
        entry = {"kind": "oci", "url": registry.url, "credentials": written(ways)}
        harness = Harness(entry | ({"repositories": list(paths)} if named else {}), tmp_path, rules=PULL_REQUESTS)
        (tmp_path / (A, B)[wrong].user).write_text("wrong")
        run = harness.sweep()
        assert (run.outcome, registry.deleted) == ("partial", [(paths[1 - wrong], images[paths[1 - wrong]])])
        reasons = {repository["repository"]: repository["reason"] for repository in run.unreadable}
        assert reasons.keys() == {paths[wrong], *(() if named else ways[wrong].repositories)}
        assert all(f"credentials[{wrong}]: the user name" in reason for reason in reasons.values())
        assert works(harness) is False

        (tmp_path / (A, B)[wrong].user).write_text((A, B)[wrong].password)
        assert (harness.sweep().outcome, works(harness)) == ("succeeded", True)
        assert {path for path, _ in registry.deleted} == set(paths)


def test_the_run_fails_if_no_password_works(tmp_path: Path, ways: tuple[Credentials, ...]) -> None:
    with FakeRegistry(UserListAuth({})) as registry:
        registry.push("team-a/api", "pr-1")
        entry = {"kind": "oci", "url": registry.url, "credentials": written(ways)}
        harness = Harness(entry, tmp_path, rules=PULL_REQUESTS)
        run = harness.sweep()
    assert run.outcome == "failed"
    assert "credentials[0]: the user name 'robot-a' or the password" in (run.message or "")
    assert works(harness) is False


def works(harness: Harness) -> bool:
    """Whether the last sign-in was accepted, as the metrics have it."""
    with harness.store.read() as connection:
        return bool(connection.execute(select(tables.registry.c.auth_ok)).scalar_one())


def test_shows_none_of_several_passwords(opened: Opener, ways: tuple[Credentials, ...]) -> None:
    with FakeRegistry(UserListAuth({A: ("team-b/api",), B: ()})) as registry:
        registry.fault("status", "GET", "/tags/list", status=403, times=None, code="sesame-and-poppy")
        driver = opened(registry.url, **several(ways))
        with pytest.raises(PermissionDeniedError) as raised:
            driver.images("team-b/api")
    assert "***-and-***" in str(raised.value)


URL = 'oci\n    url: "https://registry.example.com"'


def test_the_file_has_one_way_or_a_list_of_them(tmp_path: Path) -> None:
    file = tmp_path / "registry-gc.yaml"
    written = "[{repositories: [team-a/**], username: a, password: {env: A}}, {anonymous: true}]"
    file.write_text(FILE.replace("KIND", URL).replace("CREDENTIALS", written))
    registry = load(file, environ={"A": "one"}).registries["r"]
    first, second = registry.all_credentials
    assert (first.repositories, first.username, second.repositories, second.anonymous) == (
        ("team-a/**",),
        "a",
        (),
        True,
    )
    file.write_text(FILE.replace("KIND", URL).replace("CREDENTIALS", "{anonymous: true}"))
    registry = load(file, environ={}).registries["r"]
    assert registry.all_credentials == (registry.credentials,)


@pytest.mark.parametrize(
    ("kind", "written", "message"),
    [
        pytest.param(
            URL, "[]", ": expected at least one sign-in method, got an empty list; write {anonymous: true} for none"
        ),
        pytest.param(
            URL,
            "[{anonymous: true}, {repositories: [a], username: a, password: {env: A}}]",
            "[0]: matches every repository, so the items after it are never used; write it last",
        ),
        pytest.param(
            URL,
            "[{repositories: [a b], anonymous: true}]",
            "[0].repositories: expected a pattern that a repository's path can match, got 'a b'",
        ),
        pytest.param(URL, "[{repositories: [a]}]", "[0]: expected one sign-in method, got none; write one of "),
        pytest.param(URL, "[anonymous]", "[0]: expected a mapping, got 'anonymous'; write keys and values"),
        pytest.param(
            URL,
            "[{repositories: [a], metadata: true}]",
            "[0].metadata: is a sign-in method of kind yandex-container-registry or yandex-cloud-registry, but",
        ),
        pytest.param(
            URL,
            "{repositories: [a], anonymous: true}",
            ".repositories: is a key of the items of a list; write credentials as a list",
        ),
        pytest.param(
            "yandex-container-registry\n    id: crp1",
            "[{metadata: true}]",
            ": expected a mapping, got a list; kind yandex-container-registry has one sign-in method for"
            " all repositories",
        ),
    ],
    ids=["empty", "all first", "a space", "no way", "text", "another kind", "no list", "yandex"],
)
def test_a_mistake_of_the_configuration(tmp_path: Path, kind: str, written: str, message: str) -> None:
    file = tmp_path / "registry-gc.yaml"
    file.write_text(FILE.replace("KIND", kind).replace("CREDENTIALS", written))
    with pytest.raises(ConfigError) as raised:
        load(file, environ={"A": "x"})
    (line,) = raised.value.lines
    assert line.startswith(f"{file}: registries.r.credentials{message}")


def test_reports_a_mistake_in_defaults_once_with_its_path(tmp_path: Path) -> None:
    """A mistake there is reported once, with its path."""
    file = tmp_path / "registry-gc.yaml"
    entry = "{kind: oci, url: 'https://HOST.example.com', policy: p}"
    entries = "".join(f"  {host}: {entry.replace('HOST', host)}\n" for host in ("a", "b"))
    head = "defaults: {credentials: [{anonymous: true}, {helper: no-such}]}\n"
    file.write_text(f"{head}registries:\n{entries}policies: {{p: []}}\n")
    with pytest.raises(ConfigError) as raised:
        load(file, environ={})
    starts = [line.partition(";")[0].removeprefix(f"{file}: ") for line in raised.value.lines]
    assert starts == [
        "defaults.credentials[0]: matches every repository, so the items after it are never used",
        "defaults.credentials[1].helper: there is no program docker-credential-no-such",
    ]
