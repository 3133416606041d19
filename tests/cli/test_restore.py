"""`registry-gc restore` as a subprocess, on Debian's docker-registry: its output and exit codes."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.command import Result
from tests.support.harness import Harness
from tests.support.oci import real_runs
from tests.support.oci.pusher import Pusher
from tests.support.oci.server import DockerRegistry
from tests.support.oci.tokens import TokenServer, TokenUser

GC = Callable[..., Result]
RULES = [{"name": "old", "delete": {"tags": ["old*"]}}]


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    with DockerRegistry() as started:
        yield started


@pytest.fixture
def pusher(server: DockerRegistry) -> Iterator[Pusher]:
    made = Pusher(server.url)
    yield made
    made.close()


@pytest.fixture
def served(server: DockerRegistry, tmp_path: Path) -> Iterator[Callable[[str], Harness]]:
    """A harness for one repository of the server, so that each test has its own repository."""
    made: list[Harness] = []

    def make(repository: str) -> Harness:
        entry = real_runs.served(server, repositories=[repository])
        made.append(Harness(entry, tmp_path, rules=RULES, rate={"requests_per_second": 1000}))
        return made[-1]

    yield make
    for harness in made:
        harness.store.dispose()


def test_restore_restores_all_images_and_tags_of_a_run(pusher: Pusher, served: Callable[..., Harness], gc: GC) -> None:
    children = [pusher.image("a/whole", layers=[b"base", name]) for name in (b"arm", b"amd")]
    pusher.index("a/whole", "old-multi", children=children)
    pusher.image("a/whole", "old-plain", layers=[b"base"])
    before = pusher.tags("a/whole")
    run = served("a/whole").sweep()
    assert run.deleted == 4
    assert pusher.tags("a/whole") == {}

    done = gc("restore", run.id, "--who", "anna")
    assert (done.code, done.err) == (0, "")
    assert "Restored by anna." in done.out
    heading, *rows = done.out.splitlines()
    assert heading.split() == ["REPOSITORY", "DIGEST", "TAGS", "ANSWER", "DETAIL"]
    assert [row.split()[-1] for row in rows[:4]] == ["whole"] * 4
    assert rows[-2] == "4 whole."
    assert re.fullmatch(
        r"The next run selects restored images again\. To keep one, change the policy or hold it, as in "
        r"`registry-gc hold production a/whole:old-\w+`\.",
        rows[-1],
    )
    assert pusher.tags("a/whole") == before
    assert pusher.pull_whole("a/whole", "old-multi")

    again = gc("restore", run.id, "--who", "anna", "--format", "json")
    assert again.code == 0
    assert {key: value for key, value in again.json.items() if key != "images"} == {
        "registry": "production", "run": run.id, "whole": 4, "partly": 0, "lost": 0, "unfinished": 0, "unkept": 0,
        "restored_by": "anna",
    }  # fmt: skip
    assert {image["digest"]: image["tags"] for image in again.json["images"] if image["tags"]} == {
        digest: [tag] for tag, digest in before.items()
    }


def test_restore_of_one_image_leaves_a_tag_that_was_pushed_since(
    pusher: Pusher, served: Callable[..., Harness], gc: GC
) -> None:
    gone = pusher.image("b/one", "old-1", "old-2", layers=[b"first"])
    other = pusher.image("b/one", "old-other", layers=[b"other"])
    run = served("b/one").sweep()
    new = pusher.image("b/one", "old-1", layers=[b"second"])
    done = gc("restore", "b/one:old-2", "--format", "ndjson")
    assert done.code == 0
    head, image = done.lines
    assert (head["run"], head["whole"]) == (run.id, 1)
    assert image == {
        "repository": "b/one", "digest": gone.digest, "run": run.id, "answer": "whole", "tags": ["old-2"],
        "left": [{"tag": "old-1", "digest": new.digest}], "missing": [],
        "message": "old-1 was pushed since, and is left as it is",
    }  # fmt: skip
    assert pusher.tags("b/one") == {"old-1": new.digest, "old-2": gone.digest}
    assert not pusher.exists("b/one", other.digest)


def test_restore_lists_the_blobs_that_garbage_collection_has_removed(
    server: DockerRegistry, pusher: Pusher, served: Callable[..., Harness], gc: GC
) -> None:
    gone = pusher.image("c/lost", "old", layers=[b"of this alone"])
    harness = served("c/lost")
    run = harness.sweep()
    assert server.collect().returncode == 0
    done = gc("restore", run.id, "--who", "anna", "--output", "answer.txt")
    assert (done.code, done.out, done.err) == (1, "", "")
    lines = (harness.folder / "answer.txt").read_text().splitlines()
    assert lines[1].split()[:3] == ["c/lost", gone.digest[:19], "lost"]
    assert lines[2:] == [
        "", f"Missing from c/lost@{gone.digest}:", *(f"  {blob.digest}" for blob in gone.blobs), "",
        "Restored by anna.", "1 lost.",
    ]  # fmt: skip
    assert pusher.tags("c/lost") == {}


def test_restore_refuses_in_one_line(pusher: Pusher, served: Callable[..., Harness], gc: GC) -> None:
    pusher.image("d/none", "old", layers=[b"d"])
    harness = served("d/none")
    run = harness.sweep()
    for words, code, message in (
        (("d/none:new",), 2, "'d/none:new' is no run's id, and no deleted image of production has that reference; .*"),
        (("d/none:old", "--registry", "other"), 2, r"there is no registry 'other' in .*; known: production"),
    ):
        done = gc("restore", *words)
        assert (done.code, done.out) == (code, "")
        assert re.fullmatch(message, done.err.removesuffix("\n"))
    active = harness.open()
    done = gc("restore", run.id)
    assert (done.code, done.out) == (4, "")
    assert active in done.err
    assert pusher.tags("d/none") == {}


def test_restore_in_a_read_only_registry_is_unfinished_and_can_be_repeated(
    server: DockerRegistry, pusher: Pusher, served: Callable[..., Harness], gc: GC
) -> None:
    images = [pusher.image("e/shut", f"old-{number}", layers=[b"%d" % number]) for number in range(2)]
    run = served("e/shut").sweep()
    server.restart(readonly=True)
    shut = gc("restore", run.id, "--format", "json")
    server.restart(readonly=False)
    assert (shut.code, shut.json["unfinished"]) == (1, 2)
    tried, untried = sorted((image["message"] for image in shut.json["images"]), key=len)
    assert "the registry is read-only" in tried
    assert untried == f"not tried: {tried}"
    assert gc("restore", run.id).code == 0
    assert all(pusher.pull_whole("e/shut", image.digest) for image in images)


def test_restore_names_the_missing_push_permission(tmp_path: Path, gc: GC) -> None:
    """Credentials that may only pull and delete restore nothing; the message names the missing permission."""
    users = {
        "sweeper": TokenUser("n", ("repository:*:pull,delete", "registry:catalog:*")),
        "rescue": TokenUser("r", ("repository:*:pull,push", "registry:catalog:*")),
    }
    with TokenServer(users) as tokens, DockerRegistry(auth=tokens.auth) as guarded:
        pusher = Pusher(guarded.url, authorization=tokens.bearer("rescue", "repository:f/mine:pull,push"))
        gone = pusher.image("f/mine", "old", layers=[b"f"])
        pusher.close()

        def as_user(name: str) -> Harness:
            (tmp_path / "password").write_text(users[name].password)
            sign_in = {"username": name, "password": {"file": str(tmp_path / "password")}}
            entry = real_runs.served(guarded, credentials=sign_in, token_hosts=[tokens.host])
            return Harness(entry, tmp_path, rules=RULES)

        harness = as_user("sweeper")
        run = harness.sweep()
        harness.store.dispose()
        assert run.deleted == 1
        refused = gc("restore", run.id, "--format", "ndjson")
        assert (refused.code, refused.lines[1]["answer"]) == (1, "unfinished")
        assert refused.lines[1]["message"].endswith("; restoring needs the right to pull and push in f/mine")
        as_user("rescue").store.dispose()
        done = gc("restore", run.id, "--format", "ndjson")
        assert (done.code, done.lines[1]["digest"], done.lines[1]["answer"]) == (0, gone.digest, "whole")
