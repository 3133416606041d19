"""The simulator as tests hold it: a context manager around the process, its controls as methods.

with Simulator() as simulator:
    simulator.push("shop/api", tags=["v1"], layers=["base:29000000", 1000], age=timedelta(days=10))
    ...
    assert simulator.state()["refused"] == []

The same images are Cloud Registry's artifacts: `cloud_client.py` says how to use it.
"""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

from tests.support.servers import end
from tests.support.simulator.cloud_client import CloudControls

ROOT = Path(__file__).resolve().parents[3]
QUICK = {"operation_seconds_from": 0.0, "operation_seconds_to": 0.05}
AUDIENCE = "https://iam.api.cloud.yandex.net/iam/v1/tokens"


class SimulatorError(Exception):
    """The control plane refused, or the process did not start."""


class Simulator(CloudControls):
    """One running simulator. Operations take 0 to 0.05 s here unless switches say otherwise."""

    def __init__(self, *, fill: str = "empty", port: int = 0, seed: int = 1, **switches: Any) -> None:
        self._words = ["--with-parent", "--fill", fill, "--port", str(port), "--seed", str(seed)]
        for name, value in {**QUICK, **switches}.items():
            self._words += ["--switch", f"{name}={value}"]
        self._process: subprocess.Popen[str] | None = None
        self.url = ""  # "http://127.0.0.1:PORT": the root of every service
        self.registry_id = ""
        self.folder_id = ""
        self.token = ""  # an IAM token that is good until `expire_tokens`, and again after `reset`

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> Self:
        """Starts the process and returns when it answers."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.simulator", *self._words],
            cwd=ROOT,
            stdin=subprocess.PIPE,  # held open: when this process dies, so does the simulator
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("listening "):
            self.stop()
            raise SimulatorError(f"the simulator did not start: {line!r}")
        self.url = line.split()[1]
        about = self.control("about")
        self.registry_id, self.folder_id, self.token = about["registry_id"], about["folder_id"], about["token"]
        return self

    def stop(self) -> None:
        """Ends the process; its connections are refused from then on."""
        process, self._process = self._process, None
        if process is None:
            return
        end(process)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def control(self, command: str, **arguments: Any) -> Any:
        """Any command of the control plane (`control.py` lists them)."""
        body = json.dumps({key: value for key, value in arguments.items() if value is not None}).encode()
        request = urllib.request.Request(f"{self.url}/_control/{command}", data=body, method="POST")  # noqa: S310 - loopback, our own process
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - the same
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise SimulatorError(f"{command}: {error.read().decode()}") from error

    def endpoints(self) -> dict[str, str]:
        """For the `endpoints` of a registry of the kind `yandex-container-registry`: every service is here."""
        return dict.fromkeys(("container_registry", "operation", "iam", "sts", "docker"), self.url)

    # Contents and requests

    def state(self, registry: str | None = None) -> dict[str, Any]:
        """images_by_repository, registry_bytes, lost_bytes, deleted, deletes, requests, refused and more."""
        state: dict[str, Any] = self.control("state", registry=registry)
        return state

    def images(self, repository: str | None = None, registry: str | None = None) -> list[dict[str, Any]]:
        """Every image alive: id, repository, digest, tags, created_at, children, size, blobs."""
        images: list[dict[str, Any]] = self.control("images", repository=repository, registry=registry)
        return images

    def requests(
        self, method: str | None = None, path: str | None = None, since: int | None = None
    ) -> list[dict[str, Any]]:
        """The log of requests (at, method, path, query, key, image, status, faults), oldest first."""
        requests: list[dict[str, Any]] = self.control("requests", method=method, path=path, since=since)
        return requests

    def deleted_ids(self) -> set[str]:
        return {image["id"] for image in self.state()["deleted"]}

    # Pushing and taking away

    def push(
        self,
        repository: str,
        *,
        tags: Sequence[str] = (),
        layers: Iterable[int | str] = (1_000,),
        config: int | str = 500,
        age: timedelta | float | None = None,
        created_at: datetime | None = None,
        content: str | None = None,
        registry: str | None = None,
        type: str | None = None,
        subject: str | None = None,
    ) -> dict[str, Any]:
        """Pushes an image. A layer is a size (a blob of its own) or "name:size" (shared by all that name it).

        `content` fixes what makes it unique: the same content, layers and config again are the same digest.
        """
        pushed: dict[str, Any] = self.control(
            "push",
            repository=repository,
            tags=list(tags),
            layers=list(layers),
            config=config,
            age=_seconds(age),
            created_at=_text(created_at),
            content=content,
            registry=registry,
            type=type,
            subject=subject,
        )
        return pushed

    def push_index(
        self,
        repository: str,
        children: Iterable[str],
        *,
        tags: Sequence[str] = (),
        age: timedelta | float | None = None,
        created_at: datetime | None = None,
        note: str | None = None,
        registry: str | None = None,
        type: str | None = None,
    ) -> dict[str, Any]:
        """Pushes an index over children (digests or ids) of the same repository."""
        pushed: dict[str, Any] = self.control(
            "push_index",
            repository=repository,
            children=list(children),
            tags=list(tags),
            age=_seconds(age),
            created_at=_text(created_at),
            note=note,
            registry=registry,
            type=type,
        )
        return pushed

    def sign(
        self, repository: str, digest: str, *, suffix: str = "sig", age: timedelta | float | None = None
    ) -> dict[str, Any]:
        """Pushes cosign's signature of a digest."""
        pushed: dict[str, Any] = self.control(
            "sign", repository=repository, digest=digest, suffix=suffix, age=_seconds(age)
        )
        return pushed

    def tag(self, repository: str, reference: str, tag: str) -> dict[str, Any]:
        """Gives a tag to an image (by tag or digest); another image of the repository loses it."""
        image: dict[str, Any] = self.control("tag", repository=repository, reference=reference, tag=tag)
        return image

    def untag(self, repository: str, tag: str) -> None:
        self.control("untag", repository=repository, tag=tag)

    def remove(self, image_id: str) -> dict[str, Any]:
        """Somebody else deletes an image."""
        image: dict[str, Any] = self.control("remove", image=image_id)
        return image

    def add_registry(self, registry_id: str, name: str = "other") -> None:
        self.control("add_registry", id=registry_id, name=name)

    def fill(self, what: str = "demo", *, now: datetime | None = None, seed: int = 1) -> dict[str, int]:
        counts: dict[str, int] = self.control("fill", what=what, now=_text(now), seed=seed)
        return counts

    def push_more(self, count: int = 100, *, seed: int = 2) -> dict[str, int]:
        counts: dict[str, int] = self.control("push_more", count=count, seed=seed)
        return counts

    # How it behaves

    def switch(self, **positions: Any) -> dict[str, Any]:
        """Turns switches (`switches.py`); the answer is all of them."""
        switches: dict[str, Any] = self.control("switch", **positions)
        return switches

    def fault(
        self, kind: str, *, method: str = "", path: str = "", times: int | None = None, after: int = 0, **more: Any
    ) -> None:
        """Adds a fault (`faults.py`) for the next `times` requests, or all, in whose "path?query" `path` is found.

        `path` is an expression for `re.search`; the first `after` such requests pass; `more` goes to the kind of fault.
        """
        self.control("fault", kind=kind, method=method, path=path, times=times, after=after, **more)

    def no_faults(self) -> None:
        self.control("no_faults")

    def before(
        self, method: str, path: str, command: str, *, times: int | None = 1, after: int = 0, **arguments: Any
    ) -> None:
        """Runs a command of the control plane right before such a request is worked on; `"{image}"` is its image."""
        commands = [{"command": command, **arguments}]
        self.fault("do", method=method, path=path, times=times, after=after, when="before", commands=commands)

    def after(
        self, method: str, path: str, command: str, *, times: int | None = 1, after: int = 0, **arguments: Any
    ) -> None:
        """The same right after the work, before the answer."""
        commands = [{"command": command, **arguments}]
        self.fault("do", method=method, path=path, times=times, after=after, when="after", commands=commands)

    def clock(self, forward: timedelta | float = 0) -> datetime:
        """Moves the registry's clock; says what it shows."""
        return datetime.fromisoformat(self.control("clock", forward=_seconds(forward))["now"])

    def reset(self) -> None:
        """As at the start: nothing there, switches as given, no faults. Tokens stay good."""
        self.control("reset")

    # Signing in

    def service_account_key(
        self, key_id: str = "aje7k2m9q4s1d8f3g5h0", account: str = "aje334oo634h1rdhiiku"
    ) -> dict[str, str]:
        """A new key pair that this simulator knows, as the vendor's tool writes it to a file."""
        from cryptography.hazmat.primitives import serialization as formats  # noqa: PLC0415 - few tests want it, and it is slow to import
        from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - the same

        private = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        private_text = private.private_bytes(
            formats.Encoding.PEM, formats.PrivateFormat.PKCS8, formats.NoEncryption()
        ).decode()
        public_text = (
            private.public_key().public_bytes(formats.Encoding.PEM, formats.PublicFormat.SubjectPublicKeyInfo).decode()
        )
        self.control("key", id=key_id, service_account_id=account, public_key=public_text)
        return {
            "id": key_id,
            "service_account_id": account,
            "created_at": "2026-01-15T10:04:56Z",
            "key_algorithm": "RSA_2048",
            "public_key": public_text,
            "private_key": private_text,
        }

    def forget_key(self, key_id: str = "aje7k2m9q4s1d8f3g5h0") -> None:
        self.control("key", id=key_id)

    def link_subject(self, token: str, account: str = "aje334oo634h1rdhiiku") -> str:
        """Let a pod's token be exchanged for one of this service account; the account's id."""
        self.control("subject", token=token, service_account_id=account)
        return account

    def new_token(self) -> str:
        """Another valid IAM token."""
        return str(self.control("token")["token"])

    def tokens(self) -> list[str]:
        """Every token that was handed out, of IAM and of Docker."""
        tokens: dict[str, list[str]] = self.control("tokens")
        return tokens["iam"] + tokens["docker"]

    def expire_tokens(self) -> None:
        """Every token handed out so far is answered 401 from now on."""
        self.control("expire_tokens")


def _seconds(span: timedelta | float | None) -> float | None:
    return span.total_seconds() if isinstance(span, timedelta) else span


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
