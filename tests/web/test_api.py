"""The trigger API over real HTTP: authentication, responses, and that no other address changes anything."""

import json
import socket
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import select
from starlette.routing import Route

from tests.support.servers import RedisServer
from tests.web.builders import add_run
from tests.web.pages import Answer, Pages, start, stop
from worker.app import KEY_PREFIX
from worker.store import holds, open_store
from worker.store import runs as run_rows
from worker.store.tables import pause, run
from worker.web.app import routes
from worker.web.current import Configuration, StoreOpener

TOKEN = "correct-horse-battery-staple"
METHODS = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
JSON = {"Content-Type": "application/json"}
RUNS = "/api/registries/production/runs"
BLOCKED = "20261123T030000Z-0000b10c"


def served() -> list[Route]:
    """Every route of the application, as it is built for serving."""
    unused: Any = None
    return routes(StoreOpener(lambda: ""), lambda: Configuration(unused), lambda task_calls: True)


def address(route: Route) -> str:
    """A route's path with existing names, so that only authentication can refuse it."""
    return route.path.format(registry="production", run=BLOCKED)


CHANGING = sorted(address(route) for route in served() if "POST" in (route.methods or ()))
OTHERS = [
    pytest.param(method, address(route), id=f"{method} {route.path}")
    for route in served()
    for method in (*METHODS, *(() if "GET" in (route.methods or ()) else ("GET", "HEAD")))
    if method not in (route.methods or ())
]


@pytest.fixture(scope="module")
def running_pages(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    started = start(tmp_path_factory.mktemp("api"), redis.url)
    yield started
    stop(started)


@pytest.fixture
def emptied(running_pages: Pages, redis: RedisServer) -> Pages:
    """One server for all tests, with a blocked run in its store."""
    redis.empty()
    store = open_store(f"sqlite:///{running_pages.folder}/store.db")
    with store.write() as connection:
        connection.execute(run.delete())
        connection.execute(pause.delete())
    add_run(
        store, "production", id=BLOCKED, registry_key=KEY, state="blocked", outcome=None, finished_at=None,
        opened_at=datetime.now(UTC) - timedelta(minutes=5), message="over its limits",
    )  # fmt: skip
    store.dispose()
    return running_pages


@pytest.fixture
def pages(emptied: Pages) -> Pages:
    """The server with the token switched on."""
    switch_on(emptied)
    return emptied


KEY = "yandex-container-registry|https://container-registry.api.cloud.yandex.net|crpvab5oob146rh73ilt"


def switch_on(pages: Pages, line: str | None = None, mode: str = "delete") -> None:
    """Name the token in the file, and write it. The server waits for a second before it reads a file that changed."""
    (pages.folder / "web-token").write_text(TOKEN + "\n")
    path = pages.folder / "registry-gc.yaml"
    before = path.read_text()
    kept = [line for line in before.splitlines() if not line.startswith(("web:", "defaults:"))]
    web = f"web: {{token: {{file: {pages.folder}/web-token}}}}" if line is None else line
    after = "\n".join([web, f"defaults: {{mode: {mode}}}", *kept]) + "\n"
    if after != before:
        path.write_text(after)
        pages.health()  # the server reads this file before the next request


def post(pages: Pages, path: str, document: Any = None, token: str = TOKEN, **headers: str) -> Answer:
    signed = {"Authorization": f"Bearer {token}"} if token else {}
    body = None if document is None else json.dumps(document).encode()
    return pages.ask(path, "POST", signed | (JSON if body else {}) | headers, body)


def rows(pages: Pages) -> dict[str, tuple[str, str, str | None]]:
    """Every run of the store: trigger, state, outcome."""
    store = open_store(f"sqlite:///{pages.folder}/store.db")
    with store.read() as connection:
        selected = connection.execute(select(run.c.id, run.c.trigger, run.c.state, run.c.outcome)).all()
    store.dispose()
    return {row.id: (row.trigger, row.state, row.outcome) for row in selected}


UNTOUCHED = {BLOCKED: ("schedule", "blocked", None)}


def refused(pages: Pages, answer: Answer, status: int) -> str:
    """The one line of a refusal, which changed nothing."""
    assert answer.status == status, answer.text
    assert (rows(pages), paused(pages)) == (UNTOUCHED, {})
    document = json.loads(answer.body)
    assert TOKEN not in answer.text
    assert "\n" not in document["error"]
    line: str = document["error"]
    return line


def test_the_tested_routes_include_the_known_ones() -> None:
    assert {RUNS, f"/api/runs/{BLOCKED}/approve", f"/api/runs/{BLOCKED}/abort"} <= set(CHANGING)


@pytest.mark.parametrize("path", CHANGING)
def test_a_request_without_the_token_changes_nothing(pages: Pages, path: str) -> None:
    answer = post(pages, path, token="")
    assert "Authorization: Bearer" in refused(pages, answer, 401)
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="registry-gc"'
    answer = post(pages, path, token="wrong")
    assert "is not that of" in refused(pages, answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


@pytest.mark.parametrize("path", CHANGING)
@pytest.mark.parametrize("token", ["", TOKEN], ids=["without a token", "with any"])
def test_without_a_configured_token_nothing_changes(emptied: Pages, path: str, token: str) -> None:
    switch_on(emptied, "web: {}")
    assert "set `web: {token: {file: PATH}}`" in refused(emptied, post(emptied, path, token=token), 403)


@pytest.mark.parametrize(("method", "path"), OTHERS)
def test_other_methods_are_not_allowed(pages: Pages, method: str, path: str) -> None:
    answer = pages.ask(path, method, {"Authorization": f"Bearer {TOKEN}"})
    assert answer.status == 405
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert rows(pages) == UNTOUCHED


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Authorization": f"Basic {TOKEN}"}, id="another scheme"),
        pytest.param({"Authorization": TOKEN}, id="no scheme"),
        pytest.param({"Authorization": "Bearer"}, id="a scheme without a token"),
        pytest.param({"Authorization": "Bearer "}, id="an empty token"),
        pytest.param({"Authorization": f"Bearer {TOKEN[:-1]}"}, id="the beginning of the token"),
        pytest.param({"Authorization": f"Bearer {TOKEN}x"}, id="a longer token"),
        pytest.param({"Authorization": f"Bearer {TOKEN.upper()}"}, id="in capitals"),
        pytest.param({"Authorization": f"Bearer {TOKEN}, Bearer {TOKEN}"}, id="two tokens in one header"),
        pytest.param({"Authorization": "Bearer cörrect"}, id="not ASCII"),
        pytest.param({"Authorization": "Bearer " + "x" * 10_000}, id="long"),
        pytest.param({"Proxy-Authorization": f"Bearer {TOKEN}"}, id="another header"),
        pytest.param({"X-Auth-Token": TOKEN}, id="an X-Auth-Token header"),
        pytest.param({"Cookie": f"token={TOKEN}; Authorization=Bearer {TOKEN}"}, id="a cookie"),
    ],
)
def test_rejects_other_schemes_headers_and_tokens(pages: Pages, headers: Mapping[str, str]) -> None:
    refused(pages, pages.ask(RUNS, "POST", headers), 401)


def test_ignores_a_token_in_the_address_or_the_body(pages: Pages) -> None:
    refused(pages, pages.ask(f"{RUNS}?token={TOKEN}&access_token={TOKEN}", "POST"), 401)
    refused(pages, post(pages, RUNS, {"token": TOKEN}, token=""), 401)
    assert "takes no query" in refused(pages, post(pages, f"{RUNS}?dry_run=true"), 400)


def test_rejects_two_authorization_headers(pages: Pages) -> None:
    lines = f"Authorization: Bearer {TOKEN}\r\n" * 2
    with socket.create_connection((pages.host, pages.port), timeout=10) as connection:
        connection.sendall(f"POST {RUNS} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 401 ")
    assert rows(pages) == UNTOUCHED


@pytest.mark.parametrize(
    ("path", "document", "headers", "body", "status", "words"),
    [
        pytest.param(RUNS, {"dry_run": True, "force": 1}, {}, None, 400, "unknown field `force`", id="an odd field"),
        pytest.param(RUNS, {"mode": "delete"}, {}, None, 400, "unknown field `mode`", id="a mode"),
        pytest.param(RUNS, {"dry_run": "false"}, {}, None, 400, "Expected `bool`", id="text for a bool"),
        pytest.param(RUNS, {"dry_run": 1}, {}, None, 400, "Expected `bool`", id="a number for a bool"),
        pytest.param(RUNS, {"dry_run": None}, {}, None, 400, "Expected `bool`", id="null for a bool"),
        pytest.param(RUNS, [], {}, None, 400, "Expected `object`", id="a list"),
        pytest.param(RUNS, None, JSON, b'{"dry_run": true, "dry_run": false}', 400, "occurs twice", id="a field twice"),
        pytest.param(RUNS, None, JSON, b"{", 400, "is not valid", id="no JSON"),
        pytest.param(RUNS, None, JSON, b"\xff{}", 400, "is not valid", id="not UTF-8"),
        pytest.param(RUNS, None, JSON, b"[" * 4000, 400, "is not valid", id="deep"),
        pytest.param(RUNS, None, JSON, b" " * 5000, 413, "at most 4096 bytes", id="too large"),
        pytest.param(RUNS, None, {}, b"{}", 415, "Content-Type: application/json", id="no type"),
        pytest.param(RUNS, {}, {"Content-Encoding": "gzip"}, None, 415, "must not be compressed", id="packed"),
        pytest.param(
            RUNS, {}, {"Content-Type": "text/plain"}, None, 415, "Content-Type", id="a content type of HTML forms"
        ),
        pytest.param("/api/runs/{b}/abort", {"reason": "x"}, {}, None, 400, "unknown field", id="a field of none"),
        pytest.param("/api/registries/nowhere/runs", None, {}, None, 404, "'nowhere'", id="an unknown registry"),
        pytest.param("/api/registries/PRODUCTION/runs", None, {}, None, 404, "'PRODUCTION'", id="capitals"),
        pytest.param(
            "/api/registries/%00/runs", None, {}, None, 404, "registry in the address is not a valid name", id="a zero"
        ),
        pytest.param(
            "/api/registries/%e2%80%ae/runs", None, {}, None, 404, "registry in the address", id="turned writing"
        ),
        pytest.param("/api/runs/no-such-run/approve", None, {}, None, 404, "no run has the id", id="an unknown run"),
        pytest.param("/api/runs/no-such-run/abort", None, {}, None, 404, "no run has the id", id="none to abort"),
        pytest.param(
            "/api/runs/%27%3b--/abort", None, {}, None, 404, "run in the address is not a valid name", id="SQL"
        ),
        pytest.param(
            "/api/runs/" + "x" * 5000 + "/abort",
            None,
            {},
            None,
            404,
            "run in the address is not a valid name",
            id="a long name",
        ),
    ],
)
def test_rejects_invalid_bodies_and_addresses(
    pages: Pages, path: str, document: Any, headers: dict[str, str], body: bytes | None, status: int, words: str
) -> None:
    signed = {"Authorization": f"Bearer {TOKEN}"}
    sent = json.dumps(document).encode() if document is not None else body
    typed = JSON if document is not None else {}
    answer = pages.ask(path.replace("{b}", BLOCKED), "POST", signed | typed | headers, sent)
    assert words in refused(pages, answer, status)


def test_limits_a_chunked_body(pages: Pages) -> None:
    head = f"POST {RUNS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection((pages.host, pages.port), timeout=10) as connection:
        connection.sendall(head.encode() + (b"800\r\n" + b" " * 0x800 + b"\r\n") * 3)
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")
    assert rows(pages) == UNTOUCHED


@pytest.mark.parametrize("path", [f"{RUNS}/", "/api", "/api/", "/api/runs", "//api/registries/production/runs"])
def test_similar_addresses_are_not_found(pages: Pages, path: str) -> None:
    answer = post(pages, path)
    assert answer.status == 404
    assert answer.headers["Location"] is None


def approved(pages: Pages) -> Answer:
    return post(pages, f"/api/runs/{BLOCKED}/approve")


@pytest.mark.parametrize(
    ("document", "mode", "opened"),
    [
        pytest.param(None, "delete", "delete", id="in the file's mode"),
        pytest.param({}, "delete", "delete", id="an empty object"),
        pytest.param({"dry_run": False}, "delete", "delete", id="false is the default"),
        pytest.param({"dry_run": True}, "delete", "dry-run", id="more careful than the file"),
        pytest.param({"dry_run": False}, "dry-run", "dry-run", id="never less careful"),
    ],
)
def test_a_run_is_opened(pages: Pages, redis: RedisServer, document: Any, mode: str, opened: str) -> None:
    switch_on(pages, mode=mode)
    answer = post(pages, RUNS, document)
    assert answer.status == 202, answer.text
    made = json.loads(answer.body)
    assert made == {"run": made["run"], "registry": "production", "mode": opened, "state": "pending", "outcome": None}
    assert rows(pages) == UNTOUCHED | {made["run"]: ("web", "pending", None)}
    (task_call,) = Redis.from_url(redis.url).lrange(f"{KEY_PREFIX}gc.scan", 0, -1)
    assert json.loads(task_call)["headers"]["task"] == "gc.scan"
    assert made["run"] in json.loads(task_call)["headers"]["argsrepr"]


def test_a_registry_has_one_run_at_a_time(pages: Pages) -> None:
    first = json.loads(post(pages, RUNS).body)["run"]
    answer = post(pages, RUNS)
    assert answer.status == 409
    assert json.loads(answer.body)["run"] == first
    answer = approved(pages)
    assert (answer.status, json.loads(answer.body)["run"]) == (409, first)
    assert rows(pages)[BLOCKED] == ("schedule", "blocked", None)


def test_a_conflict_with_a_run_that_has_just_ended_names_no_run(pages: Pages) -> None:
    """The store refuses a run because another is active, and knows of none when it is asked which."""
    with closing(sqlite3.connect(f"{pages.folder}/store.db")) as store:
        store.execute("create trigger refuse before insert on run begin select raise(abort, 'another'); end")
        try:
            answer = post(pages, RUNS)
        finally:
            store.execute("drop trigger refuse")
    assert answer.status == 409
    assert json.loads(answer.body) == {"error": "production: another run was active and has just ended; try again"}


def test_a_run_is_approved_and_then_aborted(pages: Pages) -> None:
    answer = approved(pages)
    assert answer.status == 202, answer.text
    assert rows(pages)[BLOCKED][1:] == ("finished", "partial")  # it never had a batch to delete
    assert people(pages) == (None, "web, from 127.0.0.1", None)
    answer = approved(pages)
    assert (answer.status, "waits for no approval" in answer.text) == (409, True)
    answer = post(pages, f"/api/runs/{BLOCKED}/abort")
    assert (answer.status, "nothing was stopped" in answer.text) == (409, True)


def test_a_run_is_aborted(pages: Pages) -> None:
    answer = post(pages, f"/api/runs/{BLOCKED}/abort", {"who": "anna"})
    assert answer.status == 202
    assert people(pages) == (None, None, "anna")
    assert json.loads(answer.body)["outcome"] == "aborted"
    assert rows(pages) == {BLOCKED: ("schedule", "finished", "aborted")}


def people(pages: Pages) -> tuple[str | None, str | None, str | None]:
    """Who opened, approved and aborted the newest run."""
    store = open_store(f"sqlite:///{pages.folder}/store.db")
    with store.read() as connection:
        newest = run_rows.newest(connection)[0]
    store.dispose()
    return newest.opened_by, newest.approved_by, newest.aborted_by


def test_records_who_starts_a_run(pages: Pages) -> None:
    assert post(pages, RUNS, {"who": "anna", "dry_run": True}).status == 202
    assert people(pages)[0] == "anna"


def paused(pages: Pages) -> dict[str, tuple[str, str]]:
    store = open_store(f"sqlite:///{pages.folder}/store.db")
    with store.read() as connection:
        pauses = {row.registry: (row.who, row.reason) for row in holds.pauses(connection)}
    store.dispose()
    return pauses


@pytest.mark.parametrize(
    ("path", "name"), [("/api/registries/production", "production"), ("/api", "*")], ids=["one", "all"]
)
def test_a_registry_is_paused_and_resumed(pages: Pages, path: str, name: str) -> None:
    answer = post(pages, f"{path}/resume")
    assert (answer.status, "not paused" in answer.text) == (409, True)
    answer = post(pages, f"{path}/pause", {"reason": "moving\n\x1b[31m house", "who": "anna"})
    assert answer.status == 200, answer.text
    document = json.loads(answer.body)
    assert document["registry"] == (None if name == "*" else name)
    assert (document["paused"], document["who"], document["reason"]) == (True, "anna", "moving [31m house")
    assert paused(pages) == {name: ("anna", "moving [31m house")}
    again = json.loads(post(pages, f"{path}/pause", {"who": "bob"}).body)
    assert again == document, "the first pause stays"
    answer = post(pages, f"{path}/resume", {"who": "cleo"})
    assert (answer.status, json.loads(answer.body)["paused"]) == (200, False)
    assert json.loads(answer.body)["resumed_by"] == "cleo"
    assert paused(pages) == {}
    assert rows(pages) == UNTOUCHED


def test_resuming_one_registry_does_not_end_a_pause_of_all(pages: Pages) -> None:
    assert json.loads(post(pages, "/api/pause").body)["who"] == "web, from 127.0.0.1"
    answer = post(pages, "/api/registries/production/resume")
    assert (answer.status, "all registries are paused" in answer.text) == (409, True)
    assert post(pages, "/api/registries/nowhere/pause").status == 404
    assert post(pages, "/api/pause", {"reason": "x" * 501}).status == 400
    assert set(paused(pages)) == {"*"}


def test_a_rotated_token_applies_at_once(pages: Pages) -> None:
    file = pages.folder / "web-token"
    file.write_text("another-token-entirely")
    refused(pages, post(pages, RUNS), 401)
    assert post(pages, RUNS, token="another-token-entirely").status == 202


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda file: file.write_text(""), id="empty"),
        pytest.param(lambda file: file.write_text(" \n"), id="white space"),
        pytest.param(lambda file: file.write_bytes(b"\xff\xfe"), id="not text"),
        pytest.param(lambda file: file.write_bytes(b"x" * 70_000), id="huge"),
        pytest.param(lambda file: file.unlink(), id="gone"),
        pytest.param(lambda file: (file.unlink(), file.mkdir()), id="a folder"),
    ],
)
def test_an_unusable_token_file_rejects_every_change(pages: Pages, spoil: Any) -> None:
    file = pages.folder / "web-token"
    spoil(file)
    try:
        for token in (TOKEN, "", " ", "x" * 70_000):
            assert post(pages, RUNS, token=token).status in (400, 403, 431)  # 400: no header can be that long
        line = refused(pages, post(pages, RUNS), 403)
        assert "cannot be read" in line
        assert str(file) not in line
    finally:
        if file.is_dir():
            file.rmdir()


def test_a_file_with_mistakes_prevents_starts_but_not_stops(pages: Pages) -> None:
    path = pages.folder / "registry-gc.yaml"
    path.write_text(path.read_text().replace("older_than: 7d", "older_than: soon"))
    try:
        assert "has mistakes" in refused(pages, post(pages, RUNS), 503)
        refused(pages, approved(pages), 503)
        assert post(pages, "/api/pause").status == 200
        assert post(pages, "/api/resume").status == 503
        assert post(pages, f"/api/runs/{BLOCKED}/abort").status == 202
    finally:
        path.write_text(path.read_text().replace("older_than: soon", "older_than: 7d"))


def test_a_run_is_opened_with_a_warning_without_redis(redis: RedisServer, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        own = start(tmp_path, f"redis://127.0.0.1:{nobody.getsockname()[1]}/0")
        try:
            switch_on(own)
            answer = post(own, RUNS)
            assert answer.status == 202
            made = json.loads(answer.body)
            assert "as soon as beat and Redis are back" in made["warning"]
            assert rows(own) == {made["run"]: ("web", "pending", None)}
            for path in own.folder.glob("store.db*"):
                path.unlink()
            answer = post(own, RUNS)
            assert (answer.status, list(json.loads(answer.body))) == (503, ["error"])
            assert not list(own.folder.glob("store.db*")), "a new, empty store"
        finally:
            stop(own)
