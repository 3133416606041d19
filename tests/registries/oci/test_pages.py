"""Lists of tags and of repositories on servers that page them each in its own way: read whole, or an error."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.registries.oci.conftest import Opener
from tests.registries.oci.scripted import Asked, Reply, Scripted, ScriptedRepository, an_image, document, error
from tests.support.oci.fake import FakeRegistry
from worker.registries.errors import BadResponseError, RegistryError, UnavailableError
from worker.registries.http.messages import Retries
from worker.registries.oci.pages import PageSize, Query, whole_list
from worker.registries.oci.protocol import Page


@dataclass(slots=True)
class Server:
    """A list of these rows. `most`: the largest page; `refused_from`: the lowest `n` that is refused."""

    rows: int
    most: int = 1000
    refused_from: int | None = None
    takes_n: bool = True
    takes_last: bool = True  # else it is ignored
    refuses_last: bool = False
    links: bool = False
    order: str = "by name"
    asked: list[Query] = field(default_factory=list)

    def __call__(self, query: Query) -> Page:
        self.asked.append(query)
        n = int(query["n"]) if "n" in query and self.takes_n else self.most
        refused = self.refused_from is not None and "n" in query and n >= self.refused_from
        if refused or (self.refuses_last and "last" in query):
            raise BadResponseError("refused", status=400)
        left = self._after(query.get("last", "") if self.takes_last else "")
        shown = left[: min(n, self.most)]
        return Page(shown, {"last": shown[-1], "n": str(n)} if self.links and len(shown) < len(left) else None)

    def _after(self, last: str) -> list[str]:
        names = [f"r{number:05d}" for number in range(self.rows)]
        if self.order.startswith("pushed"):  # the last three names were pushed first
            names = names[-3:] + names[:-3]
        if self.order.startswith("newest first"):
            names.reverse()
        if self.order == "pushed":
            return names[names.index(last) + 1 :] if last else names
        return [name for name in names if name > last]

    def read(self) -> int:
        return len(whole_list(self, "production", "shop/api", PageSize()) or ())


EVERYTHING = 10**6  # as the most of a page
WHOLE = {
    "cut at n": {},
    "cut below n": {"most": 100},
    "linked": {"links": True},
    "linked below n": {"links": True, "most": 100},
    "linked, and last is refused": {"links": True, "most": EVERYTHING, "refuses_last": True},
    "a large n is refused": {"refused_from": 500, "most": 100},
    "every n is refused": {"refused_from": 0, "most": 100},
    "n and last are ignored": {"takes_n": False, "takes_last": False, "most": EVERYTHING},
    "every n is refused, and last is ignored": {"refused_from": 0, "takes_last": False, "most": EVERYTHING},
}


@pytest.mark.parametrize("rows", [0, 1, 2, 99, 100, 101, 999, 1000, 1001, 2000])
@pytest.mark.parametrize("ways", WHOLE.values(), ids=WHOLE)
def test_reads_every_row_whatever_the_pages(rows: int, ways: dict[str, int]) -> None:
    server = Server(rows, **ways)
    if server.refuses_last and rows > 1000:
        pytest.skip("its own Links use last")
    assert server.read() == rows


CUT = {
    "last is ignored": {"takes_last": False},
    "last is ignored, n is at most 1,000": {"takes_last": False, "refused_from": 1001},
    "last is refused": {"refuses_last": True},
    "last is refused, n is at most 1,000": {"refuses_last": True, "refused_from": 1001},
    "last is ignored, more than 1,000 are 1,000": {"takes_last": False, "most": 1000},
    "last is refused, more than 1,000 are 1,000": {"refuses_last": True, "most": 1000},
}


@pytest.mark.parametrize("ways", CUT.values(), ids=CUT)
def test_rejects_a_list_of_exactly_n_rows_without_a_next_page(ways: dict[str, int]) -> None:
    ways = {"most": EVERYTHING} | ways
    assert Server(999, **ways).read() == 999
    for rows in (1000, 1001):  # 1,000 rows may be truncated
        with pytest.raises(BadResponseError, match=r"GET shop/api: the list is truncated at 1,000 rows"):
            Server(rows, **ways).read()


def test_a_list_of_exactly_n_rows_is_asked_for_with_one_more_and_one_less() -> None:
    server = Server(1000, takes_n=False, takes_last=False, most=EVERYTHING)
    assert server.read() == 1000
    assert [query.get("n") for query in server.asked] == ["1000", "1000", "1001", "999"]


@pytest.mark.parametrize("rows", [2, 99, 1000, 1001, 2500])
@pytest.mark.parametrize("most", [100, 1000, EVERYTHING])
def test_reads_an_unsorted_list_whose_last_follows_its_order(rows: int, most: int) -> None:
    assert Server(rows, most=most, order="pushed").read() == rows


@pytest.mark.parametrize("most", [1000, EVERYTHING])
@pytest.mark.parametrize("order", ["pushed, last by name", "newest first, last by name"])
def test_rejects_an_unsorted_list_whose_last_compares_names(order: str, most: int) -> None:
    assert Server(999, most=most, order=order).read() == 999
    for rows in (1001, 2500):
        with pytest.raises(BadResponseError, match=r"GET shop/api: the list is truncated at 1,000 rows"):
            Server(rows, most=most, order=order).read()


def test_an_unsorted_short_list_costs_one_more_request_and_no_others() -> None:
    server = Server(99, order="pushed, last by name")
    assert server.read() == 99
    assert len(server.asked) == 2


def test_a_page_of_one_row_costs_one_more_request() -> None:
    server = Server(1)
    assert server.read() == 1
    assert server.asked == [{"n": "1000"}, {"n": "1000", "last": "r00000"}]


def test_a_refused_size_is_not_asked_for_again() -> None:
    server, size = Server(250, most=100, refused_from=500), PageSize()
    for _ in range(2):
        assert len(whole_list(server, "production", "shop/api", size) or ()) == 250
    assert sum(query.get("n") == "1000" for query in server.asked) == 1


# The same on the driver.


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(tags_page=10_000, catalog_page=10_000, links=False) as fake:
        fake.fill("shop/api", 1001)
        yield fake
        assert fake.refused == []


def test_reads_all_tags_of_a_server_without_links(registry: FakeRegistry, opened: Opener) -> None:
    assert len(opened(registry.url)._client.tags("shop/api") or ()) == 1001


@pytest.mark.parametrize("last", ["ignored", "refused"])
def test_tags_that_may_be_cut_leave_the_repository_unreadable(
    registry: FakeRegistry, opened: Opener, last: str
) -> None:
    registry.switches.last = last
    registry.switches.tags_most = 1000
    with pytest.raises(BadResponseError, match="GET shop/api: the list is truncated at 1,000 rows"):
        opened(registry.url).images("shop/api")


@pytest.mark.parametrize("last", ["ignored", "refused"])
def test_rejects_a_catalog_that_may_be_truncated(registry: FakeRegistry, opened: Opener, last: str) -> None:
    for number in range(1000):
        registry.empty(f"more/r{number}")
    registry.switches.last = last
    with pytest.raises(BadResponseError, match="GET /v2/_catalog: the list is truncated at 1,000 rows"):
        list(opened(registry.url).repositories())


def test_lists_without_a_number_where_the_number_is_refused(registry: FakeRegistry, opened: Opener) -> None:
    registry.switches.tags_most = registry.switches.catalog_most = 100
    registry.switches.links = True
    driver = opened(registry.url)
    assert list(driver.repositories()) == ["shop/api"]
    assert len(driver._client.tags("shop/api") or ()) == 1001


REFUSALS = [400, 404, 405, 416, 422, 500, 501]
ONE_TRY = Retries(attempts=1)


@pytest.mark.parametrize("status", REFUSALS)
def test_reads_a_list_without_n_after_a_refusal_of_n(
    opened: Opener, stored: ScriptedRepository, server: Scripted, status: int
) -> None:
    digest = stored.put(an_image("x"), "v1")

    def refuse(asked: Asked) -> Reply | None:
        if asked.path.endswith(("/_catalog", "/tags/list")) and "n" in asked.query:
            return error(status, "PAGINATION_NUMBER_INVALID")
        return document({"repositories": ["a"]}) if asked.path == "/v2/_catalog" else None

    stored.before = refuse
    driver = opened(server.url, retries=ONE_TRY)
    for _ in range(2):
        assert list(driver.repositories()) == ["a"]
        assert [image.digest for image in driver.images("a")] == [digest]
    assert sum(asked.query.get("n") == "1000" for asked in server.asked) == 2  # of the catalog and of the tags


@pytest.mark.parametrize("status", REFUSALS)
def test_keeps_a_refusal_with_another_reason(
    opened: Opener, stored: ScriptedRepository, server: Scripted, status: int
) -> None:
    stored.before = lambda asked: error(status, "UNKNOWN") if asked.path.endswith("/tags/list") else None
    with pytest.raises(RegistryError, match=f"HTTP {status}"):
        opened(server.url, retries=ONE_TRY)._client.tags("a")
    assert [asked.query for asked in server.asked] == [{"n": "1000"}, {}]


def test_a_repository_that_is_not_known_is_not_asked_for_again(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    stored.before = lambda asked: error(404, "NAME_UNKNOWN")
    assert opened(server.url)._client.tags("a") is None
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_reports_no_catalog_if_it_is_refused_without_n_too(
    opened: Opener, stored: ScriptedRepository, server: Scripted, status: int
) -> None:
    stored.before = lambda asked: error(status, "UNSUPPORTED") if "_catalog" in asked.path else Reply(200, b"{}")
    driver = opened(server.url)
    assert driver._client._catalog_at(driver._client.api, driver._client.sign_ins.all[0]) is None


def test_a_later_page_that_is_refused_is_an_error(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    def pages(asked: Asked) -> Reply:
        if "last" in asked.query:
            return error(500, "UNKNOWN")
        return document({"tags": ["v1"]}, Link='</v2/a/tags/list?last=v1>; rel="next"')

    stored.before = pages
    with pytest.raises(UnavailableError):
        opened(server.url, retries=ONE_TRY)._client.tags("a")
    assert len(server.asked) == 2
