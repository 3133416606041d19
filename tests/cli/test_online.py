"""`registry-gc check --online`: what credentials may do, the clock, evidence, store and Redis; nothing is deleted."""

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


def found(gc: Command, code: int) -> dict[str, dict[str, Any]]:
    """The findings by what was asked."""
    result = gc("check", "--online", "--format", "json")
    assert (result.code, result.err) == (code, "")
    assert result.json["mistakes"] == []
    return {one["check"]: one for one in result.json["online"]}


def statuses(findings: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {check: one["status"] for check, one in findings.items()}


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


def test_all_that_can_be_known(simulator: Simulator, gc: Command, tmp_path: Path) -> None:
    simulator.push("shop/api", tags=["v1"])
    child = simulator.push("shop/api")
    simulator.push_index("shop/api", [child["id"]])
    configured(simulator, tmp_path)
    findings = found(gc, 0)
    assert FINE.items() <= statuses(findings).items()
    assert list(findings)[-1] == "delete"
    assert "unknown until the first deletion" in findings["delete"]["detail"]
    assert "container-registry.images.pusher" in findings["delete"]["detail"]
    assert findings["list images"]["value"] == 3
    assert abs(findings["clock"]["value"]) < 3
    assert "is valid for at most 12 hours; something must renew the file" in findings["credentials"]["detail"]
    assert {one["method"] for one in simulator.requests()} == {"GET"}
    assert not list(tmp_path.glob("registry-gc.db*")), "a store made by looking"


def test_as_a_table_and_line_by_line(simulator: Simulator, gc: Command, tmp_path: Path) -> None:
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
def test_what_a_registry_refuses(
    simulator: Simulator, gc: Command, tmp_path: Path, switch: dict[str, Any], check: str, status: str, words: str
) -> None:
    simulator.push_index("shop/api", [simulator.push("shop/api")["id"]])
    simulator.switch(**switch)
    configured(simulator, tmp_path)
    findings = found(gc, 1 if status == "failed" else 0)
    assert (findings[check]["status"], words in findings[check]["detail"]) == (status, True), findings[check]


def test_nobody_is_signed_in(simulator: Simulator, gc: Command, tmp_path: Path) -> None:
    configured(simulator, tmp_path)
    (tmp_path / "token").write_text("t1.longexpiredtoken0000")
    findings = found(gc, 1)
    assert findings["sign in"]["status"] == "failed"
    assert "longexpired" not in json.dumps(findings)
    assert "list repositories" not in findings


def test_one_registry_s_trouble_is_not_another_s(simulator: Simulator, gc: Command, tmp_path: Path) -> None:
    simulator.push("shop/api")
    written = document(simulator, tmp_path)
    away = deepcopy(written["registries"]["production"]) | {"id": "crpaway0000000000000"}
    away["endpoints"] = dict.fromkeys(away["endpoints"], "http://127.0.0.1:9")
    written["registries"]["away"] = away
    write(tmp_path, written)
    result = gc("check", "--online", "--format", "json")
    assert result.code == 1
    by_both = {(one["registry"], one["check"]): one["status"] for one in result.json["online"]}
    assert by_both["away", "sign in"] == "failed"
    assert by_both["production", "list images"] == "ok"


def test_what_evidence_counts(simulator: Simulator, gc: Command, tmp_path: Path) -> None:
    listed = ["sha256:" + letter * 64 for letter in "abc"]
    for name, age in (("fresh", 1), ("stale", 48)):
        at = (datetime.now(UTC) - timedelta(hours=age)).isoformat()
        (tmp_path / f"{name}.json").write_text(json.dumps({"as_of": at, "images": listed}))
    sources = [
        {"name": name, "kind": "file", "path": str(tmp_path / f"{name}.json"), "max_age": "24h"}
        for name in ("fresh", "stale", "missing")
    ]
    configured(simulator, tmp_path, in_use=sources)
    findings = found(gc, 1)
    fresh = findings["evidence fresh"]
    assert (fresh["status"], fresh["value"], fresh["detail"]) == ("ok", 3, "3 in use, 60 min old")
    assert findings["evidence stale"]["status"] == findings["evidence missing"]["status"] == "failed"
    assert "at most" in findings["evidence stale"]["detail"]


def test_the_store_and_redis(simulator: Simulator, gc: Command, tmp_path: Path) -> None:
    with redis_server() as redis:
        configured(simulator, tmp_path, redis=redis.url)
        findings = found(gc, 0)
        assert findings["redis"]["detail"] == "answers"
    (tmp_path / "registry-gc.db").write_bytes(b"rubbish" * 1000)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        configured(simulator, tmp_path, redis=f"redis://127.0.0.1:{nobody.getsockname()[1]}/0")
        result = gc("check", "--online", "--format", "json")
    assert result.code == 1
    by_check = {one["check"]: one for one in result.json["online"]}
    assert by_check["redis"]["status"] == by_check["store"]["status"] == "failed"
    assert by_check["sign in"]["status"] == "ok"


def test_a_mistake_in_the_file_comes_first(simulator: Simulator, gc: Command, tmp_path: Path) -> None:
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
def test_what_is_said_of_deleting(now: datetime, changes: dict[str, Any], status: str, words: str) -> None:
    registry = with_defaults(id="crp1", credentials=Credentials(metadata=True), **changes)
    finding = deletion(registry, now)
    assert (finding.status, words in finding.detail) == (status, True), finding
    ending = registry.kind == "yandex-container-registry" and now >= datetime(2026, 11, 10, tzinfo=UTC)
    assert ("move to yandex-cloud-registry" in finding.detail) is ending


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
def test_what_is_said_of_manifests(kind: Any, images: tuple[Image, ...], status: str, words: str) -> None:
    finding = manifests("production", kind, "a/b", images)
    assert (finding.status, words in finding.detail) == (status, True), finding


@pytest.mark.parametrize(
    ("way", "words"),
    [
        pytest.param({"username": "robot", "password": {"env": "PASSWORD"}}, "username and password", id="a user"),
        pytest.param({"anonymous": True}, "most registries refuse anonymous deletions", id="nobody"),
    ],
)
def test_how_an_oci_registry_is_signed_in_to(gc: Command, tmp_path: Path, way: dict[str, Any], words: str) -> None:
    """Nothing listens there: what the configuration shows is told all the same."""
    registry = {"kind": "oci", "url": "http://127.0.0.1:9", "credentials": way, "policy": "p"}
    write(tmp_path, {"store": "sqlite:///gc.db", "registries": {"hub": registry}, "policies": {"p": []}})
    result = gc("check", "--online", "--format", "json", PASSWORD="hunter2")
    by_check = {one["check"]: one for one in result.json["online"]}
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
def test_registries_that_delete_in_another_way(url: str, words: str) -> None:
    registry = with_defaults(kind="oci", url=url, credentials=Credentials(anonymous=True), mode="delete")
    finding = deletion(registry, NOW)
    assert (finding.status, words in finding.detail, "storage.delete" in finding.detail) == ("failed", True, False)
    dry_run = deletion(registry.model_copy(update={"mode": "dry-run"}), NOW)
    assert (dry_run.status, words in dry_run.detail) == ("warning", True)


@pytest.mark.parametrize(("mode", "status"), [("delete", "failed"), ("dry-run", "warning")])
def test_a_read_only_registry_says_so(gc: Command, tmp_path: Path, mode: str, status: str) -> None:
    """Seen by OPTIONS, before anything is deleted; a registry that allows DELETE may refuse it all the same."""
    with FakeRegistry(deletion="read-only") as registry:
        registry.push("shop/api", "v1")
        hub = {"kind": "oci", "url": registry.url, "credentials": {"anonymous": True}, "policy": "p", "mode": mode}
        write(tmp_path, {"store": "sqlite:///gc.db", "registries": {"hub": hub}, "policies": {"p": []}})
        said = found(gc, 1 if status == "failed" else 0)["delete"]
        assert (said["status"], "the registry is read-only, by its header Allow" in said["detail"]) == (status, True)
        registry.switches.deletion = "off"
        unknown = found(gc, 0)["delete"]
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
def test_signed_in_is_said_where_credentials_were_tried(
    gc: Command, tmp_path: Path, auth: Any, credentials: Any, status: str, words: str
) -> None:
    with FakeRegistry(auth) as registry:
        registry.push("shop/api", "v1")
        hub = {"kind": "oci", "url": registry.url, "credentials": credentials, "policy": "p"}
        write(tmp_path, {"store": "sqlite:///gc.db", "registries": {"hub": hub}, "policies": {"p": []}})
        result = gc("check", "--online", "--format", "json", PASSWORD="secret")
    said = {one["check"]: one for one in result.json["online"]}
    assert result.code == 0
    assert (said["sign in"]["status"], words in said["sign in"]["detail"]) == (status, True), said["sign in"]
    assert said["list images"]["status"] == "ok"


def test_credentials_that_only_a_repository_asks_for_are_tried_there(gc: Command, tmp_path: Path) -> None:
    challenge = {"WWW-Authenticate": 'Basic realm="shop"'}
    with FakeRegistry() as registry:
        registry.push("shop/api", "v1")
        registry.fault("status", "GET", "/tags/list", status=401, headers=challenge)
        hub = {"kind": "oci", "url": registry.url, "credentials": USER, "policy": "p"}
        write(tmp_path, {"store": "sqlite:///gc.db", "registries": {"hub": hub}, "policies": {"p": []}})
        taken = gc("check", "--online", "--format", "json", PASSWORD="secret")
        registry.fault("status", "GET", "/tags/list", times=None, status=401, headers=challenge)
        refused = gc("check", "--online", "--format", "json", PASSWORD="secret")
    said = {one["check"]: one for one in taken.json["online"]}
    assert (taken.code, said["sign in"]["detail"]) == (0, "signed in")
    said = {one["check"]: one for one in refused.json["online"]}
    assert (refused.code, said["sign in"]["status"], said["list images"]["status"]) == (1, "warning", "failed")
    assert NOT_KNOWN in said["sign in"]["detail"]


@pytest.mark.parametrize(
    ("named", "status", "words"),
    [
        pytest.param(["shop/api"], "ok", "not requested: the file names 1, shop/api", id="one"),
        pytest.param(["shop/no", "shop/api"], "warning", "only shop/api is tested, the others are unknown", id="two"),
        pytest.param(["shop/*"], "ok", "1 listed", id="a glob"),
    ],
)
def test_repositories_that_the_file_names_are_not_said_to_be_seen(
    gc: Command, tmp_path: Path, named: list[str], status: str, words: str
) -> None:
    with FakeRegistry() as registry:
        registry.push("shop/api", "v1")
        hub = {"kind": "oci", "url": registry.url, "credentials": {"anonymous": True}, "policy": "p"}
        hub["repositories"] = named
        write(tmp_path, {"store": "sqlite:///gc.db", "registries": {"hub": hub}, "policies": {"p": []}})
        findings = found(gc, 0)
        assert ("GET /v2/_catalog" in registry.lines()) is (named == ["shop/*"])
    said = findings["list repositories"]
    assert (said["status"], words in said["detail"]) == (status, True), said
    assert findings["list images"]["detail"] == "1 in shop/api"


def test_a_name_that_is_not_served_hides_no_other_repository(gc: Command, tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        registry.empty("Bad//name")
        registry.push("Team/App", "v1")
        registry.push("shop/api", "v1")
        hub = {"kind": "oci", "url": registry.url, "credentials": {"anonymous": True}, "policy": "p"}
        write(tmp_path, {"store": "sqlite:///gc.db", "registries": {"hub": hub}, "policies": {"p": []}})
        assert found(gc, 0)["list images"]["detail"] == "1 in shop/api"


def test_what_a_registry_says_in_detail_is_shown(gc: Command, tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        body = b'{"errors": [{"code": "DENIED", "message": "denied", "detail": "the project is archived"}]}'
        registry.push("shop/api", "v1")
        registry.only_answer = FakeResponse(403, body)
        hub = {"kind": "oci", "url": registry.url, "credentials": {"anonymous": True}, "policy": "p"}
        write(tmp_path, {"store": "sqlite:///gc.db", "registries": {"hub": hub}, "policies": {"p": []}})
        said = found(gc, 1)["sign in"]
    assert "DENIED: denied (the project is archived)" in said["detail"]


@pytest.mark.parametrize(
    ("seconds", "status"),
    [(0, "ok"), (59, "ok"), (62, "warning"), (299, "warning"), (302, "failed"), (-302, "failed"), (-62, "warning")],
)
def test_how_far_a_clock_may_be_off(seconds: float, status: str) -> None:
    finding = clock("production", NOW - timedelta(seconds=seconds), NOW, NOW + timedelta(seconds=1))
    assert finding.status == status


def test_a_real_registry_of_the_kind_oci(gc: Command, tmp_path: Path) -> None:
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
    fine = {one["check"]: one["status"] for one in right.json["online"]}
    assert (right.code, fine) == (0, FINE | {"credentials": "ok", "delete": "warning"})
    assert {one["check"]: one["value"] for one in right.json["online"]}["list images"] == 3
    assert {one["check"]: one["status"] for one in wrong.json["online"]}["sign in"] == "failed"
    assert (wrong.code, "open poppy" in wrong.out + wrong.err) == (1, False)
