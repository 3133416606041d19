"""Registries: their calls (`interface`), their errors (`errors`), one driver per kind, and what drivers share.

Only `http/transport.py` imports httpx. It is loaded with the first driver, so that other commands start faster.
"""

from collections.abc import Callable
from importlib import import_module

from worker.config.settings import RegistrySettings
from worker.registries.http.messages import Retries
from worker.registries.http.rate_limit import Limiter, LocalLimiter
from worker.registries.interface import ManifestCache, NoManifestCache, Registry

Driver = Callable[[RegistrySettings, Limiter, Retries, ManifestCache], Registry]

# By kind: the module whose `open_driver` is a Driver; imported on first use.
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
    """The driver for the kind of a registry. Sends no request.

    `limiter`: closed by the caller; None: this process alone observes the rate. `manifests`: None: no cache.
    """
    entry = DRIVERS[settings.kind]
    driver: Driver = import_module(entry).open_driver if isinstance(entry, str) else entry
    limiter = limiter or LocalLimiter(settings.rate.requests_per_second)
    return driver(settings, limiter, retries or Retries(), manifests or NoManifestCache())


def open_limiter(redis_url: str, settings: RegistrySettings) -> Limiter:
    """The limiter of a registry, shared through Redis. Sends no request. The caller closes it. It connects on first
    use, and raises LimiterUnavailableError while Redis does not respond.
    """
    from worker.registries.http.redis_limit import RedisLimiter  # noqa: PLC0415 - most commands need no Redis

    return RedisLimiter(redis_url, settings.key, settings.rate.requests_per_second)
