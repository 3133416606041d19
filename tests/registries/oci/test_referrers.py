"""Registries without a referrers API, with one that fails, and with one for some of their repositories."""

from pathlib import Path

import pytest

from policies.image import Image
from tests.registries.oci.conftest import Opener
from tests.registries.oci.scripted import NO_PAGE, Asked, Reply, Scripted, ScriptedRepository, an_image, document, error
from tests.support.oci.fake import BasicAuth, FakeRegistry
from worker.config.settings import Credentials, Rate, Secret
from worker.registries.errors import BadResponseError, RegistryError
from worker.registries.oci import referrers


@pytest.fixture(autouse=True)
def _nothing_is_logged_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(referrers, "_logged", set())


def asked(server: Scripted) -> int:
    return sum("/referrers/" in line for line in server.lines())


def digests(images: tuple[Image, ...]) -> set[str]:
    return {image.digest for image in images}


def logged(caplog: pytest.LogCaptureFixture) -> int:
    return sum("referrers_api_missing" in record.message for record in caplog.records)


@pytest.mark.parametrize("status", [303, 400, 401, 403, 404, 405, 406, 424, 501, 200])
def test_no_referrers_api_costs_one_request(opened: Opener, status: int) -> None:
    with FakeRegistry(no_referrers=status) as registry:
        pushed = [registry.push("a", f"v{number}", layers=[b"%d" % number]) for number in range(5)]
        assert digests(opened(registry.url).images("a")) == {image.digest for image in pushed}
        assert sum("/referrers/" in line for line in registry.lines()) == 1


ONCE = {
    "a digest that is none": document({"manifests": [{"digest": "bogus"}]}),
    "a Link that cannot be read": document({"manifests": []}, Link="junk"),
    "another document": document({"errors": []}),
    "403 with a challenge": error(403, "DENIED", WWW_Authenticate='Basic realm="x"'),
    "401 with a challenge": error(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="x"'),
    "no page": NO_PAGE,
    "404": error(404, "NOT_FOUND"),
}
TWICE = {
    "500": error(500, "UNKNOWN"),
    "502": Reply(502, b"<html>"),
    "503": error(503, "UNAVAILABLE"),
    "504": Reply(504),
    "429": error(429, "TOOMANYREQUESTS", Retry_After="0"),
    "407": Reply(407),
    "a list that breaks off": Reply(200, b'{"schemaVersion": 2, "manifests": [{"dig'),
    "a connection that breaks off": Reply(200, b'{"manifests": []}', cut=True),
}


@pytest.mark.parametrize(
    ("reply", "most"),
    [pytest.param(reply, 1, id=name) for name, reply in ONCE.items()]
    + [pytest.param(reply, 2, id=name) for name, reply in TWICE.items()],
)
def test_any_other_response_of_the_referrers_api_leaves_the_repository_readable(
    opened: Opener, stored: ScriptedRepository, server: Scripted, reply: Reply, most: int
) -> None:
    pushed = {stored.put(an_image(str(number)), f"v{number}") for number in range(20)}
    stored.before = lambda asked: reply if "/referrers/" in asked.path else None
    driver = opened(server.url)
    assert digests(driver.images("a")) == digests(driver.images("a")) == pushed
    assert asked(server) == most


def test_a_sign_in_that_is_refused_for_referrers_alone(opened: Opener, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    given = Credentials(username="robot", password=Secret(file=tmp_path / "password"))
    with FakeRegistry(BasicAuth("robot", "secret")) as registry:
        pushed = registry.push("a", "v1")
        refusal = {"status": 401, "headers": {"WWW-Authenticate": 'Basic realm="x"'}}
        registry.fault("status", "GET", "/referrers/", times=None, **refusal)
        assert digests(opened(registry.url, credentials=given).images("a")) == {pushed.digest}


@pytest.mark.parametrize("reply", [ONCE["a digest that is none"], ONCE["403 with a challenge"], *TWICE.values()])
def test_an_api_that_has_listed_and_fails_leaves_the_repository_unreadable(
    opened: Opener, stored: ScriptedRepository, server: Scripted, reply: Reply
) -> None:
    """Otherwise it would be as if nothing referred to its images."""
    stored.put(an_image("first"), "v1")
    stored.before = lambda asked: document({"manifests": []}) if "/referrers/" in asked.path else None
    driver = opened(server.url)
    driver.images("a")
    stored.before = lambda asked: reply if "/referrers/" in asked.path else None
    with pytest.raises(RegistryError):
        driver.images("a")


def test_a_sign_in_that_is_refused_later_is_of_the_repository(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    stored.put(an_image("first"), "v1")
    stored.before = lambda asked: document({"manifests": []}) if "/referrers/" in asked.path else None
    driver = opened(server.url)
    driver.images("a")
    stored.before = lambda asked: ONCE["401 with a challenge"] if "/referrers/" in asked.path else None
    with pytest.raises(BadResponseError, match="the referrers API has worked before and now refuses"):
        driver.images("a")


def test_a_second_page_that_fails_leaves_the_repository_unreadable(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    subject = stored.put(an_image("subject"), "v1")
    link = f'</v2/a/referrers/{subject}?page=2>; rel="next"'

    def pages(asked: Asked) -> Reply | None:
        if "/referrers/" not in asked.path:
            return None
        return error(500, "UNKNOWN") if "page" in asked.query else document({"manifests": []}, Link=link)

    stored.before = pages
    with pytest.raises(RegistryError, match="HTTP 500"):
        opened(server.url).images("a")


def test_uses_a_referrers_api_again_after_an_odd_response(opened: Opener) -> None:
    with FakeRegistry(referrers=True) as registry:
        pushed = [registry.push("a", f"v{number}", layers=[b"%d" % number]) for number in range(3)]
        signature = registry.push("a", layers=[b"s"], subject=pushed[2].digest)
        driver = opened(registry.url, rate=Rate.model_construct(requests_per_second=2000.0, concurrency=1))
        registry.fault("status", "GET", "/referrers/", after=1, status=404)
        assert signature.digest in digests(driver.images("a"))


@pytest.mark.parametrize("status", [404, 405, 500])
def test_each_repository_is_asked_for_itself(opened: Opener, status: int) -> None:
    with FakeRegistry(referrers=True) as registry:
        subject = registry.push("b/y", "v1")
        signature = registry.push("b/y", layers=[b"s"], subject=subject.digest)
        other = registry.push("a/x", "v1")
        registry.fault("status", "GET", "/v2/a/x/referrers/", times=None, status=status)
        driver = opened(registry.url)
        assert digests(driver.images("a/x")) == {other.digest}
        assert digests(driver.images("b/y")) == {subject.digest, signature.digest}


def test_a_process_logs_once_that_a_registry_has_no_such_api(opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    with FakeRegistry() as first, FakeRegistry() as second, caplog.at_level("INFO"):
        for registry in first, second:
            for name in "a", "b":
                registry.push(name, "v1")
        for _ in range(3):
            driver = opened(first.url)
            driver.images("a")
            driver.images("b")
        assert logged(caplog) == 1
        opened(second.url).images("a")
        assert logged(caplog) == 2
