"""Every fault, as a caller sees it."""

import json
import uuid
from typing import Any

import httpx
import pytest

from tests.support.simulator.caller import IMAGES, Api
from tests.support.simulator.client import Simulator, SimulatorError
from tests.support.simulator.faults import KINDS


def seen(api: Api, **query: Any) -> Any:
    """A client's result of one listing: its status, or the error."""
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
def test_a_fault_strikes_the_given_number_of_times(
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


def test_sends_a_body_byte_by_byte(simulator: Simulator, api: Api) -> None:
    """Every byte arrives in time, so only a limit on the whole call ends it."""
    image = simulator.push("shop/api")
    simulator.fault("drip", seconds=0.001)
    with api.stream("GET", f"{IMAGES}/{image['id']}") as answer:
        pieces = list(answer.iter_raw())
    assert len(pieces) > 50
    assert json.loads(b"".join(pieces))["id"] == image["id"]


def test_sends_a_response_without_date(simulator: Simulator, api: Api) -> None:
    simulator.fault("no_date", times=1)
    assert ["date" in api.image("x").headers for _ in range(2)] == [False, True]


def test_sends_a_huge_body(simulator: Simulator, api: Api) -> None:
    simulator.fault("huge_body", bytes=3_000_000)
    assert len(api.get(IMAGES, params={"registryId": api.registry_id}).content) > 3_000_000


def test_repeats_a_row(simulator: Simulator, api: Api) -> None:
    ids = sorted(simulator.push("shop/api")["id"] for _ in range(3))
    simulator.fault("repeated_row")
    assert [row["id"] for row in api.page()["images"]] == [*ids, ids[0]]


def test_sends_no_response(simulator: Simulator) -> None:
    simulator.fault("hang", times=1)
    with Api(simulator) as api:
        api.timeout = httpx.Timeout(0.2)
        assert [seen(api), seen(api)] == ["time-out", 200]


@pytest.mark.parametrize("retry_after", [None, 7])
def test_throttles_requests(simulator: Simulator, api: Api, retry_after: int | None) -> None:
    more: dict[str, Any] = {"retry_after": retry_after} if retry_after else {}
    simulator.fault("error", code=8, **more)
    assert api.get(IMAGES).headers.get("retry-after") == (str(retry_after) if retry_after else None)


def test_a_fault_strikes_with_a_probability(simulator: Simulator, api: Api) -> None:
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
def test_alters_the_fields_of_rows(
    simulator: Simulator, api: Api, kind: str, arguments: dict[str, Any], expected: dict[str, Any], call: str
) -> None:
    image = simulator.push("shop/api", tags=["v1"])
    simulator.fault(kind, **arguments)
    row = api.page()["images"][0] if call == "list" else api.image(image["id"]).json()
    assert {name: row.get(name) for name in expected} == expected
    assert row["createdAt"].startswith("20")


def test_repeats_the_same_page_token(simulator: Simulator, api: Api) -> None:
    simulator.push("shop/api")
    simulator.fault("same_token")
    first = api.page()
    second = api.page(pageToken=first["nextPageToken"])
    assert (second["nextPageToken"], second.get("images", [])) == (first["nextPageToken"], [])


def test_always_has_another_page(simulator: Simulator, api: Api) -> None:
    simulator.push("shop/api")
    simulator.fault("endless_token")
    tokens, page = set(), api.page()
    for _ in range(5):
        tokens.add(page["nextPageToken"])
        page = api.page(pageToken=page["nextPageToken"])
    assert len(tokens) == 5


def test_repeats_a_page(simulator: Simulator, api: Api) -> None:
    for _ in range(6):
        simulator.push("shop/api")
    simulator.fault("repeated_page", path="pageToken", times=1)
    first = api.page(pageSize=2)
    second = api.page(pageSize=2, pageToken=first["nextPageToken"])
    third = api.page(pageSize=2, pageToken=second["nextPageToken"])
    assert first["images"] == second["images"] != third["images"]


def test_loses_the_response_of_a_deletion(simulator: Simulator, api: Api) -> None:
    image, key = simulator.push("shop/api"), str(uuid.uuid4())
    simulator.fault("reply_lost", method="DELETE", times=1)
    with pytest.raises(httpx.TransportError):
        api.ask_to_delete(image["id"], key)
    assert api.followed(api.ask_to_delete(image["id"], key))["done"] is True
    assert simulator.state()["deletes"] == {image["id"]: 2}
    assert len(simulator.state()["deleted"]) == 1


def test_operations_hang_or_fail(simulator: Simulator, api: Api) -> None:
    images = [simulator.push("shop/api")["id"] for _ in range(3)]
    simulator.fault("hang_operation", path=images[0])
    simulator.fault("fail_operation", path=images[1], code=13, message="storage is away")
    accepted = [api.ask_to_delete(image) for image in images]
    assert api.followed(accepted[1])["error"]["message"] == "storage is away"
    assert "response" in api.followed(accepted[2])
    assert "done" not in api.operation(accepted[0].json()["id"])
    assert {image["id"] for image in simulator.images()} == set(images[:2])


def test_moves_a_tag_between_list_and_get(simulator: Simulator, api: Api) -> None:
    old = simulator.push("shop/api", tags=["v1"])
    new = simulator.push("shop/api")
    simulator.before("GET", f"images/{old['id']}", "tag", repository="shop/api", reference=new["digest"], tag="v1")
    assert next(row for row in api.listed() if row["id"] == old["id"])["tags"] == ["v1"]
    assert "tags" not in api.image(old["id"]).json()
    assert api.image(new["id"]).json()["tags"] == ["v1"]


def test_pushes_an_index_between_get_and_delete(simulator: Simulator, api: Api) -> None:
    image = simulator.push("shop/api")
    simulator.before("DELETE", "images/", "adopt", image="{image}", tags=["multi"])
    assert api.image(image["id"]).status_code == 200
    answer = api.ask_to_delete(image["id"])
    assert "are used by image lists" in answer.json()["message"]
    index = next(image for image in simulator.images() if image["index"])
    assert (index["children"], index["tags"]) == ([image["digest"]], ["multi"])


def test_pushes_right_after_a_list(simulator: Simulator, api: Api) -> None:
    simulator.push("shop/api")
    simulator.after("GET", "images\\?", "push", repository="shop/api", tags=["late"])
    assert [len(api.page()["images"]) for _ in range(2)] == [1, 2]


def test_every_fault_has_a_case() -> None:
    shown = {kind for kind, *_ in SPOILED} | {"hang", "wrong_types", "huge_numbers", "missing_fields", "do"}
    shown |= {"drip", "no_date", "huge_body", "repeated_row"}
    shown |= {"same_token", "endless_token", "repeated_page", "hang_operation", "fail_operation"}
    assert shown == set(KINDS)


def test_refuses_an_unknown_fault(simulator: Simulator) -> None:
    with pytest.raises(SimulatorError, match="no fault 'fire'"):
        simulator.fault("fire")
