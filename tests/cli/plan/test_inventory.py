"""`plan --inventory`: offline, from the output of `inventory` or any file of the same shape."""

import json
import os
import subprocess
from datetime import timedelta

import pytest

from tests.support.command import COMMAND

DAY = timedelta(days=1)
POLICY = """policies:
  nightly:
    - {name: releases, keep: {tags: ["v*"]}}
    - {name: pull requests, delete: {tags: ["pr-*"], older_than: 14d}}
    - {name: leftovers, delete: {untagged: true, older_than: 7d}}
"""
WORDS = ("plan", "--inventory", "inventory.ndjson", "--policy", "nightly", "--now", "2026-11-23")


def image(repository, number, **more):
    digest = f"sha256:{number:064x}"
    shared = {"digest": f"sha256:{1:064x}", "size": "1000"}
    own = {"digest": f"sha256:{number + 1000:064x}", "size": str(number)}
    document = {"id": f"crp{number}", "name": f"crp1/{repository}", "digest": digest, "config": own, "layers": [shared]}
    return document | {"compressedSize": str(1000 + number), "createdAt": "2026-01-01T00:00:00Z"} | more


@pytest.fixture
def saved(tmp_path):
    """Writes an inventory and a configuration whose registry has secrets that are not here."""
    registry = "{kind: yandex-container-registry, id: a, credentials: {iam_token: {env: NONE}}, policy: nightly}"
    (tmp_path / "registry-gc.yaml").write_text(f"registries: {{production: {registry}}}\n{POLICY}")

    def save(*lines):
        text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
        (tmp_path / "inventory.ndjson").write_text(text)

    return save


def test_an_inventory_gives_the_same_decisions_as_its_registry(simulator, make_harness, gc):
    simulator.fill("demo")
    # A scan stores the facts that it reads of untagged images; an inventory contains them as well.
    make_harness(rules=[{"name": "leftovers", "delete": {"untagged": True}}], mode="dry-run").sweep()
    make_harness()
    (listed,) = [gc("inventory", "production", "--output", "inventory.ndjson")]
    assert (listed.code, listed.out, listed.err) == (0, "", "")
    live, *there = gc("plan", "production", "--now", "2027-01-01", "--format", "ndjson").lines
    offline, *here = gc(*WORDS[:-1], "2027-01-01", "--format", "ndjson").lines
    assert here == there
    assert len(here) > 1000
    assert {decision["verdict"] for decision in here} == {"keep", "delete"}
    assert offline == live | {"registry": None}


def test_all_formats_have_the_same_plan(saved, gc):
    saved(image("shop/api", 2, tags=["pr-1"]), image("shop/api", 3, tags=["v1"]), image("shop/web", 4))
    whole = gc(*WORDS, "--format", "json")
    head, *decisions = gc(*WORDS, "--format", "ndjson").lines
    table = gc(*WORDS)
    assert [result.code for result in (whole, table)] == [0, 0]
    assert [result.err for result in (whole, table)] == ["", ""]
    assert whole.json == head | {"decisions": decisions}
    assert head["totals"] == {
        "images": 3, "keep": 1, "delete": 2, "selected_bytes": 2006, "reclaimable_bytes": 6, "registry_bytes": 1009,
    }  # fmt: skip
    assert table.out.splitlines()[-2:] == [
        "This plan deletes 2 of 3 images and keeps 1.",
        "It frees 6 B of 1009 B (1.9 KiB if shared layers count for every image).",
    ]


def test_an_empty_inventory(saved, gc):
    saved()
    assert gc(*WORDS, "--format", "json").json["decisions"] == []
    assert gc(*WORDS, "--format", "ndjson").lines[0]["totals"]["images"] == 0
    assert "This plan deletes nothing" in gc(*WORDS).out


def test_an_incomplete_inventory_warns(saved, gc):
    unreadable = [{"repository": "shop/web", "reason": "it is locked \x1b[31m"}]
    saved({"registry": "production", "listed_at": "2026-11-23T00:00:00Z", "unreadable": unreadable}, image("a", 1))
    done = gc(*WORDS, "--format", "json")
    assert (done.code, done.json["complete"], done.json["unreadable"]) == (0, False, unreadable)
    assert done.err.splitlines() == [
        "warning: The plan is incomplete: 1 repository could not be read.",
        "warning:   All images of shop/web are kept: it is locked \\x1b[31m",
    ]
    assert "\x1b" not in gc(*WORDS).out


@pytest.mark.parametrize(
    ("line", "what"),
    [
        pytest.param(
            "{\n",
            "not JSON: Input data was truncated; write one image a line, as `registry-gc inventory` does",
            id="cut",
        ),
        pytest.param(
            '{"name": "a/b", "digest": 5}\n',
            "digest: expected a digest, got 5; write sha256: and 64 digits 0-9a-f",
            id="a wrong type",
        ),
        pytest.param("[]\n", "expected an image, got an empty list; write one JSON object a line", id="no object"),
    ],
)
def test_an_invalid_line_is_reported_by_its_number(saved, gc, line, what):
    saved(image("shop/api", 1), image("shop/api", 2), line, image("shop/api", 3))
    for form in ("table", "json", "ndjson"):
        done = gc(*WORDS, "--format", form)
        assert (done.code, done.out, done.err) == (2, "", f"inventory.ndjson:3: {what}\n")


def test_an_image_without_a_digest_is_not_taken_for_the_head(saved, gc):
    without_digest = image("shop/api", 1)
    del without_digest["digest"]
    saved(without_digest, image("shop/api", 2))
    done = gc(*WORDS)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("inventory.ndjson:1: digest: expected a digest, got nothing; ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(
            ["plan", "--inventory", "inventory.ndjson", "--policy", "weekly"],
            "there is no policy 'weekly' in {folder}/registry-gc.yaml; known: nightly",
            id="no such policy",
        ),
        pytest.param(
            ["plan", "--inventory", "none", "--policy", "nightly"], "none: No such file or directory", id="no such file"
        ),
        pytest.param(["plan", "--inventory", ".", "--policy", "nightly"], ".: Is a directory", id="a folder"),
    ],
)
def test_plan_of_an_unknown_policy_or_inventory_is_exit_code_2(saved, gc, tmp_path, words, message):
    saved(image("shop/api", 1))
    done = gc(*words)
    assert (done.code, done.out, done.err) == (2, "", message.format(folder=tmp_path) + "\n")


def test_plan_reads_an_inventory_from_a_pipe(saved, tmp_path):
    saved(image("shop/api", 2, tags=["pr-1"]))
    words = [*COMMAND, "plan", "--inventory", "-", "--policy", "nightly", "--format", "json"]
    with (tmp_path / "inventory.ndjson").open("rb") as file:
        done = subprocess.run(words, cwd=tmp_path, stdin=file, capture_output=True, timeout=30, check=False)
    assert json.loads(done.stdout)["totals"]["delete"] == 1
    done = subprocess.run(words, cwd=tmp_path, input=b"{\n", capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr[:5]) == (2, b"", b"-:1: ")


def test_a_reader_may_close_a_long_plan_early(saved, tmp_path):
    saved(*(image(f"shop/{number}", number) for number in range(3000)))
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [*COMMAND, *WORDS, "--format", "ndjson"], cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert os.read(reader, 10).startswith(b'{"registry')
    os.close(reader)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (141, b"")
