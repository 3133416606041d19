"""Evidence from a service: the document by GET, whole, from the address that was named, within a time."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from worker.config.secret import Origin, Secret
from worker.config.settings import EvidenceSettings
from worker.evidence import EvidenceError, Use
from worker.evidence.http import REMEDY, read
from worker.registries.http.messages import Retries

LINES = b"# as_of: 2026-11-23T03:00:00Z\ncr.yandex/r/shop/api:v7\n# end\n"
TOKEN = "token-of-the-list"
QUICK = Retries(attempts=3, total=1.0, first_wait=0.01, longest_wait=0.02, jitter=0.0)


class Service:
    """Answers with the given responses in order, and then with the last one forever."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = [(200, {}, LINES)]
        self.length: int | None = None  # the announced length
        self.endless = False
        self.released = threading.Event()
        self.seen: list[tuple[str, str | None]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/in-use?key=hunter2"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.seen.append((request.path, request.headers.get("authorization")))
        status, headers, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        request.send_response(status)
        for name, value in {"Content-Length": str(self.length or len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)
        while self.endless and not self.released.wait(0.02):
            request.wfile.write(b"#" * 1000)
            request.wfile.flush()


@pytest.fixture
def service() -> Iterator[Service]:
    running = Service()
    threading.Thread(target=running.server.serve_forever, args=(0.02,), daemon=True).start()
    yield running
    running.released.set()
    running.server.shutdown()
    running.server.server_close()


def secret_of(environ):
    origin = Origin(folder=Path("/"), environ=environ, look_for_secrets=False)
    return Secret.model_validate({"env": "TOKEN"}, context=origin)


def source(service, token=TOKEN):
    secret = secret_of({"TOKEN": token}) if token else None
    return EvidenceSettings(name="list", kind="http", max_age=timedelta(hours=24), url=service.url, token=secret)


@pytest.mark.parametrize(("token", "sent"), [(TOKEN, f"Bearer {TOKEN}"), (None, None)])
def test_reads_the_document_by_get(service, token, sent):
    assert read(source(service, token), QUICK).uses == (Use(None, "cr.yandex/r/shop/api:v7", "list"),)
    assert service.seen == [("/in-use?key=hunter2", sent)]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_retries_a_temporary_failure(service, status):
    service.answers = [(status, {}, b""), (200, {}, LINES)]
    assert len(read(source(service), QUICK).uses) == 1
    assert len(service.seen) == 2


@pytest.mark.parametrize(
    ("status", "headers", "body", "message"),
    [
        pytest.param(401, {}, b"", "the service does not accept the token: 401", id="no such token"),
        pytest.param(403, {}, b"", "the service does not allow this token to read it: 403", id="not allowed"),
        pytest.param(404, {}, b"", "the service has no such address: 404", id="not there"),
        pytest.param(429, {}, b"", "the service asks for fewer requests: 429", id="throttled for too long"),
        pytest.param(503, {}, b"", "the service fails: 503", id="ill for too long"),
        pytest.param(204, {}, b"", "the service returns no document: 204", id="no content"),
        pytest.param(
            302,
            {"Location": "http://127.0.0.1:9/in-use"},
            b"",
            "answers 302: redirects are not followed; write the final address",
            id="elsewhere",
        ),
        pytest.param(200, {}, b"", "the answer is empty", id="empty"),
        pytest.param(
            200,
            {},
            b"<html>Sign in</html>",
            'the answer line 1: does not say when it was written: expected "# as_of: 2026-11-23T03:00:00Z"',
            id="a page to sign in at",
        ),
    ],
)
def test_reports_why_a_source_gives_no_evidence(service, status, headers, body, message):
    service.answers = [(status, headers, body)]
    assert failure(source(service)) == f"evidence list: 127.0.0.1:{port(service)}: {message}; {REMEDY}"


def test_refuses_a_response_that_was_cut(service):
    service.length = len(LINES) + 10
    assert "the response from 127.0.0.1" in failure(source(service))
    assert len(service.seen) == QUICK.attempts


def test_gives_up_on_a_response_that_never_ends(service):
    service.endless, service.length = True, 10**9
    assert "the response was not complete in time" in failure(source(service))


def test_fails_without_a_service(service):
    service.released.set()
    service.server.shutdown()
    service.server.server_close()
    assert "no connection to 127.0.0.1" in failure(source(service))


def test_fails_if_the_token_cannot_be_read_or_sent(service):
    unset = EvidenceSettings(name="list", kind="http", max_age=timedelta(1), url=service.url, token=secret_of({}))
    assert "environment variable TOKEN is not set" in failure(unset)
    assert "has characters that an HTTP header must not have" in failure(source(service, "a\nb"))
    assert service.seen == []


def failure(settings: EvidenceSettings) -> str:
    with pytest.raises(EvidenceError) as raised:
        read(settings, QUICK)
    text = str(raised.value)
    assert not {"\n", TOKEN, "hunter2"} & {part for part in ("\n", TOKEN, "hunter2") if part in text}
    return text


def port(service: Service) -> int:
    return int(service.server.server_address[1])
