"""A store's URL that cannot be used, or leads nowhere: the error shows no part of it."""

from pathlib import Path

import pytest

from tests.support.secrecy import ODD_STORES, Go, filled, shows_no_secret
from worker.store import open_store


def away(url: str) -> str:
    """The URL, with a password, of a port at which no server listens."""
    return url.replace("AWAY", "127.0.0.1:9")


CASES = [
    pytest.param(
        lambda folder, secret: open_store(away(f"postgresql+psycopg://gc:{secret}@AWAY/gc")).read().__enter__(),
        "StoreError",
        id="a store that is away",
    ),
    *(
        pytest.param(
            lambda folder, secret, url=url: open_store(away(filled(url, secret))).read().__enter__(),
            "StoreError",
            id=f"away: {url}",
        )
        for url in (
            "postgresql+psycopg://SECRET:pw@AWAY/gc",
            "postgresql+psycopg://gc:pw@AWAY/SECRET",
            "postgresql+psycopg://gc:pw@SECRET.invalid/gc",
            "postgresql+psycopg://gc:pw@AWAY/gc?sslmode=SECRET",
            "postgresql+psycopg://gc:pw@AWAY/gc?connect_timeout=SECRET",
            "postgresql+psycopg://gc@/gc?host=/SECRET",
        )
    ),
    pytest.param(
        lambda folder, secret: open_store(f"postgresql+psycopg://gc:{secret}@[bad/gc"), "StoreError", id="a bad address"
    ),
    pytest.param(lambda folder, secret: open_store(f"nonsense://gc:{secret}@db/gc"), "StoreError", id="no database"),
    *(
        pytest.param(
            lambda _folder, secret, url=url: open_store(filled(url, secret)), "StoreError", id=f"opened: {url}"
        )
        for url in ODD_STORES
    ),
]


@pytest.mark.parametrize(("go", "kind"), CASES)
def test_no_error_shows_a_part_of_the_store_s_url(tmp_path: Path, go: Go, kind: str) -> None:
    shows_no_secret(tmp_path, go, kind)
