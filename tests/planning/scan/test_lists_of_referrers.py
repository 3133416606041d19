"""Indexes tagged by a digest, over HTTP: a list of referrers is deleted with its subject, an index of images is not."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import Harness
from tests.support.oci.fake import FakeRegistry
from tests.support.oci.real_runs import served
from tests.support.scan_history import pass_time
from worker.planning.offline import plan_inventory
from worker.planning.planner import Planned
from worker.planning.scan import plan_live
from worker.report.inventory import InventoryHead, inventory_report

PATH = "shop/api"
WEEK = timedelta(days=8)
TAGGED_STAY = [
    {"name": "tagged", "keep": {"tagged": True}},
    {"name": "rest", "delete": {"all": True, "older_than": "7d"}},
]
OLD_GO = [
    {"name": "newest", "keep": {"newest": 1, "tagged": True}},
    {"name": "old", "delete": {"all": True, "older_than": "7d"}},
]


def make_harness(fake: FakeRegistry, folder: Path, rules: list[dict[str, Any]]) -> Harness:
    keys: dict[str, Any] = {"rules": rules, "rate": {"requests_per_second": 1000}}
    return Harness(served(fake) | {"push_time": "first_seen"}, folder, **keys)


def offline(planned: Planned, folder: Path) -> set[str]:
    """The digests that a plan from the saved inventory deletes, at the same instant."""
    inventory = planned.inventory
    images = (image for repository in inventory.repositories() for image in repository.images)
    head = InventoryHead(registry="production", listed_at=inventory.listed_at, unreadable=inventory.unreadable)
    path = folder / "saved.ndjson"
    path.write_bytes(b"".join(inventory_report(head, images).ndjson()))
    with plan_inventory(path, planned.registry.policy, planned.now) as saved:
        return {decision.digest for decision in saved.decisions.records() if decision.verdict == "delete"}


def live(harness: Harness) -> Planned:
    return plan_live(harness.settings, "production", store=harness.store, now=datetime.now(UTC))


def goes(planned: Planned) -> set[str]:
    return {decision.digest for decision in planned.decisions.records() if decision.verdict == "delete"}


@pytest.mark.parametrize("of", ["inputs of the build", "an image that is here"])
def test_an_index_of_images_keeps_its_children(fake: FakeRegistry, tmp_path: Path, of: str) -> None:
    release = fake.push(PATH, "v1", layers=[1]).digest
    children = [fake.push(PATH, layers=[number]).digest for number in (2, 3)]
    tag = release.replace(":", "-") if of.endswith("here") else f"sha256-{hashlib.sha256(of.encode()).hexdigest()}"
    index = fake.push_index(PATH, tag, children=children).digest
    harness = make_harness(fake, tmp_path, TAGGED_STAY)
    harness.sweep()
    pass_time(harness, WEEK)
    assert offline(live(harness), tmp_path) == set()
    run = harness.sweep()
    assert (run.outcome, run.deleted) == ("succeeded", 0)
    assert set(fake.state()[PATH]) == {release, index, *children}
    harness.store.dispose()


def test_deletes_a_list_of_referrers_with_its_subject_before_the_listed_images(
    fake: FakeRegistry, tmp_path: Path
) -> None:
    images = {}
    for name in ("old", "new"):
        image = fake.push(PATH, name, layers=[len(images)]).digest
        sbom = fake.push(PATH, layers=[len(images) + 10], subject=image, artifact_type="application/vnd.sbom").digest
        images[name] = image, fake.push_index(PATH, image.replace(":", "-"), children=[sbom]).digest, sbom
        if name == "old":
            harness = make_harness(fake, tmp_path, OLD_GO)
            harness.sweep()
            pass_time(harness, WEEK)
    planned = live(harness)
    assert goes(planned) == offline(planned, tmp_path) == set(images["old"])
    run = harness.sweep()
    assert (run.outcome, run.deleted) == ("succeeded", 3)
    assert fake.deleted == [(PATH, digest) for digest in images["old"]]
    assert set(fake.state()[PATH]) == set(images["new"])
    harness.store.dispose()
