"""The Kubernetes objects that name images: the kinds that are listed, and the fields that are read. No I/O.

The structs describe only the fields that are read, so that further fields of newer servers are ignored.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from msgspec import Struct

from worker.evidence.reading import NamedImage, parse_reference


@dataclass(frozen=True, slots=True)
class ObjectKind:
    """One kind of object, and the address of its lists."""

    name: str  # "Deployment"
    group: str  # "apps"; empty: core
    resource: str  # "deployments"

    @property
    def root(self) -> str:
        return f"/apis/{self.group}/v1" if self.group else "/api/v1"

    @property
    def right(self) -> str:
        """The resource that a role must grant, as `kubectl auth can-i list` spells it."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


# Owners come before the objects that they create: a use is reported by its owner's name, and an object that is created
# between two lists is not missed.
KINDS = (
    ObjectKind("Deployment", "apps", "deployments"),
    ObjectKind("StatefulSet", "apps", "statefulsets"),
    ObjectKind("DaemonSet", "apps", "daemonsets"),
    ObjectKind("CronJob", "batch", "cronjobs"),
    ObjectKind("Job", "batch", "jobs"),
    ObjectKind("ReplicationController", "", "replicationcontrollers"),
    ObjectKind("ReplicaSet", "apps", "replicasets"),  # also without pods: a Deployment can be rolled back to it
    ObjectKind(
        "ControllerRevision", "apps", "controllerrevisions"
    ),  # StatefulSets and DaemonSets can be rolled back to it
    ObjectKind("Pod", "", "pods"),
)


class _Read(Struct, rename="camel"):
    """A part of an object; null and absent mean empty."""


class _ImageVolume(_Read):
    reference: str | None = None


class _Volume(_Read):
    image: _ImageVolume | None = None


class _Container(_Read):
    image: str | None = None


class _Spec(_Read):
    """The spec of a pod, of an object with a pod template, or of a CronJob: their field names differ."""

    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    ephemeral_containers: list[_Container] | None = None
    volumes: list[_Volume] | None = None
    template: "_Template | None" = None
    job_template: "_Template | None" = None


class _Template(_Read):
    """The template of pods or jobs, or the data of a revision."""

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
    status: msgspec.Raw = msgspec.Raw(b"null")  # read for pods only: its format depends on the kind
    data: msgspec.Raw = msgspec.Raw(b"null")  # of a ControllerRevision: its format depends on the controller


class _ListMetadata(Struct):
    more: str = msgspec.field(name="continue", default="")


class ObjectPage(Struct):
    """A part of a list."""

    kind: str
    metadata: _ListMetadata
    items: list[Object] | None  # null means empty; absent is an error

    @property
    def more(self) -> str:
        """The token of the next page; empty on the last page."""
        return self.metadata.more


_page = msgspec.json.Decoder(ObjectPage)
_pod_status = msgspec.json.Decoder(_PodStatus | None)
_revision = msgspec.json.Decoder(_Template)


def decode_page(body: bytes, kind: ObjectKind) -> ObjectPage:
    """A page of a list of this kind. Raises ValueError: it is something else, or incomplete. The list is complete only
    with the page whose `more` is empty. Source: Kubernetes API concepts, "Retrieving large results sets in chunks".
    """
    page = _page.decode(body)
    if page.kind != f"{kind.name}List":
        raise ValueError(f"expected a {kind.name}List, got a {page.kind[:60]}")
    return page


def uses_of(item: Object, kind: ObjectKind, cluster: str) -> Iterator[NamedImage]:
    """Every image that an object names or has pulled. Raises ValueError: a part cannot be parsed."""
    by = f"{cluster}/{item.metadata.namespace}/{kind.name} {item.metadata.name}"
    for spec in _pod_specs(item, kind):
        for text in _wanted(spec):
            if (image := _reference(text, by)) is not None:
                yield image
    if kind.name == "Pod":
        for text in _pulled(item):
            image = _reference(text, by)
            if image is None:
                raise ValueError(f"its status names an image as {text[:200]!r}")
            yield image


def _pod_specs(item: Object, kind: ObjectKind) -> Iterator[_Spec]:
    spec = item.spec
    if kind.name == "ControllerRevision":
        owners = item.metadata.owner_references or ()
        if not any(owner.api_version.startswith("apps/") for owner in owners):
            return  # the data of other controllers has another format
        spec = _revision.decode(item.data).spec
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
        yield from (container.image for container in containers or () if container.image)
    yield from (volume.image.reference for volume in spec.volumes or () if volume.image and volume.image.reference)


def _pulled(pod: Object) -> Iterator[str]:
    status = _pod_status.decode(pod.status) or _PodStatus()
    for statuses in (
        status.container_statuses,
        status.init_container_statuses,
        status.ephemeral_container_statuses,
    ):
        for container in statuses or ():
            yield from (text for text in (container.image_id, container.image) if text)
            mounted = (mount.volume_status.image for mount in container.mounts or () if mount.volume_status)
            yield from (image.image_ref for image in mounted if image and image.image_ref)


def _reference(text: str, by: str) -> NamedImage | None:
    """None: it is no reference. In a spec it is no use then: no node can pull it."""
    try:
        return parse_reference(text.strip(), by)
    except ValueError:
        return None
