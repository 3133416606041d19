"""Drivers for a registry of the simulator."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.drivers import QUICK, Driver, settings_for
from tests.support.simulator.client import Simulator
from worker.config.settings import RegistrySettings
from worker.registries import open_registry


@pytest.fixture
def settings(simulator: Simulator, tmp_path: Path) -> RegistrySettings:
    """A registry signed in with an IAM token from a file."""
    token = tmp_path / "token"
    token.write_text(simulator.token + "\n")
    return settings_for(simulator, token)


@pytest.fixture
def driver(settings: RegistrySettings) -> Iterator[Driver]:
    with open_registry(settings, retries=QUICK) as registry:
        yield registry
