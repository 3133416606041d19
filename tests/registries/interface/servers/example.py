"""The example of docs/adding-a-registry.md: the driver of the page, on its small server."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from tests.registries.interface.server import Calls, Pushed, Server, State
from tests.support.drivers import with_defaults
from tests.support.example_registry import load
from tests.support.example_registry.server import PAGE, ROOT, ExampleServer, digest_of
from tests.support.http_fault_proxy import HttpFaultProxy, ProxyResponse
from worker.config.kinds import Kind
from worker.config.settings import Credentials, RegistrySettings, Secret
from worker.registries import DRIVERS
from worker.registries.interface import Manifest

USER, PASSWORD = "anna", "not-to-be-shown-anywhere"


class Example(Server):
    name = kind = "example"
    page = PAGE
    secrets = (PASSWORD,)
    calls = Calls(
        repositories=f"^GET {ROOT}/repositories",
        images=rf"^GET {ROOT}/images\?",
        image=f"^GET {ROOT}/images/",
        manifest="^never",
    )
    cannot: ClassVar[Mapping[str, str]] = {
        "reports_children_as_unknown_if_a_manifest_is_unreadable": "no manifest is read: the listing has all facts",
        "finds_a_child_that_no_listing_shows": "the listing has untagged images as well",
        "finds_an_untagged_image_by_its_digest": "the listing has untagged images as well",
        "deletes_a_child_without_its_index": "the registry refuses it: an index needs the child",
        "continues_a_deletion_that_was_interrupted": "an image is deleted by one request",
        **dict.fromkeys(
            (
                "saves_a_manifest_byte_for_byte",
                "restores_a_deleted_image",
                "resolves_a_tag",
                "names_the_missing_blobs",
                "refuses_a_manifest_without_its_blobs",
            ),
            "the kind cannot restore images",
        ),
    }

    @contextmanager
    def running(self, folder: Path) -> Iterator[None]:
        self.password = folder / "password"
        self.password.write_text(PASSWORD)
        with ExampleServer(USER, PASSWORD) as self.backend, HttpFaultProxy(self.backend.url) as self.proxy:
            DRIVERS[self.kind] = load("worker/registries/example.py").open_driver
            try:
                yield
            finally:
                del DRIVERS[self.kind]

    @property
    def tells(self) -> Kind:
        return row()

    def empty(self) -> None:
        self.backend.repositories.clear()

    def settings(self, url: str) -> RegistrySettings:
        credentials = Credentials(username=USER, password=Secret(file=self.password))
        return with_defaults(kind=self.kind, url=url, credentials=credentials)

    def push(self, repository: str, *tags: str, layers: Sequence[str] = ("own",), subject: str | None = None) -> Pushed:
        held = [blob(layer) for layer in layers]
        config = blob(f"config of {layers}")
        more: dict[str, Any] = {"subject": subject} if subject else {}
        row = self.backend.push(repository, tags, config=config, layers=held, **more)
        return Pushed(
            repository=repository,
            digest=row["digest"],
            media_type=row["mediaType"],
            tags=tags,
            blobs={item["digest"]: item["size"] for item in (config, *held)},
            subject=subject,
        )

    def push_index(self, repository: str, children: Sequence[str], *tags: str) -> Pushed:
        row = self.backend.push(repository, tags, children=list(children))
        return Pushed(
            repository=repository,
            digest=row["digest"],
            media_type=row["mediaType"],
            tags=tags,
            children=tuple(children),
        )

    def tag(self, repository: str, digest: str, tag: str) -> None:
        self.backend.tag(repository, digest, tag)

    def untag(self, repository: str, tag: str) -> None:
        self.backend.untag(repository, tag)

    def remove(self, repository: str, digest: str) -> None:
        self.backend.remove(repository, digest)

    def fill(self, repository: str, count: int) -> Mapping[str, Manifest]:
        for number in range(count):
            self.push(repository, layers=[str(number)])
        return {}

    def state(self) -> State:
        return {
            path: {digest: frozenset(row["tags"]) for digest, row in images.items()}
            for path, images in self.backend.repositories.items()
        }

    def protect_children(self) -> None:
        """It always does."""

    def refusal(self, status: int, words: str) -> ProxyResponse:
        return ProxyResponse(status, json.dumps({"error": words}).encode(), (("Content-Type", "application/json"),))


def row() -> Kind:
    """The page's row of the table of kinds."""
    kind = load("worker/config/kinds.py", Kind=Kind).EXAMPLE
    assert isinstance(kind, Kind)
    return kind


def blob(name: str) -> dict[str, Any]:
    return {"digest": digest_of(name), "size": 1000 + len(name)}
