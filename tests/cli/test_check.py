"""`check`: warnings, mistakes and the modules that it imports."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command import Result, called
from tests.support.sandbox import Sandbox
from tests.support.webhook import SECRET

Command = Callable[..., Result]
HUB = 'kind: oci, url: "http://127.0.0.1:9", credentials: {anonymous: true}'
CONTAINER = "kind: yandex-container-registry, id: crp1, credentials: {metadata: true}"
COUNTS = "{name: ten, keep: {newest: 10}}, {name: rest, delete: {beyond_newest: 5, tagged: true}}"
OLD = "{name: old, delete: {tags: [pr-*], older_than: 14d}}"
WEAK = (
    "push_time is first_seen: images that the same scan saw first have no known order, and all that tie at the limit of"
    " a count are kept; this weakens {}; write push_time: image in the registry, or keep rules on tags"
)


def warned(gc: Command, folder: Path, registry: str, rules: str) -> list[tuple[str, str]]:
    """The findings of check by their key; the table and JSON have the same findings, and neither has a mistake."""
    (folder / "registry-gc.yaml").write_text(
        f"registries:\n  production: {{{registry}, policy: p}}\npolicies: {{p: [{rules}]}}\n"
    )
    done, encoded = gc("check"), gc("check", "--format", "json")
    assert (done.code, done.err, encoded.code) == (0, "", 0)
    warnings = [(row["path"], row["message"]) for row in encoded.json.get("warnings", [])]
    assert done.out.splitlines()[1:] == [f"warning: {path}: {message}" for path, message in warnings]
    return warnings


@pytest.mark.parametrize(
    ("registry", "rules", "weak"),
    [
        pytest.param(HUB, COUNTS, "newest (rule 'ten'), beyond_newest (rule 'rest')", id="counts"),
        pytest.param(f"{HUB}, keep_per_repository: 2", OLD, "keep_per_repository", id="keep_per_repository"),
        pytest.param(
            f"{HUB}, push_time: first_seen", COUNTS, "newest (rule 'ten'), beyond_newest (rule 'rest')", id="said"
        ),
        pytest.param(HUB, OLD, "", id="no count"),
        pytest.param(f"{HUB}, push_time: image", COUNTS, "", id="the images' own times"),
        pytest.param(CONTAINER, COUNTS, "", id="a registry that tells push times"),
    ],
)
def test_check_warns_of_counts_without_push_times(
    gc: Command, tmp_path: Path, registry: str, rules: str, weak: str
) -> None:
    wanted = [("registries.production", WEAK.format(weak))] if weak else []
    assert warned(gc, tmp_path, registry, rules) == wanted


@pytest.mark.parametrize(
    ("rules", "number"),
    [
        pytest.param(f"{OLD}, {{name: rest, delete: {{all: true}}}}", 1, id="alone"),
        pytest.param("{name: rest, delete: {all: true}, repositories: [tmp]}", 0, id="in some repositories"),
        pytest.param("{name: rest, delete: {all: true, older_than: 14d}}", None, id="beside an age"),
        pytest.param("{name: rest, delete: {all: true, beyond_newest: 5}}", None, id="beside a count"),
        pytest.param("{name: rest, keep: {all: true}}", None, id="a keep rule"),
    ],
)
def test_check_warns_of_a_rule_that_selects_everything(
    gc: Command, tmp_path: Path, rules: str, number: int | None
) -> None:
    warnings = warned(gc, tmp_path, CONTAINER, rules)
    assert [path for path, _ in warnings] == ([] if number is None else [f"policies.p[{number}].delete"])
    assert all(message.startswith("all: true alone selects every image") for _, message in warnings)


def test_check_rejects_an_address_that_apprise_does_not_support(tmp_path: Path) -> None:
    address = tmp_path / "address"
    address.write_text(f"slack://{SECRET}")
    well = {"url": "json://127.0.0.1:9/"}
    sandbox = Sandbox(tmp_path, notify=[well, {"url": {"file": str(address)}}])
    done = called("check", cwd=tmp_path, TEST_TOKEN="t1.none")
    wrong = "notify[1].url: apprise does not support this address; see apprise's list of services for its form"
    assert (done.code, done.out, done.err) == (2, "", f"registry-gc.yaml: {wrong}\n")
    sandbox.write(notify=[well])
    assert called("check", cwd=tmp_path, TEST_TOKEN="t1.none").code == 0


POLICY = "policies: {nightly: [{name: leftovers, delete: {untagged: true, older_than: 7d}}]}\n"


def test_check_counts_registries_and_policies(gc, tmp_path):
    (tmp_path / "registry-gc.yaml").write_text(POLICY)
    done = gc("check")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{tmp_path}/registry-gc.yaml: no mistakes: 0 registries, 1 policy\n"
    assert gc("check", "--format", "json").json == {"file": f"{tmp_path}/registry-gc.yaml", "mistakes": []}


def test_check_writes_mistakes_as_json(gc, tmp_path):
    (tmp_path / "registry-gc.yaml").write_text("wbe: {}\n" + POLICY)
    done = gc("check", "--format", "json")
    assert (done.code, done.err) == (2, "")
    assert [row["path"] for row in done.json["mistakes"]] == ["wbe"]


def test_check_imports_no_slow_modules(tmp_path):
    (tmp_path / "registry-gc.yaml").write_text(POLICY)
    heavy = ["numpy", "sqlalchemy", "celery", "httpx", "rich", "cryptography", "structlog", "redis", "starlette"]
    script = (
        "import sys; from worker.cli import cli; cli.main(['check'], standalone_mode=False); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
