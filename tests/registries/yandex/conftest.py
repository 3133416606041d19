"""An existing image of Container Registry."""

import pytest

from policies.image import Image
from tests.support.drivers import Driver, image_of
from tests.support.simulator.client import Simulator


@pytest.fixture
def image(simulator: Simulator, driver: Driver) -> Image:
    pushed = simulator.push("shop/api", tags=["pr-1", "pr-2"])
    return image_of(driver, "shop/api", pushed["id"])
