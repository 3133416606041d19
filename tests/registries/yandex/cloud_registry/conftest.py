"""A registry of the kind yandex-cloud-registry on the simulator, instead of the first driver's."""

from pathlib import Path

import pytest

from tests.registries.yandex.cloud_registry.tools import cloud_settings
from tests.support.simulator.client import Simulator
from worker.config.settings import RegistrySettings


@pytest.fixture
def settings(simulator: Simulator, tmp_path: Path) -> RegistrySettings:
    """Signed in with an IAM token from a file."""
    token = tmp_path / "token"
    token.write_text(simulator.token + "\n")
    return cloud_settings(simulator, token)
