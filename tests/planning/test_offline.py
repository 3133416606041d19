"""Plans of saved inventories: the same, byte for byte, as of the same records in memory, however they are read."""

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.image import Image, Repository, Unreadable
from policies.rules import Policy
from policies.units import shown
from tests.bench import data as bench_data
from tests.support.builders import NOW, digest, image, policy, repository, signature
from tests.support.doctored import policies, registries
from tests.support.planning import WholePlan, make_plan, offline_ndjson
from worker.planning.inventory_file import open_inventory
from worker.planning.inventory_lines import decoder
from worker.planning.offline import InventoryError, plan_inventory
from worker.report.plan import PlanHead

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
    return offline_ndjson(path, rules, NOW, **more)


def ndjson(plan: WholePlan) -> bytes:
    head = PlanHead(**{name: getattr(plan, name) for name in PlanHead.__struct_fields__})
    return b"".join(msgspec.json.encode(one) + b"\n" for one in (head, *plan.decisions))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(registries(), policies(), st.sets(st.sampled_from(["a", "ml/big", "gone"])), st.integers(0, 1), st.randoms())
def test_it_is_the_plan_of_the_same_records(
    tmp_path: Path, repositories: list[Repository], rules: Policy, failed: set[str], keep: int, random_: random.Random
) -> None:
    unreadable = [Unreadable(repository=path, reason="a time-out") for path in sorted(failed)]
    expected = ndjson(make_plan(repositories, rules, NOW, unreadable=unreadable, keep_per_repository=keep))
    grouped = saved(tmp_path, lines(repositories), unreadable)
    assert offline(grouped, rules, keep_per_repository=keep, block=500) == expected
    mixed = lines(repositories)
    random_.shuffle(mixed)
    assert offline(saved(tmp_path, mixed, unreadable), rules, keep_per_repository=keep, block=500) == expected


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "F.ndjson"
    bench_data.write(path, 4000)
    return path


def records(path: Path) -> list[Repository]:
    """By repositories; its lines stand in order of them."""
    images = groupby(decoder.decode_lines(path.read_bytes()), key=lambda one: one.name.partition("/")[2])
    return [Repository(path=name, images=tuple(some)) for name, some in images]


@pytest.mark.parametrize("block", [1, 5_000, 200_000])
@pytest.mark.parametrize(
    "rules", [POLICY, policy({"delete": {"all": True}}, {"keep": {"newest": 900, "per": "registry"}})]
)
def test_blocks_of_any_size_give_the_same_bytes(large: Path, rules: Policy, block: int) -> None:
    expected = ndjson(make_plan(records(large), rules, NOW))
    assert offline(large, rules, block=block) == expected


def test_a_mixed_file_gives_the_same_bytes(large: Path, tmp_path: Path) -> None:
    mixed = large.read_bytes().splitlines()
    random.Random(1).shuffle(mixed)
    expected = offline(large, POLICY)
    assert offline(saved(tmp_path, mixed), POLICY, block=300_000) == expected


def test_signatures_in_a_repository_of_their_own_are_decided_when_all_is_known(large: Path, tmp_path: Path) -> None:
    signed = [one for repository in records(large)[:5] for one in repository.images[:20]]
    signatures = [line(msgspec.structs.replace(signature(1), digest=digest(one.digest), tags=(
        f"sha256-{one.digest.removeprefix('sha256:')}.sig",)), "signatures") for one in signed]  # fmt: skip
    path = saved(tmp_path, [*signatures, *large.read_bytes().splitlines()])
    plan = make_plan(records(path), EVERYTHING, NOW)
    assert offline(path, EVERYTHING, block=200_000) == ndjson(plan)
    assert {one.cause for one in plan.decisions if one.repository == "signatures"} == {"needed"}


def test_a_subject_in_a_repository_that_was_not_listed_is_not_there(tmp_path: Path) -> None:
    repositories = [repository("a", image(1)), repository("b", signature(1))]
    unreadable = [Unreadable(repository="a", reason="a time-out")]
    for failed, cause in (([], "needed"), (unreadable, "selected")):
        with plan_inventory(saved(tmp_path, lines(repositories), failed), EVERYTHING, NOW) as plan:
            assert [one.cause for one in plan.decisions.records() if one.repository == "b"] == [cause]


def test_decisions_can_be_read_as_records(large: Path) -> None:
    with plan_inventory(large, POLICY, NOW) as plan:
        assert tuple(plan.decisions.records()) == make_plan(records(large), POLICY, NOW).decisions
        assert plan.plan.closing.rule_selected["pull requests"] > 0


@pytest.mark.parametrize("block", [1, 1000, 50_000, 10**9])
@pytest.mark.parametrize("indexed", [False, True])
def test_repositories_are_read_whole_each_once(large: Path, block: int, indexed: bool) -> None:
    inventory = open_inventory(large, block)
    if indexed:
        inventory.index()
    expected = {one.path: len(one.images) for one in records(large)}
    found = [(ties.path, len(ties.images)) for ties in inventory.read()]
    assert sorted(found) == sorted(expected.items())
    some = set(sorted(expected)[::3])
    assert {ties.path for ties in inventory.read(some)} == some


GOOD = line(image(1, "v1"), "shop/api")
LINE = "; write one image a line, as `registry-gc inventory` does"
DIGEST = "; write sha256: and 64 digits 0-9a-f"
NAME = "; write the registry's id, a slash and the repository, for example crp1/shop/api"
TIME = '; write, for example, "2026-11-23T03:00:00Z"'
BYTES = '; write a whole number from 0 to 9223372036854775807, for example "1024"'


def facts(**more: Any) -> bytes:
    """The good line with other facts."""
    return msgspec.json.encode(msgspec.json.decode(GOOD) | more)


def bad(id_: str, text: bytes, what: str) -> Any:
    return pytest.param(text, f"2: {what}", id=id_)


ODD_DIGESTS = [
    "latest", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha512:" + "a" * 31, "a" * 64, digest(1) + "\n", "sha256:é",
]  # fmt: skip
PLACES: dict[str, Callable[[str], dict[str, Any]]] = {
    "digest": lambda one: {"digest": one},
    "config.digest": lambda one: {"config": {"digest": one, "size": "1"}},
    "layers[1].digest": lambda one: {"layers": [{"digest": digest(2)}, {"digest": one}]},
    "children[0]": lambda one: {"children": [one]},
    "subject": lambda one: {"subject": one},
}
NO_NAMES = [
    "alone", "crp1/", "/shop", "crp1/shop/", "crp1//shop", "crp1/a\x1b[31m", "crp1/a\nb", "crp1/\u202ea",
]  # fmt: skip
NO_TIMES = [
    1767225600, 0, -1, 1.5, 1e30, 2**70, "1767225600", "1.5", True, [], "yesterday", "2026-11-23",
    "2026-11-23T03:00:00", "26-11-23T03:00:00Z",
]  # fmt: skip
BAD: list[Any] = [
    bad("cut off", b'{"digest": "sha256:ab", ', f"not JSON: Input data was truncated{LINE}"),
    bad("no JSON", b"nonsense", f"not JSON: invalid character (byte 4){LINE}"),
    bad("no object", b"[1]", "expected an image, got a list; write one JSON object a line"),
    bad("no digest", GOOD.replace(b'"digest"', b'"dig"', 1), f"digest: expected a digest, got nothing{DIGEST}"),
    bad("an empty digest", facts(digest=""), f"digest: expected a digest, got ''{DIGEST}"),
    bad("a digest is a number", facts(digest=5), f"digest: expected a digest, got 5{DIGEST}"),
    bad("a layer has none", facts(layers=[{}]), f"layers[0].digest: expected a digest, got nothing{DIGEST}"),
    *(
        bad(f"{where} {one!r}", facts(**made(one)), f"{where}: expected a digest, got {shown(one)}{DIGEST}")
        for where, made in PLACES.items()
        for one in ODD_DIGESTS
    ),
    bad("no name", GOOD.replace(b'"name"', b'"nam"'), f"name: expected a name, got ''{NAME}"),
    *(bad(f"named {name!r}", facts(name=name), f"name: expected a name, got {shown(name)}{NAME}") for name in NO_NAMES),
    bad(
        "tags are no list",
        facts(tags="v1"),
        "tags: expected a list of tags, got 'v1'; write, for example, [\"v1.0.0\"]",
    ),
    bad("a tag is a number", facts(tags=[1]), "tags[0]: expected a tag, got 1; put it in quotes"),
    bad("a negative size", facts(compressedSize=-1), f"compressedSize: expected a number of bytes, got -1{BYTES}"),
    bad("a huge size", facts(compressedSize=2**63), f"compressedSize: expected a number of bytes, got {2**63}{BYTES}"),
    bad("no size", facts(compressedSize="much"), f"compressedSize: expected a number of bytes, got 'much'{BYTES}"),
    bad(
        "a layer's size",
        facts(layers=[{"digest": digest(2), "size": 1.5}]),
        f"layers[0].size: expected a number of bytes, got 1.5{BYTES}",
    ),
    *(
        bad(f"{key} {one!r}", facts(**{key: one}), f"{key}: expected a time with its offset, got {shown(one)}{TIME}")
        for key in ("createdAt", "pulledAt")
        for one in NO_TIMES
    ),
    bad("a label", facts(labels={"a": "b", "c": 5}), "labels[...]: expected text, got 5; put it in quotes"),
    bad(
        "a lock",
        facts(locked="maybe"),
        "locked: expected true or false, got 'maybe'; write one of them, without quotes",
    ),
    bad("broken UTF-8", GOOD.replace(b"v1", b"\xff"), f"not UTF-8{LINE}"),
    bad("binary", b"\x1f\x8b\x08\x00", f"not JSON: invalid character (byte 0){LINE}"),
    bad("two on a line", GOOD + GOOD, f"not JSON: trailing characters (byte 276){LINE}"),
    bad("deep", b'{"digest":"x","name":"a/b","labels":' + b"[" * 100_000, f"nested too deep{LINE}"),
]


@pytest.mark.parametrize(("bad", "what"), BAD)
@pytest.mark.parametrize("grouped", [True, False], ids=["grouped", "mixed"])
def test_bad_lines(tmp_path: Path, bad: bytes, what: str, grouped: bool) -> None:
    before = [] if grouped else [line(image(n), path) for n, path in enumerate(["a", "b", "a", "b"])]
    path = saved(tmp_path, [*before, GOOD, bad, line(image(3), "shop/zzz")])
    with pytest.raises(InventoryError) as refused:
        offline(path, EVERYTHING)
    number, _, words = what.partition(":")
    assert str(refused.value) == f"{path}:{int(number) + len(before)}:{words}"


def test_the_line_is_found_in_a_large_file(large: Path, tmp_path: Path) -> None:
    found = large.read_bytes().splitlines()
    found[3456] = found[3456].replace(b'"tags"', b"tags")
    path = saved(tmp_path, found, [])
    with pytest.raises(InventoryError, match=r"F\.ndjson:3458: not JSON: ") as refused:
        offline(path, EVERYTHING, block=200_000)
    assert refused.value.line == 3458


@pytest.mark.parametrize(
    ("head", "what"),
    [
        ("{", f"not JSON: Input data was truncated{LINE}"),
        ("[]", "expected an image, got an empty list; write one JSON object a line"),
        ('{"unreadable": 5}', "unreadable: expected a list of repositories, got 5; write […], or leave it out"),
        (
            '{"unreadable": null}',
            "unreadable: expected a list of repositories, got nothing; write […], or leave it out",
        ),
        ('{"unreadable": [{"repository": "a"}]}', "unreadable[0].reason: expected text, got nothing; put it in quotes"),
        (
            '{"unreadable": [{"repository": "a", "reason": "b", "when": 1}]}',
            "unreadable[0].when: unknown key; known here: repository, reason",
        ),
        (
            '{"unreadable": [{"repository": "a/", "reason": "b"}]}',
            "unreadable[0].repository: expected a repository's path, got 'a/';"
            " write it without the registry's id, for example shop/api",
        ),
        ('{"registry": 5}', "registry: expected text, got 5; put it in quotes"),
        *(
            (f'{{"listed_at": {moment}}}', f"listed_at: expected a time with its offset, got {got}{TIME}")
            for moment, got in (("5", "5"), ("null", "nothing"), ('"2026-11-23"', "'2026-11-23'"))
        ),
        ('{"listedAt": "2026-11-23T03:00:00Z"}', "listedAt: unknown key; known here: registry, listed_at, unreadable"),
        *(
            (image_, f"digest: expected a digest, got nothing{DIGEST}: only a head has none")
            for image_ in ('{"name": "crp1/a"}', '{"id": "crp1"}', '{"registry": "a", "tags": []}', '{"createdAt": 5}')
        ),
    ],
)
def test_bad_heads(tmp_path: Path, head: str, what: str) -> None:
    path = saved(tmp_path, [head.encode(), GOOD])
    with pytest.raises(InventoryError) as refused:
        offline(path, EVERYTHING)
    assert str(refused.value) == f"{path}:1: {what}"


def test_what_a_head_may_say(tmp_path: Path) -> None:
    rows = [{"repository": "a/b", "reason": "a time-out"}]
    head = {"registry": "production", "listed_at": "2026-11-23T03:00:00+03:00", "unreadable": rows}
    with plan_inventory(saved(tmp_path, [msgspec.json.encode(head), GOOD]), EVERYTHING, NOW) as plan:
        assert plan.plan.unreadable == (Unreadable(repository="a/b", reason="a time-out"),)
        assert plan.plan.totals.images == 1


@pytest.mark.parametrize(
    "more",
    [
        {"digest": "sha512:" + "a" * 128},
        {"subject": "sha512:" + "a" * 128, "layers": [{"digest": "blake2b+x.1:" + "0" * 32, "size": 5}]},
        {
            "createdAt": None,
            "pulledAt": None,
            "children": None,
            "subject": None,
            "compressedSize": None,
            "config": None,
        },
        {"compressedSize": "9223372036854775807", "createdAt": "2026-11-23T03:00:00.123456+03:00", "unknown": {"a": 1}},
        {"name": "crp1/a b/ü"},
    ],
    ids=["sha512", "other algorithms", "nulls", "greatest", "a name"],
)
@pytest.mark.parametrize("grouped", [True, False], ids=["grouped", "mixed"])
def test_what_an_image_may_say(tmp_path: Path, more: dict[str, Any], grouped: bool) -> None:
    before = [] if grouped else [line(image(n), path) for n, path in enumerate(["a", "b", "a", "b"])]
    with plan_inventory(saved(tmp_path, [*before, facts(**more)]), EVERYTHING, NOW) as plan:
        assert plan.plan.totals.images == len(before) + 1


def test_an_odd_blob_in_the_middle_is_found(large: Path, tmp_path: Path) -> None:
    found = large.read_bytes().splitlines()
    one = msgspec.json.decode(found[2345])
    one["layers"] = [{"digest": "sha256:" + "g" * 64, "size": "5"}]
    found[2345] = msgspec.json.encode(one)
    path = saved(tmp_path, found)
    for block in (1, 200_000):
        with pytest.raises(InventoryError, match=r"F\.ndjson:2346: layers\[0\]\.digest: expected a digest"):
            offline(path, EVERYTHING, block=block)


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
        assert offline(path, POLICY, block=400) == expected


def test_sizes_may_come_in_strings(tmp_path: Path) -> None:
    path = tmp_path / "F.ndjson"
    path.write_bytes(GOOD.replace(b'Size":100', b'Size":"9007199254740993"'))
    with plan_inventory(path, EVERYTHING, NOW) as plan:
        assert [one.size for one in plan.decisions.records()] == [9007199254740993]


def test_a_pipe_is_read_too(large: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(large.read_bytes()))
    writer.start()
    assert offline(pipe, POLICY) == offline(large, POLICY)
    writer.join()


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        offline(tmp_path / "none.ndjson", EVERYTHING)


def test_nothing_is_left_behind(large: Path, tmp_path: Path) -> None:
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
from tests.support.builders import NOW, policy
from worker.report.plan import PlanHead
from worker.planning.offline import plan_inventory

with plan_inventory(Path(sys.argv[1]), policy(*bench_data.POLICY), NOW) as plan:
    for _ in plan.decisions.lines():
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


def test_a_file_that_is_replaced_between_two_readings_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, lines([repository("a", image("a1"), image("a2"))]))
    file = open_inventory(path)
    assert len(list(file.read())) == 1
    (tmp_path / "new").mkdir()
    os.replace(saved(tmp_path / "new", lines([repository("b", image("b1"))])), path)
    with pytest.raises(InventoryError, match="was changed while it was read"):
        list(file.read({"a"}))
