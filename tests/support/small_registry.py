"""Registries of tens of images, in which there is something of everything."""

from datetime import timedelta

from tests.support.simulator.client import Simulator

DAY = timedelta(days=1)


def push_some(simulator: Simulator) -> None:
    """Tens of images in three repositories that share layers, some of them to stay, one an index."""
    for path in ("shop/api", "shop/web", "base"):
        simulator.push(path, tags=["v1"], age=30 * DAY, layers=["base:1000", 7])
        for number in range(12):
            simulator.push(
                path, tags=[f"pr-{number}"], age=30 * DAY, layers=["base:1000", f"of-{path}:50", 100 + number]
            )
    child = simulator.push("shop/api", age=30 * DAY, layers=[10])["digest"]
    simulator.push_index("shop/api", [str(child)], tags=["pr-index"], age=30 * DAY)
