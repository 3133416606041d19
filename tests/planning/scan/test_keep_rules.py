"""A keep rule that matches nothing is a warning, live and offline, unless a repository could not be read."""

from pathlib import Path

import pytest

from policies.image import Unreadable
from tests.support.harness import Harness
from tests.support.oci.fake import FakeRegistry
from tests.support.oci.real_runs import served
from worker.planning.offline import plan_inventory
from worker.planning.scan import plan_live
from worker.report.inventory import InventoryHead, inventory_report

RULES = [
    {"name": "releases", "keep": {"tags": ["v*"]}},
    {"name": "dead", "keep": {"tags": ["release-*"]}},
    {"name": "old", "delete": {"tags": ["pr-*"], "older_than": "14d"}},
]


@pytest.mark.parametrize(
    ("tags", "dead"),
    [
        pytest.param(["v1", "pr-1"], ["dead"], id="one of two"),
        pytest.param(["v1", "release-1"], [], id="none"),
        pytest.param([], [], id="an empty registry"),
    ],
)
def test_warns_of_a_keep_rule_that_matches_nothing(
    fake: FakeRegistry, tmp_path: Path, tags: list[str], dead: list[str]
) -> None:
    for number, tag in enumerate(tags):
        fake.push("shop/api", tag, layers=[number])
    harness = Harness(served(fake), tmp_path, rules=RULES, mode="dry-run", rate={"requests_per_second": 1000})
    planned = plan_live(harness.settings, "production", store=harness.store)
    images = [image for repository in planned.inventory.repositories() for image in repository.images]
    offline = {}
    for unreadable in ((), (Unreadable(repository="shop/web", reason="a time-out"),)):
        head = InventoryHead(registry="production", listed_at=planned.now, unreadable=unreadable)
        path = tmp_path / "saved.ndjson"
        path.write_bytes(b"".join(inventory_report(head, images).ndjson()))
        with plan_inventory(path, planned.registry.policy, planned.now) as saved:
            offline[bool(unreadable)] = saved.plan.warnings
    assert planned.warnings == offline[False]
    assert [warning.code for warning in planned.warnings] == ["keep_rule_matches_nothing" for _ in dead]
    assert all(f"'{name}'" in warning.message for name, warning in zip(dead, planned.warnings, strict=True))
    assert offline[True] == ()
    run = harness.sweep()
    assert [warning["code"] for warning in run.warnings] == [warning.code for warning in planned.warnings]
    harness.store.dispose()
