"""The module of a source is chosen by its kind, and imported when the source is read."""

import subprocess
import sys
from datetime import timedelta

import pytest

from worker.config.settings import EvidenceSettings
from worker.evidence import EvidenceError, read

SETTINGS = "EvidenceSettings(name='cluster', kind='kubernetes', max_age=timedelta(hours=1))"
HEADING = "import sys; from datetime import timedelta; from worker.config.settings import EvidenceSettings; "


def told_by(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", HEADING + script], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()


def test_imports_no_client_before_a_source_is_read() -> None:
    heavy = "{'kubernetes', 'urllib3', 'httpx', 'stamina', 'sqlalchemy', 'numpy'}"
    assert told_by(f"import worker.evidence; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_reports_a_missing_kubernetes_client() -> None:
    missing = "sys.modules['kubernetes'] = None; "
    ask = f"from worker.evidence import EvidenceError, read\ntry: read({SETTINGS})\n"
    assert told_by(missing + ask + "except EvidenceError as error: print(error)") == (
        "evidence cluster: the Kubernetes client is not installed; "
        "install registry-gc with its extra: registry-gc[kubernetes]"
    )


def test_reads_each_kind_by_its_module(cluster, source, tmp_path):
    cluster.add("pods", "x", spec={"containers": [{"image": "a.io/x:v1"}]})
    (tmp_path / "in-use").write_text("# as_of: 2026-11-23T03:00:00Z\na.io/y:v1\n# end\n")
    list_ = EvidenceSettings(name="list", kind="file", max_age=timedelta(1), path=tmp_path / "in-use")
    nowhere = EvidenceSettings(name="s", kind="http", max_age=timedelta(1), url="http://127.0.0.1:1/")
    assert [use.image for settings in (source(), list_) for use in read(settings).uses] == ["a.io/x:v1", "a.io/y:v1"]
    with pytest.raises(EvidenceError, match=r"evidence s: 127\.0\.0\.1:1: no connection"):
        read(nowhere)
