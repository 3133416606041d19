"""The simulator itself: every switch both ways, every fault, sign-in, refusals, the counting of bytes, the filling."""

import base64
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import jwt
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulator import fill, switches
from tests.simulator.client import AUDIENCE, ROOT, Simulator, SimulatorError
from tests.simulator.faults import KINDS
from tests.simulator.registry import DEFAULT_REGISTRY, Blob, Cloud, digest_of
from tests.waiting import until

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
IMAGES, OPERATIONS = "/container-registry/v1/images", "/operations"
FOUR_TYPES = ", ".join(
    [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ]
)


NO_TLS = ssl.SSLContext(
    ssl.PROTOCOL_TLS_CLIENT
)  # made once: loading certificates for each client takes longer than a test


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Api(httpx.Client):
    """The service as its caller sees it, signed in."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(base_url=simulator.url, headers=bearer(simulator.token), timeout=10, verify=NO_TLS)
        self.registry_id = simulator.registry_id

    def page(self, **query: Any) -> dict[str, Any]:
        answer = self.get(IMAGES, params={"registryId": self.registry_id, **query})
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        return page

    def listed(self, **query: Any) -> list[dict[str, Any]]:
        rows, page = [], self.page(**query)
        while True:
            rows += page.get("images", [])
            if not page.get("nextPageToken"):
                return rows
            page = self.page(pageToken=page["nextPageToken"], **query)

    def image(self, image_id: str) -> httpx.Response:
        return self.get(f"{IMAGES}/{image_id}")

    def ask_to_delete(self, image_id: str, key: str = "") -> httpx.Response:
        return self.delete(f"{IMAGES}/{image_id}", headers={"Idempotency-Key": key or str(uuid.uuid4())})

    def operation(self, operation_id: str) -> dict[str, Any]:
        document: dict[str, Any] = self.get(f"{OPERATIONS}/{operation_id}").json()
        return document

    def followed(self, answer: httpx.Response) -> dict[str, Any]:
        """The operation of an accepted deletion when it is done."""
        assert answer.status_code == 200, answer.text

        def finished() -> dict[str, Any]:
            document = self.operation(answer.json()["id"])
            return document if document.get("done") else {}

        return until(finished, what="the operation")


@pytest.fixture(scope="module")
def process() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


@pytest.fixture
def simulator(process: Simulator) -> Iterator[Simulator]:
    """An empty one with the tests' switches; at the end nothing was refused, but for what `refusals` has taken."""
    process.reset()
    yield process
    assert process.state()["refused"] == []


@pytest.fixture
def api(simulator: Simulator) -> Iterator[Api]:
    with Api(simulator) as client:
        yield client


def refusals(simulator: Simulator) -> list[str]:
    """What was refused so far; then forgotten, with everything else."""
    found = [entry["why"] for entry in simulator.state()["refused"]]
    simulator.reset()
    return found


# Lists, pages


def test_pages_hold_every_image_once(simulator: Simulator, api: Api) -> None:
    pushed = {simulator.push("shop/api")["id"] for _ in range(23)}
    listed = [image["id"] for image in api.listed(pageSize=5)]
    assert set(listed) == pushed
    assert listed == sorted(listed)


def test_a_page_has_100_rows_unless_asked(simulator: Simulator, api: Api) -> None:
    for _ in range(101):
        simulator.push("shop/api")
    assert len(api.page()["images"]) == len(api.page(pageSize=0)["images"]) == 100
    assert len(api.page(pageSize=1_000)["images"]) == 101
    assert "nextPageToken" not in api.page(pageSize=1_000)


def test_a_repository_is_listed_alone_and_stays_when_empty(simulator: Simulator, api: Api) -> None:
    image = simulator.push("shop/api")
    simulator.push("shop/api/tools")
    name = f"{simulator.registry_id}/shop/api"
    assert [row["id"] for row in api.listed(repositoryName=name)] == [image["id"]]
    api.followed(api.ask_to_delete(image["id"]))
    assert api.page(repositoryName=name) == {}
    rows = api.get("/container-registry/v1/repositories", params={"registryId": simulator.registry_id}).json()
    assert {row["name"] for row in rows["repositories"]} == {name, f"{name}/tools"}


def test_registries_do_not_mix(simulator: Simulator, api: Api) -> None:
    simulator.add_registry("crpsecond00000000000")
    mine = simulator.push("shop/api", layers=["shared:1000"])
    theirs = simulator.push("shop/api", layers=["shared:1000"], registry="crpsecond00000000000")
    assert [row["id"] for row in api.listed()] == [mine["id"]]
    api.followed(api.ask_to_delete(mine["id"]))
    assert simulator.state()["lost_bytes"] == 1_500  # the other registry's copy does not keep it
    assert [image["id"] for image in simulator.images(registry="crpsecond00000000000")] == [theirs["id"]]


def test_a_tag_moves_and_the_old_image_stays(simulator: Simulator, api: Api) -> None:
    old = simulator.push("shop/api", tags=["main"], age=timedelta(days=9))
    new = simulator.push("shop/api", tags=["main"])
    rows = {row["id"]: row for row in api.listed()}
    assert "tags" not in rows[old["id"]]
    assert rows[new["id"]]["tags"] == ["main"]
    simulator.tag("shop/api", old["digest"], "main")  # a roll-back
    assert api.image(old["id"]).json()["createdAt"] == rows[old["id"]]["createdAt"]


def test_the_same_content_is_the_same_image(simulator: Simulator) -> None:
    first = simulator.push("shop/api", tags=["a"], content="x")
    second = simulator.push("shop/api", tags=["b"], content="x")
    assert (second["id"], second["tags"]) == (first["id"], ["a", "b"])


# Deleting


def test_deleting_takes_the_tags_and_the_blobs_nobody_else_has(simulator: Simulator, api: Api) -> None:
    gone = simulator.push("shop/api", tags=["v1", "v2"], layers=["base:5000", 70], config=8)
    stays = simulator.push("shop/web", layers=["base:5000"], config=8)
    operation = api.followed(api.ask_to_delete(gone["id"]))
    assert operation["response"] == {"@type": "type.googleapis.com/google.protobuf.Empty", "value": {}}
    assert api.image(gone["id"]).status_code == 404
    state = simulator.state()
    assert (state["lost_bytes"], state["registry_bytes"]) == (78, 5_008)
    assert [image["tags"] for image in state["deleted"]] == [["v1", "v2"]]
    assert state["deletes"] == {gone["id"]: 1}
    api.followed(api.ask_to_delete(stays["id"]))
    assert simulator.state()["lost_bytes"] == 5_086


def test_bytes_lost_to_somebody_else_are_told_apart(simulator: Simulator, api: Api) -> None:
    shared = [
        simulator.push("a", layers=["both:1000"], config="c:1"),
        simulator.push("b", layers=["both:1000"], config="d:1"),
    ]
    alone = simulator.push("c", layers=[10_000], config=1)
    simulator.remove(alone["id"])
    api.followed(api.ask_to_delete(shared[0]["id"]))
    simulator.remove(shared[1]["id"])  # the last reference, but a request took the first
    state = simulator.state()
    assert (state["lost_bytes"], state["lost_bytes_by_request"]) == (11_003, 1_001)


def test_an_operation_runs_for_its_time(simulator: Simulator, api: Api) -> None:
    simulator.switch(operation_seconds_from=3_600, operation_seconds_to=3_600)
    image = simulator.push("shop/api")
    accepted = api.ask_to_delete(image["id"]).json()
    assert "done" not in api.operation(accepted["id"])
    assert api.image(image["id"]).status_code == 200
    simulator.clock(forward=timedelta(hours=1))
    assert api.operation(accepted["id"])["done"] is True
    assert api.image(image["id"]).status_code == 404


def test_two_deletions_of_one_image(simulator: Simulator, api: Api) -> None:
    """Both are accepted while it is there; the slower one learns in its operation that it is gone."""
    simulator.switch(operation_seconds_from=60, operation_seconds_to=60)
    image = simulator.push("shop/api")
    accepted = [api.ask_to_delete(image["id"]).json()["id"] for _ in range(2)]
    simulator.clock(forward=61)
    assert "response" in api.operation(accepted[0])
    assert api.operation(accepted[1])["error"]["code"] == 5
    assert len(simulator.state()["deleted"]) == 1


def test_an_index_pushed_meanwhile_makes_the_operation_fail(simulator: Simulator, api: Api) -> None:
    simulator.switch(operation_seconds_from=60, operation_seconds_to=60)
    image = simulator.push("shop/api")
    accepted = api.ask_to_delete(image["id"]).json()
    simulator.push_index("shop/api", [image["id"]], tags=["multi"])
    simulator.clock(forward=61)
    assert api.operation(accepted["id"])["error"]["code"] == 9
    assert len(simulator.images()) == 2


# Switches: each in both positions, by what a client sees. The first position is the default.

Probe = Callable[[Simulator, Api], Any]


def of_index(simulator: Simulator, api: Api) -> dict[str, Any]:
    child = simulator.push("a", layers=[1_000], config=10)
    index = simulator.push_index("a", [child["id"]])
    found: dict[str, Any] = api.image(index["id"]).json()
    return found


def fraction(simulator: Simulator, api: Api) -> int:
    image = simulator.push("a", created_at=NOW.replace(microsecond=127_000))
    return len(api.image(image["id"]).json()["createdAt"].removeprefix("2026-11-24T03:00:00").strip(".Z"))


def stale_page(simulator: Simulator, api: Api) -> int:
    for _ in range(2):
        simulator.push("a")
    token = api.page(pageSize=1)["nextPageToken"]
    simulator.clock(forward=120)
    answer = api.get(IMAGES, params={"registryId": api.registry_id, "pageSize": 1, "pageToken": token})
    return answer.status_code


def rows_after_a_deletion(simulator: Simulator, api: Api) -> int:
    for _ in range(4):
        simulator.push("a")
    page = api.page(pageSize=2)
    simulator.remove(page["images"][0]["id"])
    return len(api.page(pageSize=2, pageToken=page["nextPageToken"])["images"])


def newest_comes_first(simulator: Simulator, api: Api) -> bool:
    pushed = [simulator.push("a", age=timedelta(days=day))["id"] for day in (5, 1, 9, 3, 7, 2)]
    by_age = [pushed[place] for place in (1, 5, 3, 0, 4, 2)]
    return [row["id"] for row in api.listed(pageSize=4)] == by_age


def there_right_after_acceptance(simulator: Simulator, api: Api) -> int:
    simulator.switch(operation_seconds_from=60, operation_seconds_to=60)
    image = simulator.push("a")
    api.ask_to_delete(image["id"])
    return api.image(image["id"]).status_code


def after_a_long_time(simulator: Simulator, api: Api) -> bool:
    accepted = api.ask_to_delete(simulator.push("a")["id"]).json()
    simulator.clock(forward=timedelta(days=2))
    return "done" in api.operation(accepted["id"])


def told_at_once(answer: httpx.Response) -> str:
    return f"status {answer.status_code}" if answer.is_error else "an operation"


def missing_image(simulator: Simulator, api: Api) -> tuple[str, int]:
    answer = api.ask_to_delete("crp00000000000000000")
    return told_at_once(answer), answer.json()["code"] if answer.is_error else api.followed(answer)["error"]["code"]


def child_of_index(simulator: Simulator, api: Api) -> tuple[str, int]:
    child = simulator.push("a")
    simulator.push_index("a", [child["digest"]])
    answer = api.ask_to_delete(child["id"])
    error = answer.json() if answer.is_error else api.followed(answer)["error"]
    assert "are used by image lists" in error["message"]
    return told_at_once(answer), error["code"]


def left_of_an_index(simulator: Simulator, api: Api) -> int:
    """Two children, one of them tagged."""
    children = [simulator.push("a")["id"], simulator.push("a", tags=["v1"])["id"]]
    api.followed(api.ask_to_delete(simulator.push_index("a", children, tags=["v1-multi"])["id"]))
    return len(simulator.images())


def error_while_running(simulator: Simulator, api: Api) -> bool:
    simulator.switch(operation_seconds_from=60, operation_seconds_to=60)
    simulator.fault("fail_operation", method="DELETE")
    operation = api.ask_to_delete(simulator.push("a")["id"]).json()
    assert "done" not in operation
    return "error" in operation


def second_operation_of_a_key(simulator: Simulator, api: Api) -> str:
    simulator.switch(operation_seconds_from=60, operation_seconds_to=60)
    image, key = simulator.push("a")["id"], str(uuid.uuid4())
    first, second = (api.ask_to_delete(image, key).json()["id"] for _ in range(2))
    return "the same" if first == second else "another"


def deletion(simulator: Simulator, api: Api) -> tuple[int, int]:
    answer = api.ask_to_delete(simulator.push("a")["id"])
    return answer.status_code, answer.json().get("code", 0)


def status_of_list(simulator: Simulator, api: Api) -> int:
    return api.get(IMAGES, params={"registryId": api.registry_id}).status_code


def foreign_list(simulator: Simulator, api: Api) -> int:
    return api.get(IMAGES, params={"registryId": "crpforeign0000000000"}).status_code


def missing_repository(simulator: Simulator, api: Api) -> int:
    return api.get(IMAGES, params={"repositoryName": f"{api.registry_id}/nosuch"}).status_code


def manifest_status(simulator: Simulator, api: Api) -> int:
    image = simulator.push("a")
    return api.get(f"/v2/{api.registry_id}/a/manifests/{image['digest']}", headers=docker_login(simulator)).status_code


def realm(simulator: Simulator, api: Api) -> bool:
    challenge = httpx.get(f"{simulator.url}/v2/").headers["www-authenticate"]
    return f'realm="{simulator.url}/v2/token/"' in challenge


def size_metric(simulator: Simulator, api: Api) -> int:
    simulator.state()  # looked at while it was empty
    simulator.push("a", layers=[990], config=10)
    simulator.clock(forward=60)
    return int(simulator.state()["size_metric"])


def seconds_off(simulator: Simulator, api: Api) -> int:
    date = parsedate_to_datetime(api.image("crp00000000000000000").headers["date"])
    return round((date - datetime.now(UTC)).total_seconds() / 10) * 10


def many_at_once(simulator: Simulator, api: Api) -> tuple[bool, str | None]:
    answers = [api.get(IMAGES, params={"registryId": api.registry_id}) for _ in range(8)]
    throttled = [answer for answer in answers if answer.status_code == 429]
    return bool(throttled), throttled[0].headers.get("retry-after") if throttled else None


def token_after_an_hour(simulator: Simulator, api: Api) -> int:
    token = simulator.new_token()
    simulator.clock(forward=3_600)
    return httpx.get(f"{simulator.url}{IMAGES}/crp0", headers={"Authorization": f"Bearer {token}"}).status_code


def took_a_tenth(simulator: Simulator, api: Api) -> bool:
    started = time.monotonic()
    api.image("crp00000000000000000")
    return time.monotonic() - started >= 0.1


def without_tags(simulator: Simulator, api: Api) -> Any:
    return api.image(simulator.push("a")["id"]).json().get("tags", "absent")


SWITCHED: list[tuple[str, Any, Probe, Any]] = [
    ("empty_fields", "omitted", without_tags, "absent"),
    ("empty_fields", "printed", without_tags, []),
    ("timestamp_digits", 3, fraction, 3),
    ("timestamp_digits", 0, fraction, 0),
    ("timestamp_digits", 6, fraction, 6),
    ("timestamp_digits", 9, fraction, 9),
    ("page_token", "keeps", stale_page, 200),
    ("page_token", "expires", stale_page, 400),
    ("deletes_during_paging", "rows_vanish", rows_after_a_deletion, 2),
    ("deletes_during_paging", "rows_shift", rows_after_a_deletion, 1),
    ("list_order", "id", newest_comes_first, False),
    ("list_order", "created_at", newest_comes_first, True),
    ("operations", "finish", after_a_long_time, True),
    ("operations", "never_done", after_a_long_time, False),
    ("image_vanishes", "at_done", there_right_after_acceptance, 200),
    ("image_vanishes", "at_acceptance", there_right_after_acceptance, 404),
    ("missing_image", "not_found", missing_image, ("status 404", 5)),
    ("missing_image", "operation_error", missing_image, ("an operation", 5)),
    ("missing_repository", "not_found", missing_repository, 404),
    ("missing_repository", "empty", missing_repository, 200),
    ("child_of_index", "refused", child_of_index, ("status 400", 9)),
    ("child_of_index", "operation_error", child_of_index, ("an operation", 9)),
    ("deleted_index", "children_stay", left_of_an_index, 2),
    ("deleted_index", "cascade", left_of_an_index, 1),
    ("index_fields", "none", lambda s, a: of_index(s, a).keys() & {"compressedSize", "config", "layers"}, set()),
    ("index_fields", "sum", lambda s, a: of_index(s, a)["compressedSize"], "1010"),
    ("error_before_done", False, error_while_running, False),
    ("error_before_done", True, error_while_running, True),
    ("requests_per_second", 0, many_at_once, (False, None)),
    ("requests_per_second", 2, many_at_once, (True, None)),
    ("front_proxy_status", 0, status_of_list, 200),
    ("front_proxy_status", 408, status_of_list, 408),
    ("front_proxy_status", 503, status_of_list, 503),
    ("front_proxy_status", 504, status_of_list, 504),
    ("token_seconds", 43_200, token_after_an_hour, 404),
    ("token_seconds", 60, token_after_an_hour, 401),
    ("idempotency", "remembered", second_operation_of_a_key, "the same"),
    ("idempotency", "forgotten", second_operation_of_a_key, "another"),
    ("size_metric_lag", 3_600, size_metric, 0),
    ("size_metric_lag", 0, size_metric, 1_000),
    ("phase", "normal", deletion, (200, 0)),
    ("phase", "read_only", deletion, (400, 9)),
    ("phase", "read_only", status_of_list, 200),
    ("phase", "gone", status_of_list, 404),
    ("foreign_registry", 403, foreign_list, 403),
    ("foreign_registry", 404, foreign_list, 404),
    ("ip_rules", "open", manifest_status, 200),
    ("ip_rules", "refuse", manifest_status, 403),
    ("may_view", True, status_of_list, 200),
    ("may_view", False, status_of_list, 403),
    ("may_delete", True, deletion, (200, 0)),
    ("may_delete", False, deletion, (403, 7)),
    ("may_pull", True, manifest_status, 200),
    ("may_pull", False, manifest_status, 403),
    ("docker_realm", "same_host", realm, True),
    ("docker_realm", "foreign_host", realm, False),
    ("clock_skew", 0, seconds_off, 0),
    ("clock_skew", -600, seconds_off, -600),
    ("latency", 0, took_a_tenth, False),
    ("latency", 0.1, took_a_tenth, True),
]


@pytest.mark.parametrize(
    ("name", "position", "probe", "seen"), [pytest.param(*row, id=f"{row[0]}={row[1]}") for row in SWITCHED]
)
def test_a_switch(simulator: Simulator, api: Api, name: str, position: Any, probe: Probe, seen: Any) -> None:
    simulator.switch(**{name: position})
    assert probe(simulator, api) == seen


def test_every_switch_is_shown_in_both_positions() -> None:
    shown = {name for name, *_ in SWITCHED}
    pairs = {"operation_seconds_from", "operation_seconds_to", "retry_after", "latency_jitter"}  # beside another switch
    assert shown | pairs == set(switches.names())
    assert all(len({str(row[1]) for row in SWITCHED if row[0] == name}) > 1 for name in shown)


def test_throttling_can_say_when_to_come_back(simulator: Simulator, api: Api) -> None:
    simulator.switch(requests_per_second=2, retry_after=3)
    assert many_at_once(simulator, api) == (True, "3")


def test_defaults_are_the_likely_service(process: Simulator) -> None:
    """Only the duration of operations is shorter in tests."""
    started = switches.turned(switches.Switches(), {"operation_seconds_from": 0.0, "operation_seconds_to": 0.05})
    process.reset()
    assert process.switch() == {name: getattr(started, name) for name in switches.names()}
    assert (switches.Switches().operation_seconds_from, switches.Switches().operation_seconds_to) == (0.2, 3.0)


@pytest.mark.parametrize(
    ("name", "value"), [("nosuch", 1), ("phase", "half"), ("may_view", "perhaps"), ("latency", "long")]
)
def test_a_wrong_switch_is_an_error(simulator: Simulator, name: str, value: Any) -> None:
    with pytest.raises(SimulatorError, match=name):
        simulator.switch(**{name: value})


# Faults


def docker_login(simulator: Simulator) -> dict[str, str]:
    encoded = base64.b64encode(f"iam:{simulator.token}".encode()).decode()
    return {"Authorization": f"Basic {encoded}", "Accept": FOUR_TYPES}


def seen(api: Api, **query: Any) -> Any:
    """What a client makes of one list: its status, or what broke."""
    try:
        answer = api.get(IMAGES, params={"registryId": api.registry_id, **query})
        answer.json()
    except httpx.RemoteProtocolError:
        return "cut"
    except httpx.TimeoutException:
        return "time-out"
    except httpx.TransportError:
        return "reset"
    except UnicodeDecodeError:
        return "not UTF-8"
    except json.JSONDecodeError:
        return f"{answer.status_code} no JSON"
    return answer.status_code


SPOILED: list[tuple[str, dict[str, Any], Any]] = [
    ("status", {"status": 503}, "503 no JSON"),
    ("status", {"status": 504}, "504 no JSON"),
    ("status", {"status": 408}, "408 no JSON"),
    ("error", {"code": 13}, 500),
    ("error", {"code": 8}, 429),
    ("unauthenticated", {}, 401),
    ("expire_tokens", {}, 401),
    ("reset", {}, "reset"),
    ("reply_lost", {}, "reset"),
    ("cut", {}, "cut"),
    ("html", {}, "200 no JSON"),
    ("broken_utf8", {}, "not UTF-8"),
    ("latency", {"seconds": 0.01}, 200),
]


@pytest.mark.parametrize(
    ("kind", "arguments", "what"),
    [pytest.param(*row, id=f"{row[0]} {next(iter(row[1].values()), '')}".strip()) for row in SPOILED],
)
def test_a_fault_strikes_as_often_as_told(
    simulator: Simulator, kind: str, arguments: dict[str, Any], what: Any
) -> None:
    simulator.push("shop/api")
    simulator.fault(kind, method="GET", path="^/container-registry/v1/images", times=1, after=1, **arguments)
    with Api(simulator) as api:
        struck = [seen(api) for _ in range(3)]
    healed = 401 if kind == "expire_tokens" else 200
    assert struck == [200, what, healed]
    assert [fault["struck"] for fault in simulator.state()["faults"]] == [1]
    simulator.reset()


def test_a_body_that_drips(simulator: Simulator, api: Api) -> None:
    """Every byte comes in time, so only a limit on the whole call ends it."""
    image = simulator.push("shop/api")
    simulator.fault("drip", seconds=0.001)
    with api.stream("GET", f"{IMAGES}/{image['id']}") as answer:
        pieces = list(answer.iter_raw())
    assert len(pieces) > 50
    assert json.loads(b"".join(pieces))["id"] == image["id"]


def test_no_date(simulator: Simulator, api: Api) -> None:
    simulator.fault("no_date", times=1)
    assert ["date" in api.image("x").headers for _ in range(2)] == [False, True]


def test_a_huge_body(simulator: Simulator, api: Api) -> None:
    simulator.fault("huge_body", bytes=3_000_000)
    assert len(api.get(IMAGES, params={"registryId": api.registry_id}).content) > 3_000_000


def test_a_row_that_repeats(simulator: Simulator, api: Api) -> None:
    ids = sorted(simulator.push("shop/api")["id"] for _ in range(3))
    simulator.fault("repeated_row")
    assert [row["id"] for row in api.page()["images"]] == [*ids, ids[0]]


def test_no_answer_at_all(simulator: Simulator) -> None:
    simulator.fault("hang", times=1)
    with Api(simulator) as api:
        api.timeout = httpx.Timeout(0.2)
        assert [seen(api), seen(api)] == ["time-out", 200]


@pytest.mark.parametrize("told", [None, 7])
def test_throttled_by_a_fault(simulator: Simulator, api: Api, told: int | None) -> None:
    more: dict[str, Any] = {"retry_after": told} if told else {}
    simulator.fault("error", code=8, **more)
    assert api.get(IMAGES).headers.get("retry-after") == (str(told) if told else None)


def test_a_fault_may_be_a_matter_of_chance(simulator: Simulator, api: Api) -> None:
    simulator.fault("status", probability=0.5)
    assert {seen(api) for _ in range(40)} == {200, "503 no JSON"}


@pytest.mark.parametrize(
    ("kind", "arguments", "expected"),
    [
        pytest.param("wrong_types", {}, {"tags": "latest", "compressedSize": [1]}, id="wrong types"),
        pytest.param("wrong_types", {"set": {"name": 5}}, {"name": 5}, id="a type of choice"),
        pytest.param("huge_numbers", {}, {"compressedSize": "99999999999999999999999"}, id="huge numbers"),
        pytest.param("missing_fields", {}, {"digest": None}, id="no digest"),
        pytest.param("missing_fields", {"drop": ["id", "name"]}, {"id": None, "name": None}, id="no id, no name"),
    ],
)
@pytest.mark.parametrize("call", ["list", "get"])
def test_altered_rows(
    simulator: Simulator, api: Api, kind: str, arguments: dict[str, Any], expected: dict[str, Any], call: str
) -> None:
    image = simulator.push("shop/api", tags=["v1"])
    simulator.fault(kind, **arguments)
    row = api.page()["images"][0] if call == "list" else api.image(image["id"]).json()
    assert {name: row.get(name) for name in expected} == expected
    assert row["createdAt"].startswith("20")


def test_the_same_token_for_ever(simulator: Simulator, api: Api) -> None:
    simulator.push("shop/api")
    simulator.fault("same_token")
    first = api.page()
    second = api.page(pageToken=first["nextPageToken"])
    assert (second["nextPageToken"], second.get("images", [])) == (first["nextPageToken"], [])


def test_another_page_for_ever(simulator: Simulator, api: Api) -> None:
    simulator.push("shop/api")
    simulator.fault("endless_token")
    tokens, page = set(), api.page()
    for _ in range(5):
        tokens.add(page["nextPageToken"])
        page = api.page(pageToken=page["nextPageToken"])
    assert len(tokens) == 5


def test_a_page_that_repeats(simulator: Simulator, api: Api) -> None:
    for _ in range(6):
        simulator.push("shop/api")
    simulator.fault("repeated_page", path="pageToken", times=1)
    first = api.page(pageSize=2)
    second = api.page(pageSize=2, pageToken=first["nextPageToken"])
    third = api.page(pageSize=2, pageToken=second["nextPageToken"])
    assert first["images"] == second["images"] != third["images"]


def test_a_deletion_whose_answer_is_lost_is_done(simulator: Simulator, api: Api) -> None:
    image, key = simulator.push("shop/api"), str(uuid.uuid4())
    simulator.fault("reply_lost", method="DELETE", times=1)
    with pytest.raises(httpx.TransportError):
        api.ask_to_delete(image["id"], key)
    assert api.followed(api.ask_to_delete(image["id"], key))["done"] is True
    assert simulator.state()["deletes"] == {image["id"]: 2}
    assert len(simulator.state()["deleted"]) == 1


def test_operations_that_hang_or_fail(simulator: Simulator, api: Api) -> None:
    images = [simulator.push("shop/api")["id"] for _ in range(3)]
    simulator.fault("hang_operation", path=images[0])
    simulator.fault("fail_operation", path=images[1], code=13, message="storage is away")
    accepted = [api.ask_to_delete(image) for image in images]
    assert api.followed(accepted[1])["error"]["message"] == "storage is away"
    assert "response" in api.followed(accepted[2])
    assert "done" not in api.operation(accepted[0].json()["id"])
    assert {image["id"] for image in simulator.images()} == set(images[:2])


def test_a_tag_moves_between_list_and_get(simulator: Simulator, api: Api) -> None:
    old = simulator.push("shop/api", tags=["v1"])
    new = simulator.push("shop/api")
    simulator.before("GET", f"images/{old['id']}", "tag", repository="shop/api", reference=new["digest"], tag="v1")
    assert next(row for row in api.listed() if row["id"] == old["id"])["tags"] == ["v1"]
    assert "tags" not in api.image(old["id"]).json()
    assert api.image(new["id"]).json()["tags"] == ["v1"]


def test_a_push_between_get_and_delete_adopts_the_image(simulator: Simulator, api: Api) -> None:
    image = simulator.push("shop/api")
    simulator.before("DELETE", "images/", "adopt", image="{image}", tags=["multi"])
    assert api.image(image["id"]).status_code == 200
    answer = api.ask_to_delete(image["id"])
    assert "are used by image lists" in answer.json()["message"]
    index = next(image for image in simulator.images() if image["index"])
    assert (index["children"], index["tags"]) == ([image["digest"]], ["multi"])


def test_a_push_right_after_a_list(simulator: Simulator, api: Api) -> None:
    simulator.push("shop/api")
    simulator.after("GET", "images\\?", "push", repository="shop/api", tags=["late"])
    assert [len(api.page()["images"]) for _ in range(2)] == [1, 2]


def test_every_fault_is_shown() -> None:
    shown = {kind for kind, *_ in SPOILED} | {"hang", "wrong_types", "huge_numbers", "missing_fields", "do"}
    shown |= {"drip", "no_date", "huge_body", "repeated_row"}
    shown |= {"same_token", "endless_token", "repeated_page", "hang_operation", "fail_operation"}
    assert shown == set(KINDS)


def test_an_unknown_fault_is_an_error(simulator: Simulator) -> None:
    with pytest.raises(SimulatorError, match="no fault 'fire'"):
        simulator.fault("fire")


# Requests that no client should send


@pytest.mark.parametrize(
    ("method", "path", "options", "why"),
    [
        pytest.param("GET", "/nosuch", {}, "no such path", id="path"),
        pytest.param("GET", f"{IMAGES}?nosuch=1", {}, "no parameter 'nosuch'", id="parameter"),
        pytest.param("GET", f"{IMAGES}?registryId=a&registryId=b", {}, "twice", id="parameter twice"),
        pytest.param("GET", f"{IMAGES}?registryId={DEFAULT_REGISTRY}&pageSize=1001", {}, "pageSize", id="page size"),
        pytest.param("GET", f"{IMAGES}?registryId={DEFAULT_REGISTRY}&pageSize=-1", {}, "pageSize", id="negative size"),
        pytest.param("GET", f"{IMAGES}?registryId={DEFAULT_REGISTRY}&pageToken=x", {}, "pageToken", id="token"),
        pytest.param("GET", f"{IMAGES}?repositoryName=A/b", {}, "outside the grammar", id="repository's name"),
        pytest.param("GET", f"{IMAGES}/a/b", {}, "not a call", id="two ids"),
        pytest.param("DELETE", f"{IMAGES}/x?force=1", {}, "no parameter", id="DELETE with a parameter"),
        pytest.param("DELETE", f"{IMAGES}/x", {"headers": {"Idempotency-Key": "7"}}, "no UUID", id="key"),
        pytest.param("DELETE", "/container-registry/v1/repositories/x", {}, "not a method", id="DELETE a repository"),
        pytest.param("POST", IMAGES, {"json": {}}, "not a method", id="POST"),
        pytest.param("GET", f"{OPERATIONS}/x:cancel", {}, "not a call", id="cancel"),
        pytest.param("DELETE", "/v2/a/b/manifests/latest", {}, "not a call", id="DELETE a manifest"),
        pytest.param("GET", "/v2/a/b/blobs/x", {}, "no such call", id="blob"),
        pytest.param("GET", "/v2/_catalog", {}, "no such call", id="catalog"),
        pytest.param("POST", "/iam/v1/tokens", {"json": {"yandexPassportOauthToken": "y0_"}}, "jwt", id="OAuth"),
        pytest.param("POST", "/iam/v1/tokens", {"content": b"jwt"}, "Content-Type", id="IAM without a type"),
        pytest.param("GET", "/computeMetadata/v1/instance/", {}, "not a call", id="metadata"),
    ],
)
def test_what_the_service_does_not_know(
    simulator: Simulator, api: Api, method: str, path: str, options: dict[str, Any], why: str
) -> None:
    answer = api.request(method, path, **options)
    assert answer.is_client_error
    found = refusals(simulator)
    assert len(found) == 1
    assert why in found[0]


def test_a_token_belongs_to_its_query(simulator: Simulator, api: Api) -> None:
    for repository in ("a", "b", "a", "b"):
        simulator.push(repository)
    name = f"{simulator.registry_id}/a"
    token = api.page(pageSize=1)["nextPageToken"]
    answer = api.get(IMAGES, params={"repositoryName": name, "pageSize": 1, "pageToken": token})
    assert answer.status_code == 400
    assert refusals(simulator) == ["pageToken was not made for this query"]


def test_a_key_belongs_to_its_image(simulator: Simulator, api: Api) -> None:
    first, second, key = simulator.push("a")["id"], simulator.push("a")["id"], str(uuid.uuid4())
    api.ask_to_delete(first, key)
    assert api.ask_to_delete(second, key).json()["code"] == 3


def test_the_log_of_requests(simulator: Simulator, api: Api) -> None:
    image, key = simulator.push("shop/api")["id"], str(uuid.uuid4())
    api.page(pageSize=7)
    api.ask_to_delete(image, key)
    listed, deleted = simulator.requests()
    assert (listed["method"], listed["path"], listed["status"]) == ("GET", IMAGES, 200)
    assert listed["query"] == f"registryId={simulator.registry_id}&pageSize=7"
    assert (deleted["image"], deleted["key"]) == (image, key)
    assert simulator.requests(method="DELETE", path=IMAGES) == simulator.requests(since=1) == [deleted]


# Signing in


def signed(key: dict[str, str], algorithm: str = "PS256", key_id: str | None = None, **claims: Any) -> str:
    now = int(time.time())
    facts = {"iss": key["service_account_id"], "aud": AUDIENCE, "iat": now, "exp": now + 3_600, **claims}
    return jwt.encode(facts, key["private_key"], algorithm=algorithm, headers={"kid": key_id or key["id"]})


def exchange(simulator: Simulator, text: str) -> httpx.Response:
    return httpx.post(f"{simulator.url}/iam/v1/tokens", json={"jwt": text})


@pytest.fixture(scope="module")
def key(process: Simulator) -> dict[str, str]:
    return process.service_account_key()


def test_a_signed_key_becomes_a_token(simulator: Simulator, key: dict[str, str]) -> None:
    document = exchange(simulator, signed(key)).json()
    answer = httpx.get(f"{simulator.url}{IMAGES}/x", headers={"Authorization": f"Bearer {document['iamToken']}"})
    assert answer.json()["code"] == 5
    left = datetime.fromisoformat(document["expiresAt"]) - datetime.now(UTC)
    assert timedelta(hours=11.9) < left <= timedelta(hours=12)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"algorithm": "RS256"}, 16, id="another algorithm"),
        pytest.param({"key_id": "ajeunknown0000000000"}, 16, id="an unknown key"),
        pytest.param({"iss": "ajesomebodyelse00000"}, 16, id="another account"),
        pytest.param({"aud": "https://example.net/iam/v1/tokens"}, 16, id="another audience"),
        pytest.param({"exp": int(time.time()) - 10}, 16, id="expired"),
        pytest.param({"iat": int(time.time()) + 7_000, "exp": int(time.time()) + 8_000}, 16, id="of the future"),
        pytest.param({"exp": int(time.time()) + 9_000}, 3, id="too long"),
    ],
)
def test_a_key_signed_wrongly(simulator: Simulator, key: dict[str, str], changes: dict[str, Any], code: int) -> None:
    answer = exchange(simulator, signed(key, **changes))
    assert (answer.is_client_error, answer.json()["code"]) == (True, code)


def test_a_key_that_somebody_else_signed(simulator: Simulator) -> None:
    forged = simulator.service_account_key("ajeforged00000000000")
    simulator.service_account_key("ajeforged00000000000")  # the service knows another key by that name now
    assert exchange(simulator, signed(forged)).status_code == 401
    simulator.forget_key("ajeforged00000000000")
    assert exchange(simulator, signed(forged)).json()["message"] == "Unknown key"


def test_the_metadata_service(simulator: Simulator) -> None:
    path = f"{simulator.url}/computeMetadata/v1/instance/service-accounts/default/token"
    document = httpx.get(path, headers={"Metadata-Flavor": "Google"}).json()
    assert (document["token_type"], document["expires_in"] > 43_000) == ("Bearer", True)
    answer = httpx.get(f"{simulator.url}{IMAGES}/x", headers={"Authorization": f"Bearer {document['access_token']}"})
    assert answer.status_code == 404
    assert httpx.get(path).status_code == 403
    assert refusals(simulator) == ["Metadata-Flavor: Google is missing"]


@pytest.mark.parametrize("header", ["", "Bearer t1.nobody", "Basic aWFtOng="])
def test_nobody(simulator: Simulator, header: str) -> None:
    for path in (f"{IMAGES}/x", f"{OPERATIONS}/x"):
        answer = httpx.get(f"{simulator.url}{path}", headers={"Authorization": header} if header else {})
        assert (answer.status_code, answer.json()["code"]) == (401, 16)


def test_tokens_that_expire_in_the_middle(process: Simulator, api: Api) -> None:
    assert api.image("x").status_code == 404
    process.expire_tokens()
    assert api.image("x").status_code == 401
    assert httpx.get(f"{process.url}/v2/", headers=docker_login(process)).status_code == 401


# Docker


def test_the_token_challenge(simulator: Simulator) -> None:
    image = simulator.push("shop/api", tags=["v1"])
    simulator.push("shop/web", tags=["v1"])
    url = f"{simulator.url}/v2/{simulator.registry_id}"
    answer = httpx.get(f"{url}/shop/api/manifests/v1")
    challenge = answer.headers["www-authenticate"]
    scope = f"repository:{simulator.registry_id}/shop/api:pull"
    host = simulator.url.removeprefix("http://")
    assert challenge == f'Bearer realm="{simulator.url}/v2/token/",service="{host}",scope="{scope}"'
    asked = httpx.get(
        f"{simulator.url}/v2/token/", params={"service": host, "scope": scope}, headers=docker_login(simulator)
    )
    headers = {"Authorization": f"Bearer {asked.json()['token']}", "Accept": FOUR_TYPES}
    found = httpx.get(f"{url}/shop/api/manifests/v1", headers=headers)
    assert digest_of(found.content) == found.headers["docker-content-digest"] == image["digest"]
    assert httpx.get(f"{url}/shop/web/manifests/v1", headers=headers).status_code == 401  # another scope
    assert httpx.get(f"{simulator.url}/v2/token/", params={"scope": scope}).status_code == 401  # no credentials


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_manifests_of_all_types(simulator: Simulator, kind: str) -> None:
    child = simulator.push("a/b", layers=["base:100"], config=7, type=kind)
    index = simulator.push_index("a/b", [child["id"]], tags=["multi"], type=kind)
    url = f"{simulator.url}/v2/{simulator.registry_id}/a/b/manifests"
    found = httpx.get(f"{url}/multi", headers=docker_login(simulator))
    assert digest_of(found.content) == index["digest"]
    assert [entry["digest"] for entry in found.json()["manifests"]] == [child["digest"]]
    assert found.json()["mediaType"] == found.headers["content-type"]
    head = httpx.head(f"{url}/{child['digest']}", headers=docker_login(simulator))
    assert (head.content, head.headers["docker-content-digest"]) == (b"", child["digest"])
    one = httpx.get(f"{url}/{child['digest']}", headers=docker_login(simulator)).json()
    assert (one["config"]["size"], [layer["size"] for layer in one["layers"]]) == (7, [100])


def test_a_type_that_is_not_accepted(simulator: Simulator) -> None:
    index = simulator.push_index("a/b", [simulator.push("a/b")["id"]])
    url = f"{simulator.url}/v2/{simulator.registry_id}/a/b/manifests"
    headers = docker_login(simulator) | {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    answer = httpx.get(f"{url}/{index['digest']}", headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "MANIFEST_UNKNOWN")


def test_tags_and_what_is_not_there(simulator: Simulator) -> None:
    simulator.push("a", tags=["v1", "v2"])
    root = f"{simulator.url}/v2/{simulator.registry_id}"
    asked = [
        httpx.get(f"{root}/{path}", headers=docker_login(simulator))
        for path in ("a/tags/list", "a/manifests/x", "b/tags/list")
    ]
    assert asked[0].json()["tags"] == ["v1", "v2"]
    assert [answer.status_code for answer in asked[1:]] == [404, 404]


# Bytes


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sets(st.integers(0, 5)), st.integers(0, 3)), max_size=12), st.data()
)
def test_lost_bytes_are_what_nobody_names_any_more(
    pushes: list[tuple[str, set[int], int]], data: st.DataObject
) -> None:
    """Against sets: everything ever pushed, less what is left."""
    cloud = Cloud(NOW)
    for path, layers, config in pushes:
        cloud.push(path, layers=[blob(layer) for layer in sorted(layers)], config=blob(config + 10), created_at=NOW)
    ever = {held for image in cloud.by_id.values() for held in image.blobs}
    for image in data.draw(st.permutations(list(cloud.by_id.values())).map(lambda images: images[: len(images) // 2])):
        cloud.remove(image, by_request=True)
    left = {held for image in cloud.by_id.values() for held in image.blobs}
    registry = cloud.registries[DEFAULT_REGISTRY]
    assert registry.bytes == sum(held.size for held in left)
    assert registry.lost_bytes == registry.lost_bytes_by_request == sum(held.size for held in ever - left)


def blob(number: int) -> Blob:
    return Blob(digest_of(str(number).encode()), 2**number)


# The filling


def filled(seed: int) -> Cloud:
    cloud = Cloud(NOW)
    fill.fill(cloud, "demo", NOW, seed)
    return cloud


def test_the_demo_is_the_same_for_a_seed_and_another_for_another() -> None:
    assert set(filled(1).by_id) == set(filled(1).by_id) != set(filled(2).by_id)


def test_the_demo_is_believable() -> None:
    registry = filled(1).registries[DEFAULT_REGISTRY]
    images = list(registry.images())
    children = {child for image in images for child in image.children}
    sizes = [sum(held.size for held in image.blobs) for image in images if image.blobs]
    ages = [NOW - image.created_at for image in images]
    named = [tag for image in images for tag in image.tags]

    assert (len(registry.repositories), 1_800 < len(images) < 2_200) == (25, True)
    assert registry.bytes < 0.8 * sum(sizes)  # layers are shared
    assert sum(image.is_index for image in images) > 80
    assert not any(image.tags for image in images if image.digest in children)
    assert sum(not image.tags and image.digest not in children for image in images) > 300  # leftovers
    assert sum(tag.startswith("pr-") for tag in named) > 150
    assert sum(tag.endswith(".sig") for tag in named) > 60
    assert sum(tag.startswith("v") for tag in named) > 200
    assert {"latest", "stable", "main", "nightly"} <= set(named)
    assert (min(sizes) < 1_000, max(sizes) > 5 * 2**30) == (True, True)
    assert (max(ages) > timedelta(days=600), min(ages) >= timedelta(0)) == (True, True)
    assert all(image.created_at.microsecond % 1_000 == 0 for image in images)


def test_a_plain_number_of_images() -> None:
    cloud = Cloud(NOW)
    assert fill.fill(cloud, "500", NOW, 1) == {"images": 500}
    assert sum(bool(image.tags) for image in cloud.by_id.values()) == 333


def test_a_busy_day_adds_what_it_says_and_moves_tags(simulator: Simulator) -> None:
    before = simulator.fill("demo")["images"]
    main = {image["id"] for image in simulator.images() if "main" in image["tags"]}
    assert simulator.push_more(60)["images"] == before + 60
    assert main - {image["id"] for image in simulator.images() if "main" in image["tags"]}


# The process


def test_a_file_of_pushes(tmp_path: Path) -> None:
    pushes = tmp_path / "pushes.json"
    pushes.write_text(
        json.dumps(
            [
                {"repository": "shop/api", "tags": ["v1"], "layers": ["base:1000"], "age": 86_400},
                {"command": "push_index", "repository": "shop/api", "children": ["v1"], "tags": ["multi"]},
            ]
        )
    )
    with Simulator(fill=str(pushes)) as simulator:
        assert [image["tags"] for image in simulator.images()] == [["v1"], ["multi"]]


@pytest.mark.parametrize("words", [["--switch", "nosuch=1"], ["--fill", "nosuch"], ["--fill", "nosuch.json"]])
def test_wrong_words_are_one_line(words: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.simulator", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("simulator: ")
    assert ended.stderr.count("\n") == 1


def test_it_does_not_outlive_a_killed_test() -> None:
    program = "from tests.simulator.client import Simulator\ns = Simulator().start()\nprint(s.pid, flush=True)\ninput()"
    owner = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    with owner.stdin, owner.stdout:
        simulator = psutil.Process(int(owner.stdout.readline()))
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait(timeout=10)
        until(
            lambda: not simulator.is_running() or simulator.status() == psutil.STATUS_ZOMBIE, what="its end", timeout=10
        )
