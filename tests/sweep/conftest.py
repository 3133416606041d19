"""Runs on a registry of the kind oci, where only tags are listed and the first sight is the push time."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import Harness
from tests.support.oci.fake import FakeRegistry
from tests.support.oci.real_runs import served
from tests.support.simulator.client import Simulator
from tests.sweep.shops import Shop


@pytest.fixture
def on_fake(fake: FakeRegistry, tmp_path: Path, no_backoff: None) -> Iterator[Callable[..., Harness]]:
    made: list[Harness] = []

    def make(*, concurrency: int, **keys: Any) -> Harness:
        rate = {"requests_per_second": 1000, "concurrency": concurrency}
        made.append(Harness(served(fake, push_time="first_seen"), tmp_path, rate=rate, **keys))
        return made[-1]

    yield make
    for harness in made:
        harness.store.dispose()


@pytest.fixture(params=["yandex-container-registry", "yandex-cloud-registry", "oci"])
def shop(request: pytest.FixtureRequest, simulator: Simulator, tmp_path: Path) -> Iterator[Shop]:
    if request.param != "oci":
        made = Shop(request.param, simulator, tmp_path)
        yield made
    else:
        with FakeRegistry() as fake:
            made = Shop(request.param, fake, tmp_path)
            yield made
            assert fake.refused == []
    for harness in made.harnesses:
        harness.store.dispose()
