"""Servers that several folders of tests share, each started when a test first asks for it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import stamina
from hypothesis import HealthCheck, is_hypothesis_test, settings

from tests.support import stores
from tests.support.harness import Harness
from tests.support.memory_harness import KIND, MakeMemoryHarness, MemoryHarness
from tests.support.memory_registry import MemoryRegistry
from tests.support.oci.fake import FakeRegistry
from tests.support.servers import PostgresServer, postgres_programs, postgres_server
from tests.support.simulator.client import Simulator
from worker.registries import DRIVERS
from worker.store import Store

if TYPE_CHECKING:
    from tests.support.scenarios import Scenarios


SYSTEM = Path(__file__).parent / "system"
MEMORY = Path("/dev/shm")  # Linux keeps its files in memory
ROOM = 2 * 2**30  # bytes that must be free there; a container often has 64 MiB

# The duration of an example depends on the load of the machine, not on the code.
ANY_MACHINE = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("the same", derandomize=True, max_examples=50, **ANY_MACHINE)
settings.register_profile("random", derandomize=False, max_examples=150, print_blob=True, **ANY_MACHINE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--system",
        action="store_true",
        help="tests/system; of the others those with a store on PostgreSQL, random properties, and larger listings",
    )


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("random" if config.getoption("--system") else "the same")
    if _has_room(MEMORY):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def _has_room(folder: Path) -> bool:
    """Whether the tests' folders can be in memory, executables included: on a disk a store waits at every commit."""
    try:
        there = os.statvfs(folder)
    except OSError:
        return False
    may_write = os.access(folder, os.W_OK) and not there.f_flag & (os.ST_NOEXEC | os.ST_RDONLY)
    return may_write and there.f_bavail * there.f_frsize >= ROOM


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--system"):
        return
    left = [item for item in items if SYSTEM not in item.path.parents and not _differs_with_system(item)]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in set(left)]


def _differs_with_system(item: pytest.Item) -> bool:
    """Whether --system runs the test differently: on PostgreSQL, with random examples, or with more images."""
    both = "database" in getattr(getattr(item, "callspec", None), "params", {})
    return (
        isinstance(item, pytest.Function)
        and not both
        and ("database" in item.fixturenames or "thousands" in item.fixturenames or is_hypothesis_test(item.obj))
    )


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test process's own; make a database of your own in it."""
    if (programs := postgres_programs()) is None:
        pytest.skip("PostgreSQL's programs are not installed: Debian's package postgresql has them")
    with postgres_server(programs) as server:
        yield server


@pytest.fixture(scope="session")
def running() -> Iterator[Simulator]:
    """One simulator a test process."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(running: Simulator) -> Iterator[Simulator]:
    """An empty registry; at the end no request was unknown to it."""
    running.reset()
    yield running
    assert running.state()["refused"] == []


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    """The kind of store: a folder or a file whose queries differ has a fixture of this name with both."""
    return "postgresql" if request.config.getoption("--system") else "sqlite"


@pytest.fixture
def new_store(request: pytest.FixtureRequest, database: str) -> Callable[[], str | None]:
    """The URL of an empty store of its kind; None: a file in the test's folder."""
    return lambda: stores.database(request.getfixturevalue("postgres")) if database == "postgresql" else None


@pytest.fixture
def store(new_store: Callable[[], str | None], tmp_path: Path) -> Iterator[Store]:
    """An empty store of its kind."""
    with stores.opened(new_store() or f"sqlite:///{tmp_path}/store.db") as opened:
        yield opened


@pytest.fixture
def no_backoff() -> Iterator[None]:
    """Retries happen at once; their number stays."""
    with stamina.set_testing(True, attempts=1_000_000):
        yield


@pytest.fixture
def make_harness(
    simulator: Simulator, tmp_path: Path, new_store: Callable[[], str | None], no_backoff: None
) -> Iterator[Callable[..., Harness]]:
    """Makes harnesses on an empty registry, each with an empty store."""
    made: list[Harness] = []

    def make(**registry: Any) -> Harness:
        made.append(Harness(simulator, tmp_path, store=new_store(), **registry))
        return made[-1]

    yield make
    for harness in made:
        harness.store.dispose()


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    """An empty registry of the kind oci; at the end no request was unknown to it."""
    with FakeRegistry() as registry:
        yield registry
        assert registry.refused == []


@pytest.fixture
def registry() -> MemoryRegistry:
    """An empty in-memory registry that accepts restored images."""
    return MemoryRegistry(strict=False)


@pytest.fixture
def make_memory_harness(registry: MemoryRegistry, tmp_path: Path) -> Iterator[MakeMemoryHarness]:
    """Makes harnesses on the in-memory registry, whose driver is registered while the test runs."""
    made: list[MemoryHarness] = []

    def make(**changes: Any) -> MemoryHarness:
        made.append(MemoryHarness(tmp_path, registry, **changes))
        DRIVERS[KIND] = made[-1].driver
        return made[-1]

    yield make
    DRIVERS.pop(KIND, None)
    for harness in made:
        harness.store.dispose()


@pytest.fixture(scope="module")
def scenarios(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Scenarios]":
    """Scenarios of real processes, each created when a case first asks for it."""
    from tests.support.scenarios import Scenarios  # noqa: PLC0415 - imports Celery, which few folders need

    made = Scenarios(lambda: request.getfixturevalue("postgres"), lambda: tmp_path_factory.mktemp("scenario"))
    yield made
    made.close()
