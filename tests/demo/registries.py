"""The registries of the demo, one a kind: filled, configured, pushed to, and asked how many bytes they freed."""

import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from tests.support.oci.pusher import Pusher
from tests.support.oci.server import DockerRegistry
from tests.support.simulator.client import Simulator

SIMULATED = ("yandex-container-registry", "yandex-cloud-registry")
KINDS = (*SIMULATED, "oci")


class Stage(Protocol):
    """A registry that a demo runs on."""

    @property
    def title(self) -> str:
        """The description of the registry: kind, address and contents."""

    def settings(self, folder: Path) -> dict[str, Any]:
        """The keys of its entry in the configuration that say which registry it is, and how to sign in."""

    def push_more(self) -> None:
        """Push the images of a busy day; some are as old as the policy requires."""

    def lost_bytes(self) -> tuple[int, str]:
        """Bytes of configs and layers that the registry has lost, and how this was measured."""

    def troubles(self) -> list[str]:
        """Requests that no client should send."""


class Simulated:
    """One of the vendor's services, simulated over HTTP."""

    def __init__(self, simulator: Simulator, kind: str) -> None:
        self._simulator = simulator
        self._kind = kind

    @property
    def title(self) -> str:
        images = self._simulator.state()["images_by_repository"]
        return f"simulator  {self._simulator.url}: {sum(images.values())} images in {len(images)} repositories"

    def settings(self, folder: Path) -> dict[str, Any]:
        token = folder / "iam-token"
        token.write_text(self._simulator.token)
        token.chmod(0o600)
        cloud = self._kind == "yandex-cloud-registry"
        return {
            "kind": self._kind,
            "id": self._simulator.registry_id,
            "credentials": {"iam_token": {"file": str(token)}},
            "endpoints": self._simulator.cloud_endpoints() if cloud else self._simulator.endpoints(),
        }

    def push_more(self) -> None:
        self._simulator.push_more(120)

    def lost_bytes(self) -> tuple[int, str]:
        return self._simulator.state()["lost_bytes"], "bytes freed in the registry"

    def troubles(self) -> list[str]:
        return [str(entry) for entry in self._simulator.state()["refused"]]


class Real:
    """Debian's docker-registry; its own collector frees the blobs on the disk."""

    def __init__(self, server: DockerRegistry) -> None:
        self._server = server
        self._random = random.Random(1)
        self._manifests: set[str] = set()
        self._images = 0
        self._shared = {path: self._blob(40_000) for path in ("shop/api", "shop/web", "ml/trainer", "base/python")}
        self._before: dict[str, int] = {}
        self._lost = 0
        pusher = Pusher(server.url)
        for path in self._shared:
            self._fill(pusher, path)
        self._before = server.data_files()

    @property
    def title(self) -> str:
        where = f"docker-registry  {self._server.url}"
        return f"{where}: {self._images} images and indexes in {len(self._shared)} repositories"

    def settings(self, folder: Path) -> dict[str, Any]:
        return {"kind": "oci", "url": self._server.url, "credentials": {"anonymous": True}, "push_time": "image"}

    def push_more(self) -> None:
        pusher = Pusher(self._server.url)
        for number in range(60):
            path = self._random.choice(list(self._shared))
            self._image(pusher, path, f"pr-{2000 + number}", days=self._random.randrange(1, 60))
        self._before |= self._server.data_files()

    def lost_bytes(self) -> tuple[int, str]:
        """Run the registry's collector; the files of manifests do not count as lost bytes."""
        self._server.collect().check_returncode()
        after = self._server.data_files()
        gone = {digest: size for digest, size in self._before.items() if digest not in after}
        self._before = after
        self._lost += sum(size for digest, size in gone.items() if digest not in self._manifests)
        return self._lost, "bytes gone from its disk"

    def troubles(self) -> list[str]:
        return []

    def _blob(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def _fill(self, pusher: Pusher, path: str) -> None:
        for number in range(12):
            self._index(pusher, path, f"v1.{number}.0", days=20 * (12 - number))
        for number in range(24):
            self._image(pusher, path, f"pr-{number}", days=self._random.randrange(1, 90))
        self._image(pusher, path, "latest", days=0)

    def _image(self, pusher: Pusher, path: str, *tags: str, days: float, architecture: str = "amd64") -> Any:
        created = datetime.now(UTC) - timedelta(days=days)
        layers = [self._shared[path], self._blob(self._random.randrange(1_000, 30_000))]
        text = f"{created:%Y-%m-%dT%H:%M:%SZ}"
        pushed = pusher.image(path, *tags, layers=layers, created=text, platform=("linux", architecture))
        return self._count(pushed)

    def _index(self, pusher: Pusher, path: str, tag: str, *, days: float) -> None:
        children = [self._image(pusher, path, days=days, architecture=entry) for entry in ("amd64", "arm64")]
        index = self._count(pusher.index(path, tag, children=children))
        if self._random.random() < 0.5:
            self._count(pusher.sign(index, payload=self._blob(200)))

    def _count(self, pushed: Any) -> Any:
        self._manifests.add(pushed.digest)
        self._images += 1
        return pushed


@contextmanager
def stage(kind: str) -> Iterator[Stage]:
    """A registry of this kind, filled and serving until the block ends."""
    if kind in SIMULATED:
        with Simulator(fill="demo") as simulator:
            yield Simulated(simulator, kind)
    elif kind != "oci":
        sys.exit(f"KIND is one of {', '.join(KINDS)}, got {kind!r}")
    elif shutil.which("docker-registry") is None:
        sys.exit("docker-registry is not installed: Debian's package of that name has it (`make services` as root)")
    else:
        with DockerRegistry() as server:
            yield Real(server)
