"""Helpers of registry tests: settings for a simulator, a client with short time-outs, a server of any response."""

import contextlib
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from policies.image import Image
from policies.limits import Limits
from policies.rules import Policy
from tests.support.simulator.client import Simulator
from worker.config.settings import Credentials, Endpoints, Network, Rate, RegistrySettings, Secret
from worker.registries.http.messages import Request, Response, Retries
from worker.registries.interface import Deletion
from worker.registries.yandex.container_registry import YandexContainerRegistry as Driver

__all__ = [
    "QUICK",
    "Driver",
    "answering",
    "body",
    "deleted",
    "get",
    "image_of",
    "key",
    "settings_for",
    "soon",
    "with_defaults",
]

QUICK = Retries(attempts=5, total=20.0, first_wait=0.01, longest_wait=0.02, jitter=0.01)


def settings_for(simulator: Simulator, token: Path, **changes: Any) -> RegistrySettings:
    """A registry of the simulator, signed in with the IAM token of a file unless `changes` say otherwise."""
    given: dict[str, Any] = {
        "id": simulator.registry_id,
        "credentials": Credentials(iam_token=Secret(file=token)),
        "endpoints": Endpoints(**simulator.endpoints(), metadata=simulator.url),
    }
    return with_defaults(**{**given, **changes})


def with_defaults(**changes: Any) -> RegistrySettings:
    """Settings with defaults for the keys that these tests do not need."""
    given: dict[str, Any] = {
        "name": "production",
        "kind": "yandex-container-registry",
        "policy": Policy("nightly", ()),
        "limits": Limits(),
        "rate": Rate.model_construct(requests_per_second=2000.0, concurrency=16),
    }
    network = changes.pop("network", Network())
    return RegistrySettings(**{**given, **dict(network), **changes})


def image_of(driver: Driver, repository: str, image_id: str) -> Image:
    """The image as the listing shows it."""
    return next(image for image in driver.images(repository) if image.id == image_id)


def key() -> str:
    """A fresh idempotency key."""
    return str(uuid.uuid4())


def get(url: str, **more: object) -> Request:
    return Request(method="GET", url=url, about="something", repeatable=True, **more)  # type: ignore[arg-type]  # as named


def body(response: Response) -> bytes:
    return response.body


def soon(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


def deleted(driver: Driver, image: Image, seconds: float = 10.0) -> Deletion:
    """The finished deletion, whether `delete` or `follow` reports its end."""
    return driver.follow(driver.delete("shop/api", image, key()), soon(seconds))


@contextlib.contextmanager
def answering(response: bytes | Callable[[socket.socket, bytes], None]) -> Iterator[str]:
    """The URL of a server that sends these bytes (or the function's) on every connection and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:  # closed: the test is over
                    return
                threading.Thread(target=serve_connection, args=[connection], daemon=True).start()

        def serve_connection(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                request = connection.recv(65_536)
                if callable(response):
                    response(connection, request)
                else:
                    connection.sendall(response)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
