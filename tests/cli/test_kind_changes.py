"""`check` of a registry whose kind has changed since its last run: which of its records still apply."""

import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.command import Result
from worker.cli.kind_changes import kind_changes
from worker.config.settings import load
from worker.runs.lifecycle import open_run
from worker.store import open_store

Command = Callable[..., Result]
AT = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
CONTAINER = "kind: yandex-container-registry, id: crp1, credentials: {metadata: true}"
CLOUD = CONTAINER.replace("container", "cloud")
OTHER_ID = CLOUD.replace("crp1", "crp2")
HUB = 'kind: oci, url: "http://127.0.0.1:9", credentials: {anonymous: true}'
SINCE = "its kind was yandex-container-registry until 2026-11-23 03:00Z"
SAME = f"{SINCE}; its holds, pauses, runs and scan history still apply (same id)"
BY_NAME = "its holds, pauses and runs still apply, but its scan history starts again, because the id differs"
RENAMED = "its id belonged to production of the kind yandex-container-registry until 2026-11-23 03:00Z; holds"


def configured(folder: Path, name: str, registry: str, store: str = "sqlite:///gc.db") -> Path:
    path = folder / "registry-gc.yaml"
    path.write_text(f'store: "{store}"\nregistries:\n  {name}: {{{registry}, policy: p}}\npolicies: {{p: []}}\n')
    return path


def ran(path: Path, at: datetime = AT) -> None:
    """A run of every registry of the file has been opened, and has ended since."""
    settings = load(path)
    store = open_store(settings.store)
    for name in settings.registries:
        open_run(store, settings, name, trigger="command", now=at)
    store.dispose()


@pytest.mark.parametrize(
    ("name", "registry", "words"),
    [
        pytest.param("production", CLOUD, SAME, id="another kind, the same id"),
        pytest.param("production", OTHER_ID, f"{SINCE} with the id crp1; {BY_NAME}", id="another kind and id"),
        pytest.param("production", HUB, f"{SINCE} with the id crp1; {BY_NAME}", id="a kind without ids"),
        pytest.param("registry", CLOUD, RENAMED, id="another kind and name"),
        pytest.param("production", CONTAINER, "", id="as it was"),
        pytest.param("registry", CONTAINER, "", id="another name alone"),
        pytest.param("registry", HUB, "", id="a new one without an id"),
        pytest.param("registry", OTHER_ID, "", id="a new one"),
    ],
)
def test_check_says_which_records_still_apply_after_a_change_of_kind(
    tmp_path: Path, name: str, registry: str, words: str
) -> None:
    ran(configured(tmp_path, "production", CONTAINER))
    changes = kind_changes(load(configured(tmp_path, name, registry)))
    assert list(changes) == ([name] if words else [])
    assert changes.get(name, "").startswith(words)


def test_check_reports_a_change_of_kind_as_text_and_json(gc: Command, tmp_path: Path) -> None:
    ran(configured(tmp_path, "production", CONTAINER))
    configured(tmp_path, "production", CLOUD)
    done = gc("check")
    first, change = done.out.splitlines()
    assert (done.code, done.err, change) == (0, "", f"production: {SAME}")
    assert first.endswith("no mistakes: 1 registry, 1 policy")
    assert gc("check", "--format", "json").json["moved"] == {"production": SAME}


def test_a_run_of_the_new_kind_ends_the_message(tmp_path: Path) -> None:
    ran(configured(tmp_path, "production", CONTAINER))
    path = configured(tmp_path, "production", CLOUD)
    assert list(kind_changes(load(path))) == ["production"]
    ran(path, AT.replace(day=24))
    assert kind_changes(load(path)) == {}
    back = kind_changes(load(configured(tmp_path, "production", CONTAINER)))
    assert back["production"].startswith("its kind was yandex-cloud-registry until 2026-11-24")


def test_check_online_reports_a_change_of_kind(gc: Command, tmp_path: Path) -> None:
    ran(configured(tmp_path, "production", CONTAINER))
    configured(tmp_path, "production", HUB)
    results = gc("check", "--online", "--format", "json").json["online"]
    (change,) = [row for row in results if row["check"] == "kind"]
    assert (change["registry"], change["status"], change["detail"].startswith(SINCE)) == ("production", "ok", True)


def test_an_unreadable_store_is_not_a_mistake_in_the_file(gc: Command, tmp_path: Path) -> None:
    configured(tmp_path, "production", CLOUD)
    (tmp_path / "gc.db").write_bytes(b"rubbish" * 1000)
    done = gc("check")
    assert (done.code, done.err, len(done.out.splitlines())) == (0, "", 1)


def test_check_does_not_wait_for_a_database_server(gc: Command, tmp_path: Path) -> None:
    """A server that takes connections and never answers: only --online would wait for it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        configured(tmp_path, "production", CLOUD, f"postgresql+psycopg://u@127.0.0.1:{port}/d")
        assert gc("check").code == 0
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_an_unreachable_database_reports_no_change_of_kind(tmp_path: Path) -> None:
    assert kind_changes(load(configured(tmp_path, "production", CLOUD, "postgresql+psycopg://u@127.0.0.1:9/d"))) == {}


def test_without_a_store_check_neither_creates_it_nor_imports_sqlalchemy(tmp_path: Path) -> None:
    configured(tmp_path, "production", CLOUD)
    script = (
        "import sys; from worker.cli import cli; cli.main(['check'], standalone_mode=False); "
        "print('sqlalchemy' in sys.modules)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert not list(tmp_path.glob("gc.db*"))
