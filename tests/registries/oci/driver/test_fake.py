"""The driver, and whole runs, with features that distribution 2.8 lacks: pages of tags, referrers, protection."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from tests.support.drivers import QUICK, with_defaults
from tests.support.harness import Harness
from tests.support.oci import manifests as m
from tests.support.oci.fake import BasicAuth, FakeRegistry, TokenAuth
from tests.support.oci.real_runs import served
from worker.config.settings import Credentials, Secret
from worker.registries import open_registry
from worker.registries.errors import (
    NotFoundError,
    PermanentlyReadOnlyError,
    PermissionDeniedError,
    RegistryError,
    UnavailableError,
    UsedByImageListsError,
)
from worker.registries.interface import Deletion
from worker.registries.oci.driver import Oci

OLD = [{"name": "old", "delete": {"tags": ["old*"]}}]
FAST = {"requests_per_second": 1000, "concurrency": 4}
Starter = Callable[..., FakeRegistry]
Opener = Callable[..., Oci]
Sleeper = Callable[..., Harness]


@pytest.fixture
def fake() -> Iterator[Starter]:
    """Starts registries, and checks that no forbidden request was sent to them."""
    with ExitStack() as stack:
        started: list[FakeRegistry] = []

        def start(*args: Any, **switches: Any) -> FakeRegistry:
            started.append(stack.enter_context(FakeRegistry(*args, **switches)))
            return started[-1]

        yield start
        assert [refused for server in started for refused in server.refused] == []


@pytest.fixture
def opened() -> Iterator[Opener]:
    with ExitStack() as stack:

        def open_one(registry: FakeRegistry, **changes: Any) -> Oci:
            given = {"kind": "oci", "url": registry.url, "credentials": Credentials(anonymous=True), **changes}
            made = stack.enter_context(open_registry(with_defaults(**given), retries=QUICK, manifests=None))
            assert isinstance(made, Oci)
            return made

        yield open_one


@pytest.fixture
def make_harness(tmp_path: Path) -> Iterator[Sleeper]:
    made: list[Harness] = []

    def make(registry: FakeRegistry, **keys: Any) -> Harness:
        made.append(Harness(served(registry), tmp_path, **{"rules": OLD, "rate": FAST, **keys}))  # type: ignore[arg-type]  # of a real one it takes the url alone
        return made[-1]

    yield make
    for harness in made:
        harness.store.dispose()


# Listing


@pytest.mark.parametrize("page", [1, 2, 5, 6])
def test_follows_links_to_the_last_page_and_asks_once_beyond(fake: Starter, opened: Opener, page: int) -> None:
    registry = fake(tags_page=page, catalog_page=page)
    pushed = [registry.push(f"shop/{name}", tag, layers=[tag.encode()]) for name in "ab" for tag in "cabed"]
    driver = opened(registry)
    assert list(driver.repositories()) == ["shop/a", "shop/b"]
    assert {image.digest: image.tags for image in driver.images("shop/a")} == {
        image.digest: image.tags for image in pushed[:5]
    }
    # One more each: the page after the last.
    assert registry.lines().count("GET /v2/shop/a/tags/list") == -(-5 // page) + 1
    assert registry.lines().count("GET /v2/_catalog") == -(-2 // page) + 1


def test_accepts_a_tag_that_is_deleted_between_two_pages(fake: Starter, opened: Opener) -> None:
    registry = fake(tags_page=2)
    pushed = {tag: registry.push("a", tag, layers=[tag.encode()]) for tag in "abcdef"}
    registry.before("GET", "/tags/list$", lambda: registry.remove("a", pushed["b"].digest), after=1)
    images = {image.digest for image in opened(registry).images("a")}
    assert images == {image.digest for tag, image in pushed.items() if tag != "b"}


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_reports_a_missing_catalog_as_such(fake: Starter, opened: Opener, status: int) -> None:
    registry = fake(catalog=status)
    registry.push("a", "v1")
    with pytest.raises(RegistryError, match="name each of them"):
        list(opened(registry).repositories())
    named = opened(registry, repositories=("a",))
    assert list(named.repositories()) == ["a"]
    assert [image.tags for image in named.images("a")] == [("v1",)]


def test_downloads_a_manifest_if_head_has_no_digest(fake: Starter, opened: Opener) -> None:
    registry = fake(digest_header=False)
    image = registry.push("a", "v1", "v2")
    registry.push_index("a", "all", children=[image.digest])
    driver = opened(registry)
    images = {image.digest: image for image in driver.images("a")}
    assert images[image.digest].tags == ("v1", "v2")
    assert driver.get("a", images[image.digest]).tags == ("v1", "v2")
    assert driver.delete("a", images[image.digest], "key") == Deletion("", done=True)


def test_reads_configs_from_another_host(fake: Starter, opened: Opener, tmp_path: Path) -> None:
    registry = fake(TokenAuth(user=BasicAuth("anna", "secret")), redirect=True)
    registry.push("a", "v1", created="2020-02-03T04:05:06Z")
    driver = opened(registry, push_time="image", credentials=by_password(tmp_path))
    (image,) = driver.images("a")
    assert str(image.created_at) == "2020-02-03 04:05:06+00:00"
    blobs = [blob.digest for blob in (*image.layers, image.config) if blob]
    assert driver.missing_blobs("a", [*blobs, m.digest_of(b"never")]) == (m.digest_of(b"never"),)


# Referrers that no tag shows


def referred(registry: FakeRegistry, *tags: str) -> tuple[m.Pushed, list[m.Pushed]]:
    """An image, two referrers of it, and one of the first of them."""
    image = registry.push("shop/api", *tags, layers=[b"image"])
    chain = [
        registry.push("shop/api", layers=[kind.encode()], subject=image.descriptor, artifact_type=f"application/{kind}")
        for kind in ("sbom", "signature")
    ]
    chain.append(
        registry.push("shop/api", layers=[b"x"], subject=chain[0].descriptor, artifact_type="application/signature")
    )
    return image, chain


@pytest.mark.parametrize("page", [None, 1])
def test_referrers_are_found_by_the_api(fake: Starter, opened: Opener, page: int | None) -> None:
    registry = fake(referrers=True, referrers_page=page)
    image, chain = referred(registry, "v1")
    images = {image.digest: image for image in opened(registry).images("shop/api")}
    assert {digest: image.subject for digest, image in images.items()} == {
        image.digest: UNSET,
        chain[0].digest: image.digest,
        chain[1].digest: image.digest,
        chain[2].digest: chain[0].digest,
    }
    assert all(images[image.digest].tags == () for image in chain)
    registry.switches.referrers = False
    assert [image.digest for image in opened(registry).images("shop/api")] == [image.digest]


@pytest.mark.parametrize("goes", [True, False])
def test_referrers_go_with_their_subject_and_stay_with_it(fake: Starter, make_harness: Sleeper, goes: bool) -> None:
    registry = fake(referrers=True, tags_page=1, referrers_page=1)
    image, chain = referred(registry, "old" if goes else "v1")
    other = registry.push("shop/api", "old-2", layers=[b"other"])
    kept = registry.push("shop/api", "v2", layers=[b"kept"])
    run = make_harness(registry).sweep()
    going = [other, image, *chain] if goes else [other]
    assert (run.outcome, run.deleted) == ("succeeded", len(going))
    assert {digest for _, digest in registry.deleted} == {image.digest for image in going}
    assert registry.state()["shop/api"].keys() == {kept.digest} | (set() if goes else {image.digest, *digests(chain)})
    order = [digest for _, digest in registry.deleted]
    if goes:
        assert run.reclaimed_bytes == sum(registry.freed().values())
        assert len(order) == len(set(order))


def digests(pushed: list[m.Pushed]) -> set[str]:
    return {image.digest for image in pushed}


# Deletion


@pytest.mark.parametrize(
    ("switches", "error", "says"),
    [
        ({"deletion": "off"}, PermanentlyReadOnlyError, "REGISTRY_STORAGE_DELETE_ENABLED"),
        ({"deletion": "off 400"}, PermanentlyReadOnlyError, "REGISTRY_STORAGE_DELETE_ENABLED"),
        ({"deletion": "read-only"}, PermanentlyReadOnlyError, "read-only"),
        ({"protects": "denied"}, UsedByImageListsError, "index"),
        ({"protects": "gitlab"}, UsedByImageListsError, "manifest list"),
    ],
)
def test_maps_a_refused_deletion_to_its_error(
    fake: Starter, opened: Opener, switches: dict[str, Any], error: type[RegistryError], says: str
) -> None:
    registry = fake(**switches)
    child = registry.push("a", "v1")
    registry.push_index("a", "all", children=[child.digest])
    driver = opened(registry)
    image = next(image for image in driver.images("a") if image.digest == child.digest)
    with pytest.raises(error, match=says) as failure:
        driver.delete("a", image, "key")
    assert not failure.value.maybe_done
    assert "DELETE_ENABLED" not in str(failure.value) or says == "REGISTRY_STORAGE_DELETE_ENABLED"
    assert len(registry.lines("DELETE")) == 1
    assert registry.deleted == []


@pytest.mark.parametrize("protects", ["denied", "gitlab"])
def test_a_protected_child_is_skipped(fake: Starter, make_harness: Sleeper, protects: str) -> None:
    """By an index that no listing shows, so that the plan could not know."""
    registry = fake(protects=protects)
    child, other = (registry.push("a", tag, layers=[tag.encode()]) for tag in ("old-1", "old-2"))
    index = registry.push_index("a", children=[child.digest])
    made = make_harness(registry)
    run_id, task_calls = made.plan()
    made.carry_out(task_calls)
    assert made.outcomes(run_id) == {child.digest: ("skipped", "used_by_image_lists"), other.digest: ("deleted", None)}
    assert registry.state() == {"a": {child.digest: ("old-1",), index.digest: ()}}


@pytest.mark.parametrize("protects", ["denied", "gitlab"])
def test_indexes_go_before_their_children(fake: Starter, make_harness: Sleeper, protects: str) -> None:
    registry = fake(protects=protects)
    children = [registry.push("a", layers=[b"%d" % n]) for n in range(2)]
    inner = registry.push_index("a", children=[image.digest for image in children])
    outer = registry.push_index("a", "old", children=[inner.digest])
    run = make_harness(registry).sweep()
    assert (run.outcome, run.deleted, run.failed) == ("succeeded", 4, 0)
    assert [digest for _, digest in registry.deleted][:2] == [outer.digest, inner.digest]
    assert {request.status for request in registry.requests if request.method == "DELETE"} == {202}


def test_a_tag_that_is_moved_right_before_the_deletion(fake: Starter, opened: Opener) -> None:
    registry = fake()
    old, new = registry.push("a", "v1", "v2", layers=[b"old"]), registry.push("a", layers=[b"new"])
    driver = opened(registry)
    (image,) = driver.images("a")
    registry.before("DELETE", old.digest, lambda: registry.move_tag("a", "v1", new.digest))
    assert driver.delete("a", image, "key") == Deletion("", done=True, raced=("v1",))
    assert registry.state() == {"a": {new.digest: ("v1",)}}


def test_a_tag_that_comes_back_to_the_digest(fake: Starter, opened: Opener) -> None:
    """Somebody pushes the very image again between the deletion and the look after it."""
    registry = fake()
    old = registry.push("a", "v1")
    driver = opened(registry)
    (image,) = driver.images("a")
    registry.before("HEAD", "", lambda: registry.put("a", old.body, old.media_type, "v1"))
    assert driver.delete("a", image, "key") == Deletion(f"a@{old.digest}", done=False)
    assert len(registry.lines("DELETE")) == 1


def test_a_tag_that_moves_in_mid_run(fake: Starter, make_harness: Sleeper) -> None:
    registry = fake(tags_page=2)
    pushed = [registry.push("a", f"old-{n}", layers=[b"%d" % n]) for n in range(4)]
    new = registry.push("a", layers=[b"new"])
    made = make_harness(registry)
    run_id, task_calls = made.plan()
    registry.before("DELETE", pushed[0].digest, lambda: registry.move_tag("a", "old-0", new.digest))
    made.carry_out(task_calls)
    assert registry.state() == {"a": {new.digest: ("old-0",)}}
    assert made.outcomes(run_id) == {image.digest: ("deleted", None) for image in pushed}
    assert made.run(run_id).raced_pushes == ({"repository": "a", "digest": pushed[0].digest, "tags": ["old-0"]},)


@pytest.mark.parametrize("kind", ["cut", "status", "html"])
@pytest.mark.parametrize("carried_out", [True, False])
def test_checks_the_image_after_the_response_to_a_deletion_was_lost(
    fake: Starter, opened: Opener, kind: Any, carried_out: bool
) -> None:
    registry = fake()
    pushed = registry.push("a", "v1")
    driver = opened(registry)
    (image,) = driver.images("a")
    registry.fault(kind, "DELETE", carried_out=carried_out, status=500)
    if carried_out:
        assert driver.delete("a", image, "key") == Deletion("", done=True)
    else:
        with pytest.raises(UnavailableError) as failure:
            driver.delete("a", image, "key")
        assert failure.value.maybe_done
    assert (registry.deleted == [("a", pushed.digest)]) == carried_out
    assert len(registry.lines("DELETE")) == 1


@pytest.mark.parametrize("kind", ["cut", "cut body", "broken body", "html", "status"])
@pytest.mark.parametrize("path", ["/tags/list$", "/manifests/sha256", "/referrers/"])
def test_a_listing_survives_a_bad_response(fake: Starter, opened: Opener, kind: Any, path: str) -> None:
    registry = fake(referrers=True)
    image, chain = referred(registry, "v1")
    registry.fault(kind, "GET", path)
    images = {image.digest: image for image in opened(registry).images("shop/api")}
    assert images.keys() == {image.digest, *digests(chain)}
    assert {request.status for request in registry.requests} <= {200, 0, 503}


# Signing in


def by_password(folder: Path) -> Credentials:
    (folder / "password").write_text("secret")
    return Credentials(username="anna", password=Secret(file=folder / "password"))


def test_each_token_is_asked_for_with_the_least_scope(fake: Starter, opened: Opener, tmp_path: Path) -> None:
    tokens = TokenAuth(user=BasicAuth("anna", "secret"))
    registry = fake(tokens, referrers=True)
    referred(registry, "v1")
    driver = opened(registry, credentials=by_password(tmp_path))
    driver.clock()
    assert list(driver.repositories()) == ["shop/api"]
    image = next(image for image in driver.images("shop/api") if image.tags)
    kept = driver.save("shop/api", image.digest)
    before = list(tokens.asked)
    driver.delete("shop/api", image, "key")
    driver.push_manifest("shop/api", kept, "v1")
    assert before == [(), ("registry:catalog:*",), ("repository:shop/api:pull",)]
    assert tokens.asked[3:] == [("repository:shop/api:delete",), ("repository:shop/api:pull,push",)]
    used = {
        (request.method, request.authorization) for request in registry.requests if request.status in (200, 201, 202)
    }
    assert used == {
        ("GET", ""),
        ("GET", "basic"),
        ("GET", "registry:catalog:*"),
        ("GET", "repository:shop/api:pull"),
        ("HEAD", "repository:shop/api:pull"),
        ("DELETE", "repository:shop/api:delete"),
        ("PUT", "repository:shop/api:pull repository:shop/api:push"),
    }


def test_a_missing_permission_is_reported_without_a_loop(fake: Starter, opened: Opener, tmp_path: Path) -> None:
    tokens = TokenAuth({"repository:a:pull"}, user=BasicAuth("anna", "secret"))
    registry = fake(tokens)
    registry.push("a", "v1")
    driver = opened(registry, credentials=by_password(tmp_path))
    (image,) = driver.images("a")
    with pytest.raises(PermissionDeniedError):
        driver.delete("a", image, "key")
    with pytest.raises(NotFoundError, match="or not to us"):
        list(driver.repositories())
    assert max(map(tokens.asked.count, tokens.asked)) <= 2
    assert registry.deleted == []


def test_renews_tokens_that_expire_during_a_listing(fake: Starter, opened: Opener, tmp_path: Path) -> None:
    tokens = TokenAuth(user=BasicAuth("anna", "secret"))
    registry = fake(tokens)
    registry.fill("a", 30)
    registry.before("HEAD", "/manifests/", tokens.expire, after=10)
    registry.before("GET", "/manifests/", tokens.expire, after=10)
    driver = opened(registry, credentials=by_password(tmp_path))
    assert len(driver.images("a")) == 30
    assert set(tokens.asked) == {("repository:a:pull",)}
    assert len(tokens.asked) <= 2 + 4  # each of the threads at most, should the token go under all of them


@pytest.mark.parametrize("status", [401, 403])
def test_does_not_report_a_refused_catalog_as_a_wrong_password(
    fake: Starter, opened: Opener, tmp_path: Path, status: int
) -> None:
    registry = fake(BasicAuth("anna", "secret"), catalog=status)
    registry.push("a", "v1")
    driver = opened(registry, credentials=by_password(tmp_path))
    driver.clock()
    with pytest.raises(NotFoundError, match="name each of them under repositories"):
        list(driver.repositories())
    with pytest.raises(NotFoundError):
        driver.images("nowhere")
