"""The functions of the protocol: requests and responses; they raise only registry errors."""

import json
import string
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.image import Blob, Image
from worker.registries.docker import manifests, tokens
from worker.registries.errors import (
    BadResponseError,
    RegistryError,
)
from worker.registries.http.messages import BrokenBodyError, Response
from worker.registries.yandex import api
from worker.registries.yandex import container_protocol as protocol
from worker.text import one_line

REGISTRY = "crpvab5oob146rh73ilt"
NAME = f"{REGISTRY}/shop/api"
DIGEST = "sha256:6004cb137d30c6ee9b9d59024ca1a77308a1f5310bc519c504ef87a8ecbefbf6"
CONFIG = "sha256:341609370b8cb015007887cb9070d1a81a40bd8e77d284d8f36007ddc1dbf6b7"
LAYER = "sha256:c9c5879e6392e22d073a65a36eab333f747921d00b9550d8ebf4c085daba7d94"
ROOT = "https://container-registry.api.cloud.yandex.net"


def response(document: Any, status: int = 200) -> Response:
    return Response(status, {}, document if isinstance(document, bytes) else json.dumps(document).encode())


def row(**changes: Any) -> dict[str, Any]:
    """A row of a listing; None takes a field away."""
    full = {
        "id": "crpgjj83lpveh0rtjbcu",
        "name": NAME,
        "digest": DIGEST,
        "compressedSize": "31250512",
        "config": {"id": "crpo26q5k87lckqk5f1c", "digest": CONFIG, "size": "6512"},
        "layers": [{"id": "crpi35hdr77ordi1iq8b", "digest": LAYER, "size": "29126000", "urls": []}],
        "tags": ["1.4.2", "stable"],
        "createdAt": "2026-03-02T09:15:44.127Z",
    }
    return {name: value for name, value in {**full, **changes}.items() if value is not None}


def read(**changes: Any) -> Image:
    (image,) = protocol.images_page(response({"images": [row(**changes)]}), NAME).rows
    assert isinstance(image, Image)
    return image


def test_reads_an_image_with_every_field() -> None:
    assert read() == Image(
        digest=DIGEST,
        id="crpgjj83lpveh0rtjbcu",
        name=NAME,
        compressed_size=31_250_512,
        config=Blob(CONFIG, 6512),
        layers=(Blob(LAYER, 29_126_000),),
        tags=("1.4.2", "stable"),
        created_at=datetime(2026, 3, 2, 9, 15, 44, 127_000, UTC),
    )


def without_blobs(size: Any) -> dict[str, Any]:
    return {"compressedSize": size, "config": None, "layers": None}


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        pytest.param({"compressedSize": 31_250_512}, "compressed_size", 31_250_512, id="a bare number"),
        pytest.param({"compressedSize": str(2**63 - 1)}, "compressed_size", 2**63 - 1, id="the largest"),
        pytest.param({"compressedSize": None}, "compressed_size", None, id="an absent size is unknown"),
        pytest.param({"compressedSize": "0"}, "compressed_size", 0, id="a reported zero, with blobs"),
        pytest.param({"compressedSize": "0", "config": None}, "compressed_size", 0, id="a reported zero, with layers"),
        pytest.param(without_blobs("0"), "compressed_size", None, id="a printed zero of an index"),
        pytest.param(without_blobs("77"), "compressed_size", 77, id="a sum over children"),
        pytest.param({"config": {"id": "", "digest": "", "size": "0"}}, "config", None, id="a printed empty config"),
        pytest.param({"config": {"digest": CONFIG}}, "config", Blob(CONFIG, 0), id="a blob of no size"),
        pytest.param({"layers": []}, "layers", (), id="no layers"),
        pytest.param({"tags": []}, "tags", (), id="untagged, printed"),
        pytest.param({"tags": None}, "tags", (), id="untagged, omitted"),
        pytest.param({"tags": ["a", "b", "a"]}, "tags", ("a", "b"), id="a tag twice"),
        pytest.param({"createdAt": None}, "created_at", None, id="no time"),
        pytest.param({"createdAt": "1970-01-01T00:00:00Z"}, "created_at", None, id="a zero for a time is unknown"),
        pytest.param({"createdAt": "0001-01-01T00:00:00Z"}, "created_at", None, id="another zero"),
        pytest.param({"createdAt": "0001-01-01T00:00:00+14:00"}, "created_at", None, id="a zero before the zero"),
        pytest.param(
            {"createdAt": "2026-03-02T12:15:44+03:00"}, "created_at", datetime(2026, 3, 2, 9, 15, 44, 0, UTC), id="zone"
        ),
        pytest.param({"unknownField": {"deep": [1, 2.5, None]}}, "digest", DIGEST, id="unknown fields"),
    ],
)
def test_accepts_valid_fields(changes: dict[str, Any], field: str, value: Any) -> None:
    assert getattr(read(**changes), field) == value


def test_null_is_absent() -> None:
    names = ("compressedSize", "config", "layers", "tags", "createdAt")
    body = {"images": [{**row(), **dict.fromkeys(names)}], "nextPageToken": None}
    page = protocol.images_page(response(body), NAME)
    assert page.rows == [Image(digest=DIGEST, id="crpgjj83lpveh0rtjbcu", name=NAME)]
    assert protocol.images_page(response({"images": None}), NAME) == api.ListingPage([], "")


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": DIGEST.upper()},
        {"digest": f"{DIGEST}0"},
        {"digest": DIGEST.replace("sha256", "sha512")},
        {"digest": f"{DIGEST}\n"},
        {"id": ""},
        {"id": "x" * 51},
        {"id": "../../registries/crp"},
        {"id": "crp?x=1"},
        {"name": REGISTRY},
        {"name": f"{NAME}/deeper"},
        {"name": NAME.upper()},
        {"compressedSize": str(2**63)},
        {"compressedSize": 2**63},
        {"compressedSize": -1},
        {"compressedSize": "1e9"},
        {"compressedSize": "١٢"},
        {"compressedSize": ""},
        {"compressedSize": 1.5},
        {"compressedSize": True},
        {"config": {"digest": "sha256"}},
        {"config": {"digest": CONFIG, "size": "-7"}},
        {"config": []},
        {"layers": [{}]},
        {"layers": [{"digest": LAYER, "size": str(2**64)}]},
        {"layers": [None]},
        {"layers": {}},
        {"tags": "latest"},
        {"tags": [7]},
        {"tags": [""]},
        {"createdAt": "9999-12-31T23:59:59-14:00"},
        {"createdAt": "2026-02-30T00:00:00Z"},
        {"createdAt": 1_700_000_000},
        {"createdAt": ""},
    ],
    ids=str,
)
def test_refuses_invalid_fields(changes: dict[str, Any]) -> None:
    with pytest.raises(BadResponseError):
        read(**changes)


@pytest.mark.parametrize(
    ("body", "broken"),
    [
        (b"", True),
        (b"<html>", True),
        (b'{"images": [', True),
        (b'{"nextPageToken": "\xff"}', True),
        (b'{"nextPageToken": "\\ud800"}', True),
        (b'{"x":' * 100_000, True),
        (b'{"images": [{"compressedSize": ' + b"9" * 5000 + b"}]}", False),
        (b"[]", False),
        (b"null", False),
        (b'"text"', False),
        (b'{"images": {}}', False),
        (b'{"nextPageToken": 5}', False),
        (b'{"nextPageToken": "' + b"x" * 3000 + b'"}', False),
    ],
    ids=range(13),
)
def test_rejects_a_body_that_is_not_json(body: bytes, broken: bool) -> None:
    with pytest.raises(BadResponseError) as failure:
        protocol.images_page(response(body), NAME)
    assert isinstance(failure.value, BrokenBodyError) is broken
    assert len(str(failure.value)) < 500


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (f"{REGISTRY}/shop/api", "shop/api"),
        (f"{REGISTRY}/a__b-c.d", "a__b-c.d"),
        (REGISTRY, ""),
        (f"{REGISTRY}/", None),
        (f"{REGISTRY}x/shop", None),
        ("shop/api", None),
        ("", None),
        (f"{REGISTRY}/../other", None),
        (f"{REGISTRY}/shop//api", None),
        (f"{REGISTRY}/shop/", None),
        (f"{REGISTRY}/sh op", None),
        (f"{REGISTRY}/shop?x", None),
        (f"{REGISTRY}/shop\n", None),
        (f"{REGISTRY}/{'x' * 257}", None),
    ],
)
def test_reads_the_path_of_a_repository(name: str, path: str | None) -> None:
    if path is None:
        with pytest.raises(BadResponseError):
            protocol.repository_path(name, REGISTRY)
    else:
        assert protocol.repository_path(name, REGISTRY) == path


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("a\r\nb\tc\u2028d", "a b c d"),
        ("\x1b[31mred\x07", "[31mred"),
        ("x" * 400, "x" * 299 + "…"),
        ("bad token t1.9euelZqVm-8.sig_nature= here", "bad token *** here"),
        ("jwt eyJhbGciOiJQUzI1NiJ9.eyJpc3MiOiJhIn0.c2ln", "jwt ***"),
    ],
)
def test_puts_foreign_text_on_one_line(text: str, line: str) -> None:
    assert one_line(text) == line


def test_requests_contain_the_parameters_of_the_api() -> None:
    images = protocol.list_images(ROOT, NAME, "shop/api", "TOKEN")
    assert images.url == f"{ROOT}/container-registry/v1/images"
    assert images.query == {"repositoryName": NAME, "pageSize": "1000", "pageToken": "TOKEN"}
    deletion = protocol.delete_image(ROOT, "crp/../x", "shop/api@sha256:6004…", "0f0c4c1e")
    assert deletion.url == f"{ROOT}/container-registry/v1/images/crp%2F..%2Fx"
    assert deletion.headers == {"Idempotency-Key": "0f0c4c1e"}
    assert deletion.label == "DELETE shop/api@sha256:6004…"
    assert "0f0c4c1e" not in repr(deletion)
    assert manifests.read_manifest("GET", "https://cr.yandex/v2", NAME, DIGEST).headers["Accept"] == manifests.ACCEPT


# Fuzz: whatever comes, a value or one of our errors.

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.sampled_from(
        [DIGEST, NAME, REGISTRY, "crpgjj83lpveh0rtjbcu", "2026-03-02T09:15:44.127Z", "1.4.2", "-5", "sha256:", ""]
    ),
)
FIELDS = st.sampled_from(
    [
        "images",
        "repositories",
        "nextPageToken",
        "id",
        "name",
        "digest",
        "compressedSize",
        "config",
        "layers",
        "tags",
        "createdAt",
        "size",
        "done",
        "error",
        "code",
        "message",
        "details",
        "metadata",
        "imageId",
        "requestId",
        "mediaType",
        "manifests",
        "subject",
        "token",
        "expires_in",
        "errors",
    ]
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(FIELDS, inner, max_size=6)),
    max_leaves=25,
)
ROWS = st.builds(row, **{name: st.one_of(st.just(value), DOCUMENTS) for name, value in row().items()})
PAGES = st.fixed_dictionaries({"images": st.lists(ROWS, max_size=3)}, optional={"nextPageToken": SCALARS})
READERS = [
    lambda answer: protocol.images_page(answer, NAME),
    lambda answer: protocol.repositories_page(answer, REGISTRY),
    lambda answer: protocol.image(answer, NAME),
    api.operation,
    lambda answer: manifests.manifest(answer, DIGEST),
    tokens.docker_token,
    api.refusal,
    manifests.refusal,
]


def read_by_all(answer: Response) -> list[Any]:
    """The result of each reader for a response; only registry errors are caught."""
    results = []
    for reader in READERS:
        try:
            results.append(reader(answer))
        except RegistryError as error:
            results.append(error)
    assert not any("\n" in str(error) for error in results if isinstance(error, RegistryError))
    return results


@given(document=DOCUMENTS, status=st.sampled_from([200, 201, 301, 400, 404, 503]))
def test_any_json_is_read_or_refused(document: Any, status: int) -> None:
    assert len(read_by_all(response(document, status))) == len(READERS)


@given(body=st.binary(max_size=200), status=st.sampled_from([200, 400, 503]))
@example(body=b'{"images":[{"digest":"\xed\xa0\x80"}]}', status=200)
def test_any_bytes_are_read_or_refused(body: bytes, status: int) -> None:
    assert len(read_by_all(Response(status, {}, body))) == len(READERS)


@given(document=PAGES)
def test_a_page_is_read_whole_or_not_at_all(document: dict[str, Any]) -> None:
    try:
        page = protocol.images_page(response(document), NAME)
    except BadResponseError:
        return
    assert len(page.rows) == len(document["images"])
    for image in page.rows:
        assert image.name == NAME
        assert set(image.digest.removeprefix("sha256:")) <= set(string.hexdigits)
        assert image.compressed_size is None or 0 <= image.compressed_size < 2**63
        assert image.created_at is None or image.created_at.tzinfo is UTC or image.created_at.utcoffset() is not None
        assert all(image.tags)
