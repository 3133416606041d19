"""The registries: what they are asked (`interface`), what they raise (`errors`), one driver a kind, what drivers share.

`http/transport.py` is the one module of the program that imports httpx. It is loaded with the first driver: a command
that talks to no registry need not wait for it.
"""

from collections.abc import Callable
from importlib import import_module

from worker.config.settings import RegistrySettings
from worker.registries.http.messages import Retries
from worker.registries.http.rate_limit import Limiter, LocalLimiter
from worker.registries.interface import ManifestCache, NoManifestCache, Registry

Driver = Callable[[RegistrySettings, Limiter, Retries, ManifestCache], Registry]

# By kind: the module that has its driver, whose `open_driver` is a Driver. Loaded where a registry is talked to.
DRIVERS: dict[str, str | Driver] = {
    "yandex-container-registry": "worker.registries.yandex.container_registry",
    "yandex-cloud-registry": "worker.registries.yandex.cloud_registry",
    "oci": "worker.registries.oci.driver",
}


def open_registry(
    settings: RegistrySettings,
    limiter: Limiter | None = None,
    retries: Retries | None = None,
    manifests: ManifestCache | None = None,
) -> Registry:
    """The driver for a registry's kind; nothing is sent yet.

    Without a `limiter` the rate is kept by this process alone. A limiter that is handed in stays the caller's to close.
    `manifests`: what is known of them already, and where what is read is remembered; None: nowhere.
    """
    found = DRIVERS[settings.kind]
    driver: Driver = import_module(found).open_driver if isinstance(found, str) else found
    pace = limiter or LocalLimiter(settings.rate.requests_per_second)
    return driver(settings, pace, retries or Retries(), manifests or NoManifestCache())


def open_limiter(redis_url: str, settings: RegistrySettings) -> Limiter:
    """The limiter of a registry, shared through Redis. Asks nothing yet."""
    from worker.registries.http.redis_limit import RedisLimiter  # noqa: PLC0415 - many a command needs no Redis

    return RedisLimiter(redis_url, settings.key, settings.rate.requests_per_second)
