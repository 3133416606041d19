"""Helpers of the tests of Cloud Registry."""

import time
from pathlib import Path
from typing import Any

from policies.image import Image
from tests.support.drivers import key, settings_for
from tests.support.simulator.client import Simulator
from worker.config.settings import Endpoints, RegistrySettings
from worker.registries.interface import Deletion, Registry

LEVEL = r":listArtifacts\?"  # one folder's listing, as "path?query"
FLAT = r"/v1/artifacts\?"  # the whole registry's


def cloud_settings(simulator: Simulator, token: Path, **changes: Any) -> RegistrySettings:
    """A registry of the simulator, looked at as Cloud Registry."""
    endpoints = Endpoints(**simulator.cloud_endpoints(), metadata=simulator.url)
    return settings_for(simulator, token, kind="yandex-cloud-registry", **{"endpoints": endpoints, **changes})


def listed(registry: Registry, repository: str = "shop/api") -> dict[str, Image]:
    """The images of a folder as they are now, by digest."""
    return {image.digest: image for image in registry.images(repository)}


def deleted(registry: Registry, image: Image, repository: str = "shop/api", seconds: float = 5.0) -> Deletion:
    """Ask for an image's deletion and follow it."""
    deletion = registry.delete(repository, image, key())
    return registry.follow(deletion, time.monotonic() + seconds)


def tags_left(simulator: Simulator, digest: str) -> set[str] | None:
    """The tags that an image really has; None: it is gone."""
    return next((set(image["tags"]) for image in simulator.images() if image["digest"] == digest), None)
