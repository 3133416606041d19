"""Plans of saved inventories are the same, byte for byte, as plans of the same records in memory."""

import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.image import Repository, Unreadable
from policies.rules import Policy
from tests.bench import data as bench_data
from tests.planning.saved import EVERYTHING, line, lines, records, saved
from tests.support.builders import NOW, digest, image, policy, repository, signature
from tests.support.planning import WholePlan, make_plan, offline_ndjson
from tests.support.strategies import policies, registries
from worker.planning.offline import plan_inventory
from worker.report.plan import PlanHead

POLICY = policy(*bench_data.POLICY)


def offline(path: Path, rules: Policy, **more: Any) -> bytes:
    return offline_ndjson(path, rules, NOW, **more)


def ndjson(plan: WholePlan) -> bytes:
    head = PlanHead(**{name: getattr(plan, name) for name in PlanHead.__struct_fields__})
    return b"".join(msgspec.json.encode(record) + b"\n" for record in (head, *plan.decisions))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(registries(), policies(), st.sets(st.sampled_from(["a", "ml/big", "gone"])), st.integers(0, 1), st.randoms())
def test_plans_a_file_like_the_same_records(
    tmp_path: Path, repositories: list[Repository], rules: Policy, failed: set[str], keep: int, random_: random.Random
) -> None:
    unreadable = [Unreadable(repository=path, reason="a time-out") for path in sorted(failed)]
    expected = ndjson(make_plan(repositories, rules, NOW, unreadable=unreadable, keep_per_repository=keep))
    grouped = saved(tmp_path, lines(repositories), unreadable)
    assert offline(grouped, rules, keep_per_repository=keep, block=500) == expected
    mixed = lines(repositories)
    random_.shuffle(mixed)
    assert offline(saved(tmp_path, mixed, unreadable), rules, keep_per_repository=keep, block=500) == expected


@pytest.mark.parametrize("block", [1, 5_000, 200_000])
@pytest.mark.parametrize(
    "rules", [POLICY, policy({"delete": {"all": True}}, {"keep": {"newest": 900, "per": "registry"}})]
)
def test_blocks_of_any_size_give_the_same_plan(large: Path, rules: Policy, block: int) -> None:
    expected = ndjson(make_plan(records(large), rules, NOW))
    assert offline(large, rules, block=block) == expected


def test_an_ungrouped_file_gives_the_same_plan(large: Path, tmp_path: Path) -> None:
    mixed = large.read_bytes().splitlines()
    random.Random(1).shuffle(mixed)
    expected = offline(large, POLICY)
    assert offline(saved(tmp_path, mixed), POLICY, block=300_000) == expected


def test_decides_signatures_in_their_own_repository_last(large: Path, tmp_path: Path) -> None:
    signed = [listed_image for repository in records(large)[:5] for listed_image in repository.images[:20]]
    signatures = [line(msgspec.structs.replace(signature(1), digest=digest(subject.digest), tags=(
        f"sha256-{subject.digest.removeprefix('sha256:')}.sig",)), "signatures") for subject in signed]  # fmt: skip
    path = saved(tmp_path, [*signatures, *large.read_bytes().splitlines()])
    plan = make_plan(records(path), EVERYTHING, NOW)
    assert offline(path, EVERYTHING, block=200_000) == ndjson(plan)
    assert {decision.cause for decision in plan.decisions if decision.repository == "signatures"} == {"needed"}


def test_a_subject_in_an_unlisted_repository_does_not_keep_its_referrer(tmp_path: Path) -> None:
    repositories = [repository("a", image(1)), repository("b", signature(1))]
    unreadable = [Unreadable(repository="a", reason="a time-out")]
    for failed, cause in (([], "needed"), (unreadable, "selected")):
        with plan_inventory(saved(tmp_path, lines(repositories), failed), EVERYTHING, NOW) as plan:
            assert [decision.cause for decision in plan.decisions.records() if decision.repository == "b"] == [cause]


def test_decisions_can_be_read_as_records(large: Path) -> None:
    with plan_inventory(large, POLICY, NOW) as plan:
        assert tuple(plan.decisions.records()) == make_plan(records(large), POLICY, NOW).decisions
        assert plan.plan.summary.rule_selected["pull requests"] > 0


@pytest.mark.parametrize("text", ["", "\n", "\n\n  \n", '{"registry": "x"}\n', '{"registry": "x"}'])
def test_an_empty_inventory_is_an_empty_plan(tmp_path: Path, text: str) -> None:
    path = tmp_path / "F.ndjson"
    path.write_text(text)
    assert offline(path, EVERYTHING) == ndjson(make_plan([], EVERYTHING, NOW))


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\n\n", b"\n \n"])
def test_accepts_any_line_endings(tmp_path: Path, ending: bytes) -> None:
    listed_lines = [line(image(n, "pr-1"), path) for n, path in enumerate("aabbbc")]
    mixed = [line(image(n, "pr-1"), path) for n, path in enumerate("aabbbc")][::-1][1:] + listed_lines[-1:]
    expected = offline(saved(tmp_path, listed_lines), POLICY)
    for order in (listed_lines, mixed):
        path = tmp_path / "G.ndjson"
        path.write_bytes(ending.join(order))
        assert offline(path, POLICY, block=400) == expected


def test_reads_a_pipe(large: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(large.read_bytes()))
    writer.start()
    assert offline(pipe, POLICY) == offline(large, POLICY)
    writer.join()


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        offline(tmp_path / "none.ndjson", EVERYTHING)


def test_leaves_no_temporary_files(large: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.planning.test_offline import *;"
        "offline(Path(sys.argv[1]), POLICY)"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script, str(large)], env=environment, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []


MEASURED = """
import sys
from pathlib import Path
from tests.bench import data as bench_data
from tests.planning.saved import EVERYTHING, GOOD, facts, line, lines, records, saved
from tests.support.builders import NOW, policy
from worker.report.plan import PlanHead
from worker.planning.offline import plan_inventory

with plan_inventory(Path(sys.argv[1]), policy(*bench_data.POLICY), NOW) as plan:
    for _ in plan.decisions.lines():
        pass
status = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in status if line.startswith("VmHWM:")))
"""


def test_memory_grows_little_with_each_image(tmp_path: Path) -> None:
    """Of ten times the images in as many more repositories, each takes at most 600 bytes more."""
    peaks = []  # KiB
    for images in (2_000, 20_000):
        listed_lines = [line(image(n, f"pr-{n}", layers=range(n, n + 9)), f"r{n // 50:05}") for n in range(images)]
        command = [sys.executable, "-c", MEASURED, str(saved(tmp_path, listed_lines))]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        ran = subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
        peaks.append(int(ran.stdout))
    assert (peaks[1] - peaks[0]) * 1024 < 18_000 * 600
