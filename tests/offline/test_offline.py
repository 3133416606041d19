"""Plans of saved inventories: the same, byte for byte, as of the same records in memory, by however many processes."""

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

from policies.image import Image, Repository, Unreadable
from policies.plan import Plan, make_plan
from policies.rules import Policy
from tests import bench_data
from tests.builders import NOW, digest, image, policy, repository, signature
from tests.policies.doctored import policies, registries
from worker.offline import InventoryError, plan_inventory
from worker.offline.crew import Crew, CrewError
from worker.offline.inventory_file import open_inventory, parts, runs
from worker.offline.part import Job, Part

POLICY = policy(*bench_data.POLICY)
EVERYTHING = policy({"name": "everything", "delete": {"all": True}})


def line(one: Image, path: str) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(one, name=f"crpvab5oob146rh73ilt/{path}"))


def lines(repositories: list[Repository]) -> list[bytes]:
    return [line(one, repository.path) for repository in repositories for one in repository.images]


def saved(folder: Path, found: list[bytes], unreadable: list[Unreadable] | None = None) -> Path:
    path = folder / "F.ndjson"
    head = [msgspec.json.encode({"registry": "production", "unreadable": unreadable})] if unreadable is not None else []
    path.write_bytes(b"".join(one + b"\n" for one in (*head, *found)))
    return path


def offline(path: Path, rules: Policy, **more: Any) -> bytes:
    """The plan as the command prints it in NDJSON."""
    with plan_inventory(path, rules, NOW, **more) as plan:
        return msgspec.json.encode(plan.head) + b"\n" + b"".join(plan.lines())


def ndjson(plan: Plan) -> bytes:
    head = {name: getattr(plan, name) for name in plan.__struct_fields__ if name != "decisions"}
    return b"".join(msgspec.json.encode(one) + b"\n" for one in (head, *plan.decisions))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(registries(), policies(), st.sets(st.sampled_from(["a", "ml/big", "gone"])), st.integers(0, 1), st.randoms())
def test_it_is_the_plan_of_the_same_records(
    tmp_path: Path, repositories: list[Repository], rules: Policy, failed: set[str], keep: int, random_: random.Random
) -> None:
    unreadable = [Unreadable(repository=path, reason="a time-out") for path in sorted(failed)]
    expected = ndjson(make_plan(repositories, rules, NOW, unreadable=unreadable, keep_per_repository=keep))
    grouped = saved(tmp_path, lines(repositories), unreadable)
    assert offline(grouped, rules, keep_per_repository=keep, processes=1, part_bytes=500) == expected
    mixed = lines(repositories)
    random_.shuffle(mixed)
    assert (
        offline(saved(tmp_path, mixed, unreadable), rules, keep_per_repository=keep, processes=1, part_bytes=500)
        == expected
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "F.ndjson"
    bench_data.write(path, 4000)
    return path


def records(path: Path) -> list[Repository]:
    inventory = open_inventory(path)
    with path.open("rb") as file:
        return [Repository(path=one, images=tuple(found)) for one, found in runs(inventory, file, 0, inventory.size)]


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize(
    "rules", [POLICY, policy({"delete": {"all": True}}, {"keep": {"newest": 900, "per": "registry"}})]
)
def test_several_processes_give_the_same_bytes(large: Path, rules: Policy, processes: int) -> None:
    expected = ndjson(make_plan(records(large), rules, NOW))
    assert offline(large, rules, processes=processes, part_bytes=200_000) == expected


def test_a_mixed_file_gives_the_same_bytes(large: Path, tmp_path: Path) -> None:
    mixed = large.read_bytes().splitlines()
    random.Random(1).shuffle(mixed)
    expected = offline(large, POLICY, processes=1)
    assert offline(saved(tmp_path, mixed), POLICY, processes=2, part_bytes=300_000) == expected


def test_signatures_in_a_repository_of_their_own_are_decided_when_all_is_known(large: Path, tmp_path: Path) -> None:
    signed = [one for repository in records(large)[:5] for one in repository.images[:20]]
    signatures = [line(msgspec.structs.replace(signature(1), digest=digest(one.digest), tags=(
        f"sha256-{one.digest.removeprefix('sha256:')}.sig",)), "signatures") for one in signed]  # fmt: skip
    path = saved(tmp_path, [*signatures, *large.read_bytes().splitlines()])
    plan = make_plan(records(path), EVERYTHING, NOW)
    assert offline(path, EVERYTHING, processes=2, part_bytes=200_000) == ndjson(plan)
    assert {one.cause for one in plan.decisions if one.repository == "signatures"} == {"needed"}


def test_a_subject_in_a_repository_that_was_not_listed_is_not_there(tmp_path: Path) -> None:
    repositories = [repository("a", image(1)), repository("b", signature(1))]
    unreadable = [Unreadable(repository="a", reason="a time-out")]
    for failed, cause in (([], "needed"), (unreadable, "selected")):
        with plan_inventory(saved(tmp_path, lines(repositories), failed), EVERYTHING, NOW) as plan:
            assert [one.cause for one in plan.decisions() if one.repository == "b"] == [cause]


def test_decisions_can_be_read_as_records(large: Path) -> None:
    with plan_inventory(large, POLICY, NOW, processes=1) as plan:
        assert tuple(plan.decisions()) == make_plan(records(large), POLICY, NOW).decisions
        assert plan.rule_selected["pull requests"] > 0


@pytest.mark.parametrize("size", [1, 1000, 50_000, 10**9])
def test_parts_are_whole_repositories(large: Path, size: int) -> None:
    inventory = open_inventory(large)
    cut = list(parts(inventory, size))
    assert [start for start, _ in cut] == [0, *(end for _, end in cut[:-1])]
    assert cut[-1][1] == inventory.size
    with large.open("rb") as file:
        found = [{path for path, _ in runs(inventory, file, *part)} for part in cut]
    assert sum(map(len, found)) == len(set().union(*found))
    assert len(cut) == (1 if size == 10**9 else len(cut))
    assert all(len(one) == 1 for one in found) or size > 1


GOOD = line(image(1, "v1"), "shop/api")
BAD: list[Any] = [
    pytest.param(b'{"digest": "sha256:ab", ', "2: not JSON: Input data was truncated", id="cut off"),
    pytest.param(b"nonsense", "2: not JSON: invalid character (byte 4)", id="no JSON"),
    pytest.param(b"[1]", "2: expected object, got array", id="no object"),
    pytest.param(GOOD.replace(b'"digest"', b'"dig"', 1), "2: object missing required field digest", id="no digest"),
    pytest.param(GOOD.replace(digest(1).encode(), b""), "2: digest: expected str of length >= 1", id="an empty digest"),
    pytest.param(GOOD.replace(b'"name"', b'"nam"'), "2: name: expected a name, got nothing", id="no name"),
    pytest.param(GOOD.replace(b'["v1"]', b'"v1"'), "2: tags: expected array, got str", id="tags are no list"),
    pytest.param(GOOD.replace(b'["v1"]', b"[1]"), "2: tags[0]: expected str, got int", id="a tag is a number"),
    pytest.param(GOOD.replace(b'Size":100', b'Size":-1'), "2: compressedSize: expected int >= 0", id="a negative size"),
    pytest.param(
        GOOD.replace(b'Size":100', b'Size":9223372036854775808'),
        "2: compressedSize: expected int <= 9223372036854775807",
        id="a huge size",
    ),
    pytest.param(
        GOOD.replace(b'Size":100', b'Size":"much"'),
        "2: compressedSize: expected int | null, got str",
        id="a size in words",
    ),
    pytest.param(
        GOOD.replace(b'Z"', b'"'), "2: createdAt: expected datetime with a timezone component", id="no time zone"
    ),
    pytest.param(GOOD.replace(b"2026", b"26"), "2: createdAt: invalid RFC3339 encoded datetime", id="no time"),
    pytest.param(GOOD.replace(b"v1", b"\xff"), "2: not UTF-8", id="broken UTF-8"),
    pytest.param(b"\x1f\x8b\x08\x00", "2: not JSON: invalid character (byte 0)", id="binary"),
    pytest.param(GOOD + GOOD, "2: not JSON: trailing characters (byte 276)", id="two on a line"),
    pytest.param(
        b'{"digest":"x","name":"a/b","labels":' + b"[" * 100_000,
        "2: labels: expected object | null, got array",
        id="deep",
    ),
]


@pytest.mark.parametrize(("bad", "what"), BAD)
@pytest.mark.parametrize("grouped", [True, False], ids=["grouped", "mixed"])
def test_bad_lines(tmp_path: Path, bad: bytes, what: str, grouped: bool) -> None:
    before = [] if grouped else [line(image(n), path) for n, path in enumerate(["a", "b", "a", "b"])]
    path = saved(tmp_path, [*before, GOOD, bad, line(image(3), "shop/zzz")])
    with pytest.raises(InventoryError) as refused:
        offline(path, EVERYTHING, processes=1)
    number, _, words = what.partition(":")
    assert str(refused.value) == f"{path}:{int(number) + len(before)}:{words}"


def test_the_line_is_found_in_a_large_file(large: Path, tmp_path: Path) -> None:
    found = large.read_bytes().splitlines()
    found[3456] = found[3456].replace(b'"tags"', b"tags")
    path = saved(tmp_path, found, [])
    with pytest.raises(InventoryError, match=r"F\.ndjson:3458: not JSON: ") as refused:
        offline(path, EVERYTHING, processes=2, part_bytes=200_000)
    assert refused.value.line == 3458


@pytest.mark.parametrize(
    ("head", "what"),
    [
        ('{"unreadable": 5}', "1: the head of an inventory: unreadable: expected array, got int"),
        (
            '{"unreadable": [{"repository": "a"}]}',
            "1: the head of an inventory: unreadable[0]: object missing required field reason",
        ),
        ("{", "1: not JSON: Input data was truncated"),
    ],
)
def test_bad_heads(tmp_path: Path, head: str, what: str) -> None:
    path = saved(tmp_path, [head.encode(), GOOD])
    with pytest.raises(InventoryError) as refused:
        offline(path, EVERYTHING)
    assert str(refused.value) == f"{path}:{what}"


@pytest.mark.parametrize("text", ["", "\n", "\n\n  \n", '{"registry": "x"}\n', '{"registry": "x"}'])
def test_an_inventory_of_nothing_is_a_plan_of_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "F.ndjson"
    path.write_text(text)
    assert offline(path, EVERYTHING) == ndjson(make_plan([], EVERYTHING, NOW))


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\n\n", b"\n \n"])
def test_lines_may_end_as_they_like(tmp_path: Path, ending: bytes) -> None:
    found = [line(image(n, "pr-1"), path) for n, path in enumerate("aabbbc")]
    mixed = [line(image(n, "pr-1"), path) for n, path in enumerate("aabbbc")][::-1][1:] + found[-1:]
    expected = offline(saved(tmp_path, found), POLICY)
    for order in (found, mixed):
        path = tmp_path / "G.ndjson"
        path.write_bytes(ending.join(order))
        assert offline(path, POLICY, processes=1, part_bytes=400) == expected


def test_a_name_without_a_slash_is_a_repository(tmp_path: Path) -> None:
    path = tmp_path / "F.ndjson"
    path.write_bytes(GOOD.replace(b"crpvab5oob146rh73ilt/shop/api", b"alone"))
    with plan_inventory(path, EVERYTHING, NOW) as plan:
        assert [one.repository for one in plan.decisions()] == ["alone"]


def test_sizes_may_come_in_strings(tmp_path: Path) -> None:
    path = tmp_path / "F.ndjson"
    path.write_bytes(GOOD.replace(b'Size":100', b'Size":"9007199254740993"'))
    with plan_inventory(path, EVERYTHING, NOW) as plan:
        assert [one.size for one in plan.decisions()] == [9007199254740993]


def test_a_pipe_is_read_too(large: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(large.read_bytes()))
    writer.start()
    assert offline(pipe, POLICY, processes=1) == offline(large, POLICY, processes=1)
    writer.join()


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        offline(tmp_path / "none.ndjson", EVERYTHING)


def test_a_process_that_dies_is_an_error(large: Path, tmp_path: Path) -> None:
    job = Job(open_inventory(large), POLICY, NOW, 0, tmp_path)
    with Crew(job, 2) as crew:
        crew._others[0]._process.kill()
        crew._others[0]._process.wait()
        with pytest.raises(CrewError, match="ended with exit code -9"):
            crew._others[0].take(Part(0, 0, 10), None, frozenset())


def test_nothing_is_left_behind(large: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.offline.test_offline import *;"
        "offline(Path(sys.argv[1]), POLICY, processes=3, part_bytes=200_000)"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script, str(large)], env=environment, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []


MEASURED = """
import sys
from pathlib import Path
from tests import bench_data
from tests.builders import NOW, policy
from worker.offline import plan_inventory

with plan_inventory(Path(sys.argv[1]), policy(*bench_data.POLICY), NOW, processes=1, part_bytes=1 << 20) as plan:
    for _ in plan.lines():
        pass
status = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in status if line.startswith("VmHWM:")))
"""


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Of ten times the images in as many more repositories, each takes at most 600 bytes more."""
    peaks = []  # KiB
    for images in (2_000, 20_000):
        found = [line(image(n, f"pr-{n}", layers=range(n, n + 9)), f"r{n // 50:05}") for n in range(images)]
        command = [sys.executable, "-c", MEASURED, str(saved(tmp_path, found))]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        ran = subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
        peaks.append(int(ran.stdout))
    assert (peaks[1] - peaks[0]) * 1024 < 18_000 * 600
