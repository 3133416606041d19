"""The simulator, which is both of the vendor's registries."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from tests.registries.interface.server import Calls, Pushed, Server, State
from tests.support.drivers import with_defaults
from tests.support.http_fault_proxy import HttpFaultProxy, ProxyResponse, garbled
from tests.support.simulator.client import Simulator
from tests.support.simulator.registry import OCI_INDEX, OCI_MANIFEST
from worker.config.settings import Credentials, Endpoints, RegistrySettings, Secret
from worker.registries.interface import Manifest

CODES = {403: 7, 429: 8}
CONFIG = 500  # bytes
NO_UNDO = "the kind cannot restore images"
ALL_LISTED = "the listing has untagged images as well"
WHOLE = "an image is deleted by one request"
SUBJECTS = "`subject` is only in manifests; those of untagged images that a rule selects are read for a plan"
NO_UNDO_CASES = (
    "saves_a_manifest_byte_for_byte",
    "restores_a_deleted_image",
    "resolves_a_tag",
    "names_the_missing_blobs",
    "refuses_a_manifest_without_its_blobs",
)


class Simulated(Server):
    """One process for both services; the subclasses choose the service."""

    services: ClassVar[tuple[str, ...]]

    @contextmanager
    def running(self, folder: Path) -> Iterator[None]:
        with Simulator(operation_seconds_to=0.0) as self.simulator, HttpFaultProxy(self.simulator.url) as self.proxy:
            self.folder = folder
            self.token = folder / "token"
            self.token.write_text(self.simulator.token)
            self.secrets = (self.simulator.token,)
            yield

    def empty(self) -> None:
        self.simulator.reset()

    def settings(self, url: str) -> RegistrySettings:
        return with_defaults(
            kind=self.kind,
            id=self.simulator.registry_id,
            credentials=Credentials(iam_token=Secret(file=self.token)),
            endpoints=Endpoints(**dict.fromkeys(self.services, url)),
        )

    def push(self, repository: str, *tags: str, layers: Sequence[str] = ("own",), subject: str | None = None) -> Pushed:
        sizes = [CONFIG + 1 + len(layer) for layer in layers]
        named = [f"{layer}:{size}" for layer, size in zip(layers, sizes, strict=True)]
        pushed = self.simulator.push(
            repository, tags=tags, layers=named, config=CONFIG, subject=subject, content=f"{layers} {subject}"
        )
        blobs = sorted(pushed["blobs"].items(), key=lambda blob: [CONFIG, *sizes].index(blob[1]))
        return self._pushed(pushed, OCI_MANIFEST, blobs=dict(blobs), subject=subject)

    def push_index(self, repository: str, children: Sequence[str], *tags: str) -> Pushed:
        pushed = self.simulator.push_index(repository, children, tags=tags)
        return self._pushed(pushed, OCI_INDEX, children=tuple(children))

    @staticmethod
    def _pushed(image: Mapping[str, Any], media_type: str, **more: Any) -> Pushed:
        return Pushed(
            repository=image["repository"],
            digest=image["digest"],
            media_type=media_type,
            tags=tuple(image["tags"]),
            **more,
        )

    def tag(self, repository: str, digest: str, tag: str) -> None:
        self.simulator.tag(repository, digest, tag)

    def untag(self, repository: str, tag: str) -> None:
        self.simulator.untag(repository, tag)

    def remove(self, repository: str, digest: str) -> None:
        image = next(image for image in self.simulator.images(repository) if image["digest"] == digest)
        self.simulator.remove(image["id"])

    def fill(self, repository: str, count: int) -> Mapping[str, Manifest]:
        pushes = [{"repository": repository, "tags": [f"v{number}"]} for number in range(count)]
        file = self.folder / "fill.json"
        file.write_text(json.dumps(pushes))
        self.simulator.fill(str(file))
        return {}

    def state(self) -> State:
        state: State = {}
        for image in self.simulator.images():
            state.setdefault(image["repository"], {})[image["digest"]] = frozenset(image["tags"])
        return state

    def refused(self) -> Sequence[str]:
        return [str(item) for item in self.simulator.state()["refused"]]

    def refusal(self, status: int, words: str) -> ProxyResponse:
        body = json.dumps({"code": CODES[status], "message": words}).encode()
        return ProxyResponse(status, body, (("Content-Type", "application/json"),))


class ContainerRegistry(Simulated):
    name = kind = "yandex-container-registry"
    services = ("container_registry", "operation", "iam", "sts", "docker")
    calls = Calls(
        repositories=r"^GET /container-registry/v1/repositories",
        images=r"^GET /container-registry/v1/images\?",
        image=r"^GET /container-registry/v1/images/",
        manifest="^GET /v2/.*/manifests/{digest}",
    )
    cannot: ClassVar[Mapping[str, str]] = {
        "finds_a_child_that_no_listing_shows": ALL_LISTED,
        "reports_the_subject_of_an_image": SUBJECTS,
        "deletes_a_child_without_its_index": "the registry refuses it: an index needs the child",
        "continues_a_deletion_that_was_interrupted": WHOLE,
        **dict.fromkeys(NO_UNDO_CASES, NO_UNDO),
    }

    def protect_children(self) -> None:
        """It always does."""


class CloudRegistry(Simulated):
    name = kind = "yandex-cloud-registry"
    names_may_be_no_tags = True
    services = ("cloud_registry", "operation", "iam", "sts", "docker")
    calls = Calls(
        repositories=r"^GET /cloud-registry/v1/artifacts\?",
        images=r"^GET /cloud-registry/v1/registries/[^?]*:listArtifacts",
        image=r"^GET /cloud-registry/v1/registries/[^?]*:listArtifacts",
        manifest="^(GET|HEAD) /v2/.*/manifests/{digest}",
    )
    cannot: ClassVar[Mapping[str, str]] = {
        "reports_the_subject_of_an_image": SUBJECTS,
        **dict.fromkeys(NO_UNDO_CASES, NO_UNDO),
    }

    def hide_children(self) -> None:
        self.simulator.switch(child_artifacts="not_listed")

    def protect_children(self) -> None:
        self.simulator.switch(deleted_child="refused")

    def unreadable(self, repository: str) -> Pushed:
        """The artifact of an index names its children: only a child without an artifact has to be read."""
        self.hide_children()
        child = self.push(repository, layers=["unreadable"])
        self.push_index(repository, [child.digest], "index")
        self.proxy.on(self.calls.manifest.format(digest=child.digest), garbled)
        return child
