"""The registry of the driver's tests."""

from tests.registries.yandex.cloud_registry.conftest import settings

__all__ = ["settings"]
