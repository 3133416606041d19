"""Conditions that a kind can never answer are mistakes anywhere in a policy; others are accepted."""

import pytest

from policies.forms import DeleteConditions, KeepConditions
from worker.config.checks import UNTAGGED, check_conditions
from worker.config.kinds import KINDS


def mistakes_of(kind, rules):
    mistakes = []
    check_conditions(lambda at, got, remedy: mistakes.append((at, got, remedy)), kind, "hub", "p", rules)
    return mistakes


RULES = [
    {"name": "a", "delete": {"untagged": True, "older_than": "7d"}},
    {"name": "b", "keep": {"tagged": True, "tags": ["a"], "newest": 3}},
    {"name": "c", "keep": {"untagged_for": "7d", "untagged": True}},
]


def test_refuses_untagged_conditions_for_a_kind_that_lists_only_tags():
    paths = ["policies.p[0].delete.untagged", "policies.p[2].keep.untagged_for", "policies.p[2].keep.untagged"]
    mistakes = mistakes_of(KINDS["oci"], RULES)
    assert [at for at, _, _ in mistakes] == paths
    assert {got for _, got, _ in mistakes} == {
        "is always unknown in registries.hub: kind oci does not list untagged images"
    }


@pytest.mark.parametrize("name", ["yandex-container-registry", "yandex-cloud-registry"])
def test_accepts_untagged_conditions_for_a_kind_that_lists_untagged_images(name):
    assert mistakes_of(KINDS[name], RULES) == []


def test_untagged_conditions_exist_in_the_rule_form():
    assert set(UNTAGGED) <= DeleteConditions.model_fields.keys() & KeepConditions.model_fields.keys()
