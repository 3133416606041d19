"""Names and messages from outside are escaped in every table, in JSON on a terminal, and in errors."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.command import COMMAND, on_a_terminal
from tests.support.hostile import HOSTILE, WHOLE, plain
from worker.runs.hold_requests import hold_of, place


@pytest.fixture
def hostile(simulator, make_harness):
    """A registry whose tags and errors have control characters, and a run over it."""
    for number in range(5):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=timedelta(days=30))
    for name, text in HOSTILE.items():
        if text != "\ud800":
            simulator.push(f"shop/of-{len(name)}", tags=[f"pr-{text}"], age=timedelta(days=30))
    simulator.push("shop/broken", tags=["pr-1"], age=timedelta(days=30))
    message = f"no {WHOLE} today"
    simulator.fault("error", path="repositoryName=.*broken", code=3, message=message)
    simulator.fault("error", method="DELETE", times=3, code=9, message=message)
    made = make_harness(rules=[{"name": f"old {WHOLE}", "delete": {"any_tag": ["*"], "older_than": "14d"}}])
    run = made.sweep()
    production = made.settings.registries["production"]
    wanted = hold_of(production, "shop/*", reason=f"because {WHOLE}", who=f"anna {WHOLE}")
    place(made.store, production, wanted, datetime.now(UTC))
    return made, run


def test_no_table_contains_control_characters(hostile, gc):
    _, run = hostile
    assert run.failed == 3
    for words in (
        ["plan", "production", "--verbose"],
        ["runs"],
        ["show", run.id],
        ["audit", "production"],
        ["holds"],
        ["abort", "no\x1b[95m\u202e-such"],
        ["audit", "production", "no \x1b[95m"],
        ["\x1b[95m\u202e"],
        ["plan", "--\x9b31m"],
        ["check", "--config", "no\x1b[95m\u202e.yaml"],
        ["plan", "production", "--output", "/nowhere\x1b/x"],
    ):
        done = gc(*words)
        assert plain(done.out + done.err), words
    assert "\\x1b[95m" in gc("show", run.id).out


@pytest.mark.parametrize("columns", [pytest.param(100, id="wide"), pytest.param(0, id="of no width")])
def test_json_on_a_terminal_is_escaped_and_equal(hostile, gc, tmp_path, columns):
    _, run = hostile
    show = [["show", run.id, "--format", form] for form in ("json", "ndjson")]
    for words in (*show, ["audit", "production", "--format", "ndjson"]):
        code, out = on_a_terminal([*COMMAND, *words], tmp_path, columns)
        assert code == 0
        assert out.replace("\r\n", "").isprintable()
        elsewhere = gc(*words).out
        whole = words[-1] == "json"
        assert _documents(out, whole) == _documents(elsewhere, whole)
        assert "\u202e" in elsewhere, "escaped where nobody looks"


def _documents(text, whole):
    return [json.loads(text)] if whole else [json.loads(line) for line in text.split("\n") if line.strip()]


@pytest.mark.parametrize("columns", [pytest.param(100, id="wide"), pytest.param(0, id="of no width")])
def test_an_inventory_on_a_terminal_is_escaped(simulator, make_harness, tmp_path, columns):
    simulator.push("shop/api", tags=[f"pr-{WHOLE}"], age=timedelta(days=30))
    simulator.push("shop/web", tags=["v1"], age=timedelta(days=30))
    make_harness(rules=[{"name": "old", "delete": {"any_tag": ["*"]}}])
    code, out = on_a_terminal([*COMMAND, "inventory", "production"], tmp_path, columns)
    assert code == 0
    (line,) = (line for line in out.replace("\r\n", "\n").split("\n") if line.startswith("{"))
    assert json.loads(line)["tags"] == ["v1"]
    assert "\\u202e" in out  # in the reason why shop/api cannot be read
    assert "\u202e" not in out


def test_rule_names_and_errors_are_escaped(simulator, make_harness, gc):
    simulator.fault("status", path="repositoryName", status=403, times=None)
    simulator.push("shop/api", tags=["pr-1"])
    make_harness(rules=[{"name": "red \x1b[31m", "delete": {"all": True}}])
    done = gc("plan", "production")
    assert "\x1b" not in done.out + done.err
