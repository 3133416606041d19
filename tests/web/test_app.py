"""The pages over real HTTP: status, format and headers of each."""

import gzip

import pytest

from tests.web.pages import Pages


def test_metrics_of_an_empty_store(pages: Pages) -> None:
    answer = pages.ask("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'registry_gc_reclaimed_bytes_total{registry="production"} 0.0' in answer.text


@pytest.mark.parametrize(
    ("accept", "content_type", "end"),
    [
        pytest.param(
            "application/openmetrics-text; version=1.0.0", "application/openmetrics-text", "# EOF\n", id="open"
        ),
        pytest.param("text/plain; version=1.0.0", "text/plain; version=1.0.0", "\n", id="text with UTF-8 names"),
        pytest.param("text/html, */*", "text/plain; version=0.0.4", "\n", id="a browser"),
    ],
)
def test_metrics_use_the_requested_format(pages: Pages, accept: str, content_type: str, end: str) -> None:
    answer = pages.ask("/metrics", headers={"Accept": accept})
    assert answer.headers["Content-Type"].startswith(content_type)
    assert answer.text.endswith(end)


def test_metrics_are_compressed_on_request(pages: Pages) -> None:
    answer = pages.ask("/metrics", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert b"registry_gc_build_info" in gzip.decompress(answer.body)


def test_the_index_page_links_both_pages(pages: Pages) -> None:
    answer = pages.ask("/")
    assert answer.status == 200
    assert 'href="/metrics"' in answer.text
    assert 'href="/healthz"' in answer.text
    assert "production" in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("HEAD", "/metrics", 200, id="head"),
        pytest.param("POST", "/metrics", 405, id="the metrics accept no POST"),
        pytest.param("DELETE", "/healthz", 405, id="DELETE is not allowed"),
        pytest.param("POST", "/", 405, id="the page accepts no POST"),
        pytest.param("GET", "/nothing", 404, id="no such page"),
        pytest.param("GET", "/metrics/../store.db", 404, id="no way to a file"),
    ],
)
def test_every_response_has_the_security_headers(pages: Pages, method: str, path: str, status: int) -> None:
    answer = pages.ask(path, method)
    assert answer.status == status
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert answer.headers["Server"] is None
