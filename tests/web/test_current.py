"""A store or a file that breaks is reported at once, and old numbers are not shown."""

import json
import re
import socket

import pytest

from tests.web.builders import add_run
from tests.web.pages import Pages, write
from worker.store import open_store


@pytest.mark.parametrize(
    ("url", "part", "status"),
    [
        pytest.param("postgresql+psycopg://clerk:open@sesame.invalid:1/ledger", "store", 500, id="away"),
        pytest.param("sqlite:////sesame/ledger.db", "store", 500, id="a file that cannot be made"),
        # After a mistake in the configuration the store stays the same until the mistake is corrected.
        pytest.param("postgresql+psycopg://clerk:open@sesame@127.0.0.1:1/ledger", "configuration", 200, id="two @"),
        pytest.param("postgresql+psycopg://clerk:o@127.0.0.1:1/ledger?sesame=1", "configuration", 200, id="an option"),
    ],
)
def test_an_unusable_store_is_reported_without_its_url(own: Pages, url: str, part: str, status: int) -> None:
    if url.startswith("sqlite"):
        url = url.replace("/sesame", f"{own.folder}/redis-url")  # a file where a folder should be
    write(own.folder, f"redis://127.0.0.1:{own.port}/0", url)
    metrics, health = own.ask("/metrics"), own.ask("/healthz")
    assert (metrics.status, health.status) == (status, 503)
    assert status == 200 or metrics.text == "the store cannot be read; the log says why\n"
    for text in (metrics.text, health.text):
        assert not re.search("sesame|ledger|clerk|127.0|redis-url", text)
    assert json.loads(health.body)[part]["status"] == "ill"


def test_a_deleted_store_is_an_error(own: Pages) -> None:
    store = open_store(f"sqlite:///{own.folder}/store.db")
    add_run(store, "production", reclaimed_bytes=700)
    store.dispose()
    assert 'registry_gc_reclaimed_bytes_total{registry="production"} 700.0' in own.ask("/metrics").text
    for path in own.folder.glob("store.db*"):
        path.unlink()
    answer = own.ask("/metrics")
    assert answer.status == 500
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert len(answer.text.splitlines()) == 1
    assert "registry_gc_" not in answer.text
    assert own.ask("/healthz").status == 503
    assert own.health()["store"]["status"] == "ill"
    assert not list(own.folder.glob("store.db*")), "a page made a new, empty store"


def test_a_corrupted_store_is_an_error_until_it_is_restored(own: Pages) -> None:
    own.ask("/metrics")
    path = own.folder / "store.db"
    good = path.read_bytes()
    path.write_bytes(b"rubbish" * 1000)
    assert own.ask("/metrics").status == 500
    path.write_bytes(good)
    assert own.ask("/metrics").status == 200


def test_the_pages_start_without_a_reachable_store(own: Pages) -> None:
    path = own.folder / "registry-gc.yaml"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"postgresql+psycopg://somebody@127.0.0.1:{nobody.getsockname()[1]}/registry_gc"
        path.write_text(re.sub("^store: .*$", f"store: {url}", path.read_text(), flags=re.MULTILINE))
        answer = own.ask("/metrics")
    assert answer.status == 500
    assert len(answer.text.splitlines()) == 1


def test_an_invalid_file_is_reported_and_the_last_valid_one_stays_in_force(own: Pages) -> None:
    path = own.folder / "registry-gc.yaml"
    good = path.read_text()
    path.write_text(good.replace("older_than: 7d", "older_than: sesame"))
    document = own.health()
    assert document["configuration"]["status"] == "ill"
    assert "sesame" not in json.dumps(document)
    assert 'registry="production"' in own.ask("/metrics").text
    path.write_text(good.replace("production:", "renamed:"))
    assert own.health()["configuration"]["status"] == "ok"
    text = own.ask("/metrics").text
    assert 'registry_gc_dry_run{registry="renamed"} 1.0' in text
    assert 'registry_gc_dry_run{registry="production"}' not in text
