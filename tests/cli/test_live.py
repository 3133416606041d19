"""`plan` and `inventory` of a registry over real HTTP: what they print, and what they leave alone."""

import json
from datetime import timedelta

import pytest

from tests.support.command import COMMAND, on_a_terminal
from tests.support.servers import free_port

DAY = timedelta(days=1)


@pytest.fixture
def filled(simulator):
    """Two repositories: a release, pull requests old and new, a leftover, an index with its child, a signature."""
    simulator.push("shop/api", tags=["v1.0.0"], layers=["base:1000", 10], age=100 * DAY)
    old = simulator.push("shop/api", tags=["pr-1"], layers=["base:1000", 200], age=52 * DAY)
    simulator.push("shop/api", tags=["pr-2"], layers=["base:1000", 300], age=2 * DAY)
    simulator.sign("shop/api", old["digest"], age=52 * DAY)
    child = simulator.push("shop/web", layers=[400], age=30 * DAY)
    simulator.push_index("shop/web", [child["digest"]], tags=["pr-7"], age=30 * DAY)
    simulator.push("shop/web", layers=["base:1000", 50], age=10 * DAY)
    return simulator


def test_the_plan_as_json(filled, night, gc):
    night()
    done = gc("plan", "production", "--format", "json")
    assert (done.code, done.err) == (0, "")
    plan = done.json
    assert list(plan) == [
        "registry", "policy", "now", "complete", "unreadable", "totals", "exceeded", "warnings", "undecidable",
        "unreadable_images", "decisions",
    ]  # fmt: skip
    assert (plan["registry"], plan["policy"], plan["complete"]) == ("production", "nightly", True)
    assert (plan["unreadable"], plan["exceeded"]) == ([], [])
    assert (plan["totals"]["images"], plan["totals"]["delete"], plan["totals"]["keep"]) == (7, 5, 2)
    assert [one["repository"] for one in plan["decisions"]] == ["shop/api"] * 4 + ["shop/web"] * 3
    assert {one["cause"] for one in plan["decisions"]} == {"selected", "follows", "kept_by_rule", "no_rule"}
    assert list(plan["decisions"][0]) == [
        "id", "repository", "digest", "tags", "created_at", "size", "verdict", "cause", "rule", "needed_by", "reason",
    ]  # fmt: skip


def test_ndjson_is_the_head_and_then_a_decision_a_line(filled, night, gc):
    night()
    whole = gc("plan", "production", "--format", "json", "--now", "2027-01-01").json
    head, *decisions = gc("plan", "production", "--format", "ndjson", "--now", "2027-01-01T03:00:00+03:00").lines
    assert head == {key: value for key, value in whole.items() if key != "decisions"}
    assert decisions == whole["decisions"]
    assert head["now"] == "2027-01-01T00:00:00Z"


def test_the_plan_as_a_table(filled, night, gc):
    night()
    done = gc("plan", "production", "--now", "2100-01-01")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0] == "production: policy nightly, as of 2100-01-01T00:00:00Z"
    assert "REPOSITORY  DIGEST               TAGS" in done.out
    assert "every tag matches pr-*" in done.out
    assert "6 images of 7 go, 1 stays." in done.out
    assert "kept by rule releases" in done.out
    assert "\x1b" not in done.out


def test_a_long_plan_is_grouped(simulator, night, gc):
    for number in range(41):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=(20 + number) * DAY)
    night()
    done = gc("plan", "production")
    row = next(line for line in done.out.splitlines() if line.startswith("shop/api"))
    assert row.split()[:4] == ["shop/api", "pull", "requests", "41"]
    assert "20 days old" in row


def test_a_plan_over_its_limits_is_exit_code_3(filled, night, gc):
    night(limits={"max_images": 4, "max_share": "100%"})
    done = gc("plan", "production", "--format", "json")
    assert done.code == 3
    assert done.json["exceeded"] == [{"limit": "max_images", "value": 5, "allowed": 4}]
    assert done.err == "warning: The plan is over its limits: max_images is 5, allowed 4.\n"
    assert "The plan is over its limits: max_images is 5, allowed 4." in gc("plan", "production").out


def test_an_incomplete_plan_warns(filled, night, gc):
    filled.fault("status", path="repositoryName=[^&]*web", status=403)
    night()
    done = gc("plan", "production", "--format", "json")
    assert done.code == 0
    assert (done.json["complete"], done.json["totals"]["images"]) == (False, 4)
    assert [one["repository"] for one in done.json["unreadable"]] == ["shop/web"]
    assert "incomplete: 1 repository could not be read" in done.err
    table = gc("plan", "production").out
    assert "shop/web is kept whole" in table


def test_push_times_that_cannot_be_true_are_a_warning(simulator, night, gc):
    for number, tag in enumerate(("2024-05-01", "v1", "v2")):
        simulator.push("shop/api", tags=[tag], age=30 * DAY + timedelta(seconds=number))
    night(rules=[{"name": "old", "delete": {"older_than": "14d"}}])
    warning = "Push times are not believed: 100% of all images say that they were pushed within a minute, at "

    done = gc("plan", "production", "--format", "json")
    assert done.code == 0
    assert done.err.startswith(f"warning: {warning}")
    assert done.err.count("\n") == 1
    assert "but the tag of shop/api:2024-05-01 names an earlier day" in done.err
    assert done.json["totals"]["delete"] == 0
    assert all(one["created_at"] is not None for one in done.json["decisions"])

    table = gc("plan", "production")
    assert (table.code, table.err) == (0, "")
    assert table.out.splitlines()[-1].startswith(warning)


def test_looking_records_nothing_and_makes_no_store(filled, night, gc, tmp_path):
    made = night()
    made.store.dispose()
    for file in tmp_path.glob("registry-gc.db*"):
        file.unlink()
    assert gc("plan", "production").code == 0
    assert gc("inventory", "production").code == 0
    assert list(tmp_path.glob("registry-gc.db*")) == []
    assert filled.state()["deleted"] == []


def test_verbose_tells_the_requests_and_no_token(filled, night, gc):
    night()
    done = gc("plan", "production", "--verbose", "--format", "json")
    events = [json.loads(line)["event"] for line in done.err.splitlines()]
    assert any("/container-registry/v1/images" in event for event in events)
    assert filled.token not in done.err
    assert done.json["totals"]["images"] == 7


def test_redis_away_is_a_warning(filled, night, gc):
    port = free_port()
    night(redis=f"redis://127.0.0.1:{port}/0")
    done = gc("plan", "production", "--format", "json")
    assert done.code == 0
    assert done.json["totals"]["images"] == 7
    assert done.err.count("warning: ") == 1
    assert "this command keeps to the rate by itself" in done.err


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_registry_that_refuses_is_one_line_and_exit_code_1(simulator, night, gc, status):
    simulator.fault("status", status=status)
    night()
    for words in (["plan", "production"], ["inventory", "production"]):
        done = gc(*words)
        assert (done.code, done.out) == (1, "")
        assert len(done.err.splitlines()) == 1
        assert done.err.startswith("production: ")


def test_a_registry_that_is_not_there(night, gc):
    night(
        endpoints=dict.fromkeys(("container_registry", "operation", "iam", "docker"), f"http://127.0.0.1:{free_port()}")
    )
    done = gc("plan", "production")
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)


def test_the_inventory_is_the_api_s_own_json(filled, night, gc):
    night()
    done = gc("inventory", "production")
    assert (done.code, done.err) == (0, "")
    head, *images = done.lines
    assert list(head) == ["registry", "listed_at", "unreadable"]
    assert (head["registry"], head["unreadable"]) == ("production", [])
    names = [image["name"] for image in images]
    assert names == sorted(names)
    assert len(images) == 7
    assert all(isinstance(layer["size"], str) for image in images for layer in image.get("layers", []))
    (index,) = [image for image in images if "children" in image]
    assert index["tags"] == ["pr-7"]
    assert len(index["children"]) == 1


def test_names_from_elsewhere_do_not_speak_to_the_terminal(simulator, night, gc):
    simulator.fault("status", path="repositoryName", status=403, times=None)
    simulator.push("shop/api", tags=["pr-1"])
    night(rules=[{"name": "red \x1b[31m", "delete": {"all": True}}])
    done = gc("plan", "production")
    assert "\x1b" not in done.out + done.err


def test_a_terminal_gets_a_bar_and_lines_of_its_width(filled, night, tmp_path):
    night()
    code, written = on_a_terminal([*COMMAND, "plan", "production"], tmp_path, columns=60)
    assert code == 0
    assert "listing production" in written
    assert "repositories" in written
    table = written[written.rindex("as of") :].splitlines()[1:]
    assert max(len(line) for line in table if line.startswith(("REPO", "shop/"))) == 60
