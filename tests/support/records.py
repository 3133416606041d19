"""Records of the store and of plans, as far as a test says what is in them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from policies.plan import Decision
from worker.store.runs import Run, Terms

NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)
NOTHING: dict[str, Any] = {
    **dict.fromkeys(("task_id", "outcome", "stop", "message", "scheduled_for", "started_at", "planned_at"), None),
    **dict.fromkeys(("deleting_at", "swept_at", "verified_at", "finished_at", "plan_sha256", "complete"), None),
    **dict.fromkeys(("opened_by", "approved_by", "aborted_by", "suspicion", "lease_until"), None),
    **dict.fromkeys(("exceeded", "unreadable", "differences", "raced_pushes", "warnings", "unreadable_images"), ()),
    **dict.fromkeys(("images", "planned", "deleted", "gone", "skipped", "failed", "selected_bytes"), 0),
    **dict.fromkeys(("reclaimable_bytes", "reclaimed_bytes", "registry_bytes", "undecidable", "difference_count"), 0),
    **dict.fromkeys(("foreign_deletions", "scans", "verifications", "systemic_failures", "fence"), 0),
    "emptied_repositories": (),
    "rule_selected": {},
    "terms": Terms(),
    "forgotten": False,
    "audit_sha256": "",
}


def run_record(**facts: Any) -> Run:
    """A run that was opened and has done nothing yet."""
    own = {"id": "20261123T030000Z-0011aabb", "registry": "production", "trigger": "schedule", "opened_at": NOW}
    own |= {"registry_key": "oci|https://registry.example.com|", "mode": "delete", "registry_mode": "delete"}
    return Run(**NOTHING | own | {"state": "pending", "policy": "nightly", "policy_sha256": "ab" * 32} | facts)


def finished_run(**facts: Any) -> Run:
    """A run that deleted two images of three."""
    own = {"state": "finished", "outcome": "succeeded", "complete": True, "plan_sha256": "cd" * 32, "started_at": NOW}
    own |= {"planned_at": NOW + timedelta(minutes=1), "finished_at": NOW + timedelta(minutes=62)}
    own |= {"images": 3, "planned": 2, "deleted": 2, "reclaimable_bytes": 2048, "reclaimed_bytes": 2048}
    return run_record(**own | {"registry_bytes": 4096} | facts)


def decision(number: int = 1, **more: Any) -> Decision:
    """A deletion of a plan."""
    facts = {"id": f"crp{number}", "repository": "shop/api", "digest": f"sha256:{number:064x}", "tags": ("pr-1",)}
    facts |= {"created_at": NOW, "size": 300, "verdict": "delete", "cause": "selected", "rule": "pull requests"}
    return Decision(**facts | {"needed_by": (), "reason": "every tag matches pr-*"} | more)
