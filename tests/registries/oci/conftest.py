"""Drivers for registries that tests start."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.registries.oci.scripted import Scripted, ScriptedRepository
from tests.support.drivers import QUICK, with_defaults
from worker.config.settings import Credentials
from worker.registries import open_registry
from worker.registries.oci.driver import Oci

Opener = Callable[..., Oci]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens drivers for a URL, anonymous by default, and closes them after the test."""
    with ExitStack() as stack:

        def open_one(url: str, manifests: Any = None, retries: Any = QUICK, **changes: Any) -> Oci:
            given = {"kind": "oci", "url": url, "credentials": Credentials(anonymous=True), **changes}
            made = stack.enter_context(open_registry(with_defaults(**given), retries=retries, manifests=manifests))
            assert isinstance(made, Oci)
            return made

        yield open_one


@pytest.fixture
def stored() -> ScriptedRepository:
    return ScriptedRepository()


@pytest.fixture
def server(stored: ScriptedRepository) -> Iterator[Scripted]:
    with Scripted(stored) as scripted:
        yield scripted
