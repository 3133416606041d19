"""The examples of docs/evidence.md work: the role grants every request, the recipe writes a valid list."""

import os
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.api_server import ApiServer, certificate, kubeconfig
from worker.config.settings import EvidenceSettings
from worker.evidence import EvidenceError, read
from worker.evidence.document import read_document

PAGE = (Path(__file__).parents[3] / "docs" / "evidence.md").read_text()


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("content", [*blocks("text"), *blocks("json")])
def test_reads_the_documents_of_the_page(content):
    read_ = read_document(content.encode(), "list")
    assert read_.as_of == datetime(2026, 11, 23, 3, tzinfo=UTC)
    assert len(read_.uses) == 2


@pytest.fixture
def cluster(tmp_path):
    """With TLS, without which kubectl sends no token."""
    with ApiServer(certificate(tmp_path)) as server:
        yield server


@pytest.fixture
def recipe(cluster, tmp_path):
    """Runs the recipe against the cluster; tells its exit code. The list is `in-use` in the test's folder."""
    for program in ("kubectl", "jq"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    path = kubeconfig(tmp_path / "kubeconfig", {"prod": cluster})
    (script,) = (block for block in blocks("sh") if "jq" in block)

    def run():
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(path)}
        command = ["sh", "-c", script, "in-use.sh", str(tmp_path / "in-use")]
        return subprocess.run(command, env=environ, capture_output=True, check=False, timeout=60).returncode

    return run


def test_the_recipe_writes_the_images_in_use_or_leaves_the_old_list(cluster, recipe, tmp_path):
    digest = f"sha256:{'a' * 64}"
    spec = {
        "containers": [{"name": "a", "image": "a.io/x:v1"}],
        "initContainers": [{"name": "b", "image": "a.io/init:v1"}],
        "volumes": [{"name": "v", "image": {"reference": "a.io/model:v1"}}, {"name": "w", "emptyDir": {}}],
    }
    status = {"containerStatuses": [{"image": "a.io/x:v1", "imageID": f"a.io/x@{digest}"}, {"imageID": ""}]}
    labelled = {"template": {"metadata": {"labels": {"image": "No Reference", "name": "x"}}, "spec": spec}}
    cluster.add("pods", "x", spec=spec, status=status)
    cluster.add("cronjobs", "x", spec={"jobTemplate": {"spec": labelled}})
    settings = EvidenceSettings(name="list", kind="file", max_age=timedelta(hours=1), path=tmp_path / "in-use")

    assert recipe() == 0
    first = read(settings)
    names = {use.digest or use.image for use in first.uses}
    assert names == {"a.io/x:v1", "a.io/init:v1", "a.io/model:v1", digest}
    assert abs(datetime.now(UTC) - first.as_of) < timedelta(minutes=1)

    cluster.forbidden = {("cronjobs", "*")}
    assert recipe() != 0
    assert read(settings) == first
    assert [path.name for path in tmp_path.glob("in-use*")] == ["in-use"]


def test_refuses_the_output_of_a_failed_naive_command(tmp_path):
    path = tmp_path / "in-use"
    subprocess.run(["sh", "-c", f"false > {path}"], check=False)
    with pytest.raises(EvidenceError, match="is empty"):
        read(EvidenceSettings(name="list", kind="file", max_age=timedelta(hours=1), path=path))
