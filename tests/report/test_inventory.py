"""An inventory as NDJSON: an image has the API's own JSON and is read back unchanged."""

import json
from datetime import UTC, datetime

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from policies.image import Blob, Image
from worker.report.inventory import image_json

NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)


names = st.text("abc/-0", min_size=1, max_size=8)


counts = st.integers(0, 2**63 - 1)


moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - made aware


blobs = st.builds(Blob, digest=names, size=counts)


images = st.builds(
    Image,
    digest=names,
    id=names,
    name=names,
    compressed_size=st.none() | counts,
    config=st.none() | blobs,
    layers=st.lists(blobs, max_size=3).map(tuple),
    tags=st.lists(names, max_size=3).map(tuple),
    created_at=st.none() | moments,
    children=st.just(UNSET) | st.none() | st.lists(names, max_size=2).map(tuple),
    subject=st.just(UNSET) | st.none() | names,
    media_type=st.just("") | names,
    pulled_at=st.just(UNSET) | st.none() | moments,
    labels=st.none() | st.dictionaries(names, names, min_size=1, max_size=2),
    locked=st.booleans(),
)


@settings(deadline=None)
@given(images)
def test_an_image_survives_writing_and_reading(image):
    assert msgspec.json.decode(msgspec.json.encode(image_json(image)), type=Image, strict=False) == image


def test_an_image_has_the_json_of_the_api():
    image = Image(
        digest="sha256:1",
        id="crp1",
        name="crp/a",
        compressed_size=0,
        config=Blob("sha256:2", 7),
        layers=(Blob("sha256:3", 2**40),),
        tags=("v1",),
        created_at=NOW,
        children=None,
        subject=None,
    )
    assert json.loads(msgspec.json.encode(image_json(image))) == {
        "id": "crp1",
        "name": "crp/a",
        "digest": "sha256:1",
        "compressedSize": "0",
        "config": {"digest": "sha256:2", "size": "7"},
        "layers": [{"digest": "sha256:3", "size": "1099511627776"}],
        "tags": ["v1"],
        "createdAt": "2026-11-23T03:00:00Z",
        "children": None,
        "subject": None,
    }
    assert set(image_json(Image(digest="sha256:1"))) == {"id", "name", "digest"}
