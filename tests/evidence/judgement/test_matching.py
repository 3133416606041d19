"""References of a source that match the registries of the file, and sources without a match."""

from datetime import UTC, datetime, timedelta

import pytest

from policies.image import Blob, Image, Repository
from policies.limits import Limits
from policies.rules import Policy
from worker.config.settings import Credentials, EvidenceSettings, RegistrySettings
from worker.evidence.judgement import digests_in, judge_matches, match_references, warning_of
from worker.evidence.reading import EvidenceError, parse_reference, reading_of
from worker.runs.evidence import scope_of

NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)
HERE, CONFIG, AWAY = ("sha256:" + letter * 64 for letter in "abc")
SHA512 = "sha512:" + "d" * 128
OCI = RegistrySettings(
    name="production",
    kind="oci",
    url="https://registry.example.com",
    addresses=("pull.example.com",),
    credentials=Credentials(anonymous=True),
    policy=Policy("nightly", ()),
    limits=Limits(),
)
SECOND = OCI.model_copy(update={"name": "second", "url": "https://second.example.com", "addresses": ()})
YANDEX = OCI.model_copy(
    update={"name": "yandex", "kind": "yandex-container-registry", "url": "", "id": "crp1", "addresses": ()}
)
INVENTORY = [
    Repository(path="shop/api", images=(Image(digest=HERE, config=Blob(digest=CONFIG)), Image(digest=SHA512))),
]
SOURCE = EvidenceSettings(name="cluster", kind="file", max_age=timedelta(hours=1))


def matches(*texts: str, registry: RegistrySettings = OCI):
    reading = reading_of(NOW, [parse_reference(text, "pod") for text in texts])
    scope = scope_of(registry, [OCI, SECOND, YANDEX], lambda digests: digests_in(INVENTORY, digests))
    return match_references(SOURCE, reading, scope)


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        pytest.param("registry.example.com/shop/api:v1", 0, id="by its host"),
        pytest.param(f"registry.example.com/shop/api@{AWAY}", 0, id="by the host of a digest that is gone"),
        pytest.param("pull.example.com/shop/api:v1", 0, id="by another of its addresses"),
        pytest.param("second.example.com/shop/api:v1", 0, id="of another registry of the file"),
        pytest.param("cr.yandex/crp1/shop/api:v1", 0, id="by the host and the id"),
        pytest.param("cr.yandex/crp2/shop/api:v1", 1, id="by the host, of another id"),
        pytest.param("mirror.example.com/shop/api:v1", 1, id="by another host"),
        pytest.param(f"mirror.example.com/shop/api@{HERE}", 0, id="by another host, the digest is here"),
        pytest.param(f"mirror.example.com/shop/api:v1@{AWAY}", 1, id="by another host, the digest is not"),
        pytest.param(f"mirror.example.com/shop/api@{SHA512}", 0, id="a digest of sha512"),
        pytest.param(f"mirror.example.com/shop/api:v1@blake3:{'0' * 64}", 1, id="a digest that is not understood"),
        pytest.param(HERE, 0, id="a digest alone"),
        pytest.param(CONFIG, 0, id="the digest of a config"),
        pytest.param(AWAY, 1, id="a bare digest that is not in the inventory"),
        pytest.param("nginx", 1, id="Docker Hub's"),
    ],
)
def test_counts_references_that_match_nothing(text: str, foreign: int) -> None:
    result = matches(text)
    assert (result.references, result.foreign) == (1, foreign)


def test_refuses_a_source_of_which_no_reference_matches() -> None:
    result = matches("mirror.example.com/shop/api:v1", "mirror.example.com/shop/web:v1", "nginx", AWAY)
    with pytest.raises(EvidenceError) as raised:
        judge_matches(SOURCE, OCI, result)
    assert str(raised.value) == (
        "evidence cluster: names 4 images, none of them in a registry of this file, such as"
        " docker.io/library/nginx:latest; if mirror.example.com is another host of production, add"
        " addresses: [mirror.example.com] to it; if this is intended, write allow_foreign: true"
    )
    judge_matches(SOURCE.model_copy(update={"allow_foreign": True}), OCI, result)
    judge_matches(SOURCE, OCI, matches("mirror.example.com/shop/api:v1", "registry.example.com/shop/api:v1"))
    judge_matches(SOURCE, OCI, matches())


def test_does_not_suggest_a_key_that_the_kind_does_not_have() -> None:
    with pytest.raises(EvidenceError) as raised:
        judge_matches(SOURCE, YANDEX, matches("mirror.example.com/crp1/shop/api:v1", registry=YANDEX))
    assert "addresses" not in str(raised.value)


def test_warns_about_references_that_match_nothing() -> None:
    text = "registry.example.com/shop/api:v1"
    first = warning_of("cluster", OCI, matches("nginx", text))
    assert (first.code, first.message) == (
        "evidence_foreign",
        "1 of the 2 images that evidence cluster names is in no registry of this file and not in the inventory, such as"
        " docker.io/library/nginx:latest",
    )
    two = warning_of("cluster", OCI, matches("nginx", "mirror.example.com/shop/api:v1", text))
    assert two.message.startswith("2 of the 3 images that evidence cluster names are in no registry of this file")
    assert two.message.endswith(
        "; if mirror.example.com is another host of production, add addresses: [mirror.example.com] to it"
    )


def test_fails_on_an_unknown_digest_algorithm_in_this_registry() -> None:
    text = f"registry.example.com/shop/api:v1@blake3:{'0' * 64}"
    with pytest.raises(EvidenceError, match="with a digest of an unknown algorithm"):
        matches(text, "registry.example.com/shop/api:v2")
    assert matches(text, registry=SECOND).foreign == 1
