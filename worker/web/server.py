"""Binds the address of the configuration and serves the pages in this process until it is told to stop."""

import os
import socket
import sys

import uvicorn

from worker.config.settings import Settings
from worker.web.app import build
from worker.web.connections import ConnectionLimits, Connections
from worker.web.door import ConfigurationDoor, StoreDoor

STOP_SECONDS = 5  # for answers under way
LIMITS = ConnectionLimits()


class ListenError(Exception):
    """The configured address cannot be bound."""

    exit_code = 1


def serve(settings: Settings, limits: ConnectionLimits = LIMITS) -> None:
    """Serve /metrics and /healthz until SIGTERM or SIGINT; prints one line with the address, the real port in it.

    The configuration is read again when its file changes, its `web` aside. Everything is opened in the calling process.
    Raises ListenError.
    """
    configuration = ConfigurationDoor(settings)
    connections = Connections(limits)
    app = connections.guarding(build(StoreDoor(lambda: configuration().settings.store), configuration))
    with bind(*settings.web.listen) as listener:
        host, port = listener.getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        sys.stderr.write(f"web: http://{address}/metrics\n")  # the one line for people
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
        # A number below 0: a name that was not found.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise ListenError(f"web.listen: {host}:{port} cannot be bound: {reason}") from error
