"""A person's hold, from the reference to the row; what it holds today, by the registry or by the newest plan."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from policies.limits import Limits
from policies.rules import Policy
from tests.support.harness import MakeHarness
from tests.support.simulator.client import Simulator
from worker.config.settings import Credentials, RegistrySettings
from worker.runs.hold_requests import HoldError, hold_of, place
from worker.store import holds

DIGEST = f"sha256:{1:064x}"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
OCI = RegistrySettings(
    name="production",
    kind="oci",
    url="https://registry.example.com",
    credentials=Credentials(anonymous=True),
    policy=Policy("nightly", ()),
    limits=Limits(),
)


@pytest.mark.parametrize(
    ("words", "kind", "repository", "value"),
    [
        pytest.param("shop/api:v1", "tag", "shop/api", "v1", id="a tag"),
        pytest.param(f"shop/api@{DIGEST}", "digest", "shop/api", DIGEST, id="a digest"),
        pytest.param(f"shop/api:v1@{DIGEST}", "digest", "shop/api", DIGEST, id="a tag before a digest is ignored"),
        pytest.param("crp00000000000000001", "image", None, "crp00000000000000001", id="an id"),
        pytest.param("shop/api", "repository", "shop/api", "shop/api", id="a repository"),
        pytest.param("ml/**", "repository", "ml/**", "ml/**", id="a glob"),
        pytest.param("re:shop/[ab]:?", "repository", "re:shop/[ab]:?", "re:shop/[ab]:?", id="an expression"),
        pytest.param("registry.example.com/shop/api:v1", "tag", "shop/api", "v1", id="with the registry's address"),
        pytest.param("example.com/shop", "repository", "example.com/shop", "example.com/shop", id="a path with a dot"),
    ],
)
def test_parses_a_reference_to_hold(words: str, kind: str, repository: str | None, value: str) -> None:
    hold = hold_of(OCI, words, until=NOW, reason="trial", who="anna")
    assert (hold.kind, hold.repository, hold.value, hold.digest) == (kind, repository, value, None)
    assert (hold.until, hold.reason, hold.who) == (NOW, "trial", "anna")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("shop/api:", "'' is not a tag"),
        (":v1", "'' is not a repository"),
        ("shop//api:v1", "'shop//api' is not a repository"),
        ("shop/api@latest", "'latest' is not a digest"),
        ("shop/api@sha256:12", "'sha256:12' is not a digest"),
        ("host:5000/shop/api:v1", "is not in production, whose images are registry.example.com/"),
        ("shop/[api", "names no image and is no glob of repositories"),
        ("re:(", "names no image and is no glob of repositories"),
    ],
)
def test_rejects_a_reference_that_names_nothing(words: str, said: str) -> None:
    with pytest.raises(HoldError) as error:
        hold_of(OCI, words)
    assert said in str(error.value)
    assert str(error.value).startswith(repr(words))


@pytest.mark.parametrize("asked", ["the registry", "the newest plan"])
@pytest.mark.parametrize(
    ("words", "named", "warning"),
    [
        pytest.param("shop/api:pr-1", True, "", id="a tag holds its image"),
        pytest.param("shop/api:next", False, "has the tag next", id="a tag that no image has"),
        pytest.param("{id}", True, "", id="an id"),
        pytest.param("crp99999999999999999", False, "no image with the id", id="an id that no image has"),
        pytest.param("shop/api@{digest}", False, "", id="a digest names itself"),
        pytest.param("shop/*", False, "", id="a glob"),
    ],
)
def test_reports_what_a_hold_holds_today(
    simulator: Simulator, make_harness: MakeHarness, asked: str, words: str, named: bool, warning: str
) -> None:
    image = simulator.push("shop/api", tags=["pr-1"], age=timedelta(days=30))
    made = make_harness(mode="dry-run")
    made.sweep()
    settings: Any = made.settings.registries["production"]
    if asked == "the newest plan":
        made.rewrite(endpoints=simulator.endpoints() | {"container_registry": "http://127.0.0.1:9"})
        settings = made.settings.registries["production"]
    wanted = hold_of(settings, words.format(**image))
    placed = place(made.store, settings, wanted, NOW)
    with made.store.read() as connection:
        (row,) = holds.active_rows(connection, NOW)
    assert (row.id, row.hold) == (placed.number, placed.hold)
    assert placed.hold.digest == (image["digest"] if named else None)
    assert warning in (placed.warning or "")
    reachable = asked == "the registry" or wanted.kind == "image"
    assert ("could not be asked" in (placed.warning or "")) is not reachable
    assert (placed.warning is None) is (reachable and not warning)
