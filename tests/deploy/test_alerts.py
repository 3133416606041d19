"""The alerts: promtool runs their tests, every metric that they name exists, the runbook has a section for each."""

import os
import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.web.builders import NOW, registry, settings
from worker.cli import cli
from worker.config.settings import EvidenceSettings
from worker.store.measures import Measures
from worker.web.metrics import families

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
FILES = ("rules.yaml", "recording.yaml")
TESTS = sorted(path.name for path in FOLDER.glob("*.test.yaml"))
SERIES = r"\bregistry_gc[_:][\w:]*"


def rules(*names: str) -> list[dict[str, Any]]:
    groups = [group for name in names for group in yaml.safe_load((FOLDER / name).read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = [rule for rule in rules("rules.yaml") if "alert" in rule]
each_alert = pytest.mark.parametrize("alert", [pytest.param(alert, id=alert["alert"]) for alert in ALERTS])


def exported() -> set[str]:
    """The names of all series of a scrape, of a registry that has a source of evidence and a schedule."""
    source = EvidenceSettings(name="cluster", kind="kubernetes", max_age=timedelta(hours=1))
    configured = settings(Path("/nowhere"), registry("production", schedule="0 3 * * *", in_use=(source,)))
    return {sample.name for family in families(Measures({}, {}), configured, NOW) for sample in family.samples}


def sections() -> dict[str, str]:
    """The runbook's sections: heading -> text."""
    parts = re.split(r"^## (.+)$", (ROOT / "docs" / "runbook.md").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        assert not os.environ.get("CI"), "promtool is not installed"
        pytest.skip("promtool is not installed: `make services` does it for root")
    return subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)


def test_promtool_accepts_the_rules() -> None:
    done = promtool("check", "rules", *FILES)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("name", TESTS)
def test_the_alert_tests_pass(name: str) -> None:
    done = promtool("test", "rules", name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_and_every_recorded_series_is_tested() -> None:
    tests = [test for name in TESTS for test in yaml.safe_load((FOLDER / name).read_text())["tests"]]
    asked = [case for test in tests for case in test.get("alert_rule_test", ())]
    fire = {case["alertname"] for case in asked if case["exp_alerts"]}
    silent = {case["alertname"] for case in asked if not case["exp_alerts"]}
    assert fire == silent == {alert["alert"] for alert in ALERTS}
    computed = {case["expr"] for test in tests for case in test.get("promql_expr_test", ())}
    assert computed == {rule["record"] for rule in rules("recording.yaml")}


@pytest.mark.parametrize("name", FILES)
def test_every_metric_that_a_rule_names_exists(name: str) -> None:
    recorded = {rule["record"] for rule in rules(name) if "record" in rule}
    named = {series for rule in rules(name) for series in re.findall(SERIES, rule["expr"])}
    assert named - recorded
    assert named <= exported() | recorded


@pytest.mark.parametrize("name", TESTS)
def test_every_series_that_a_test_gives_exists(name: str) -> None:
    tests = yaml.safe_load((FOLDER / name).read_text())["tests"]
    given = {
        series for test in tests for given in test["input_series"] for series in re.findall(SERIES, given["series"])
    }
    assert given
    assert given <= exported()


@each_alert
def test_an_alert_has_severity_and_text(alert: dict[str, Any]) -> None:
    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in {"page", "warning"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert all(alert["annotations"].values())
    assert len(alert["annotations"]["summary"]) <= 100


@each_alert
def test_an_alert_links_its_runbook_section(alert: dict[str, Any]) -> None:
    """The anchor as GitHub and GitLab make it of a heading: in small letters."""
    assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"
    section = sections()[alert["alert"]]
    assert section.strip().startswith(f"*{alert['labels']['severity']}.* ")
    assert re.search(r"^Look:", section, re.MULTILINE)
    assert re.search(r"^Do:", section, re.MULTILINE)


def test_every_section_belongs_to_an_alert() -> None:
    assert list(sections()) == [alert["alert"] for alert in ALERTS]


def test_every_link_within_the_runbook_leads_to_a_section() -> None:
    anchors = re.findall(r"\]\(#([\w-]+)\)", (ROOT / "docs" / "runbook.md").read_text())
    assert anchors
    assert set(anchors) <= {heading.lower() for heading in sections()}


@pytest.mark.parametrize("name", ["docs/runbook.md", "deploy/prometheus/rules.yaml"])
def test_every_quoted_command_exists(name: str) -> None:
    commands = re.findall(r"`registry-gc ([a-z]+)((?: --[a-z]+)*)", (ROOT / name).read_text())
    assert commands
    for command, options in commands:
        known = cli.get_command(None, command)
        assert known is not None, command
        assert set(options.split()) <= {option for parameter in known.params for option in parameter.opts}, command
