"""Debian's `docker-registry` 2.8 as tests start it: own configuration, own folder, a free port on loopback."""

import contextlib
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import yaml

from tests.support.servers import end, free_port
from tests.support.waiting import until

PROGRAMS = {
    "docker-registry": "docker-registry",
    "skopeo": "skopeo",
    "htpasswd": "apache2-utils",
    "pgbouncer": "pgbouncer",
}
"""Program -> the Debian package that has it."""


def program(name: str) -> str:
    """The program's path. Without it the test is skipped; where CI is set it fails, as CI has to run these tests."""
    if path := shutil.which(name):
        return path
    missing = f"{name} is not installed: Debian's package {PROGRAMS[name]} has it (`make services` as root installs it)"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


@dataclass(frozen=True, slots=True)
class HtpasswdAuth:
    """Basic sign-in of one user."""

    user: str
    password: str


@dataclass(frozen=True, slots=True)
class BearerAuth:
    """Bearer sign-in: where tokens come from, and the certificates that prove them. See `tokens.py`."""

    realm: str  # URL
    service: str
    issuer: str
    bundle: Path  # PEM; read when the registry starts


class DockerRegistry:
    """One serving process. Several may share a `root`: one plain, one read-only, one with a cache, say.

    `cache`: the inmemory cache of blob descriptors, which Debian's own configuration has. `url`: without a final slash.
    """

    def __init__(
        self,
        *,
        root: Path | None = None,
        cache: bool = False,
        delete: bool = True,
        readonly: bool = False,
        auth: HtpasswdAuth | BearerAuth | None = None,
    ) -> None:
        self._program = program("docker-registry")
        self.folder = Path(tempfile.mkdtemp(prefix="registry-gc-docker-registry-"))
        self.root = root or self.folder / "data"
        self.port = free_port()
        self._options = {"cache": cache, "delete": delete, "readonly": readonly}
        self._auth = auth
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        for attempt in range(3):
            try:
                return self.start()
            except RuntimeError:
                if attempt == 2:
                    self.forget()
                    raise
                self.port = free_port()  # somebody took the one we had chosen
        raise AssertionError("never here")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        said = [line for line in self.log().splitlines() if "http.response.status=404" not in line]
        sys.stderr.write("\n".join([f"--- log of {self.host}", *said[-20:], ""]))  # pytest shows it where a test fails
        self.forget()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def cached(self) -> bool:
        return self._options["cache"]

    @property
    def config(self) -> Path:
        return self.folder / "config.yml"

    def log(self) -> str:
        file = self.folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def start(self) -> Self:
        """Serve, with the configuration written anew; RuntimeError with the log's end if it does not come up."""
        self.config.write_text(yaml.safe_dump(self._document()))
        with (self.folder / "log").open("ab") as log:
            process = self._process = subprocess.Popen(
                [self._program, "serve", str(self.config)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(lambda: process.poll() is not None or self.answers(), timeout=20, what=f"docker-registry at {self.host}")
        if process.poll() is not None:
            raise RuntimeError(f"docker-registry did not start: {self.log()[-1000:]}")
        return self

    def answers(self) -> bool:
        """Whether it answers, be it with 401."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", "/v2/")
            answer = connection.getresponse()
            return answer.getheader("Docker-Distribution-Api-Version") == "registry/2.0"
        return False

    def stop(self) -> None:
        """End the process; the storage stays until the block ends."""
        process, self._process = self._process, None
        if process is not None:
            end(process)

    def restart(self, **options: bool) -> None:
        """On the same port and storage, with an empty cache; `options` (`cache`, `delete`, `readonly`) change."""
        self._options |= options
        self.stop()
        self.start()

    def forget(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def collect(self, *, delete_untagged: bool = False) -> subprocess.CompletedProcess[str]:
        """Run its own collector over the storage, next to the serving process. Check its exit code."""
        words = ["garbage-collect", *(["--delete-untagged"] if delete_untagged else []), str(self.config)]
        command = [self._program, *words]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False)

    def data_files(self) -> dict[str, int]:
        """Digest -> bytes of every blob in the storage: configs, layers and manifests of all repositories."""
        blobs = self.root / "docker/registry/v2/blobs/sha256"
        return {f"sha256:{file.parent.name}": file.stat().st_size for file in blobs.glob("*/*/data")}

    def _document(self) -> dict[str, Any]:
        storage: dict[str, Any] = {
            "filesystem": {"rootdirectory": str(self.root)},
            "delete": {"enabled": self._options["delete"]},
            "maintenance": {
                "uploadpurging": {"enabled": False},
                "readonly": {"enabled": self._options["readonly"]},
            },
        }
        if self._options["cache"]:
            storage["cache"] = {"blobdescriptor": "inmemory"}
        return {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": storage,
            "http": {"addr": self.host, "secret": "for tests"},
            **self._sign_in(),
        }

    def _sign_in(self) -> dict[str, Any]:
        match self._auth:
            case None:
                return {}
            case HtpasswdAuth(user, password):
                path = self.folder / "htpasswd"
                path.write_text(bcrypt_line(user, password))
                return {"auth": {"htpasswd": {"realm": "basic-realm", "path": str(path)}}}
            case BearerAuth(realm, service, issuer, bundle):
                bearer = {"realm": realm, "service": service, "issuer": issuer, "rootcertbundle": str(bundle)}
                return {"auth": {"token": bearer}}


def bcrypt_line(user: str, password: str) -> str:
    """A line of an htpasswd file; the registry reads bcrypt only. The least cost: 2 ms a request."""
    command = [program("htpasswd"), "-niB", "-C", "4", user]
    return subprocess.run(command, input=password, capture_output=True, text=True, check=True, timeout=20).stdout
