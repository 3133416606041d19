"""The registries: what they are asked (`interface`), one driver a kind, and what the drivers share.

`http/transport.py` is the one module of the program that imports httpx.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the drivers bring httpx and more, which a command that talks to no registry need not wait for
    from worker.config.settings import RegistrySettings
    from worker.registries.http.client import Patience
    from worker.registries.http.rate_limit import Limiter
    from worker.registries.interface import Manifests, Registry

Driver = Callable[["RegistrySettings", "Limiter", "Patience", "Manifests"], "Registry"]

# By kind: the module that has its driver, whose `open_driver` is a Driver. Loaded where a registry is talked to.
DRIVERS: dict[str, str | Driver] = {
    "yandex-container-registry": "worker.registries.yandex.container_registry",
    "yandex-cloud-registry": "worker.registries.yandex.cloud_registry",
    "oci": "worker.registries.oci.driver",
}


def open_registry(
    settings: "RegistrySettings",
    limiter: "Limiter | None" = None,
    patience: "Patience | None" = None,
    manifests: "Manifests | None" = None,
) -> "Registry":
    """The driver for a registry's kind; nothing is sent yet.

    Without a `limiter` the rate is kept by this process alone. A limiter that is handed in stays the caller's to close.
    `manifests`: what is known of them already, and where what is read is remembered; None: nowhere.
    """
    from worker.registries.http.client import Patience  # noqa: PLC0415 - httpx is loaded only where a registry is talked to
    from worker.registries.http.rate_limit import LocalLimiter  # noqa: PLC0415 - as above
    from worker.registries.interface import NoManifests  # noqa: PLC0415 - as above

    found = DRIVERS[settings.kind]
    driver: Driver = import_module(found).open_driver if isinstance(found, str) else found
    pace = limiter or LocalLimiter(settings.rate.requests_per_second)
    return driver(settings, pace, patience or Patience(), manifests or NoManifests())
