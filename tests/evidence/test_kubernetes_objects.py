"""The objects that are listed, and their fields that name images; the role in the docs grants exactly these lists."""

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from worker.evidence.kubernetes_objects import KINDS, Object, decode_page, uses_of

PAGE = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text()


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_role_grants_exactly_the_requests():
    (role,) = (yaml.safe_load(block) for block in blocks("yaml") if "ClusterRole" in block)
    granted = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == {(kind.group, kind.resource, "list") for kind in KINDS} | {("", "namespaces", "get")}


def kind(name):
    return next(kind for kind in KINDS if kind.name == name)


def an_object(**rest):
    return msgspec.convert({"metadata": {"name": "x", "namespace": "shop"}} | rest, Object)


@pytest.mark.parametrize(
    ("name", "root", "right"),
    [
        ("Pod", "/api/v1", "pods"),
        ("Deployment", "/apis/apps/v1", "deployments.apps"),
        ("CronJob", "/apis/batch/v1", "cronjobs.batch"),
    ],
)
def test_each_kind_has_its_path_and_permission(name, root, right):
    assert (kind(name).root, kind(name).right) == (root, right)


def test_lists_owners_before_the_objects_that_they_create():
    names = [kind.name for kind in KINDS]
    for wants, made in [("Deployment", "ReplicaSet"), ("CronJob", "Job"), ("ReplicaSet", "Pod"), ("Job", "Pod")]:
        assert names.index(wants) < names.index(made)


def test_a_page_contains_the_token_of_the_next():
    page = decode_page(b'{"kind": "PodList", "metadata": {"continue": "abc"}, "items": null}', kind("Pod"))
    assert (page.more, page.items) == ("abc", None)
    assert decode_page(b'{"kind": "PodList", "metadata": {}, "items": []}', kind("Pod")).more == ""


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b'{"kind": "PodList", "metadata": {}}', b'{"kind": "PodList", "items": []}',
        b'{"kind": "JobList", "metadata": {}, "items": []}', b'{"kind": "PodList", "metadata": {}, "items": [',
    ],
)  # fmt: skip
def test_refuses_a_page_of_another_kind(body):
    with pytest.raises(ValueError, match=r"truncated|missing required field|expected a PodList, got a JobList"):
        decode_page(body, kind("Pod"))


def test_an_image_of_a_template_is_in_use_by_its_owner():
    spec = {"template": {"spec": {"containers": [{"image": "a.io/x:v1"}, {"image": "No Reference"}, {}]}}}
    images = list(uses_of(an_object(spec=spec), kind("Deployment"), "prod"))
    assert [(use.image, use.by) for use in images] == [("a.io/x:v1", "prod/shop/Deployment x")]


def test_refuses_an_invalid_reference_in_the_status_of_a_pod():
    status = msgspec.Raw(b'{"containerStatuses": [{"imageID": "0xcafe!"}]}')
    pod = msgspec.structs.replace(an_object(spec={}), status=status)
    with pytest.raises(ValueError, match="its status names an image as '0xcafe!'"):
        list(uses_of(pod, kind("Pod"), "prod"))


@pytest.mark.parametrize("name", ["Pod", "Deployment", "CronJob"])
def test_refuses_an_object_without_a_spec(name):
    with pytest.raises(ValueError, match="it has no spec"):
        list(uses_of(an_object(), kind(name), "prod"))


@pytest.mark.parametrize(
    ("version", "images"), [("apps/v1", ["a.io/x:v1"]), ("example.com/v1", [])], ids=["its own", "another's"]
)
def test_reads_only_revisions_of_kubernetes_controllers(version, images):
    revision = msgspec.structs.replace(
        an_object(metadata={"ownerReferences": [{"apiVersion": version, "kind": "StatefulSet"}]}),
        data=msgspec.Raw(b'{"spec": {"template": {"spec": {"containers": [{"image": "a.io/x:v1"}]}}}}'),
    )
    assert [use.image for use in uses_of(revision, kind("ControllerRevision"), "prod")] == images
