"""The tests' own registry, pusher, token server and filling, on the real server: other tests rely on them."""

import subprocess
from pathlib import Path

import pytest

from tests.support.oci import manifests as m
from tests.support.oci.contents import REPOSITORIES, fill
from tests.support.oci.pusher import IncompleteImageError, Pusher, basic, fallback_tag
from tests.support.oci.server import DockerRegistry, HtpasswdAuth
from tests.support.oci.tokens import TokenRequest, TokenServer, TokenUser
from tests.support.oci.wire import UnexpectedStatusError, Wire
from tests.support.waiting import until

REPOSITORY = "shop/api"
SCRIPT = Path(__file__).parents[3] / "deploy" / "test-services.sh"
NOBODY = "sha256:" + "0" * 64


def test_pulls_pushed_images_whole(registry, pusher):
    amd = pusher.image(REPOSITORY, "v1", "latest", layers=[b"base", b"own"], created="2026-01-01T00:00:00Z")
    arm = pusher.image(REPOSITORY, layers=[b"base", b"other"], platform=("linux", "arm64"), docker=True)
    index = pusher.index(REPOSITORY, "multi", children=[amd, arm])
    nested = pusher.index(REPOSITORY, "nested", children=[index, arm])
    assert pusher.tags(REPOSITORY) == {"v1": amd.digest, "latest": amd.digest} | {
        "multi": index.digest,
        "nested": nested.digest,
    }
    blobs = {blob.digest for image in (amd, arm) for blob in image.blobs}
    assert pusher.pull_whole(REPOSITORY, "nested") == blobs | {amd.digest, arm.digest, index.digest, nested.digest}
    assert registry.data_files().keys() == pusher.pull_whole(REPOSITORY, nested.digest)


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
def test_types_are_stored_as_pushed(pusher, docker):
    image = pusher.image(REPOSITORY, layers=[b"one"], labels={"team": "a"}, docker=docker)
    index = pusher.index(REPOSITORY, "list", children=[image], docker=docker)
    types = [pusher.read(REPOSITORY, manifest.digest).media_type for manifest in (image, index)]
    assert types == ([m.DOCKER_IMAGE, m.DOCKER_INDEX] if docker else [m.IMAGE, m.INDEX])
    assert pusher.read(REPOSITORY, "list", "list") == index


def test_referrers_are_listed_under_the_fallback_tag(pusher):
    subject = pusher.image(REPOSITORY, "v1", layers=[b"one"])
    first, second = (pusher.refer(subject, artifact_type=f"application/{n}", payload=n) for n in (b"a", b"b"))
    listed = pusher.read(REPOSITORY, fallback_tag(subject.digest))
    assert [child.digest for child in listed.children] == [first.digest, second.digest]
    assert {pusher.read(REPOSITORY, referrer.digest).subject for referrer in (first, second)} == {subject.digest}
    pusher.sign(subject, payload=b"signature")
    assert f"{fallback_tag(subject.digest)}.sig" in pusher.tags(REPOSITORY)


def test_an_overwritten_tag_leaves_its_image_untagged(pusher):
    old = pusher.image(REPOSITORY, "nightly", layers=[b"old"])
    new = pusher.image(REPOSITORY, "nightly", layers=[b"new"])
    assert pusher.tags(REPOSITORY) == {"nightly": new.digest}
    assert pusher.exists(REPOSITORY, old.digest)
    pusher.tag(old, "nightly")
    assert pusher.tags(REPOSITORY) == {"nightly": old.digest}


def test_joins_a_blob_that_is_uploaded_in_parts(registry, pusher):
    blob = pusher.blob_in_parts(REPOSITORY, b"one ", b"two")
    assert registry.data_files() == {m.digest_of(b"one two"): 7} == {blob.digest: blob.size}


def test_the_collector_frees_blobs_of_deleted_images_only(registry, pusher):
    gone = pusher.image(REPOSITORY, "a", layers=[b"shared", b"only here"])
    pusher.image("other/place", "b", layers=[b"shared"])
    before = registry.data_files()
    assert pusher.delete(REPOSITORY, gone.digest).status == 202
    assert registry.data_files() == before
    assert registry.collect().returncode == 0
    vanished = {digest: size for digest, size in before.items() if digest not in registry.data_files()}
    config = gone.config
    assert vanished == {gone.digest: len(gone.body), config.digest: config.size, m.digest_of(b"only here"): 9}


def test_names_the_missing_parts_of_an_image(pusher):
    lost = pusher.image(REPOSITORY, layers=[b"one"])
    pusher.index(REPOSITORY, "multi", children=[lost, pusher.image(REPOSITORY, layers=[b"two"])])
    pusher.delete(REPOSITORY, lost.digest)
    with pytest.raises(IncompleteImageError, match="cannot be pulled whole") as caught:
        pusher.pull_whole(REPOSITORY, "multi")
    assert caught.value.missing == (f"manifest {lost.digest} (404)",)


@pytest.mark.parametrize("cache", [False, True])
def test_a_cached_server_does_not_notice_the_collector_until_it_is_restarted(cache):
    with DockerRegistry(cache=cache) as registry:
        pusher = Pusher(registry.url)
        image = pusher.image(REPOSITORY, "a", layers=[b"layer of some length"])
        pusher.pull_whole(REPOSITORY, "a")  # so that everything is in the cache
        pusher.delete(REPOSITORY, image.digest)
        registry.collect()
        fresh = Pusher(registry.url)
        path = f"/v2/{REPOSITORY}/blobs/{image.layers[0].digest}"
        assert fresh.wire.ask("HEAD", path).status == (200 if cache else 404)
        if cache:  # it promises the bytes, and sends none
            assert fresh.wire.ask("GET", path).body == b""
        registry.restart()
        assert fresh.wire.ask("HEAD", path).status == 404


def test_servers_share_a_root_and_refuse_in_their_own_ways():
    with DockerRegistry() as plain, DockerRegistry(root=plain.root, delete=False) as off:
        image = Pusher(plain.url).image(REPOSITORY, "a", layers=[b"one"])
        with DockerRegistry(root=plain.root, readonly=True) as readonly:
            refused = Pusher(off.url).delete(REPOSITORY, image.digest)
            assert (refused.status, b"UNSUPPORTED" in refused.body) == (405, True)
            refused = Pusher(readonly.url).delete(REPOSITORY, image.digest)
            assert (refused.status, refused.header("Allow")) == (405, "GET, HEAD")
        plain.restart(readonly=True)
        assert Pusher(plain.url).delete(REPOSITORY, image.digest).status == 405
        plain.restart(readonly=False)
        assert Pusher(plain.url).delete(REPOSITORY, image.digest).status == 202


def test_htpasswd_lets_only_its_user_in():
    with DockerRegistry(auth=HtpasswdAuth("robot", "right")) as registry:
        for authorization in (None, basic("robot", "wrong")):
            answer = Pusher(registry.url, authorization=authorization).wire.ask("GET", "/v2/")
            assert (answer.status, answer.header("Www-Authenticate")) == (401, 'Basic realm="basic-realm"')
        pusher = Pusher(registry.url, authorization=basic("robot", "right"))
        pusher.image(REPOSITORY, "a", layers=[b"one"])
        assert pusher.pull_whole(REPOSITORY, "a")


USERS = {"robot": TokenUser("right", ("repository:shop/*:pull,push",)), "": TokenUser("", ("repository:shop/*:pull",))}


def asked_for(tokens, scopes, authorization=None):
    query = "service=x&scope=" + "&scope=".join(scopes)
    status = Wire(f"http://{tokens.host}", authorization=authorization).ask("GET", f"/token?{query}").status
    assert status == tokens.asked[-1].status
    return tokens.asked[-1]


def test_tokens_grant_what_a_user_may():
    with TokenServer(USERS) as tokens, DockerRegistry(auth=tokens.auth) as registry:
        pusher = Pusher(registry.url, authorization=tokens.bearer("robot", f"repository:{REPOSITORY}:pull,push,delete"))
        image = pusher.image(REPOSITORY, "a", layers=[b"one"])
        assert pusher.pull_whole(REPOSITORY, "a")
        refused = pusher.delete(REPOSITORY, image.digest)
        assert refused.status == 401
        assert refused.header("Www-Authenticate").endswith(
            f'scope="repository:{REPOSITORY}:delete",error="insufficient_scope"'
        )
        scopes = (f"repository:{REPOSITORY}:pull,delete", "registry:catalog:*")
        granted = (f"repository:{REPOSITORY}:pull",)
        assert asked_for(tokens, scopes, basic("robot", "right")) == TokenRequest("robot", scopes, granted, 200)
        assert asked_for(tokens, scopes) == TokenRequest("", scopes, granted, 200)
        assert asked_for(tokens, scopes, basic("robot", "wrong")) == TokenRequest("", scopes, (), 401)


def test_tokens_expire_by_time_and_at_once():
    with TokenServer(USERS, lives=1) as tokens, DockerRegistry(auth=tokens.auth) as registry:
        scope = f"repository:{REPOSITORY}:pull"
        short = Pusher(registry.url, authorization=tokens.bearer("robot", scope))
        until(lambda: short.get(REPOSITORY, NOBODY).status == 401, timeout=5, what="the token's end")
        tokens.lives = 300
        longer = Pusher(registry.url, authorization=tokens.bearer("robot", scope))
        assert longer.get(REPOSITORY, NOBODY).status == 404
        tokens.expire_everything(registry)
        assert 'error="invalid_token"' in longer.get(REPOSITORY, NOBODY).header("Www-Authenticate")
        assert Pusher(registry.url, authorization=tokens.bearer("robot", scope)).get(REPOSITORY, NOBODY).status == 404


@pytest.mark.parametrize("untagged", [True, False])
def test_a_filled_registry_matches_its_records(untagged):
    with DockerRegistry() as registry:
        repositories = REPOSITORIES if untagged else REPOSITORIES[:1]
        contents = fill(registry, repositories=repositories, untagged=untagged, by_skopeo=untagged)
        pusher = Pusher(registry.url)
        stored = contents.blobs(contents.images) | {
            manifest.digest: len(manifest.body) for manifest in contents.images.values()
        }
        assert registry.data_files() == stored
        for repository in repositories:
            own = {tag: digest for (of, tag), digest in contents.tags.items() if of == repository}
            assert pusher.tags(repository) == own
        assert len(contents.listed) >= (90 if untagged else 30)
        assert bool(contents.unlisted) is untagged
        assert {m.IMAGE, m.INDEX, m.DOCKER_IMAGE, m.DOCKER_INDEX} == {
            manifest.media_type for manifest in contents.images.values()
        }
        kept = {key for key, manifest in contents.images.items() if any(tag.startswith("v") for tag in manifest.tags)}
        gone = frozenset(contents.images) - contents.under(kept)
        before = registry.data_files()
        for repository, digest in gone:
            assert pusher.delete(repository, digest).status == 202
        assert registry.collect().returncode == 0
        left = registry.data_files()
        manifests = {manifest.digest for manifest in contents.images.values()}
        assert {d: size for d, size in before.items() if d not in left and d not in manifests} == contents.freed(gone)
        for key in kept:
            pusher.pull_whole(*key)


def test_shows_an_unexpected_response(pusher):
    with pytest.raises(UnexpectedStatusError, match=r"PUT /v2/shop/api/manifests/a: 500 .*UNKNOWN"):
        pusher.manifest(REPOSITORY, b"{}", m.IMAGE, "a")


def test_names_the_debian_packages_of_missing_programs(tmp_path):
    for name in ("bash", "id"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    done = subprocess.run(
        ["bash", str(SCRIPT)], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 0
    assert {"docker-registry", "skopeo", "apache2-utils"} <= set(done.stderr.split())
