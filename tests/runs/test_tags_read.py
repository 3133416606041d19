"""How many tags of a repository are read before a deletion, and the warning about larger repositories."""

import pytest

from policies.limits import Limits
from policies.rules import Policy
from worker.config.settings import Credentials, Rate, RegistrySettings
from worker.runs.tags_read import max_tags_read, tags_not_read


def registry(per_second: float = 10, kind: str = "oci") -> RegistrySettings:
    where = {"url": "https://registry.example.com"} if kind == "oci" else {"id": "crp1"}
    return RegistrySettings(
        name="production", kind=kind, policy=Policy("nightly", ()), limits=Limits(), **where,
        credentials=Credentials(anonymous=True), rate=Rate(requests_per_second=per_second, concurrency=1),
    )  # fmt: skip


@pytest.mark.parametrize(("per_second", "most"), [(10, 300), (0.1, 3), (0.02, 0), (1.99, 59)])
def test_reads_as_many_tags_as_the_rate_serves_in_half_a_minute(per_second: float, most: int) -> None:
    assert max_tags_read(registry(per_second)) == most


@pytest.mark.parametrize(
    ("tags", "named"),
    [
        ({}, None),
        ({"shop/api": 300}, None),
        ({"shop/api": 301}, "shop/api: reading its 301 tags takes more than 30 s at 10 requests a second."),
        (
            {"a": 301, "shop/api": 9000, "b": 300, "c": 2000},
            "shop/api and 2 more: reading its 9,000 tags takes more than 30 s at 10 requests a second.",
        ),
    ],
    ids=["no repository", "as many as are read", "one more", "the largest of several"],
)
def test_warns_of_repositories_with_more_tags(tags: dict[str, int], named: str | None) -> None:
    warnings = list(tags_not_read(tags, registry()))
    assert [warning.code for warning in warnings] == (["tags_not_read"] if named else [])
    if named:
        assert warnings[0].message.startswith(named)
        needed = -(-max(tags.values()) // 30)
        assert f"Set rate.requests_per_second to {needed}," in warnings[0].message
        assert list(tags_not_read(tags, registry(needed))) == []


def test_a_registry_that_lists_every_image_needs_no_warning() -> None:
    assert list(tags_not_read({"shop/api": 9000}, registry(kind="yandex-container-registry"))) == []
