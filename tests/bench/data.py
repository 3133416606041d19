"""A registry on paper for the benchmark: lines of 1.6 KB with ten blobs, grouped by repository, always the same.

Base layers are shared by the registry, a few more by a repository; one image in ten belongs to a multi-platform index,
some are signed, some have lost their tags, and repositories are of very different sizes.
"""

import hashlib
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from policies.image import Blob, Image

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
POLICY = [
    {"name": "releases", "keep": {"tags": ["v*.*.*", "latest", "stable"]}},
    {"name": "newest ten", "keep": {"newest": 10, "tagged": True}},
    {"name": "pull requests", "delete": {"tags": ["pr-*", "mr-*"], "older_than": "14d"}},
    {"name": "leftovers", "delete": {"untagged": True, "older_than": "7d"}},
    {
        "name": "nightlies",
        "delete": {"tags": ["nightly-*", "re:[0-9a-f]{8}"], "beyond_newest": 20, "older_than": "30d"},
    },
    {"name": "giants", "delete": {"larger_than": "2GiB", "older_than": "60d"}, "repositories": ["ml/**", "data/**"]},
]
_SIZES = (20, 60, 150, 300, 700, 1500, 4000)
_TEAMS = ("shop", "ml", "data", "infra", "web", "billing")
_ENCODER = msgspec.json.Encoder()


def write(path: Path, images: int) -> None:
    """An inventory of that many images as NDJSON, in the API's own JSON: int64 as strings."""
    with path.open("wb") as file:
        written = 0
        for lines in _repositories():
            batch = lines[: images - written]
            file.write(b"\n".join(batch) + b"\n")
            written += len(batch)
            if written >= images:
                return


def _repositories() -> Iterator[list[bytes]]:
    random_ = random.Random(20261124)
    base = [_blob(random_, 80_000_000) for _ in range(60)]
    number = 0
    while True:
        size = random_.choices(_SIZES, weights=(20, 25, 20, 15, 10, 7, 3))[0]
        name = f"crpvab5oob146rh73ilt/{random_.choice(_TEAMS)}/service-{number:05d}"
        yield [_line(image) for image in _images(random_, name, size, base)]
        number += 1


def _images(random_: random.Random, name: str, size: int, base: list[Blob]) -> Iterator[Image]:
    own = [_blob(random_, 20_000_000) for _ in range(12)]
    under = random_.sample(base, 4)
    made = 0
    while made < size:
        pushed = NOW - timedelta(seconds=random_.randrange(200 * 86_400))
        tag, kind = _tag(random_, made), random_.random()
        if kind < 0.05:
            platforms = [_image(random_, name, (), pushed, under, own) for _ in range(2)]
            children = tuple(platform.digest for platform in platforms)
            yield from platforms
            yield _image(random_, name, tag, pushed, (), (), children)
            made += 3
            continue
        image = _image(random_, name, () if kind > 0.85 else tag, pushed, under, own)
        yield image
        made += 1
        if kind < 0.10:
            signed = (f"sha256-{image.digest.removeprefix('sha256:')}.sig",)
            yield _image(random_, name, signed, pushed + timedelta(minutes=1), (), own[:1])
            made += 1


def _tag(random_: random.Random, number: int) -> tuple[str, ...]:
    made = (
        f"v1.{number // 10}.{number % 10}", f"pr-{random_.randrange(10_000)}", f"nightly-{number}",
        f"{random_.getrandbits(32):08x}", f"main-{random_.getrandbits(40):010x}",
    )  # fmt: skip
    tags = random_.choices(made, weights=(15, 35, 20, 15, 15))
    return (*tags, "latest") if number == 0 else tuple(tags)


def _image(
    random_: random.Random,
    name: str,
    tags: tuple[str, ...],
    pushed: datetime,
    under: list[Blob] | tuple[Blob, ...],
    own: list[Blob] | tuple[Blob, ...],
    children: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET,
) -> Image:
    layers = (
        *under,
        *random_.sample(own, min(3, len(own))),
        *(_blob(random_, 30_000_000) for _ in range(2 if own else 0)),
    )
    return Image(
        digest=_digest(random_),
        id=f"crp{random_.getrandbits(85):017x}",
        name=name,
        compressed_size=sum(layer.size for layer in layers),
        config=_blob(random_, 9_000) if layers else None,
        layers=layers,
        tags=tags,
        created_at=pushed,
        children=children,
    )


def _digest(random_: random.Random) -> str:
    return f"sha256:{hashlib.sha256(random_.randbytes(16)).hexdigest()}"


def _blob(random_: random.Random, most: int) -> Blob:
    return Blob(_digest(random_), random_.randrange(100, most))


def _line(image: Image) -> bytes:
    built = msgspec.to_builtins(image)
    built["compressedSize"] = str(built["compressedSize"])
    for blob in (*built["layers"], *([built["config"]] if built["config"] else [])):
        blob |= {"id": f"crp{blob['digest'][-17:]}", "size": str(blob["size"]), "urls": []}
    for absent in ("locked", "labels", "mediaType"):
        del built[absent]
    return _ENCODER.encode(built)
