"""The command as a subprocess, a harness whose store it reads, and registries that it lists."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Result, called
from tests.support.harness import Harness
from tests.support.simulator.client import Simulator

DAY = timedelta(days=1)


@pytest.fixture
def make_harness(simulator: Simulator, tmp_path: Path) -> Iterator[Callable[..., Harness]]:
    made: list[Harness] = []

    def make(**registry: Any) -> Harness:
        made.append(Harness(simulator, tmp_path, **registry))
        return made[-1]

    yield make
    for harness in made:
        harness.store.dispose()


@pytest.fixture
def gc(tmp_path: Path) -> Callable[..., Result]:
    """Calls registry-gc in the test's folder."""

    def call(*words: str, **environ: str) -> Result:
        return called(*words, cwd=tmp_path, **environ)

    return call


@pytest.fixture
def filled(simulator):
    """Two repositories: a release, and two images of pull requests that are old enough to go."""
    simulator.push("shop/api", tags=["v1.0.0"], layers=["base:1000", 10], age=100 * DAY)
    simulator.push("shop/api", tags=["pr-1"], layers=["base:1000", 200], age=52 * DAY)
    simulator.push("shop/web", tags=["pr-2", "pr-3"], layers=["base:1000", 300], age=20 * DAY)
    return simulator


@pytest.fixture
def mixed(simulator):
    """Two repositories: a release, pull requests old and new, a leftover, an index with its child, a signature."""
    simulator.push("shop/api", tags=["v1.0.0"], layers=["base:1000", 10], age=100 * DAY)
    old = simulator.push("shop/api", tags=["pr-1"], layers=["base:1000", 200], age=52 * DAY)
    simulator.push("shop/api", tags=["pr-2"], layers=["base:1000", 300], age=2 * DAY)
    simulator.sign("shop/api", old["digest"], age=52 * DAY)
    child = simulator.push("shop/web", layers=[400], age=30 * DAY)
    simulator.push_index("shop/web", [child["digest"]], tags=["pr-7"], age=30 * DAY)
    simulator.push("shop/web", layers=["base:1000", 50], age=10 * DAY)
    return simulator
