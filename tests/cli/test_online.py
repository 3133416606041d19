"""`registry-gc check --online`: permissions, clock, evidence, store and Redis; it deletes nothing."""

import json
import socket
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from policies.image import Image
from tests.support.command import Result
from tests.support.drivers import with_defaults
from tests.support.harness import document, write
from tests.support.oci.fake import BasicAuth, FakeRegistry, TokenAuth
from tests.support.oci.fake_wire import FakeResponse
from tests.support.oci.pusher import Pusher, basic
from tests.support.oci.server import DockerRegistry, HtpasswdAuth
from tests.support.servers import redis_server
from tests.support.simulator.client import Simulator
from worker.cli.online import clock, deletion, manifests
from worker.config.kinds import KINDS
from worker.config.settings import Credentials

Command = Callable[..., Result]
NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)


def configured(simulator: Simulator, folder: Path, **registry: Any) -> None:
    write(folder, document(simulator, folder, **registry))


def results_by_check(gc: Command, code: int) -> dict[str, dict[str, Any]]:
    """The results by the name of the check."""
    result = gc("check", "--online", "--format", "json")
    assert (result.code, result.err) == (code, "")
    assert result.json["mistakes"] == []
    return {row["check"]: row for row in result.json["online"]}


def statuses(results: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {check: row["status"] for check, row in results.items()}


FINE = {
    "store": "ok",
    "redis": "ok",
    "credentials": "warning",
    "sign in": "ok",
    "clock": "ok",
    "list repositories": "ok",
    "list images": "ok",
    "read manifests": "ok",
}


def test_check_online_of_a_healthy_registry(simulator: Simulator, gc: Command, tmp_path: Path) -> None:
    simulator.push("shop/api", tags=["v1"])
    child = simulator.push("shop/api")
    simulator.push_index("shop/api", [child["id"]])
    configured(simulator, tmp_path)
    results = results_by_check(gc, 0)
    assert FINE.items() <= statuses(results).items()
    assert list(results)[-1] == "delete"
    assert "unknown until the first deletion" in results["delete"]["detail"]
    assert "container-registry.images.pusher" in results["delete"]["detail"]
    assert results["list images"]["value"] == 3
    assert abs(results["clock"]["value"]) < 3
    assert "is valid for at most 12 hours; something must renew the file" in results["credentials"]["detail"]
    assert {row["method"] for row in simulator.requests()} == {"GET"}
    assert not list(tmp_path.glob("registry-gc.db*")), "a store made by looking"


def test_check_online_as_a_table_and_as_ndjson(simulator: Simulator, gc: Command, tmp_path: Path) -> None:
    configured(simulator, tmp_path)
    result = gc("check", "--online")
    first, heading, *rows = result.out.splitlines()
    assert (result.code, "no mistakes: 1 registry" in first) == (0, True)
    assert heading.split() == ["REGISTRY", "CHECK", "STATUS", "DETAIL"]
    assert any(row.split()[:4] == ["production", "sign", "in", "ok"] for row in rows)
    lines = gc("check", "--online", "--format", "ndjson").lines
    assert {"registry", "check", "status", "detail", "value"} == set(lines[0])
    assert len(lines) == len(rows)


@pytest.mark.parametrize(
    ("switch", "check", "status", "words"),
    [
        pytest.param({"may_view": False}, "sign in", "failed", "need the role container-registry.viewer", id="viewer"),
        pytest.param(
            {"may_pull": False},
            "read manifests",
            "failed",
            "need the role container-registry.images.puller",
            id="puller",
        ),
        pytest.param(
            {"clock_skew": -400},
            "clock",
            "failed",
            "s ahead of the registry, so runs fail before they plan",
            id="far ahead",
        ),
        pytest.param({"clock_skew": 400}, "clock", "failed", "s behind the registry, so runs fail", id="far behind"),
        pytest.param({"clock_skew": 120}, "clock", "warning", "s behind", id="two minutes behind"),
        pytest.param({"phase": "gone"}, "sign in", "failed", "HTTP 404", id="gone"),
    ],
)
def test_check_online_reports_missing_permissions_and_clock_skew(
    simulator: Simulator, gc: Command, tmp_path: Path, switch: dict[str, Any], check: str, status: str, words: str
) -> None:
    simulator.push_index("shop/api", [simulator.push("shop/api")["id"]])
    simulator.switch(**switch)
    configured(simulator, tmp_path)
    results = results_by_check(gc, 1 if status == "failed" else 0)
    assert (results[check]["status"], words in results[check]["detail"]) == (status, True), results[check]


def test_a_failed_sign_in_ends_the_checks_of_a_registry(simulator: Simulator, gc: Command, tmp_path: Path) -> None:
    configured(simulator, tmp_path)
    (tmp_path / "token").write_text("t1.longexpiredtoken0000")
    results = results_by_check(gc, 1)
    assert results["sign in"]["status"] == "failed"
    assert "longexpired" not in json.dumps(results)
    assert "list repositories" not in results


def test_an_unreachable_registry_does_not_affect_another(simulator: Simulator, gc: Command, tmp_path: Path) -> None:
    simulator.push("shop/api")
    written = document(simulator, tmp_path)
    away = deepcopy(written["registries"]["production"]) | {"id": "crpaway0000000000000"}
    away["endpoints"] = dict.fromkeys(away["endpoints"], "http://127.0.0.1:9")
    written["registries"]["away"] = away
    write(tmp_path, written)
    result = gc("check", "--online", "--format", "json")
    assert result.code == 1
    by_both = {(row["registry"], row["check"]): row["status"] for row in result.json["online"]}
    assert by_both["away", "sign in"] == "failed"
    assert by_both["production", "list images"] == "ok"


def test_check_online_reads_evidence_sources(simulator: Simulator, gc: Command, tmp_path: Path) -> None:
    listed = ["sha256:" + letter * 64 for letter in "abc"]
    for name, age in (("fresh", 1), ("stale", 48)):
        at = (datetime.now(UTC) - timedelta(hours=age)).isoformat()
        (tmp_path / f"{name}.json").write_text(json.dumps({"as_of": at, "images": listed}))
    sources = [
        {"name": name, "kind": "file", "path": str(tmp_path / f"{name}.json"), "max_age": "24h"}
        for name in ("fresh", "stale", "missing")
    ]
    configured(simulator, tmp_path, in_use=sources)
    results = results_by_check(gc, 1)
    fresh = results["evidence fresh"]
    assert (fresh["status"], fresh["value"], fresh["detail"]) == ("ok", 3, "3 in use, 60 min old")
    assert results["evidence stale"]["status"] == results["evidence missing"]["status"] == "failed"
    assert "at most" in results["evidence stale"]["detail"]


def test_check_online_tests_the_store_and_redis(simulator: Simulator, gc: Command, tmp_path: Path) -> None:
    with redis_server() as redis:
        configured(simulator, tmp_path, redis=redis.url)
        results = results_by_check(gc, 0)
        assert results["redis"]["detail"] == "answers"
    (tmp_path / "registry-gc.db").write_bytes(b"rubbish" * 1000)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        configured(simulator, tmp_path, redis=f"redis://127.0.0.1:{nobody.getsockname()[1]}/0")
        result = gc("check", "--online", "--format", "json")
    assert result.code == 1
    by_check = {row["check"]: row for row in result.json["online"]}
    assert by_check["redis"]["status"] == by_check["store"]["status"] == "failed"
    assert by_check["sign in"]["status"] == "ok"


def test_a_mistake_in_the_file_prevents_every_request(simulator: Simulator, gc: Command, tmp_path: Path) -> None:
    configured(simulator, tmp_path, id="two words")
    result = gc("check", "--online")
    assert (result.code, result.out) == (2, "")
    assert simulator.requests() == []


@pytest.mark.parametrize(
    ("now", "changes", "status", "words"),
    [
        pytest.param(datetime(2026, 11, 9, tzinfo=UTC), {"mode": "delete"}, "warning", "needs the role", id="before"),
        pytest.param(
            NOW, {"mode": "delete"}, "warning", "read-only since 2026-11-10, stopped on 2026-12-14", id="read-only"
        ),
        pytest.param(NOW, {}, "warning", "the mode is dry-run", id="dry run"),
        pytest.param(datetime(2026, 12, 14, tzinfo=UTC), {}, "warning", "stopped this service", id="stopped"),
        pytest.param(
            NOW, {"kind": "oci"}, "warning", "needs the permission delete on the registry; the mode", id="oci"
        ),
        pytest.param(
            NOW,
            {"kind": "yandex-cloud-registry", "mode": "delete"},
            "warning",
            "the role cloud-registry.artifacts.pusher (if that is refused, cloud-registry.admin) on the registry",
            id="the successor",
        ),
    ],
)
def test_the_delete_check(now: datetime, changes: dict[str, Any], status: str, words: str) -> None:
    registry = with_defaults(id="crp1", credentials=Credentials(metadata=True), **changes)
    result = deletion(registry, now)
    assert (result.status, words in result.detail) == (status, True), result
    ending = registry.kind == "yandex-container-registry" and now >= datetime(2026, 11, 10, tzinfo=UTC)
    assert ("move to yandex-cloud-registry" in result.detail) is ending


CONTAINER, OCI = KINDS["yandex-container-registry"], KINDS["oci"]


def image(letter: str, **facts: Any) -> Image:
    return Image(id=letter, digest="sha256:" + letter * 64, **facts)


@pytest.mark.parametrize(
    ("kind", "images", "status", "words"),
    [
        pytest.param(OCI, (), "warning", "has no image", id="none"),
        pytest.param(OCI, (image("a"),), "ok", "all in a/b are readable", id="every one is read"),
        pytest.param(
            CONTAINER,
            (image("a"),),
            "warning",
            "the credentials need the role container-registry.images.puller",
            id="no",
        ),
        pytest.param(
            CONTAINER, (image("a", children=("b",)), image("b")), "ok", "all in a/b are readable", id="one was read"
        ),
        pytest.param(
            OCI, (image("a"), image("b", children=None)), "failed", "1 of 2 in a/b could not be read", id="some"
        ),
        pytest.param(
            OCI, (image("b", children=None),), "failed", "the credentials need the permission pull", id="not allowed"
        ),
    ],
)
def test_the_check_of_manifests(kind: Any, images: tuple[Image, ...], status: str, words: str) -> None:
    result = manifests("production", kind, "a/b", images)
    assert (result.status, words in result.detail) == (status, True), result


@pytest.mark.parametrize(
    ("way", "words"),
    [
        pytest.param({"username": "robot", "password": {"env": "PASSWORD"}}, "username and password", id="a user"),
        pytest.param({"anonymous": True}, "most registries refuse anonymous deletions", id="nobody"),
    ],
)
def test_the_credentials_check_works_without_the_registry(
    gc: Command, tmp_path: Path, way: dict[str, Any], words: str
) -> None:
    """Nothing listens there; the check of the configuration works all the same."""
    registry = {"kind": "oci", "url": "http://127.0.0.1:9", "credentials": way, "policy": "p"}
    write(tmp_path, {"store": "sqlite:///gc.db", "registries": {"hub": registry}, "policies": {"p": []}})
    result = gc("check", "--online", "--format", "json", PASSWORD="hunter2")
    by_check = {row["check"]: row for row in result.json["online"]}
    assert (result.code, by_check["sign in"]["status"], by_check["credentials"]["status"]) == (1, "failed", "ok")
    assert words in by_check["credentials"]["detail"]
    assert "hunter2" not in result.out


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://ghcr.io", "GHCR deletes by GitHub's own API only"),
        ("https://registry-1.docker.io", "Docker Hub deletes by its own API"),
    ],
)
def test_the_delete_check_names_vendors_with_their_own_api(url: str, words: str) -> None:
    registry = with_defaults(kind="oci", url=url, credentials=Credentials(anonymous=True), mode="delete")
    result = deletion(registry, NOW)
    assert (result.status, words in result.detail, "storage.delete" in result.detail) == ("failed", True, False)
    dry_run = deletion(registry.model_copy(update={"mode": "dry-run"}), NOW)
    assert (dry_run.status, words in dry_run.detail) == ("warning", True)


@pytest.mark.parametrize(("mode", "status"), [("delete", "failed"), ("dry-run", "warning")])
def test_the_delete_check_reports_a_read_only_registry(gc: Command, tmp_path: Path, mode: str, status: str) -> None:
    """Seen by OPTIONS, before anything is deleted; a registry that allows DELETE may refuse it all the same."""
    with FakeRegistry(deletion="read-only") as registry:
        registry.push("shop/api", "v1")
        hub = {"kind": "oci", "url": registry.url, "credentials": {"anonymous": True}, "policy": "p", "mode": mode}
        write(tmp_path, {"store": "sqlite:///gc.db", "registries": {"hub": hub}, "policies": {"p": []}})
        deletion_check = results_by_check(gc, 1 if status == "failed" else 0)["delete"]
        assert (
            deletion_check["status"],
            "the registry is read-only, by its header Allow" in deletion_check["detail"],
        ) == (status, True)
        registry.switches.deletion = "off"
        unknown = results_by_check(gc, 0)["delete"]
        assert (unknown["status"], unknown["detail"].startswith("unknown until")) == ("warning", True)
        assert "role" not in unknown["detail"]
        assert registry.lines("DELETE") == []


USER = {"username": "robot", "password": {"env": "PASSWORD"}}
ITEMS = [{"repositories": ["web"], **deepcopy(USER)}, USER]
NOT_KNOWN = "it is unknown whether they work"


@pytest.mark.parametrize(
    ("auth", "credentials", "status", "words"),
    [
        pytest.param(None, USER, "warning", NOT_KNOWN, id="never asked for"),
        pytest.param(None, {"anonymous": True}, "ok", "requests are anonymous", id="nobody"),
        pytest.param(BasicAuth("robot", "secret"), USER, "ok", "signed in", id="basic"),
        pytest.param(TokenAuth(user=BasicAuth("robot", "secret")), USER, "ok", "signed in", id="tokens"),
        pytest.param(
            BasicAuth("robot", "secret"),
            ITEMS,
            "warning",
            "whether each of the 2 credentials works",
            id="several",
        ),
    ],
)
def test_the_sign_in_check_is_ok_only_if_credentials_were_used(
    gc: Command, tmp_path: Path, auth: Any, credentials: Any, status: str, words: str
) -> None:
    with FakeRegistry(auth) as registry:
        registry.push("shop/api", "v1")
        hub = {"kind": "oci", "url": registry.url, "credentials": credentials, "policy": "p"}
        write(tmp_path, {"store": "sqlite:///gc.db", "registries": {"hub": hub}, "policies": {"p": []}})
        result = gc("check", "--online", "--format", "json", PASSWORD="secret")
    by_check = {row["check"]: row for row in result.json["online"]}
    assert result.code == 0
    assert (by_check["sign in"]["status"], words in by_check["sign in"]["detail"]) == (status, True), by_check[
        "sign in"
    ]
    assert by_check["list images"]["status"] == "ok"


def test_the_sign_in_check_counts_a_challenge_of_a_repository(gc: Command, tmp_path: Path) -> None:
    challenge = {"WWW-Authenticate": 'Basic realm="shop"'}
    with FakeRegistry() as registry:
        registry.push("shop/api", "v1")
        registry.fault("status", "GET", "/tags/list", status=401, headers=challenge)
        hub = {"kind": "oci", "url": registry.url, "credentials": USER, "policy": "p"}
        write(tmp_path, {"store": "sqlite:///gc.db", "registries": {"hub": hub}, "policies": {"p": []}})
        taken = gc("check", "--online", "--format", "json", PASSWORD="secret")
        registry.fault("status", "GET", "/tags/list", times=None, status=401, headers=challenge)
        refused = gc("check", "--online", "--format", "json", PASSWORD="secret")
    by_check = {row["check"]: row for row in taken.json["online"]}
    assert (taken.code, by_check["sign in"]["detail"]) == (0, "signed in")
    by_check = {row["check"]: row for row in refused.json["online"]}
    assert (refused.code, by_check["sign in"]["status"], by_check["list images"]["status"]) == (1, "warning", "failed")
    assert NOT_KNOWN in by_check["sign in"]["detail"]


@pytest.mark.parametrize(
    ("named", "status", "words"),
    [
        pytest.param(["shop/api"], "ok", "not requested: the file names 1, shop/api", id="one"),
        pytest.param(["shop/no", "shop/api"], "warning", "only shop/api is tested, the others are unknown", id="two"),
        pytest.param(["shop/*"], "ok", "1 listed", id="a glob"),
    ],
)
def test_repositories_of_the_file_are_not_reported_as_listed(
    gc: Command, tmp_path: Path, named: list[str], status: str, words: str
) -> None:
    with FakeRegistry() as registry:
        registry.push("shop/api", "v1")
        hub = {"kind": "oci", "url": registry.url, "credentials": {"anonymous": True}, "policy": "p"}
        hub["repositories"] = named
        write(tmp_path, {"store": "sqlite:///gc.db", "registries": {"hub": hub}, "policies": {"p": []}})
        results = results_by_check(gc, 0)
        assert ("GET /v2/_catalog" in registry.lines()) is (named == ["shop/*"])
    listing = results["list repositories"]
    assert (listing["status"], words in listing["detail"]) == (status, True), listing
    assert results["list images"]["detail"] == "1 in shop/api"


def test_a_repository_that_is_not_served_is_passed_over(gc: Command, tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        registry.empty("Bad//name")
        registry.push("Team/App", "v1")
        registry.push("shop/api", "v1")
        hub = {"kind": "oci", "url": registry.url, "credentials": {"anonymous": True}, "policy": "p"}
        write(tmp_path, {"store": "sqlite:///gc.db", "registries": {"hub": hub}, "policies": {"p": []}})
        assert results_by_check(gc, 0)["list images"]["detail"] == "1 in shop/api"


def test_the_detail_of_a_registry_s_error_is_shown(gc: Command, tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        body = b'{"errors": [{"code": "DENIED", "message": "denied", "detail": "the project is archived"}]}'
        registry.push("shop/api", "v1")
        registry.only_answer = FakeResponse(403, body)
        hub = {"kind": "oci", "url": registry.url, "credentials": {"anonymous": True}, "policy": "p"}
        write(tmp_path, {"store": "sqlite:///gc.db", "registries": {"hub": hub}, "policies": {"p": []}})
        sign_in = results_by_check(gc, 1)["sign in"]
    assert "DENIED: denied (the project is archived)" in sign_in["detail"]


@pytest.mark.parametrize(
    ("seconds", "status"),
    [(0, "ok"), (59, "ok"), (62, "warning"), (299, "warning"), (302, "failed"), (-302, "failed"), (-62, "warning")],
)
def test_the_clock_check(seconds: float, status: str) -> None:
    result = clock("production", NOW - timedelta(seconds=seconds), NOW, NOW + timedelta(seconds=1))
    assert result.status == status


def test_check_online_of_a_real_docker_registry(gc: Command, tmp_path: Path) -> None:
    user = HtpasswdAuth("robot", "open sesame")
    with DockerRegistry(auth=user) as registry:
        pusher = Pusher(registry.url, authorization=basic(user.user, user.password))
        children = [pusher.image("shop/api", layers=[layer]) for layer in (b"one", b"two")]
        pusher.index("shop/api", "v1", children=children)
        pusher.close()
        hub = {"kind": "oci", "url": registry.url, "policy": "p"}
        hub["credentials"] = {"username": "robot", "password": {"env": "PASSWORD"}}
        write(tmp_path, {"store": "sqlite:///gc.db", "registries": {"hub": hub}, "policies": {"p": []}})
        right = gc("check", "--online", "--format", "json", PASSWORD="open sesame")
        wrong = gc("check", "--online", "--format", "json", PASSWORD="open poppy")
    fine = {row["check"]: row["status"] for row in right.json["online"]}
    assert (right.code, fine) == (0, FINE | {"credentials": "ok", "delete": "warning"})
    assert {row["check"]: row["value"] for row in right.json["online"]}["list images"] == 3
    assert {row["check"]: row["status"] for row in wrong.json["online"]}["sign in"] == "failed"
    assert (wrong.code, "open poppy" in wrong.out + wrong.err) == (1, False)
