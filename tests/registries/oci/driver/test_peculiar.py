"""Unusual responses of registries, after which the driver must check the image itself."""

import threading
from pathlib import Path
from typing import Any

import pytest

from policies.image import Image
from tests.registries.oci.conftest import Opener
from tests.registries.oci.scripted import (
    UNKNOWN,
    Asked,
    Guarded,
    Reply,
    Scripted,
    ScriptedRepository,
    an_image,
    an_index,
    document,
    error,
)
from tests.support.drivers import with_defaults
from tests.support.oci.manifests import INDEX, digest_of
from worker.config.settings import Credentials, Rate, Secret
from worker.registries.errors import (
    BadResponseError,
    OperationUnknownError,
    PermissionDeniedError,
    RegistryError,
    SignInError,
    TooLateError,
    UnavailableError,
    UsedByImageListsError,
)
from worker.registries.http.messages import Response, Retries
from worker.registries.http.tokens import base64_of
from worker.registries.interface import Deletion, SavedManifest
from worker.registries.oci.passwords import user_of


def image(digest: str, *tags: str) -> Image:
    return Image(digest=digest, tags=tags)


# The outcome of a deletion.


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(error(500, "UNKNOWN"), id="500"),
        pytest.param(Reply(502, b"<html>"), id="502"),
        pytest.param(Reply(202, b"gone", cut=True), id="cut off"),
        pytest.param(Reply(307, b"", {"Location": "/elsewhere"}), id="a redirect"),
    ],
)
@pytest.mark.parametrize("is_gone", [True, False])
def test_checks_an_image_after_an_ambiguous_response(
    opened: Opener, stored: ScriptedRepository, server: Scripted, reply: Reply, is_gone: bool
) -> None:
    digest = stored.put(an_image("x"), "v1")

    def stumble(asked: Asked) -> Reply | None:
        if asked.method != "DELETE":
            return None
        if is_gone:
            stored.remove(digest)
        return reply

    stored.before = stumble
    driver = opened(server.url)
    if is_gone:
        assert driver.delete("a", image(digest, "v1"), "key") == Deletion("", done=True)
    else:
        with pytest.raises(RegistryError) as failure:
            driver.delete("a", image(digest, "v1"), "key")
        assert failure.value.maybe_done
    assert server.lines()[:2] == [f"DELETE /v2/a/manifests/{digest}", f"HEAD /v2/a/manifests/{digest}"]
    assert len(server.lines("DELETE")) == 1


def test_a_deletion_stays_uncertain_if_the_image_cannot_be_checked(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    digest = stored.put(an_image("x"), "v1")
    stored.before = lambda _: error(503, "UNAVAILABLE")
    with pytest.raises(UnavailableError) as failure:
        opened(server.url).delete("a", image(digest, "v1"), "key")
    assert failure.value.maybe_done
    assert str(failure.value).startswith("production: DELETE a@sha256:")


def test_follows_a_deletion_that_takes_effect_later(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    digest = stored.put(an_image("x"), "v1")
    rechecks = 0

    def later(asked: Asked) -> Reply | None:
        nonlocal rechecks
        rechecks += asked.method == "HEAD"
        if rechecks == 3:
            stored.remove(digest)
            stored.put(an_image("pushed meanwhile"), "v1")
            rechecks += 1
        return Reply(202) if asked.method == "DELETE" else None

    stored.before = later
    driver = opened(server.url)
    begun = driver.delete("a", image(digest, "v1"), "key")
    assert begun == Deletion(f"a@{digest}", done=False)
    assert driver.follow(begun, 0.0) == begun  # asked once, though time is up
    assert driver.follow(begun, float("inf")) == Deletion(begun.operation_id, done=True, raced=("v1",))
    assert opened(server.url).follow(begun, 0.0).done  # by a process that knows nothing of it
    with pytest.raises(OperationUnknownError):
        driver.follow(Deletion("", done=False), 0.0)


def test_reports_a_tag_that_still_serves_a_deleted_digest(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    digest = stored.put(an_image("x"), "v1")
    still = stored.manifests[digest]
    stored.before = lambda asked: still if asked.path.endswith("/v1") else None
    assert not opened(server.url).delete("a", image(digest, "v1"), "key").done


def test_a_failed_check_does_not_undo_an_accepted_deletion(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    digest = stored.put(an_image("x"), "v1")
    stored.before = lambda asked: None if asked.method == "DELETE" else error(503, "UNAVAILABLE")
    driver = opened(server.url, retries=Retries(attempts=2, total=2.0, first_wait=0.01, jitter=0.0))
    begun = driver.delete("a", image(digest, "v1"), "key")
    assert not begun.done
    with pytest.raises(UnavailableError) as failure:
        driver.follow(begun, float("inf"))
    assert failure.value.maybe_done


def test_a_deletion_is_sent_again_only_when_throttled(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    digest = stored.put(an_image("x"), "v1")
    stored.before = lambda asked: (
        error(429, "TOOMANYREQUESTS", Retry_After="0") if len(server.lines("DELETE")) == 1 else None
    )
    assert opened(server.url).delete("a", image(digest, "v1"), "key").done
    assert len(server.lines("DELETE")) == 2


def test_a_deletion_may_take_longer_than_other_questions(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    digest = stored.put(an_image("x"), "v1")
    never = threading.Event()
    stored.before = lambda asked: never.wait(0.6) or None if asked.method == "DELETE" else None
    driver = opened(server.url, retries=Retries(attempts=1, total=0.3))
    driver.delete("a", image(digest, "v1"), "key")
    assert len(server.lines("DELETE")) == 1
    assert digest not in stored.manifests


def test_sends_nothing_after_the_deadline(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    digest = stored.put(an_image("x"), "v1")
    with pytest.raises(TooLateError):
        opened(server.url).delete("a", image(digest, "v1"), "key", not_after=0.0)
    assert server.lines() == []


def test_reports_a_refusal_because_of_an_index(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    digest = stored.put(an_image("x"), "v1")
    stored.before = lambda asked: error(405, "DENIED", "it is needed") if asked.method == "DELETE" else None
    with pytest.raises(UsedByImageListsError):
        opened(server.url).delete("a", image(digest, "v1"), "key")
    assert len(server.lines()) == 1


# Listing.


def test_deletes_nothing_if_a_new_tag_has_no_manifest(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    digest = stored.put(an_image("x"), "v1")
    index = stored.put(an_index(an_image("x")), "new", media_type=INDEX)
    driver = opened(server.url)
    stored.before = lambda asked: UNKNOWN if asked.path.endswith(("/new", index)) else None
    with pytest.raises(BadResponseError, match="the tag new is listed"):
        driver.get("a", image(digest, "v1"), {"v1": digest})


def test_ignores_a_planned_tag_without_a_manifest(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    """The plan has the image of the tag: some registries still list the tags of deleted images."""
    digest, deleted = stored.put(an_image("x"), "v1"), stored.put(an_image("y"), "v2")
    del stored.manifests[deleted]
    read = opened(server.url).get("a", image(digest, "v1"), {"v1": digest, "v2": deleted})
    assert read.tags == ("v1",)


def test_works_without_the_header_of_the_digest(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    body = an_image("x")
    digest = stored.put(body, "v1")
    stored.manifests[digest] = Reply(200, body, {"Content-Type": "application/vnd.oci.image.manifest.v1+json"})
    driver = opened(server.url)
    (image,) = driver.images("a")
    assert (image.digest, image.tags) == (digest, ("v1",))
    assert driver.get("a", image, {"v1": image.digest}) == image
    assert driver.delete("a", image, "key").done


def test_reads_only_new_tags_and_each_once(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    digests = [stored.put(an_image(str(number)), f"v{number}") for number in range(30)]
    stored.put(an_image("new"), "new")
    driver = opened(server.url, rate=Rate(requests_per_second=20.0))
    known = {f"v{number}": digest for number, digest in enumerate(digests)}
    asked = [image(digest, f"v{number}") for number, digest in enumerate(digests)]
    read = driver._client.call_in_threads(lambda image: driver.get("a", image, known), asked)
    assert all(before == after for before, after in read.items())
    listed = sum(
        "/tags/list" in line for line in server.lines("GET")
    )  # once, unless this machine takes longer than a second for all of this
    assert listed < 60
    assert len(server.lines("HEAD")) == 60 + listed // 2  # each list is requested, and the page after its end


# The catalog.


# Signing in.


def test_requests_no_further_token_if_a_permission_is_missing(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    digest = stored.put(an_image("x"), "v1")
    scope = 'scope="repository:a:pull,push",error="insufficient_scope"'
    guard = Guarded(stored, f'Bearer realm="/token",service="s",{scope}', lambda _: False)
    driver = opened(server.url)
    for number in (1, 1):  # the second time, the token at hand is the one that allows too little
        with pytest.raises(PermissionDeniedError):
            driver.delete("a", image(digest, "v1"), "key")
        assert guard.tokens == number
    assert len(server.lines("DELETE")) == 3


def test_requests_the_scope_of_the_challenge(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    digest = stored.put(an_image("x"), "v1")
    wanted = "repository:a:pull,push"
    Guarded(stored, f'Bearer realm="/token",service="s",scope="{wanted}"', lambda shown: wanted in shown)
    driver = opened(server.url)
    assert driver.delete("a", image(digest, "v1"), "key").done
    asked = [request for request in server.asked if request.path == "/token"]
    # The scope was guessed for reading, and the registry requires the existing token.
    assert [request.scopes for request in asked] == [(wanted,), ("repository:a:pull",)]
    assert all(request.query["service"] == "s" for request in asked)
    driver.images("a")
    assert len([request for request in server.asked if request.path == "/token"]) == 2


def test_a_challenge_without_scope(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    stored.put(an_image("x"), "v1")
    Guarded(stored, 'Basic realm="x", Bearer realm="/token"', lambda shown: "repository:a:pull" in shown)
    assert len(opened(server.url).images("a")) == 1
    assert [request.scopes for request in server.asked if request.path == "/token"] == [("repository:a:pull",)]


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_reports_a_token_server_without_tokens(
    opened: Opener, stored: ScriptedRepository, server: Scripted, status: int
) -> None:
    """Above all, its 404 is not the 404 of an image."""
    digest = stored.put(an_image("x"), "v1")
    stored.before = lambda asked: (
        Reply(status) if asked.path == "/token" else Reply(401, b"", {"Www-Authenticate": 'Bearer realm="/token"'})
    )
    driver = opened(server.url)
    for ask in (driver.clock, lambda: driver.get("a", image(digest)), lambda: driver.delete("a", image(digest), "key")):
        with pytest.raises(SignInError):
            ask()


def test_signs_in_by_password_and_token(
    opened: Opener, stored: ScriptedRepository, server: Scripted, tmp_path: Path
) -> None:
    """The password for one address, a token for the others."""
    (tmp_path / "password").write_text("secret")
    credentials = Credentials(username="anna", password=Secret(file=tmp_path / "password"))
    stored.put(an_image("x"), "v1")

    def guard(asked: Asked) -> Reply | None:
        shown = asked.headers.get("authorization", "").partition(" ")[0]
        if asked.path in ("/v2/", "/token"):
            asks = Reply(401, b"", {"Www-Authenticate": 'Basic realm="x"'})
            return document({"token": "t"}) if shown == "Basic" else asks
        return None if shown == "Bearer" else Reply(401, b"", {"Www-Authenticate": 'Bearer realm="/token"'})

    stored.before = guard
    driver = opened(server.url, credentials=credentials)
    for _ in range(2):
        driver.clock()
        assert len(driver.images("a")) == 1


def test_tries_a_password_that_changed_after_its_refusal(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("new")
    user = user_of(Credentials(username="anna", password=Secret(file=tmp_path / "password")), "https://registry.test")
    assert user is not None
    user.refused(f"Basic {base64_of('anna:old')}", Response(401, {}, b""))
    with pytest.raises(SignInError, match=r"the user name 'anna' or the password in file .* was refused"):
        user.refused(user.sign(), Response(401, {}, b""))


def test_rejects_a_401_without_a_challenge(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    stored.before = lambda _: Reply(401)
    with pytest.raises(SignInError, match="without a challenge"):
        opened(server.url).clock()


def test_shows_no_secret(
    opened: Opener, stored: ScriptedRepository, server: Scripted, tmp_path: Any, caplog: Any
) -> None:
    """Whatever a server repeats of it."""
    (tmp_path / "password").write_text("hunter2hunter2")
    credentials = Credentials(username="anna", password=Secret(file=tmp_path / "password"))
    caplog.set_level("DEBUG")

    def echo(asked: Asked) -> Reply:
        shown = asked.headers.get("authorization", "")
        if not shown:
            return Reply(401, b"", {"Www-Authenticate": 'Basic realm="x"'})
        return error(400, "NO", f"{shown} is hunter2hunter2 to us")

    stored.before = echo
    driver = opened(server.url, credentials=credentials)
    with pytest.raises(RegistryError, match=r"\*\*\* is \*\*\* to us") as failure:
        driver.clock()
    user = driver._client.sign_ins.all[0].user
    shown = f"{failure.value!r} {failure.value} {user!r} {with_defaults(credentials=credentials)}"
    sent = next(request.headers["authorization"] for request in server.asked if "authorization" in request.headers)
    for secret in ("hunter2", sent.removeprefix("Basic ")):
        assert secret not in shown + str([vars(record) for record in caplog.records])


@pytest.mark.parametrize("at", range(270, 301, 3))
@pytest.mark.parametrize(("status", "prefix"), [(403, ""), (200, ""), (500, "Basic ")])
def test_shows_no_part_of_a_secret(
    opened: Opener, stored: ScriptedRepository, server: Scripted, tmp_path: Path, status: int, prefix: str, at: int
) -> None:
    """A message is cut to 300 letters, perhaps within a secret, so that a token is no longer recognizable."""
    token, password = "Opaque-Kn0wn.To_Nobody", 'hunter2"hunter2'
    (tmp_path / "password").write_text(password)

    def echo(asked: Asked) -> Reply | None:
        if asked.path == "/token":
            return document({"token": token})
        if "authorization" not in asked.headers:
            return Reply(401, b"", {"Www-Authenticate": 'Bearer realm="/token"'})
        if status == 200:
            return Reply(200, b"x" * (at - 250) + token.encode())
        return error(status, "NO", "x" * at + f"{prefix}{token} {password}")

    stored.before = echo
    credentials = Credentials(username="anna", password=Secret(file=tmp_path / "password"))
    with pytest.raises(RegistryError) as failure:
        opened(server.url, credentials=credentials).images("a")
    for secret in (token, password):
        assert secret[:4] not in str(failure.value)


@pytest.mark.parametrize("at", range(270, 301, 3))
def test_shows_no_part_of_a_password_that_a_token_server_quotes(
    opened: Opener, stored: ScriptedRepository, server: Scripted, tmp_path: Path, at: int
) -> None:
    (tmp_path / "password").write_text("hunter2hunter2")

    def echo(asked: Asked) -> Reply | None:
        if asked.path == "/token":
            return error(403, "NO", "x" * at + "hunter2hunter2")
        return Reply(401, b"", {"Www-Authenticate": 'Bearer realm="/token"'})

    stored.before = echo
    credentials = Credentials(username="anna", password=Secret(file=tmp_path / "password"))
    with pytest.raises(RegistryError) as failure:
        opened(server.url, credentials=credentials).images("a")
    assert "hunt" not in str(failure.value)


# Putting back, and blobs.


@pytest.mark.parametrize(("tag", "times"), [("v1", 1), ("", 5)])
def test_pushes_a_manifest_by_tag_only_once(
    opened: Opener, stored: ScriptedRepository, server: Scripted, tag: str, times: int
) -> None:
    """Another client may have pushed another image to the tag."""
    body = an_image("x")
    stored.before = lambda _: error(503, "UNAVAILABLE")
    with pytest.raises(UnavailableError):
        opened(server.url).push_manifest("a", SavedManifest(digest_of(body), "x/y", body), tag)
    assert server.lines() == [f"PUT /v2/a/manifests/{tag or digest_of(body)}"] * times
