"""What a registry's kind can never answer is found wherever in a policy it stands; what it can is left alone."""

import pytest

from policies.forms import DeleteConditions, KeepConditions
from worker.config.checks import UNTAGGED, check_conditions
from worker.config.kinds import KINDS


def found(kind, rules):
    mistakes = []
    check_conditions(lambda at, got, remedy: mistakes.append((at, got, remedy)), kind, "hub", "p", rules)
    return mistakes


RULES = [
    {"name": "a", "delete": {"untagged": True, "older_than": "7d"}},
    {"name": "b", "keep": {"tagged": True, "tags": ["a"], "newest": 3}},
    {"name": "c", "keep": {"untagged_for": "7d", "untagged": True}},
]


def test_a_kind_that_lists_no_untagged_images_is_not_asked_for_them():
    paths = ["policies.p[0].delete.untagged", "policies.p[2].keep.untagged_for", "policies.p[2].keep.untagged"]
    mistakes = found(KINDS["oci"], RULES)
    assert [at for at, _, _ in mistakes] == paths
    assert {got for _, got, _ in mistakes} == {
        "is always unknown in registries.hub: kind oci does not list untagged images"
    }


@pytest.mark.parametrize("name", ["yandex-container-registry", "yandex-cloud-registry"])
def test_a_kind_that_lists_them_is(name):
    assert found(KINDS[name], RULES) == []


def test_they_are_conditions_of_a_rule():
    assert set(UNTAGGED) <= DeleteConditions.model_fields.keys() & KeepConditions.model_fields.keys()
