"""The pages and the trigger API as an ASGI application. A GET changes nothing and reveals no secret."""

from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from typing import Any

from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker import __version__
from worker.logs import Log
from worker.store import StoreError
from worker.web.api import CHANGES, Publish, endpoint_of, publish_task_calls
from worker.web.current import Configuration, OpenStore
from worker.web.health import health
from worker.web.metrics import StoreCollector

log = Log(__name__)

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
PAGE = """<!doctype html>
<html lang="en">
<title>registry-gc</title>
<h1>registry-gc {version}</h1>
<ul>
<li><a href="/metrics">/metrics</a>: planned and deleted images and reclaimed bytes, for Prometheus
<li><a href="/healthz">/healthz</a>: the state of the store, Redis, beat and the configuration
</ul>
<p>Registries: {registries}</p>
</html>
"""


def build(
    store: OpenStore, configuration: Callable[[], Configuration], publish: Publish = publish_task_calls
) -> ASGIApp:
    app = Starlette(
        routes=routes(store, configuration, publish), middleware=[Middleware(GZipMiddleware, compresslevel=4)]
    )
    app.router.redirect_slashes = False  # one address per resource, and no redirect that forwards a token
    return _Headers(app)


def routes(store: OpenStore, configuration: Callable[[], Configuration], publish: Publish) -> list[Route]:
    """Every address: GET routes read, POST routes change."""
    collector = StoreCollector(store, lambda: configuration().settings)

    def metrics(request: Request) -> Response:
        """The metrics, in the format that the header Accept selects. Status 500 if the store cannot be read: the scrape
        fails, and no old number is served.
        """
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        try:
            return Response(encode(collector), headers={"Content-Type": content_type})
        except StoreError as error:
            log.warning("store_unavailable", reason=str(error))
            return PlainTextResponse("the store cannot be read; the log says why\n", status_code=500)

    def healthz(_request: Request) -> Response:
        checks = health(store, configuration(), datetime.now(UTC))
        healthy = all(check.healthy for check in checks.values())
        document: dict[str, Any] = {"status": "ok" if healthy else "ill"}
        for name, check in checks.items():
            age = {} if check.age_seconds is None else {"age_seconds": round(check.age_seconds, 3)}
            document[name] = {"status": "ok" if check.healthy else "ill", "detail": check.detail, **age}
        return JSONResponse(document, status_code=200 if healthy else 503)

    def page(_request: Request) -> Response:
        names = ", ".join(configuration().settings.registries) or "none"
        return HTMLResponse(PAGE.format(version=__version__, registries=escape(names)))

    pages = [Route("/", page), Route("/metrics", metrics), Route("/healthz", healthz)]
    endpoints = {route.path: endpoint_of(route, store, configuration, publish) for route in CHANGES}
    return pages + [Route(path, endpoint, methods=["POST"]) for path, endpoint in endpoints.items()]


class _Headers:
    """Adds HEADERS to every response, those of the router's errors and of crashes included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)
