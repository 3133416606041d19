"""Fixtures of evidence: a cluster, and the settings of a source that reads it."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import ApiServer, kubeconfig
from worker.config.settings import EvidenceSettings


@pytest.fixture
def cluster() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server
    assert server.unknown == []


@pytest.fixture
def source(cluster: ApiServer, tmp_path: Path) -> Callable[..., EvidenceSettings]:
    """The settings of a source that asks the cluster, with whatever a test wants to be different."""
    path = kubeconfig(tmp_path / "kubeconfig", {"prod": cluster})

    def settings(**changed: Any) -> EvidenceSettings:
        given: dict[str, Any] = {"name": "cluster", "kind": "kubernetes", "max_age": timedelta(hours=1)}
        return EvidenceSettings(**(given | {"kubeconfig": path, "contexts": ("prod",)} | changed))

    return settings
