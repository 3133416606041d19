"""The registries: what they are asked (`interface`), one driver a kind, and what the drivers share.

`http` is the one module of the program that imports httpx.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the drivers bring httpx and more, which a command that talks to no registry need not wait for
    from worker.config import RegistrySettings
    from worker.registries.http import Patience
    from worker.registries.interface import Registry
    from worker.registries.limiter import Limiter

Driver = Callable[["RegistrySettings", "Limiter | None", "Patience | None"], "Registry"]


def open_registry(
    settings: "RegistrySettings", limiter: "Limiter | None" = None, patience: "Patience | None" = None
) -> "Registry":
    """The driver for a registry's kind; nothing is sent yet.

    Without a `limiter` the rate is kept by this process alone. A limiter that is handed in stays the caller's to close.
    """
    return DRIVERS[settings.kind](settings, limiter, patience)


def _yandex_container_registry(
    settings: "RegistrySettings", limiter: "Limiter | None", patience: "Patience | None"
) -> "Registry":
    from worker.registries.http import Patience  # noqa: PLC0415 - httpx is loaded only where a registry is talked to
    from worker.registries.limiter import LocalLimiter  # noqa: PLC0415 - as above
    from worker.registries.yandex_container_registry import YandexContainerRegistry  # noqa: PLC0415 - as above

    return YandexContainerRegistry(
        settings, limiter or LocalLimiter(settings.rate.requests_per_second), patience or Patience()
    )


DRIVERS: dict[str, Driver] = {  # by kind; the file knows these kinds, a program may add one of its own
    "yandex-container-registry": _yandex_container_registry,
}
