"""The objects of a cluster that name images: which kinds are listed, and what of each is read. No I/O.

Only the fields that are read are described: what a newer server says beside them does no harm.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from msgspec import Struct

from worker.evidence.reading import NamedImage, parse_reference


@dataclass(frozen=True, slots=True)
class ObjectKind:
    """One kind of object, and where its lists are."""

    name: str  # "Deployment"
    group: str  # "apps"; empty: core
    resource: str  # "deployments"

    @property
    def root(self) -> str:
        return f"/apis/{self.group}/v1" if self.group else "/api/v1"

    @property
    def right(self) -> str:
        """What a role must grant, as `kubectl auth can-i list` takes it."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


# In the order in which they give their names to what they use: who wants it, before who was made for it. What is made
# for another comes after it, so that nothing that is on its way from one list to the next is missed.
KINDS = (
    ObjectKind("Deployment", "apps", "deployments"),
    ObjectKind("StatefulSet", "apps", "statefulsets"),
    ObjectKind("DaemonSet", "apps", "daemonsets"),
    ObjectKind("CronJob", "batch", "cronjobs"),
    ObjectKind("Job", "batch", "jobs"),
    ObjectKind("ReplicationController", "", "replicationcontrollers"),
    ObjectKind("ReplicaSet", "apps", "replicasets"),  # those without pods too: a Deployment is rolled back to one
    ObjectKind(
        "ControllerRevision", "apps", "controllerrevisions"
    ),  # what StatefulSets and DaemonSets are rolled back to
    ObjectKind("Pod", "", "pods"),
)


class _Read(Struct, rename="camel"):
    """A part of an object; what is null or absent is empty."""


class _ImageVolume(_Read):
    reference: str | None = None


class _Volume(_Read):
    image: _ImageVolume | None = None


class _Container(_Read):
    image: str | None = None


class _Spec(_Read):
    """Of a pod, of what has a template of pods, or of a CronJob: they share no field's name."""

    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    ephemeral_containers: list[_Container] | None = None
    volumes: list[_Volume] | None = None
    template: "_Template | None" = None
    job_template: "_Template | None" = None


class _Template(_Read):
    """Of pods, of jobs, or of a revision."""

    spec: _Spec | None = None


class _MountedImage(_Read):
    image_ref: str | None = None


class _VolumeStatus(_Read):
    image: _MountedImage | None = None


class _MountStatus(_Read):
    volume_status: _VolumeStatus | None = None


class _ContainerStatus(Struct):
    image: str | None = None
    image_id: str | None = msgspec.field(name="imageID", default=None)
    mounts: list[_MountStatus] | None = msgspec.field(name="volumeMounts", default=None)


class _PodStatus(_Read):
    container_statuses: list[_ContainerStatus] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None
    ephemeral_container_statuses: list[_ContainerStatus] | None = None


class _Owner(_Read):
    api_version: str = ""
    kind: str = ""


class _Metadata(_Read):
    name: str = ""
    namespace: str = ""
    owner_references: list[_Owner] | None = None


class Object(_Read):
    """One object of a list."""

    metadata: _Metadata
    spec: _Spec | None = None
    status: msgspec.Raw = msgspec.Raw(b"null")  # only a pod's is read: each kind has a status of its own
    data: msgspec.Raw = msgspec.Raw(b"null")  # of a ControllerRevision: each controller writes its own


class _ListMetadata(Struct):
    more: str = msgspec.field(name="continue", default="")


class ObjectPage(Struct):
    """A part of a list."""

    kind: str
    metadata: _ListMetadata
    items: list[Object] | None  # null is empty, absent is no list

    @property
    def more(self) -> str:
        """What asks for the next page; empty after the last."""
        return self.metadata.more


_page = msgspec.json.Decoder(ObjectPage)
_pod_status = msgspec.json.Decoder(_PodStatus | None)
_revision = msgspec.json.Decoder(_Template)


def decode_page(body: bytes, kind: ObjectKind) -> ObjectPage:
    """A page of a list of this kind. Raises ValueError: it is anything else, or was cut."""
    page = _page.decode(body)
    if page.kind != f"{kind.name}List":
        raise ValueError(f"expected a {kind.name}List, got a {page.kind[:60]}")
    return page


def uses_of(one: Object, kind: ObjectKind, cluster: str) -> Iterator[NamedImage]:
    """Every image that an object names or has pulled. Raises ValueError: something is not understood."""
    by = f"{cluster}/{one.metadata.namespace}/{kind.name} {one.metadata.name}"
    for spec in _pod_specs(one, kind):
        for text in _wanted(spec):
            if (read := _reference(text, by)) is not None:
                yield read
    if kind.name == "Pod":
        for text in _pulled(one):
            read = _reference(text, by)
            if read is None:
                raise ValueError(f"its status names an image as {text[:200]!r}")
            yield read


def _pod_specs(one: Object, kind: ObjectKind) -> Iterator[_Spec]:
    spec = one.spec
    if kind.name == "ControllerRevision":
        owners = one.metadata.owner_references or ()
        if not any(owner.api_version.startswith("apps/") for owner in owners):
            return  # other controllers' data is their own
        spec = _revision.decode(one.data).spec
    if spec is None:
        raise ValueError("it has no spec")
    if kind.name == "Pod":
        yield spec
        return
    of_pods = spec.job_template.spec if kind.name == "CronJob" and spec.job_template else spec
    if of_pods and of_pods.template and of_pods.template.spec:  # a ReplicationController may have none
        yield of_pods.template.spec


def _wanted(spec: _Spec) -> Iterator[str]:
    for containers in (spec.containers, spec.init_containers, spec.ephemeral_containers):
        yield from (one.image for one in containers or () if one.image)
    yield from (one.image.reference for one in spec.volumes or () if one.image and one.image.reference)


def _pulled(pod: Object) -> Iterator[str]:
    status = _pod_status.decode(pod.status) or _PodStatus()
    for statuses in (
        status.container_statuses,
        status.init_container_statuses,
        status.ephemeral_container_statuses,
    ):
        for one in statuses or ():
            yield from (text for text in (one.image_id, one.image) if text)
            mounted = (mount.volume_status.image for mount in one.mounts or () if mount.volume_status)
            yield from (image.image_ref for image in mounted if image and image.image_ref)


def _reference(text: str, by: str) -> NamedImage | None:
    """None: it is no reference. No node can have pulled by it either, so in a spec it is nobody's image."""
    try:
        return parse_reference(text.strip(), by)
    except ValueError:
        return None
