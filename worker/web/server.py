"""Binds the configured address and serves the pages in this process until a signal stops it."""

import os
import socket
import sys

import uvicorn

from worker.config.settings import Settings
from worker.web.app import build
from worker.web.connections import ConnectionLimits, Connections
from worker.web.current import CurrentConfiguration, StoreOpener

STOP_SECONDS = 5  # for responses in progress
LIMITS = ConnectionLimits()


class ListenError(Exception):
    """The configured address cannot be bound."""

    exit_code = 1


def serve(settings: Settings, limits: ConnectionLimits = LIMITS) -> None:
    """Serve the pages until SIGTERM or SIGINT; print one line with the address and the bound port.

    The configuration is read again when its file changes; a change of `web.listen` needs a restart. Raises ListenError.
    """
    configuration = CurrentConfiguration(settings)
    connections = Connections(limits)
    app = connections.guarding(build(StoreOpener(lambda: configuration().settings.store), configuration))
    with bind(*settings.web.listen) as listener:
        host, port = listener.getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        sys.stderr.write(f"web: http://{address}/metrics\n")
        sys.stderr.flush()
        config = uvicorn.Config(
            app,
            http=connections.protocol(),
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            limit_concurrency=limits.requests,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        uvicorn.Server(config).run(sockets=[listener])


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ListenError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        # socket.gaierror has a negative number, which os.strerror does not know.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise ListenError(f"web.listen: {host}:{port} cannot be bound: {reason}") from error
