"""Each switch in every position, as a caller sees it."""

import time
import uuid
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from tests.support.simulator import switches
from tests.support.simulator.caller import IMAGES, NOW, Api, docker_login
from tests.support.simulator.client import Simulator, SimulatorError
from tests.support.simulator.cloud_switches import CloudSwitches
from tests.support.simulator.sign_in import EXCHANGE_FORM

Probe = Callable[[Simulator, Api], Any]


def of_index(simulator: Simulator, api: Api) -> dict[str, Any]:
    child = simulator.push("a", layers=[1_000], config=10)
    index = simulator.push_index("a", [child["id"]])
    document: dict[str, Any] = api.image(index["id"]).json()
    return document


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
    simulator.state()  # read while the registry was empty
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


def refused_exchange(simulator: Simulator, api: Api) -> tuple[int, list[str]]:
    form = {**EXCHANGE_FORM, "audience": "aje334oo634h1rdhiiku", "subject_token": "unknown"}
    answer = httpx.post(f"{simulator.url}/oauth/token", data=form)
    return answer.status_code, sorted(answer.json())


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
    ("exchange_errors", "oauth", refused_exchange, (400, ["error", "error_description"])),
    ("exchange_errors", "status", refused_exchange, (401, ["code", "details", "message"])),
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
def test_a_switch_changes_the_service(
    simulator: Simulator, api: Api, name: str, position: Any, probe: Probe, seen: Any
) -> None:
    simulator.switch(**{name: position})
    assert probe(simulator, api) == seen


def test_every_switch_has_a_case_in_both_positions() -> None:
    shown = {name for name, *_ in SWITCHED}
    # tested together with another switch
    pairs = {"operation_seconds_from", "operation_seconds_to", "retry_after", "latency_jitter"}
    elsewhere = {field.name for field in fields(CloudSwitches)}  # `test_cloud_switches.py`
    assert shown | pairs | elsewhere == set(switches.names())
    assert all(len({str(row[1]) for row in SWITCHED if row[0] == name}) > 1 for name in shown)


def test_throttling_can_send_retry_after(simulator: Simulator, api: Api) -> None:
    simulator.switch(requests_per_second=2, retry_after=3)
    assert many_at_once(simulator, api) == (True, "3")


def test_switches_default_to_the_likely_service(running: Simulator) -> None:
    """Only the duration of operations is shorter in tests."""
    started = switches.turned(switches.Switches(), {"operation_seconds_from": 0.0, "operation_seconds_to": 0.05})
    running.reset()
    assert running.switch() == {name: getattr(started, name) for name in switches.names()}
    assert (switches.Switches().operation_seconds_from, switches.Switches().operation_seconds_to) == (0.2, 3.0)


@pytest.mark.parametrize(
    ("name", "value"), [("nosuch", 1), ("phase", "half"), ("may_view", "perhaps"), ("latency", "long")]
)
def test_refuses_an_unknown_switch_or_position(simulator: Simulator, name: str, value: Any) -> None:
    with pytest.raises(SimulatorError, match=name):
        simulator.switch(**{name: value})
