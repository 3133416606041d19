"""The output of `plan` for a registry over real HTTP."""

from datetime import timedelta

DAY = timedelta(days=1)


def test_the_plan_as_json(mixed, make_harness, gc):
    make_harness()
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
    assert [row["repository"] for row in plan["decisions"]] == ["shop/api"] * 4 + ["shop/web"] * 3
    assert {row["cause"] for row in plan["decisions"]} == {"selected", "follows", "kept_by_rule", "no_rule"}
    assert list(plan["decisions"][0]) == [
        "id", "repository", "digest", "tags", "created_at", "size", "verdict", "cause", "rule", "needed_by", "reason",
    ]  # fmt: skip


def test_ndjson_is_the_head_then_one_decision_per_line(mixed, make_harness, gc):
    make_harness()
    whole = gc("plan", "production", "--format", "json", "--now", "2027-01-01").json
    head, *decisions = gc("plan", "production", "--format", "ndjson", "--now", "2027-01-01T03:00:00+03:00").lines
    assert head == {key: value for key, value in whole.items() if key != "decisions"}
    assert decisions == whole["decisions"]
    assert head["now"] == "2027-01-01T00:00:00Z"


def test_the_plan_as_a_table(mixed, make_harness, gc):
    make_harness()
    done = gc("plan", "production", "--now", "2100-01-01")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0] == "production: policy nightly, as of 2100-01-01T00:00:00Z"
    assert "REPOSITORY  DIGEST               TAGS" in done.out
    assert "every tag matches pr-*" in done.out
    assert "This plan deletes 6 of 7 images and keeps 1." in done.out
    assert "kept by rule releases" in done.out
    assert "\x1b" not in done.out


def test_a_long_plan_is_grouped(simulator, make_harness, gc):
    for number in range(41):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=(20 + number) * DAY)
    make_harness()
    done = gc("plan", "production")
    row = next(line for line in done.out.splitlines() if line.startswith("shop/api"))
    assert row.split()[:4] == ["shop/api", "pull", "requests", "41"]
    assert "20 days old" in row


def test_a_plan_over_its_limits_is_exit_code_3(mixed, make_harness, gc):
    make_harness(limits={"max_images": 4, "max_share": "100%"})
    done = gc("plan", "production", "--format", "json")
    assert done.code == 3
    assert done.json["exceeded"] == [{"limit": "max_images", "value": 5, "allowed": 4}]
    assert done.err == "warning: The plan is over its limits: max_images is 5, allowed 4.\n"
    assert "The plan is over its limits: max_images is 5, allowed 4." in gc("plan", "production").out


def test_an_incomplete_plan_warns(mixed, make_harness, gc):
    mixed.fault("status", path="repositoryName=[^&]*web", status=403)
    make_harness()
    done = gc("plan", "production", "--format", "json")
    assert done.code == 0
    assert (done.json["complete"], done.json["totals"]["images"]) == (False, 4)
    assert [row["repository"] for row in done.json["unreadable"]] == ["shop/web"]
    assert "incomplete: 1 repository could not be read" in done.err
    table = gc("plan", "production").out
    assert "All images of shop/web are kept" in table


def test_plan_warns_of_implausible_push_times(simulator, make_harness, gc):
    for number, tag in enumerate(("2024-05-01", "v1", "v2")):
        simulator.push("shop/api", tags=[tag], age=30 * DAY + timedelta(seconds=number))
    make_harness(rules=[{"name": "old", "delete": {"older_than": "14d"}}])
    warning = "Push times are not trusted: 100% of all images report a push time within the same minute, "

    done = gc("plan", "production", "--format", "json")
    assert done.code == 0
    assert done.err.startswith(f"warning: {warning}")
    assert done.err.count("\n") == 1
    assert "but the tag shop/api:2024-05-01 names an earlier day" in done.err
    assert done.json["totals"]["delete"] == 0
    assert all(row["created_at"] is not None for row in done.json["decisions"])

    table = gc("plan", "production")
    assert (table.code, table.err) == (0, "")
    assert table.out.splitlines()[-1].startswith(warning)
