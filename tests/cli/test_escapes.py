"""Names and messages from elsewhere that a terminal or a log would obey: none gets through, wherever it is shown."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.command import COMMAND, on_a_terminal
from worker.notify.notice import notice_body, notice_title
from worker.runs.hold_requests import hold_of, place
from worker.text import escaped, plain_json

HOSTILE = {
    "a colour": "\x1b[95m",
    "a title of the window": "\x1b]0;gone\x07",
    "a line": "\n2026-11-23 [info] all is well",
    "a return": "\rall is well",
    "a line of Unicode": "\u2028all is well",
    "a paragraph of Unicode": "\u2029",
    "a next line": "\x85",
    "a command in eight bits": "\x9b31m",
    "turned writing": "\u202egnp.exe",
    "isolated turned writing": "\u2067\u2066",
    "nothing": "\x00",
    "a bell": "\x07",
    "backspaces": "\x08\x08\x08",
    "rubbed out": "\x7f",
    "no width": "\u200b\ufeff",
    "a tag of Unicode": "\U000e0041",
    "half a letter": "\ud800",
}
CASES = [pytest.param(text, id=name) for name, text in HOSTILE.items()]
WHOLE = "".join(text for text in HOSTILE.values() if text != "\ud800")  # which no registry can say in UTF-8
TERMINALS_OWN = "\r\n"  # how a terminal's line ends

LOG = """
import json, logging, sys
from worker import logs
class Terminal:
    def write(self, text): return sys.stderr.write(text)
    def flush(self): sys.stderr.flush()
    def isatty(self): return True
logs.configure(stream=Terminal() if sys.argv[1] == "terminal" else None)
log = logs.Log("worker.tasks")
for text in json.loads(sys.argv[2]):
    log.info("deleted", tag=text, tags=[text], nested={"tag": text})
    log.info(text)
    logging.getLogger("other").warning("not rung: %s", text, extra={"reason": text, text or "x": 1})
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("worker.tasks").exception("ended early")
"""


def plain(text: str) -> bool:
    """Whether all of it prints, line ends aside."""
    return text.replace("\n", "").isprintable()


def logged(where: str) -> str:
    command = [sys.executable, "-c", LOG, where, json.dumps(list(HOSTILE.values()))]
    done = subprocess.run(command, capture_output=True, timeout=30, check=True)
    return done.stderr.decode()


def test_a_log_of_json_is_one_plain_line_a_record_and_loses_nothing():
    text = logged("file")
    assert plain(text)
    records = [json.loads(line) for line in text.splitlines()]
    assert len(records) == 4 * len(HOSTILE)
    assert [one["tag"] for one in records[::4]] == list(HOSTILE.values())
    assert [one["event"] for one in records[1::4]] == list(HOSTILE.values())
    assert [one["reason"] for one in records[2::4]] == list(HOSTILE.values())


def test_a_log_on_a_terminal_obeys_nobody():
    text = re.sub(r"\x1b\[(?!95)[0-9;]*m", "", logged("terminal"))  # the renderer's own colours
    assert plain(text)
    assert "\\x1b[95m" in text
    assert "all is well" in text
    assert not [line for line in text.split("\n") if line.startswith("2026-11-23 [info]")], "a forged record"


@pytest.mark.parametrize("text", CASES)
def test_a_text_is_escaped(text):
    assert escaped(text).isprintable()
    assert escaped("Ölpreis 日本 é") == "Ölpreis 日本 é"


@pytest.mark.parametrize("text", CASES)
def test_json_is_escaped_and_the_same(text):
    written = json.dumps({"tag": text, "more": ["日本", text]}, ensure_ascii=False)
    assert plain(plain_json(written))
    assert json.loads(plain_json(written)) == json.loads(written)


@pytest.fixture
def hostile(simulator, night):
    """A registry whose tags and errors are what they should not be, and a run over it."""
    for number in range(5):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=timedelta(days=30))
    for name, text in HOSTILE.items():
        if text != "\ud800":
            simulator.push(f"shop/of-{len(name)}", tags=[f"pr-{text}"], age=timedelta(days=30))
    simulator.push("shop/broken", tags=["pr-1"], age=timedelta(days=30))
    said = f"no {WHOLE} today"
    simulator.fault("error", path="repositoryName=.*broken", code=3, message=said)
    simulator.fault("error", method="DELETE", times=3, code=9, message=said)
    made = night(rules=[{"name": f"old {WHOLE}", "delete": {"any_tag": ["*"], "older_than": "14d"}}])
    run = made.sweep()
    production = made.settings.registries["production"]
    wanted = hold_of(production, "shop/*", reason=f"because {WHOLE}", who=f"anna {WHOLE}")
    place(made.store, production, wanted, datetime.now(UTC))
    return made, run


def test_nothing_is_obeyed_in_any_table(hostile, gc):
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
def test_json_on_a_terminal_obeys_nobody_and_says_the_same(hostile, gc, tmp_path, columns):
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


def test_no_word_to_people_obeys(hostile):
    made, run = hostile
    found = made.run(run.id)
    assert notice_title(found).isprintable()
    assert plain(notice_body(found))


def test_a_mistake_of_ours_is_traced_in_plain_words(tmp_path):
    script = f"""
import sys
sys.argv = ["registry-gc", "--verbose"]
from worker.cli.errors import explained
try:
    raise ValueError({WHOLE!r})
except ValueError as error:
    explained(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30, check=True)
    assert plain(done.stderr.decode())
    assert b"Traceback" in done.stderr


@pytest.mark.parametrize("columns", [pytest.param(100, id="wide"), pytest.param(0, id="of no width")])
def test_an_inventory_on_a_terminal_obeys_nobody(simulator, night, tmp_path, columns):
    simulator.push("shop/api", tags=[f"pr-{WHOLE}"], age=timedelta(days=30))
    simulator.push("shop/web", tags=["v1"], age=timedelta(days=30))
    night(rules=[{"name": "old", "delete": {"any_tag": ["*"]}}])
    code, out = on_a_terminal([*COMMAND, "inventory", "production"], tmp_path, columns)
    assert code == 0
    (line,) = (line for line in out.replace("\r\n", "\n").split("\n") if line.startswith("{"))
    assert json.loads(line)["tags"] == ["v1"]
    assert "\\u202e" in out  # in the reason why shop/api cannot be read
    assert "\u202e" not in out
