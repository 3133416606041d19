"""The systemd units and the Procfile: they name commands that exist, and stop deletions in good order."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from worker.cli import cli
from worker.processes.embedded import NODES

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
INSTALLED = "/opt/registry-gc/bin/registry-gc"


def settings(unit):
    """Key -> values, as the unit has them."""
    values = {}
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            values.setdefault(key, []).append(value)
    return values


def test_there_is_a_unit_for_each_process():
    assert [unit.stem for unit in UNITS] == [f"registry-gc-{name}" for name in ("beat", "up", "web", "worker")]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_runs_its_command_and_signals_the_main_process_only(unit):
    own = settings(unit)
    assert own["ExecStart"] == [f"{INSTALLED} {unit.stem.removeprefix('registry-gc-')}"]
    assert own["ExecStart"][0].split()[1] in cli.list_commands(None)
    assert (own["KillMode"], own["Restart"], own["OOMPolicy"]) == (["mixed"], ["always"], ["continue"])
    assert (own["UMask"], own["StateDirectory"], own["NoNewPrivileges"]) == (["0077"], ["registry-gc"], ["yes"])


@pytest.mark.parametrize("name", ["registry-gc-worker", "registry-gc-up"])
def test_a_stop_waits_for_the_deletions_in_progress(name):
    own = settings(ROOT / "deploy" / "systemd" / f"{name}.service")
    assert int(own["TimeoutStopSec"][0]) > max(node.stop_seconds for node in NODES.values())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_accepts_the_unit(unit, tmp_path):
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace(INSTALLED, str(Path(sys.executable).with_name("registry-gc"))))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


def test_the_procfile_names_our_commands():
    lines = [line.split(": ") for line in (ROOT / "Procfile").read_text().splitlines() if not line.startswith("#")]
    assert lines == [[name, f"registry-gc {name}"] for name in ("worker", "beat", "web")]
