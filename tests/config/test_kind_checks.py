"""What a registry's kind can never answer is found wherever in a rule it stands; what it can is left alone."""

import pytest

from policies.forms import DeleteConditions, KeepConditions
from worker.config.kind_checks import ASKS, unanswerable
from worker.config.kinds import KINDS

OCI, CLOUD, CONTAINER = (KINDS[name] for name in ("oci", "yandex-cloud-registry", "yandex-container-registry"))


@pytest.mark.parametrize(
    ("kind", "conditions", "paths"),
    [
        pytest.param(OCI, {"untagged": True, "older_than": "7d"}, ["x.untagged"], id="beside one that is answered"),
        pytest.param(OCI, {"tagged": True, "tags": ["a"], "newest": 3, "by": "created"}, [], id="all answered"),
        pytest.param(
            OCI, {"untagged_for": "7d", "pulled_within": "7d"}, ["x.untagged_for", "x.pulled_within"], id="two"
        ),
        pytest.param(CONTAINER, {"untagged": True, "untagged_for": "7d", "labels": {}}, [], id="listed, and told"),
        pytest.param(CONTAINER, {"not_pulled_for": "90d"}, ["x.not_pulled_for"], id="pulls"),
        pytest.param(CONTAINER, {"newest": 3, "by": "used"}, ["x.by"], id="ranked by use"),
        pytest.param(CLOUD, {"beyond_newest": 3, "by": "pulled"}, ["x.by"], id="ranked by pulls"),
        pytest.param(
            CLOUD, {"labels": {"a": "b"}, "media_types": ["*"]}, ["x.labels", "x.media_types"], id="no labels"
        ),
        pytest.param(OCI, {"labels": {"a": "b"}, "media_types": ["*"], "referrer": True}, [], id="from manifests"),
        pytest.param(OCI, {"any_of": [{"tagged": True}, {"untagged": True}]}, ["x.any_of[1].untagged"], id="in any_of"),
        pytest.param(
            OCI, {"all_of": [{"not": {"untagged": True}}]}, ["x.all_of[0].not.untagged"], id="in not, in all_of"
        ),
        pytest.param(OCI, {"not": [1], "any_of": {"untagged": True}, "all_of": [None]}, [], id="no conditions at all"),
        pytest.param(OCI, None, [], id="the other verb"),
    ],
)
def test_where_a_kind_is_asked_what_it_never_tells(kind, conditions, paths):
    assert [path for path, _ in unanswerable(kind, conditions, "x")] == paths


def test_every_fact_is_one_of_the_table():
    assert {fact for fact, _ in ASKS.values()} <= set(dir(OCI))


def test_every_condition_of_a_rule_is_answered_by_some_kind():
    known = {*DeleteConditions.model_fields, *KeepConditions.model_fields}
    assert {
        key for key in known & ASKS.keys() if not any(getattr(kind, ASKS[key][0]) for kind in KINDS.values())
    } == set()
