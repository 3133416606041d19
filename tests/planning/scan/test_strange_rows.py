"""Invalid rows of a registry: their images are kept, and the run continues for all others, on every store."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.support.harness import Harness
from tests.support.simulator.client import Simulator

DAY = timedelta(days=30)
LIST = r"/container-registry/v1/images\?.*shop"


def say(simulator: Simulator, *rows: dict[str, Any], **raw: str) -> None:
    """Answer every listing of shop/api so; `raw`: JSON that takes the place of a word."""
    text = json.dumps({"images": rows})
    for word, value in raw.items():
        text = text.replace(json.dumps(word), value)
    simulator.fault("status", method="GET", path=LIST, status=200, body=text)


def row(simulator: Simulator, image: dict[str, Any], *tags: str, **more: str) -> dict[str, Any]:
    name = f"{simulator.registry_id}/shop/api"
    config = {"digest": "sha256:" + "c" * 64, "size": "5"}
    facts = {"id": image["id"], "name": name, "digest": image["digest"], "compressedSize": "5", "config": config}
    return facts | {"createdAt": "2026-01-01T00:00:00Z", "tags": list(tags)} | more


@pytest.mark.parametrize(
    "tag",
    [
        pytest.param('"pr-\\u0000x"', id="a zero"),
        pytest.param('"pr-\\ud800x"', id="half a character"),
        pytest.param('"pr-\\u001b[2J"', id="an escape"),
        pytest.param('"pr-\\u202ex"', id="a change of direction"),
        pytest.param('"pr-é"', id="another alphabet"),
        pytest.param(json.dumps("pr-" + "a" * 126), id="a character too many"),
        pytest.param(json.dumps("pr-" + "a" * 100_000), id="endless"),
        pytest.param('"pr-1 "', id="a space"),
        pytest.param('""', id="empty"),
    ],
)
def test_an_invalid_tag_makes_its_repository_unreadable(
    simulator: Simulator, make_harness: Callable[..., Harness], tag: str
) -> None:
    strange = simulator.push("shop/api", tags=["pr-1"], age=DAY)
    other = simulator.push("other/app", tags=["pr-2"], age=DAY)
    say(simulator, row(simulator, strange, "strange"), strange=tag)

    run = make_harness().sweep()

    assert (run.state, run.outcome, run.deleted) == ("finished", "partial", 1)
    assert simulator.deleted_ids() == {other["id"]}
    ((repository, reason),) = [(failure["repository"], failure["reason"]) for failure in run.unreadable]
    assert repository == "shop/api"
    assert reason.isprintable()
    assert len(reason) < 500


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("tag", ["production", "pr-2"])
def test_keeps_an_image_in_two_rows_that_differs_when_read_again(
    simulator: Simulator, make_harness: Callable[..., Harness], order: int, tag: str
) -> None:
    image = simulator.push("shop/api", tags=["pr-1"], age=DAY)
    rows = [row(simulator, image, "pr-1"), row(simulator, image, tag, id="crp0prod0prod0prod00")]
    say(simulator, *rows[::order])
    harness = make_harness()

    run = harness.sweep()

    assert simulator.deleted_ids() == set()
    assert [planned_item.decision.tags for planned_item in harness.items(run.id)] == (
        [] if tag == "production" else [("pr-1", "pr-2")]
    )
