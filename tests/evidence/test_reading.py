"""Every usual form of a reference means one thing, nothing else is guessed at; a reading names each thing once."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.evidence.reading import EvidenceError, Use, parse_reference, reading_of

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"
SHA512 = f"sha512:{HEX}{HEX}"
YCR = "cr.yandex/crpvab5oob146rh73ilt/shop/api"


@pytest.mark.parametrize(
    ("text", "digest", "image"),
    [
        pytest.param(f"{YCR}:v7", None, f"{YCR}:v7", id="a tag"),
        pytest.param(YCR, None, f"{YCR}:latest", id="no tag is latest"),
        pytest.param(f"{YCR}@{DIGEST}", DIGEST, None, id="a digest"),
        pytest.param(f"{YCR}:v7@{DIGEST}", DIGEST, f"{YCR}:v7", id="a tag and a digest"),
        pytest.param(DIGEST, DIGEST, None, id="a digest alone"),
        pytest.param(f"{YCR}:v7@{SHA512}", SHA512, f"{YCR}:v7", id="a tag and a digest of sha512"),
        pytest.param(SHA512, SHA512, None, id="a digest of sha512 alone"),
        pytest.param(HEX, DIGEST, None, id="a digest as CRI-O gives it"),
        pytest.param(f"docker-pullable://{YCR}@{DIGEST}", DIGEST, None, id="Docker's, of an image from a registry"),
        pytest.param(f"docker://{DIGEST}", DIGEST, None, id="Docker's, of a config"),
        pytest.param("localhost:5000/x:v1", None, "localhost:5000/x:v1", id="a port and a tag"),
        pytest.param("localhost:5000/x", None, "localhost:5000/x:latest", id="a port is no tag"),
        pytest.param("[::1]:5000/x:v1", None, "[::1]:5000/x:v1", id="an IPv6 address"),
        pytest.param("localhost/x", None, "localhost/x:latest", id="localhost is a host"),
        pytest.param("CR.Yandex/a/b:V1", None, "cr.yandex/a/b:V1", id="hosts have no case, tags have"),
        pytest.param("nginx", None, "docker.io/library/nginx:latest", id="Docker Hub's own"),
        pytest.param("grafana/loki:3", None, "docker.io/grafana/loki:3", id="Docker Hub's"),
        pytest.param("index.docker.io/a/b:3", None, "docker.io/a/b:3", id="Docker Hub by its other name"),
    ],
)
def test_a_reference_is_a_digest_a_tag_or_both(text, digest, image):
    assert parse_reference(text, "a")[:2] == (digest, image)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"{YCR}:v7", YCR),
        (f"{YCR}@{DIGEST}", YCR),
        (f"docker-pullable://{YCR}:v7@{SHA512}", YCR),
        ("localhost:5000/x", "localhost:5000/x"),
        ("nginx", "docker.io/library/nginx"),
        (DIGEST, None),
        (HEX, None),
    ],
)
def test_reads_the_address_of_a_reference(text, name):
    assert parse_reference(text, "a").name == name


@pytest.mark.parametrize("digest", [f"blake3:{HEX}", f"sha384:{HEX}", "sha256+b64:abc=", "x:1"])
@pytest.mark.parametrize("tag", ["", ":v7"])
def test_keeps_the_address_of_an_unknown_digest(digest, tag):
    assert parse_reference(f"{YCR}{tag}@{digest}", "a") == (None, None, "a", YCR, digest)


@pytest.mark.parametrize(
    "text",
    [
        "", "docker://", " ", "cr.yandex/a b", "cr.yandex/A/b", "cr.yandex/", "cr.yandex//a", "/a", "a/", "a:", "a:b:c",
        "cr.yandex/a:-v1", "cr.yandex/a@sha256:abc", "cr.yandex/a@", f"cr.yandex/a@{HEX}", "sha256:abc", f"@{DIGEST}",
        "https://cr.yandex/a", "cr.yandex/a\n", "cr.yandex/a:v\n1", f"sha512:{HEX}", "a" * 2000,
        "cr.yandex:99999999/a", f"cr.yandex/a@sha512:{HEX}", "cr.yandex/a@blake3",
    ],
)  # fmt: skip
def test_refuses_invalid_references(text):
    with pytest.raises(ValueError, match=r"^(is|has) "):
        parse_reference(text, "a")


@given(st.text() | st.from_regex(r"[a-z./:@\[\]-]{0,40}(@sha256:[0-9a-f]{64})?", fullmatch=True))
def test_any_text_is_refused_or_read_to_the_same_reference(text):
    try:
        digest, image, _, _, unknown_digest = parse_reference(text, "a")
    except ValueError:
        return
    assert digest or image or unknown_digest
    assert image is None or parse_reference(image, "a")[:2] == (None, image)
    assert digest is None or parse_reference(digest, "a")[:2] == (digest, None)


AS_OF = datetime(2026, 11, 23, 6, tzinfo=timezone(timedelta(hours=3)))


def test_names_each_image_once_by_its_first_user():
    texts = [(f"{YCR}:v7", "b"), (f"{YCR}:v7", "a"), (f"{YCR}:v7", "b"), (f"{YCR}@{DIGEST}", "c"), (DIGEST, "d")]
    reading = reading_of(AS_OF, [parse_reference(text, by) for text, by in texts])
    assert reading.as_of == datetime(2026, 11, 23, 3, tzinfo=UTC)
    assert reading.as_of.tzinfo is UTC
    assert reading.uses == (Use(None, f"{YCR}:v7", "b and 1 more"), Use(DIGEST, None, "c and 1 more"))
    assert [reading.name_of(use) for use in reading.uses] == [YCR, YCR]


def test_a_bare_digest_has_no_address():
    reading = reading_of(AS_OF, [parse_reference(DIGEST, "a")])
    assert [reading.name_of(use) for use in reading.uses] == [None]


def test_separates_digests_of_unknown_algorithms():
    texts = [f"{YCR}@blake3:{HEX}", f"{YCR}:v1@blake3:{HEX}", f"{YCR}:v2"]
    reading = reading_of(AS_OF, [parse_reference(text, "a") for text in texts])
    assert reading.unknown_digests == (f"{YCR}@blake3:{HEX}",)
    assert [use.image for use in reading.uses] == [f"{YCR}:v2"]


def test_an_error_is_one_short_line():
    text = str(EvidenceError("list", "x\n\x1b[2J" + "y" * 1000, "see the source"))
    assert text.isprintable()
    assert text.startswith("evidence list: x")
    assert text.endswith("; see the source")
    assert len(text) < 700
