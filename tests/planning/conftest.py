"""An inventory for the tests of several files."""

from pathlib import Path

import pytest

from tests.bench import data as bench_data


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "F.ndjson"
    bench_data.write(path, 4000)
    return path
