"""Harnesses whose runs notify a small HTTP server."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import Harness
from tests.support.simulator.client import Simulator
from tests.support.webhook import Webhook


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with Webhook().listening() as listening:
        yield listening


@pytest.fixture
def make_harness(simulator: Simulator, hook: Webhook, tmp_path: Path) -> Iterator[Callable[..., Harness]]:
    """The hook's address is kept in a file, as a secret is; `on` and `registries` are those of its entry."""
    made: list[Harness] = []
    address = tmp_path / "address"
    address.write_text(hook.url)

    def make(**keys: Any) -> Harness:
        entry = {key: keys.pop(key) for key in ("on", "registries") if key in keys}
        keys.setdefault("notify", [{"url": {"file": str(address)}, **entry}])
        made.append(Harness(simulator, tmp_path, **keys))
        return made[-1]

    yield make
    for harness in made:
        harness.store.dispose()
