"""A registry in memory with its harness: on the default store, or on each kind of store."""

from collections.abc import Callable

import pytest

from tests.support.memory_harness import MakeMemoryHarness, MemoryHarness


@pytest.fixture
def harness(make_memory_harness: MakeMemoryHarness) -> MemoryHarness:
    return make_memory_harness()


@pytest.fixture
def either(new_store: Callable[[], str | None], make_memory_harness: MakeMemoryHarness) -> MemoryHarness:
    """A harness on each kind of store."""
    return make_memory_harness(store=new_store())
