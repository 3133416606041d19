"""A bad link to a real registry loses, cuts and replaces responses in mid-run: each planned image is deleted once."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from sqlalchemy import select, update

from tests.support.cluster import ROOT, metric
from tests.support.harness import Harness
from tests.support.http_fault_proxy import (
    FaultRule,
    HttpFaultProxy,
    ProxyResponse,
    call_first,
    carried_out_and_replaced,
    cut_after,
    forwarded,
    never_forwarded,
    respond_with,
    response_lost,
)
from tests.support.oci import real_runs
from tests.support.oci.contents import Key, RegistryContents
from tests.support.oci.manifests import Pushed
from tests.support.oci.pusher import Pusher
from tests.support.oci.server import DockerRegistry
from worker.runs import lifecycle
from worker.store.runs import Run
from worker.store.tables import audit, batch, item

FAST = {"requests_per_second": 1000, "concurrency": 8}
OLD = [{"name": "old", "delete": {"tags": ["old*"]}}]
OLDS, KEPT = 4, 3
MANIFESTS = "/v2/shop/api/manifests/"
BAD_GATEWAY, FORBIDDEN, TOO_MANY = (
    ProxyResponse(502),
    ProxyResponse(403),
    ProxyResponse(429, headers=[("Retry-After", "1")]),
)


@dataclass
class ProxiedRegistry:
    """A registry behind a fault proxy, a harness that reaches it only through the proxy, and the pushed images."""

    registry: DockerRegistry
    proxy: HttpFaultProxy
    harness: Harness
    old: list[Pushed]
    kept: list[Pushed]

    @property
    def digest(self) -> str:
        """The digest whose requests the faults strike."""
        return self.old[0].digest

    @property
    def delete(self) -> str:
        return f"^DELETE {MANIFESTS}{self.digest}"

    @property
    def recheck(self) -> str:
        """The requests that reread the image: HEAD, and the GET that follows where HEAD answers neither 200 nor 404."""
        return f"^(HEAD|GET) {MANIFESTS}{self.digest}"

    def contents(self) -> RegistryContents:
        return RegistryContents((*self.old, *self.kept))

    def swept(self) -> Run:
        """A whole run: unconfirmed deletions are claimed again, as by minutes of reconcile."""
        run_id, task_calls = self.harness.plan()
        self.harness.carry_out(task_calls)
        for _ in range(6):
            self.go_on(run_id)
        return self.harness.run(run_id)

    def go_on(self, run_id: str) -> None:
        """Let every mark of a publication expire, and publish the task calls again."""
        with self.harness.store.write() as connection:
            connection.execute(update(batch).values(published_at=None))
        self.harness.carry_out(lifecycle.next_task_calls(self.harness.store, run_id, datetime.now(UTC)))

    def deletes(self, digest: str = "") -> int:
        """How many DELETEs reached the proxy, for one digest or for all."""
        return len(self.proxy.received(f"^DELETE .*{digest}$"))

    def check_invariants(self, run: Run, *, gone: list[Pushed] | None = None) -> None:
        """Exactly the planned images are deleted, kept images pull whole, and each DELETE comes after its intent."""
        gone = self.old if gone is None else gone
        assert self.proxy.all_faults_struck, "a fault struck no request"
        planned = {item.decision.digest for item in self.harness.items(run.id)}
        assert planned == {image.digest for image in gone}
        assert self.harness.outcomes(run.id) == dict.fromkeys(planned, ("deleted", None))
        assert (run.deleted, run.failed, run.skipped, run.gone) == (len(gone), 0, 0, 0)
        everything = keys_of([*self.old, *self.kept])
        assert real_runs.still_present(self.registry, everything) == everything - keys_of(gone)
        real_runs.pull_all(self.registry, everything - keys_of(gone))
        self.intents_first(run, planned)

    def intents_first(self, run: Run, planned: set[str]) -> None:
        with self.harness.store.read() as connection:
            rows = connection.execute(select(item.c.digest, item.c.intent_at).where(item.c.run_id == run.id))
            intended = {row.digest: row.intent_at for row in rows}
            audited = connection.execute(select(audit.c.digest).where(audit.c.outcome == "deleted")).scalars().all()
        assert sorted(audited) == sorted(planned)
        asked = [(request.at, request.line.rpartition("/")[2]) for request in self.proxy.received("^DELETE")]
        assert {digest for _, digest in asked} == planned
        assert all(intended[digest] <= at for at, digest in asked)


def keys_of(pushed: list[Pushed]) -> frozenset[Key]:
    return frozenset((manifest.repository, manifest.digest) for manifest in pushed)


@pytest.fixture
def link(tmp_path) -> Iterator[ProxiedRegistry]:
    with DockerRegistry() as registry, HttpFaultProxy(registry.url) as proxy:
        pusher = Pusher(registry.url)
        old = [pusher.image("shop/api", f"old-{n}", layers=[b"shared", b"old %d" % n]) for n in range(OLDS)]
        kept = [pusher.image("shop/api", f"v{n}", layers=[b"shared", b"kept %d" % n]) for n in range(KEPT)]
        kept.append(pusher.image("shop/web", "v1", layers=[b"shared", b"web"]))
        pusher.close()
        harness = Harness(real_runs.served(registry, url=proxy.url), tmp_path, rules=OLD, rate=FAST)
        yield ProxiedRegistry(registry, proxy, harness, old, kept)
        harness.store.dispose()


def test_a_deletion_whose_response_is_lost_is_confirmed_by_a_reread(link):
    """The image counts as deleted after one DELETE, and the reclaimed bytes are those of the registry's collector."""
    link.proxy.on(link.delete, response_lost, times=1)
    run = link.harness.sweep()  # no further claim is needed
    assert run.state == "finished"
    link.check_invariants(run)
    assert link.deletes() == len(link.old)
    contents = link.contents()
    freed = real_runs.collected(link.registry, contents)
    assert freed == contents.freed(keys_of(link.old))
    assert run.reclaimed_bytes == run.reclaimable_bytes == sum(freed.values()) > 0
    real_runs.pull_all(link.registry, keys_of(link.kept))


def test_a_deletion_that_cannot_be_confirmed_is_confirmed_by_the_next_claim(link):
    """Response and reread are lost; the next claim of the batch finds the image deleted by us."""
    refusals: list[FaultRule] = []

    def refuse_rereads() -> None:
        refusals.append(
            link.proxy.on(link.recheck, respond_with(FORBIDDEN), times=2)
        )  # HEAD, and the GET that repeats it

    link.proxy.on(link.delete, call_first(refuse_rereads, response_lost), times=1)
    run_id, task_calls = link.harness.plan()
    link.harness.carry_out(task_calls)
    assert link.proxy.all_faults_struck
    assert [rule.times for rule in refusals] == [0]
    assert link.harness.outcomes(run_id)[link.digest] == ("intent", None)
    link.go_on(run_id)
    link.check_invariants(link.harness.run(run_id))
    assert link.deletes(link.digest) == 1


@pytest.mark.parametrize("times", [1, 2])
def test_a_deletion_that_never_reaches_the_registry_is_repeated(link, times):
    link.proxy.on(link.delete, never_forwarded, times=times)
    run = link.swept()
    link.check_invariants(run)
    assert link.deletes(link.digest) == times + 1
    assert link.deletes() == len(link.old) + times


def test_a_deletion_that_never_reaches_the_registry_is_given_up_after_three_attempts(link):
    link.proxy.on(link.delete, never_forwarded, times=3)
    run = link.swept()
    assert link.proxy.all_faults_struck
    assert link.harness.outcomes(run.id)[link.digest] == ("failed", "unconfirmed")
    assert (run.outcome, run.deleted, run.failed) == ("partial", len(link.old) - 1, 1)
    everything = keys_of([*link.old, *link.kept])
    assert real_runs.still_present(link.registry, everything) == everything - keys_of(link.old[1:])


@pytest.mark.parametrize("reaches", [True, False], ids=["after the deletion", "before the deletion"])
def test_a_502_of_an_intermediary_is_followed_by_a_reread(link, reaches):
    link.proxy.on(link.delete, (carried_out_and_replaced if reaches else respond_with)(BAD_GATEWAY), times=1)
    run = link.swept()
    link.check_invariants(run)
    assert link.deletes(link.digest) == (1 if reaches else 2)


def test_a_listing_that_is_cut_once_is_repeated(link):
    link.proxy.on("^GET /v2/shop/api/tags/list", cut_after(25), times=1)
    link.proxy.on("^GET /v2/_catalog", cut_after(0), times=1)
    run = link.swept()
    link.check_invariants(run)
    assert (run.outcome, run.images, run.unreadable) == ("succeeded", len(link.old) + len(link.kept), ())


def test_deletes_nothing_of_a_repository_whose_listing_is_always_cut(link):
    pusher = Pusher(link.registry.url)
    other = pusher.image("shop/web", "old-9", layers=[b"shared", b"elsewhere"])
    link.old.append(other)
    link.proxy.on("^GET /v2/shop/api/tags/list", cut_after(25), times=5)
    run = link.swept()
    assert [repository["repository"] for repository in run.unreadable] == ["shop/api"]
    assert run.outcome == "partial"
    link.kept += link.old[:-1]
    link.check_invariants(run, gone=[other])


def test_deletes_nothing_of_a_repository_that_cannot_be_rechecked(link):
    """The scan lists the repository; every later listing is cut."""
    link.proxy.on("^GET /v2/shop/api/tags/list", cut_after(25), passing=2, times=5)
    run_id, task_calls = link.harness.plan()
    link.harness.carry_out(task_calls)
    assert link.proxy.all_faults_struck
    assert link.deletes() == 0
    everything = keys_of([*link.old, *link.kept])
    assert real_runs.still_present(link.registry, everything) == everything
    link.go_on(run_id)
    link.check_invariants(link.harness.run(run_id))


def test_throttled_requests_are_repeated(link):
    """429 for some of the first HEADs, for a deletion, and for the reread after it."""

    def throttle_the_reread() -> None:
        link.proxy.on(link.recheck, respond_with(TOO_MANY), times=1)

    link.proxy.on("^HEAD .*/(old|v)", respond_with(TOO_MANY), times=4)
    link.proxy.on(link.delete, call_first(throttle_the_reread, respond_with(TOO_MANY)), times=1)
    run = link.swept()
    link.check_invariants(run)
    assert (run.outcome, run.unreadable) == ("succeeded", ())


def shown(harness: Harness, run_id: str) -> dict:
    words = ["show", run_id, "--config", str(harness.path), "--format", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "worker.cli", *words], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT
    )
    return json.loads(done.stdout)


def test_a_tag_pushed_during_the_deletion_of_its_old_digest_keeps_the_new_image(link):
    """The old digest is deleted, the new image is whole under its tag, and the race is reported and counted."""
    pusher = Pusher(link.registry.url)
    new: list[Pushed] = []

    def push() -> None:
        new.append(pusher.image("shop/api", "old-0", layers=[b"shared", b"pushed meanwhile"]))

    link.proxy.on(link.delete, call_first(push, forwarded), times=1)
    run = link.swept()
    link.kept += new
    link.check_invariants(run)
    assert link.deletes() == len(link.old)
    assert pusher.tags("shop/api")["old-0"] == new[0].digest
    raced = [{"repository": "shop/api", "digest": link.digest, "tags": ["old-0"]}]
    assert shown(link.harness, run.id)["raced"] == raced
    where = 'registry_gc_raced_pushes_total{registry="production"}'
    assert metric(SimpleNamespace(harness=link.harness), where) == 1


def test_reports_no_race_without_a_push(link):
    run = link.swept()
    link.check_invariants(run)
    assert run.raced_pushes == ()
    assert metric(SimpleNamespace(harness=link.harness), 'registry_gc_raced_pushes_total{registry="production"}') == 0


def test_reports_a_race_if_the_response_of_the_deletion_is_lost(link):
    pusher = Pusher(link.registry.url)
    new: list[Pushed] = []

    def push() -> None:
        new.append(pusher.image("shop/api", "old-0", layers=[b"pushed meanwhile"]))

    link.proxy.on(link.delete, call_first(push, response_lost), times=1)
    run = link.swept()
    link.kept += new
    link.check_invariants(run)
    assert [push["tags"] for push in run.raced_pushes] == [["old-0"]]
