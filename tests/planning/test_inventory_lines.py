"""The format of the lines of a saved inventory, and the messages for invalid ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from policies.image import Unreadable
from policies.rules import Policy
from policies.units import shown
from tests.planning.saved import EVERYTHING, GOOD, facts, line, saved
from tests.support.builders import NOW, digest, image
from tests.support.planning import offline_ndjson
from worker.planning.inventory_lines import are_sound, head_of, is_digest, mistake_in
from worker.planning.offline import InventoryError, plan_inventory


def offline(path: Path, rules: Policy, **more: Any) -> bytes:
    return offline_ndjson(path, rules, NOW, **more)


LINE = "; write one image a line, as `registry-gc inventory` does"


DIGEST = "; write sha256: and 64 digits 0-9a-f"


NAME = "; write the registry's id, a slash and the repository, for example crp1/shop/api"


TIME = '; write, for example, "2026-11-23T03:00:00Z"'


BYTES = '; write a whole number from 0 to 9223372036854775807, for example "1024"'


def bad(id_: str, text: bytes, what: str) -> Any:
    return pytest.param(text, f"2: {what}", id=id_)


ODD_DIGESTS = [
    "latest", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha512:" + "a" * 31, "a" * 64, digest(1) + "\n", "sha256:é",
]  # fmt: skip


PLACES: dict[str, Callable[[str], dict[str, Any]]] = {
    "digest": lambda text: {"digest": text},
    "config.digest": lambda text: {"config": {"digest": text, "size": "1"}},
    "layers[1].digest": lambda text: {"layers": [{"digest": digest(2)}, {"digest": text}]},
    "children[0]": lambda text: {"children": [text]},
    "subject": lambda text: {"subject": text},
}


NO_NAMES = [
    "alone", "crp1/", "/shop", "crp1/shop/", "crp1//shop", "crp1/a\x1b[31m", "crp1/a\nb", "crp1/\u202ea",
]  # fmt: skip


NO_TIMES = [
    1767225600, 0, -1, 1.5, 1e30, 2**70, "1767225600", "1.5", True, [], "yesterday", "2026-11-23",
    "2026-11-23T03:00:00", "26-11-23T03:00:00Z",
]  # fmt: skip


BAD: list[Any] = [
    bad("cut off", b'{"digest": "sha256:ab", ', f"not JSON: Input data was truncated{LINE}"),
    bad("no JSON", b"nonsense", f"not JSON: invalid character (byte 4){LINE}"),
    bad("no object", b"[1]", "expected an image, got a list; write one JSON object a line"),
    bad("no digest", GOOD.replace(b'"digest"', b'"dig"', 1), f"digest: expected a digest, got nothing{DIGEST}"),
    bad("an empty digest", facts(digest=""), f"digest: expected a digest, got ''{DIGEST}"),
    bad("a digest is a number", facts(digest=5), f"digest: expected a digest, got 5{DIGEST}"),
    bad("a layer has none", facts(layers=[{}]), f"layers[0].digest: expected a digest, got nothing{DIGEST}"),
    *(
        bad(
            f"{where} {odd_digest!r}",
            facts(**made(odd_digest)),
            f"{where}: expected a digest, got {shown(odd_digest)}{DIGEST}",
        )
        for where, made in PLACES.items()
        for odd_digest in ODD_DIGESTS
    ),
    bad("no name", GOOD.replace(b'"name"', b'"nam"'), f"name: expected a name, got ''{NAME}"),
    *(bad(f"named {name!r}", facts(name=name), f"name: expected a name, got {shown(name)}{NAME}") for name in NO_NAMES),
    bad(
        "tags are no list",
        facts(tags="v1"),
        "tags: expected a list of tags, got 'v1'; write, for example, [\"v1.0.0\"]",
    ),
    bad("a tag is a number", facts(tags=[1]), "tags[0]: expected a tag, got 1; put it in quotes"),
    bad("a negative size", facts(compressedSize=-1), f"compressedSize: expected a number of bytes, got -1{BYTES}"),
    bad("a huge size", facts(compressedSize=2**63), f"compressedSize: expected a number of bytes, got {2**63}{BYTES}"),
    bad("no size", facts(compressedSize="much"), f"compressedSize: expected a number of bytes, got 'much'{BYTES}"),
    bad(
        "a layer's size",
        facts(layers=[{"digest": digest(2), "size": 1.5}]),
        f"layers[0].size: expected a number of bytes, got 1.5{BYTES}",
    ),
    *(
        bad(
            f"{key} {value!r}",
            facts(**{key: value}),
            f"{key}: expected a time with its offset, got {shown(value)}{TIME}",
        )
        for key in ("createdAt", "pulledAt")
        for value in NO_TIMES
    ),
    bad("a label", facts(labels={"a": "b", "c": 5}), "labels[...]: expected text, got 5; put it in quotes"),
    bad(
        "a lock",
        facts(locked="maybe"),
        "locked: expected true or false, got 'maybe'; write one of them, without quotes",
    ),
    bad("broken UTF-8", GOOD.replace(b"v1", b"\xff"), f"not UTF-8{LINE}"),
    bad("binary", b"\x1f\x8b\x08\x00", f"not JSON: invalid character (byte 0){LINE}"),
    bad("two on a line", GOOD + GOOD, f"not JSON: trailing characters (byte 276){LINE}"),
    bad("deep", b'{"digest":"x","name":"a/b","labels":' + b"[" * 100_000, f"nested too deep{LINE}"),
]


@pytest.mark.parametrize(("bad", "what"), BAD)
@pytest.mark.parametrize("grouped", [True, False], ids=["grouped", "mixed"])
def test_refuses_an_invalid_line_with_its_number_and_mistake(
    tmp_path: Path, bad: bytes, what: str, grouped: bool
) -> None:
    before = [] if grouped else [line(image(n), path) for n, path in enumerate(["a", "b", "a", "b"])]
    path = saved(tmp_path, [*before, GOOD, bad, line(image(3), "shop/zzz")])
    with pytest.raises(InventoryError) as refused:
        offline(path, EVERYTHING)
    number, _, words = what.partition(":")
    assert str(refused.value) == f"{path}:{int(number) + len(before)}:{words}"


@pytest.mark.parametrize(
    ("head", "what"),
    [
        ("{", f"not JSON: Input data was truncated{LINE}"),
        ("[]", "expected an image, got an empty list; write one JSON object a line"),
        ('{"unreadable": 5}', "unreadable: expected a list of repositories, got 5; write […], or leave it out"),
        (
            '{"unreadable": null}',
            "unreadable: expected a list of repositories, got nothing; write […], or leave it out",
        ),
        ('{"unreadable": [{"repository": "a"}]}', "unreadable[0].reason: expected text, got nothing; put it in quotes"),
        (
            '{"unreadable": [{"repository": "a", "reason": "b", "when": 1}]}',
            "unreadable[0].when: unknown key; known here: repository, reason",
        ),
        (
            '{"unreadable": [{"repository": "a/", "reason": "b"}]}',
            "unreadable[0].repository: expected a repository's path, got 'a/';"
            " write it without the registry's id, for example shop/api",
        ),
        ('{"registry": 5}', "registry: expected text, got 5; put it in quotes"),
        *(
            (f'{{"listed_at": {moment}}}', f"listed_at: expected a time with its offset, got {got}{TIME}")
            for moment, got in (("5", "5"), ("null", "nothing"), ('"2026-11-23"', "'2026-11-23'"))
        ),
        ('{"listedAt": "2026-11-23T03:00:00Z"}', "listedAt: unknown key; known here: registry, listed_at, unreadable"),
        *(
            (image_, f"digest: expected a digest, got nothing{DIGEST}: only a head has none")
            for image_ in ('{"name": "crp1/a"}', '{"id": "crp1"}', '{"registry": "a", "tags": []}', '{"createdAt": 5}')
        ),
    ],
)
def test_refuses_an_invalid_head_with_its_mistake(tmp_path: Path, head: str, what: str) -> None:
    path = saved(tmp_path, [head.encode(), GOOD])
    with pytest.raises(InventoryError) as refused:
        offline(path, EVERYTHING)
    assert str(refused.value) == f"{path}:1: {what}"


def test_accepts_a_valid_head(tmp_path: Path) -> None:
    rows = [{"repository": "a/b", "reason": "a time-out"}]
    head = {"registry": "production", "listed_at": "2026-11-23T03:00:00+03:00", "unreadable": rows}
    with plan_inventory(saved(tmp_path, [msgspec.json.encode(head), GOOD]), EVERYTHING, NOW) as plan:
        assert plan.plan.unreadable == (Unreadable(repository="a/b", reason="a time-out"),)
        assert plan.plan.totals.images == 1


@pytest.mark.parametrize(
    "more",
    [
        {"digest": "sha512:" + "a" * 128},
        {"subject": "sha512:" + "a" * 128, "layers": [{"digest": "blake2b+x.1:" + "0" * 32, "size": 5}]},
        {
            "createdAt": None,
            "pulledAt": None,
            "children": None,
            "subject": None,
            "compressedSize": None,
            "config": None,
        },
        {"compressedSize": "9223372036854775807", "createdAt": "2026-11-23T03:00:00.123456+03:00", "unknown": {"a": 1}},
        {"name": "crp1/a b/ü"},
    ],
    ids=["sha512", "other algorithms", "nulls", "greatest", "a name"],
)
@pytest.mark.parametrize("grouped", [True, False], ids=["grouped", "mixed"])
def test_accepts_a_valid_image(tmp_path: Path, more: dict[str, Any], grouped: bool) -> None:
    before = [] if grouped else [line(image(n), path) for n, path in enumerate(["a", "b", "a", "b"])]
    with plan_inventory(saved(tmp_path, [*before, facts(**more)]), EVERYTHING, NOW) as plan:
        assert plan.plan.totals.images == len(before) + 1


def test_accepts_sizes_as_strings(tmp_path: Path) -> None:
    path = tmp_path / "F.ndjson"
    path.write_bytes(GOOD.replace(b'Size":100', b'Size":"9007199254740993"'))
    with plan_inventory(path, EVERYTHING, NOW) as plan:
        assert [decision.size for decision in plan.decisions.records()] == [9007199254740993]


def test_a_valid_image_has_no_mistake_and_is_no_head() -> None:
    assert mistake_in(GOOD) is None
    assert head_of(GOOD) is None


@pytest.mark.parametrize(("text", "is_one"), [(digest(1), True), ("sha512:" + "a" * 128, True), ("latest", False)])
def test_knows_which_texts_are_digests(text: str, is_one: bool) -> None:
    assert is_digest(text) is is_one
    assert are_sound([image(1, name="crp1/a", subject=text)]) is is_one
    assert are_sound([image(1, name="crp1/a", children=(digest(1), text))]) is is_one


@pytest.mark.parametrize("name", NO_NAMES)
def test_rejects_images_with_an_invalid_name(name: str) -> None:
    assert not are_sound([image(1, name="crp1/a"), image(2, name=name)])
