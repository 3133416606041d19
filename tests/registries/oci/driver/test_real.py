"""The driver on a real registry: listing, reading, deleting, restoring and signing in."""

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec import UNSET

from tests.registries.oci.conftest import Opener
from tests.support.oci.manifests import Pushed, image_body
from tests.support.oci.pusher import Pusher, basic
from tests.support.oci.server import DockerRegistry, HtpasswdAuth
from tests.support.oci.tokens import TokenServer, TokenUser
from tests.support.waiting import until
from worker.config.settings import Credentials, Secret
from worker.registries.errors import (
    BlobsMissingError,
    NotFoundError,
    PermanentlyReadOnlyError,
    PermissionDeniedError,
    SignInError,
)
from worker.registries.interface import Deletion, ListsTagsOnly, Restores


def by_password(folder: Path, password: str, user: str = "anna") -> Credentials:
    (folder / "password").write_text(password + "\n")
    return Credentials(username=user, password=Secret(file=folder / "password"))


def test_everything_pushed_is_found(opened: Opener) -> None:
    with DockerRegistry() as server:
        pusher = Pusher(server.url)
        pushed = one_of_each(pusher)
        pusher.image("shop/web", "v1", layers=[b"one"])
        driver = opened(server.url)
        assert isinstance(driver, ListsTagsOnly)
        assert isinstance(driver, Restores)
        assert abs(driver.clock() - datetime.now(UTC)) < timedelta(minutes=1)
        assert list(driver.repositories()) == ["shop/api", "shop/web"]
        assert list(opened(server.url, repositories=("*/web", "ml/**")).repositories()) == ["shop/web"]
        images = {image.digest: image for image in driver.images("shop/api")}
    assert images.keys() == {image.digest for name, image in pushed.items() if name != "overwritten"}
    for name, pushed_image in pushed.items():
        if (image := images.get(pushed_image.digest)) is None:
            continue
        sizes = {blob.digest: blob.size for blob in (*((image.config,) if image.config else ()), *image.layers)}
        assert sizes == {blob.digest: blob.size for blob in pushed_image.blobs}
        assert image.compressed_size == (sum(sizes.values()) if sizes else None)
        assert (image.name, image.media_type) == (f"{server.host}/shop/api", pushed_image.media_type)
        assert (image.tags, image.created_at, image.labels) == (tuple(sorted(pushed_image.tags)), None, None)
        lists = "index" in name or name == "fallback"  # the policies decide which of them is a list of referrers
        assert image.children == (tuple(child.digest for child in pushed_image.children) if lists else UNSET)
        assert image.subject == (pushed_image.subject or UNSET)


def one_of_each(pusher: Pusher) -> dict[str, Pushed]:
    """One image of each kind, by its kind."""
    repository = "shop/api"
    made = {"overwritten": pusher.image(repository, "nightly", layers=[b"first"])}
    made["nightly"] = pusher.image(repository, "nightly", layers=[b"second"])
    made["image"] = pusher.image(repository, "v1", "latest", layers=[b"base", b"one"])
    made["docker"] = pusher.image(repository, "docker", layers=[b"base", b"two"], docker=True)
    made["child"] = pusher.image(repository, layers=[b"three"], docker=True)
    made["docker index"] = pusher.index(repository, "list", children=[made["child"], made["docker"]], docker=True)
    made["inner"] = pusher.image(repository, layers=[b"four"])
    made["inner index"] = pusher.index(repository, children=[made["inner"]])
    made["nested index"] = pusher.index(repository, "nested", children=[made["inner index"], made["image"]])
    made["referrer"] = pusher.refer(made["image"], artifact_type="application/vnd.x", payload=b"r", listed=False)
    made["fallback"] = pusher.list_referrers(made["image"], made["referrer"])
    made["signature"] = pusher.sign(made["image"], payload=b"s")
    made["artifact"] = pusher.artifact(repository, "chart", artifact_type="application/vnd.cncf.helm.chart.v1")
    return made


def test_a_deletion_by_digest_takes_all_tags_and_nothing_else(opened: Opener) -> None:
    with DockerRegistry() as server:
        pusher = Pusher(server.url)
        both = pusher.image("a", "v1", "latest", layers=[b"one"])
        child = pusher.image("a", layers=[b"two"])
        pusher.index("a", "multi", children=[child])
        driver = opened(server.url)
        images = {image.digest: image for image in driver.images("a")}
        assert driver.get("a", images[both.digest], {"v1": both.digest, "latest": both.digest}) == images[both.digest]
        pusher.tag(both, "v2")
        more = until(lambda: tags if len(tags := driver.get("a", images[both.digest]).tags) == 3 else None, what="v2")
        assert more == ("latest", "v1", "v2")
        deletion = driver.delete("a", images[both.digest], "key")
        assert (deletion.done, deletion.raced, deletion.collateral_tags) == (True, (), ("v2",))  # it was not planned
        assert driver.follow(Deletion("", done=False, target=("a", images[both.digest])), 0.0).done
        assert pusher.tags("a").keys() == {"multi"}
        with pytest.raises(NotFoundError, match="MANIFEST_UNKNOWN"):
            driver.delete("a", images[both.digest], "another")
        with pytest.raises(NotFoundError):
            driver.get("a", images[both.digest])
        assert driver.existing("a", [both.digest, child.digest]) == {child.digest}
        assert driver.delete("a", images[child.digest], "child").done  # this registry does not protect it
        (left,) = driver.images("a")
        assert (left.tags, left.children) == (("multi",), (child.digest,))
        driver.delete("a", left, "index")
        assert driver.images("a") == ()  # its tags are null now
        pusher.image("digests/only", layers=[b"three"])
        assert driver.images("digests/only") == ()  # NAME_UNKNOWN, and in the catalog
        with pytest.raises(NotFoundError, match="does not know this repository"):
            driver.images("nowhere")


def test_a_tag_that_moved_is_seen_before_and_after(opened: Opener) -> None:
    with DockerRegistry() as server:
        pusher = Pusher(server.url)
        old = pusher.image("a", "latest", "v1", layers=[b"old"])
        driver = opened(server.url)
        (image,) = driver.images("a")
        new = pusher.image("a", "latest", layers=[b"new"])
        assert driver.get("a", image).tags == ("v1",)
        deletion = driver.delete("a", image, "key")
        assert (deletion.done, deletion.raced) == (True, ("latest",))
        assert pusher.tags("a") == {"latest": new.digest}
        assert not pusher.exists("a", old.digest)


def test_reports_a_registry_with_deletions_disabled(opened: Opener) -> None:
    with DockerRegistry(delete=False) as server:
        pusher = Pusher(server.url)
        pushed = pusher.image("a", "v1", layers=[b"one"])
        driver = opened(server.url)
        (image,) = driver.images("a")
        with pytest.raises(PermanentlyReadOnlyError, match=r"UNSUPPORTED.*REGISTRY_STORAGE_DELETE_ENABLED=true"):
            driver.delete("a", image, "key")
        server.restart(delete=True, readonly=True)
        with pytest.raises(PermanentlyReadOnlyError, match=r"read-only"):
            driver.delete("a", image, "key")
        assert pusher.exists("a", pushed.digest)


def test_a_deleted_index_is_restored_with_its_children(opened: Opener) -> None:
    with DockerRegistry(cache=True) as server:
        pusher = Pusher(server.url)
        child = pusher.image("a", layers=[b"one"])
        index = pusher.index("a", "multi", children=[child])
        driver = opened(server.url)
        kept = {item.digest: driver.save("a", item.digest) for item in (index, child)}
        assert {manifest.body for manifest in kept.values()} == {index.body, child.body}
        assert kept[index.digest].media_type == index.media_type
        assert driver.resolve_tag("a", "multi") == index.digest
        for image in driver.images("a"):
            driver.delete("a", image, "key")
        assert driver.resolve_tag("a", "multi") is None
        with pytest.raises(NotFoundError):
            driver.save("a", child.digest)
        with pytest.raises(BlobsMissingError, match="MANIFEST_BLOB_UNKNOWN"):
            driver.push_manifest("a", kept[index.digest], "multi")
        driver.push_manifest("a", kept[child.digest])
        driver.push_manifest("a", kept[index.digest], "multi")
        assert pusher.pull_whole("a", "multi")
        pusher.image("b", "v1", layers=[b"other"])
        (blob,) = child.layers
        assert driver.mount("b", blob.digest, "a")
        assert not driver.mount("b", "sha256:" + "a" * 64, "a")
        assert not [*server.root.glob("**/_uploads/*/data")]  # no upload is left open
        assert driver.missing_blobs("b", [blob.digest]) == ()
        for image in driver.images("a"):
            driver.delete("a", image, "key")
        server.collect()
        blobs = [blob.digest for blob in child.blobs]
        assert set(driver.missing_blobs("a", blobs)) == set(blobs)  # the cache still reports them
        assert pusher.wire.ask("HEAD", f"/v2/a/blobs/{blobs[0]}").status == 200


def test_a_user_and_a_password_sign_in(opened: Opener, tmp_path: Path) -> None:
    with DockerRegistry(auth=HtpasswdAuth("anna", "right secret")) as server:
        pusher = Pusher(server.url, authorization=basic("anna", "right secret"))
        pusher.image("a", "v1", layers=[b"one"])
        driver = opened(server.url, credentials=by_password(tmp_path, "right secret"))
        driver.clock()
        (image,) = driver.images("a")
        assert driver.delete("a", image, "key").done
        assert driver.usage().requests["GET", "401"] == 1  # to read the challenge, once
        with pytest.raises(SignInError, match=r"requires a user name and a password; write credentials"):
            opened(server.url).clock()
        wrong = opened(server.url, credentials=by_password(tmp_path, "wrong secret"))
        for _ in range(2):
            with pytest.raises(SignInError) as failure:
                wrong.clock()
            assert "wrong secret" not in f"{failure.value!r} {wrong._client.sign_ins.all[0].user!r}"


def test_reads_a_changed_password_again(opened: Opener, tmp_path: Path) -> None:
    with DockerRegistry(auth=HtpasswdAuth("anna", "right")) as server:
        driver = opened(server.url, credentials=by_password(tmp_path, "right"))
        driver.clock()
        by_password(tmp_path, "wrong")
        with pytest.raises(SignInError):
            driver.clock()
        by_password(tmp_path, "right")
        driver.clock()


def test_tokens_of_another_server_sign_in(opened: Opener, tmp_path: Path) -> None:
    grants = ("repository:*:pull,push,delete", "registry:catalog:*")
    users = {"anna": TokenUser("secret one", grants), "bert": TokenUser("secret two", ("repository:*:pull",))}
    with TokenServer(users) as tokens, DockerRegistry(auth=tokens.auth) as server:
        pusher = Pusher(server.url, authorization=tokens.bearer("anna", "repository:a/b:pull,push"))
        pusher.image("a/b", "v1", "v2", layers=[b"one"])
        hosts = (tokens.host,)
        driver = opened(server.url, credentials=by_password(tmp_path, "secret one"), token_hosts=hosts)
        driver.clock()
        assert list(driver.repositories()) == ["a/b"]
        (image,) = driver.images("a/b")
        kept = driver.save("a/b", image.digest)
        asked = [request.scopes for request in tokens.asked]
        assert asked == [(), ("registry:catalog:*",), ("repository:a/b:pull",)]
        assert driver.delete("a/b", image, "key").done
        driver.push_manifest("a/b", kept, "v1")
        assert tokens.asked[3].scopes == ("repository:a/b:delete",)
        assert [sorted(scope.rpartition(":")[2].split(",")) for scope in tokens.asked[4].scopes] == [["pull", "push"]]
        assert len(tokens.asked) == 5
        tokens.expire_everything(server)
        (image,) = driver.images("a/b")
        assert len(tokens.asked) == 6  # one thread for all

        reader = opened(
            server.url,
            credentials=by_password(tmp_path, "secret two", "bert"),
            token_hosts=hosts,
            repositories=("a/b",),
        )
        assert [image.tags for image in reader.images("a/b")] == [("v1",)]
        before = len(tokens.asked)
        with pytest.raises(PermissionDeniedError):
            reader.delete("a/b", image, "key")
        assert len(tokens.asked) == before + 1
        guest = opened(server.url, credentials=by_password(tmp_path, "secret two", "bert"), token_hosts=hosts)
        for _ in range(2):  # once the token is refused that was just made, then the one at hand
            with pytest.raises(NotFoundError, match="name each of them under repositories"):
                list(guest.repositories())
        with pytest.raises(SignInError, match="the user name 'anna' or the password in file") as failure:
            opened(server.url, credentials=by_password(tmp_path, "no secret"), token_hosts=hosts).clock()
        assert "no secret" not in repr(failure.value)


def test_credentials_go_to_no_other_host(opened: Opener, tmp_path: Path) -> None:
    with TokenServer({"anna": TokenUser("secret")}) as tokens, DockerRegistry(auth=tokens.auth) as server:
        driver = opened(server.url, credentials=by_password(tmp_path, "secret"))
        with pytest.raises(SignInError, match=rf"write token_hosts: \['{tokens.host}'\]"):
            driver.clock()
        assert tokens.asked == []


def test_reads_the_creation_time_of_images(opened: Opener) -> None:
    with DockerRegistry() as server:
        pusher = Pusher(server.url)
        october = pusher.image(
            "a", "one", layers=[b"1"], created="2026-10-01T12:00:00.123456789Z", labels={"team": "red"}
        )
        two = pusher.image("a", "two", layers=[b"2"], created="2026-10-02T02:00:00+02:00")
        for tag, created in (("y1970", "1970-01-01T00:00:00Z"), ("y1980", "1980-12-31T23:59:59Z"),
                             ("later", "2999-01-01T00:00:00Z"), ("zero", "0001-01-01T00:00:00Z"), ("odd", "yesterday"),
                             ("none", None)):  # fmt: skip
            pusher.image("a", tag, layers=[tag.encode()], created=created)
        odd = pusher.read("a", "y1970")
        attestation = pusher.image(
            "a", layers=[]
        )  # of a build: its config has no time, its layers are not those of an image
        layer = dataclasses.replace(pusher.blob("a", b"{}"), media_type="application/vnd.in-toto+json")
        body = image_body(attestation.config or layer, [layer])
        attestation = pusher.manifest("a", body, attestation.media_type)
        pusher.index("a", "attested", children=[october, attestation])
        pusher.index("a", "index", children=[october, two])
        pusher.index("a", "half", children=[october, odd])
        pusher.index(
            "a", "said", children=[odd], annotations={"org.opencontainers.image.created": "2026-09-01T00:00:00Z"}
        )
        driver = opened(server.url, push_time="image")
        made = {tag: image.created_at for image in driver.images("a") for tag in image.tags}
        first, second = datetime(2026, 10, 1, 12, 0, 0, 123456, UTC), datetime(2026, 10, 2, tzinfo=UTC)
        assert {tag: time for tag, time in made.items() if time} == {
            "one": first, "two": second, "index": second, "attested": first, "said": datetime(2026, 9, 1, tzinfo=UTC),
        }  # fmt: skip
        labels = {tag: image.labels for image in driver.images("a") for tag in image.tags}
        assert (labels["one"], labels["two"], labels["index"]) == ({"team": "red"}, {}, None)
