"""Whole runs on Debian's docker-registry: deleted images, whole images, and the bytes that its collector frees."""

import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from tests.support.cluster import ROOT
from tests.support.harness import Harness
from tests.support.oci import real_runs
from tests.support.oci.contents import REPOSITORIES, fill
from tests.support.oci.manifests import INDEX
from tests.support.oci.pusher import IncompleteImageError, Pusher, basic
from tests.support.oci.real_runs import served
from tests.support.oci.server import DockerRegistry, HtpasswdAuth
from tests.support.oci.tokens import TokenServer, TokenUser
from worker.config.kinds import KINDS

FAST = {"requests_per_second": 1000, "concurrency": 8}
OLD = [{"name": "old", "delete": {"tags": ["old*"]}}]


@pytest.fixture
def make_harness(tmp_path):
    made = []

    def make(registry, *, entry=None, **keys):
        made.append(Harness(served(registry, **(entry or {})), tmp_path, **{"rules": OLD, "rate": FAST, **keys}))
        return made[-1]

    yield make
    for harness in made:
        harness.store.dispose()


@pytest.mark.slow
def test_plan_metrics_and_disk_agree_on_the_bytes_without_a_cache(tmp_path):
    """`tests/tasks/test_night.py` has the same test with a cache."""
    real_runs.bytes_agree(tmp_path, cache=False)


def plan_of(made):
    """The JSON of `registry-gc plan`."""
    words = ["plan", "production", "--config", str(made.path), "--format", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "worker.cli", *words], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT
    )
    return json.loads(done.stdout)


def test_images_that_no_listing_shows_make_the_reclaimable_bytes_an_upper_bound(make_harness):
    with DockerRegistry() as registry:
        contents = fill(registry, now=datetime.now(UTC), repositories=REPOSITORIES[:2], by_skopeo=False)
        expected = real_runs.expected_deletions(contents, ["nightly", "pr-*"])
        made = make_harness(registry, rules=[{"name": "all of it", "delete": {"tags": ["nightly", "pr-*"]}}])
        planned = plan_of(made)
        run = made.sweep()
        assert (run.outcome, run.images) == ("succeeded", len(contents.listed))
        assert real_runs.still_present(registry, contents.images) == frozenset(contents.images) - expected
        freed = real_runs.collected(registry, contents)
        reclaimed = real_runs.named(made.store, run.id, reclaimed=True)
        # Every freed blob was counted; overwritten images hold the counted blobs that are not freed.
        assert freed == contents.freed(expected)
        assert reclaimed == contents.freed(expected, of=contents.listed)
        held = reclaimed.items() - freed.items()
        assert held == reclaimed.items() & contents.blobs(contents.unlisted).items()
        assert run.reclaimed_bytes == sum(reclaimed.values()) > sum(freed.values()) > 0
        assert planned["reclaimable_is_upper_bound"] is True
        assert planned["totals"]["reclaimable_bytes"] == run.reclaimed_bytes
        real_runs.pull_all(registry, (key for key in contents.unlisted if contents.images[key].config))


def test_the_collectors_delete_untagged_breaks_kept_indexes():
    """A fault of docker-registry up to 2.8.3: users must not run its collector with that option."""
    with DockerRegistry() as registry:
        contents = fill(registry, repositories=["shop/api"], untagged=False, by_skopeo=False)
        indexes = [key for key, manifest in contents.images.items() if manifest.media_type == INDEX and manifest.tags]
        real_runs.pull_all(registry, indexes)
        assert registry.collect(delete_untagged=True).returncode == 0
        pusher = Pusher(registry.url)
        assert real_runs.still_present(registry, indexes) == frozenset(indexes)
        with pytest.raises(IncompleteImageError) as broken:
            pusher.pull_whole("shop/api", "multi-0")
        untagged = [
            child.digest for child in contents.images["shop/api", contents.tags["shop/api", "multi-0"]].children
        ]
        assert broken.value.missing == tuple(f"manifest {digest} (404)" for digest in untagged)


def push_old(registry, number=3, **sign_in):
    pusher = Pusher(registry.url, **sign_in)
    return [pusher.image("shop/api", f"old-{n}", layers=[b"shared", b"%d" % n]) for n in range(number)]


def keys_of(pushed):
    return frozenset((manifest.repository, manifest.digest) for manifest in pushed)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param({"delete": False}, "REGISTRY_STORAGE_DELETE_ENABLED", id="deletion is off"),
        pytest.param({"readonly": True}, "read-only", id="read-only"),
    ],
)
def test_a_run_stops_at_once_if_the_registry_refuses_deletions(make_harness, options, says):
    with DockerRegistry() as registry:
        pushed = push_old(registry, 12)
        registry.restart(**options)
        run = make_harness(registry).sweep()
        assert (run.outcome, run.deleted) == ("failed", 0)
        assert run.failed <= 8, "one refusal is enough, but for those that were under way"
        assert says in (run.message or "")
        assert real_runs.still_present(registry, keys_of(pushed)) == keys_of(pushed)


def secret(folder, text, **keys):
    path = folder / "password"
    path.write_text(text)
    path.chmod(0o600)
    return {"credentials": {"username": "robot", "password": {"file": str(path)}}, **keys}


def test_signs_in_with_a_password_of_htpasswd(make_harness, tmp_path):
    with DockerRegistry(auth=HtpasswdAuth("robot", "right")) as registry:
        sign_in = {"authorization": basic("robot", "right")}
        pushed = push_old(registry, **sign_in)
        wrong = make_harness(registry, entry=secret(tmp_path, "wrong")).sweep()
        assert (wrong.outcome, wrong.planned) == ("failed", 0)
        assert "wrong" not in (wrong.message or "")
        run = make_harness(registry, entry=secret(tmp_path, "right")).sweep()
        assert (run.outcome, run.deleted) == ("succeeded", 3)
        assert real_runs.still_present(registry, keys_of(pushed), **sign_in) == frozenset()


GRANTS = ("registry:catalog:*", "repository:shop/*:pull,push,delete")


def test_replaces_a_token_that_the_registry_refuses_in_mid_run(make_harness, tmp_path):
    """The token server reports 300 seconds, the registry accepts a token for two; one batch lasts longer."""
    with TokenServer({"robot": TokenUser("right", GRANTS)}) as tokens, DockerRegistry(auth=tokens.auth) as registry:
        sign_in = {"authorization": tokens.bearer("robot", "repository:shop/api:pull,push")}
        pushed = push_old(registry, 20, **sign_in)
        tokens.lives = 2
        entry = secret(tmp_path, "right", token_hosts=[tokens.host])
        made = make_harness(registry, entry=entry, rate={"requests_per_second": 60, "concurrency": 4})
        run_id, task_calls = made.plan()
        before = len(tokens.asked)
        made.carry_out(task_calls)
        run = made.run(run_id)
        assert (run.outcome, run.deleted, run.failed) == ("succeeded", 20, 0)
        assert real_runs.still_present(registry, keys_of(pushed), **sign_in) == frozenset()
        scopes = [scope for request in tokens.asked for scope in request.scopes]
        assert set(scopes) == {"registry:catalog:*", "repository:shop/api:pull", "repository:shop/api:delete"}
        assert max(len(request.scopes) for request in tokens.asked) == 1
        assert {scope for request in tokens.asked[:before] for scope in request.scopes} == set(scopes) - {
            "repository:shop/api:delete"
        }
        assert scopes.count("repository:shop/api:delete") > 1


def test_a_token_without_the_right_to_delete_is_reported_as_permission_denied(make_harness, tmp_path):
    users = {
        "robot": TokenUser("right", ("registry:catalog:*", "repository:shop/*:pull")),
        "writer": TokenUser("", ("repository:shop/*:pull,push",)),
    }
    with TokenServer(users) as tokens, DockerRegistry(auth=tokens.auth) as registry:
        sign_in = {"authorization": tokens.bearer("writer", "repository:shop/api:pull,push")}
        pushed = push_old(registry, 12, **sign_in)
        made = make_harness(registry, entry=secret(tmp_path, "right", token_hosts=[tokens.host]))
        run = made.sweep()
        assert (run.outcome, run.deleted) == ("failed", 0)
        assert KINDS["oci"].to_delete in (run.message or "")
        assert {cause for state, cause in made.outcomes(run.id).values() if state == "failed"} == {"permission_denied"}
        assert real_runs.still_present(registry, keys_of(pushed), **sign_in) == keys_of(pushed)
        refused = [request for request in tokens.asked if request.scopes == ("repository:shop/api:delete",)]
        assert 0 < len(refused) <= 12, "a refusal is not asked about again and again"


def test_sends_the_password_to_another_host_only_if_token_hosts_names_it(make_harness, tmp_path):
    with TokenServer({"robot": TokenUser("right", GRANTS)}) as tokens, DockerRegistry(auth=tokens.auth) as registry:
        run = make_harness(registry, entry=secret(tmp_path, "right")).sweep()
        assert (run.outcome, tokens.asked) == ("failed", [])
        assert f"token_hosts: ['{tokens.host}']" in (run.message or "")
        run = make_harness(registry, entry=secret(tmp_path, "right", token_hosts=[tokens.host])).sweep()
        assert (run.outcome, {request.status for request in tokens.asked}) == ("succeeded", {200})


@pytest.mark.parametrize("rechecked", [False, True], ids=["before the recheck", "after the recheck"])
def test_keeps_an_image_whose_tag_moves_in_mid_run(make_harness, rechecked):
    with DockerRegistry() as registry:
        first, second, third = push_old(registry)
        made = make_harness(registry)
        run_id, task_calls = made.plan()
        assert [task_call.task for task_call in task_calls] == ["gc.recheck"]
        if rechecked:
            task_calls = made.carry_out(task_calls, until="gc.delete_batch")
        pusher = Pusher(registry.url)
        new = pusher.image("shop/api", "old-0", layers=[b"pushed since"])  # its tag moves to another image
        pusher.tag(second, "wanted")  # a tag that the plan does not have
        made.carry_out(task_calls)
        outcomes = made.outcomes(run_id)
        assert outcomes[first.digest] == outcomes[second.digest] == ("skipped", "changed")
        assert outcomes[third.digest] == ("deleted", None)
        assert real_runs.still_present(registry, keys_of([first, second, third, new])) == keys_of([first, second, new])
        assert pusher.tags("shop/api") == {"old-0": new.digest, "old-1": second.digest, "wanted": second.digest}
