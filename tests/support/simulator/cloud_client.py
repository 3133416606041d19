"""The simulator's controls of Cloud Registry, for `client.Simulator`.

The images are the same for both services: what `push`, `push_index`, `sign`, `tag`, `fill` … put there is also listed
as artifacts, and a deleted image is in `state()["deleted"]` and its bytes in `lost_bytes` once its last artifact (tag
or digest) has gone. `deletes` counts DELETE requests by the artifact's id.

    with Simulator(artifact_path="parent") as simulator:  # any of `cloud_switches.py`
        simulator.push("shop/api", tags=["v1", "latest"])
        entry = {"kind": "yandex-cloud-registry", "id": simulator.registry_id, "endpoints": simulator.cloud_endpoints()}
        row = simulator.artifact("shop/api", "v1")  # {id, path, repository, name, tag, kind, status, image, digest}
        simulator.before("DELETE", row["id"], "tag", repository="shop/api", reference="sha256:…", tag="v1")  # a race
        simulator.after("GET", r"/artifacts\\?", "push", repository="shop/api", tags=["v1"])  # between two pages

In commands that `before` and `after` run, `"{artifact}"` is the artifact that the request names, `"{image}"` the image
it is of. A flat list has rows of the kind FOLDER (one for each level above an image), as long as `kind` does not leave
them out. Deleting one of them, or anything else that is no Docker artifact of a local or transitional registry, or what
a policy has deleted softly, is recorded in `state()["refused"]`.
"""

from datetime import timedelta
from typing import Any


class CloudControls:
    """The methods of a simulator that concern only Cloud Registry."""

    url = ""

    def control(self, command: str, **arguments: Any) -> Any:
        raise NotImplementedError

    def cloud_endpoints(self) -> dict[str, str]:
        """For the `endpoints` of a registry of the kind `yandex-cloud-registry`."""
        return dict.fromkeys(("cloud_registry", "operation", "iam", "sts", "docker"), self.url)

    def artifacts(self, repository: str | None = None, registry: str | None = None) -> list[dict[str, Any]]:
        """Every row that a call can see, but folders that images lie in."""
        rows: list[dict[str, Any]] = self.control("artifacts", registry=registry)
        return [row for row in rows if repository in (None, row["repository"])]

    def artifact(self, repository: str, name: str) -> dict[str, Any]:
        """One of them, by its tag or digest."""
        return next(row for row in self.artifacts(repository) if row["name"] == name)

    def push_other(
        self,
        path: str,
        *,
        kind: str = "ARTIFACT",
        age: timedelta | float = 0,
        registry: str | None = None,
        properties: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Puts something there that is no image: a FOLDER, a PACKAGE, or an ARTIFACT without Docker content."""
        pushed: dict[str, Any] = self.control(
            "push_other",
            path=path,
            kind=kind,
            age=age.total_seconds() if isinstance(age, timedelta) else age,
            registry=registry,
            properties=properties,
            labels=labels,
        )
        return pushed

    def set_artifact(self, artifact_id: str, status: str) -> None:
        """CREATING, ACTIVE, DELETING or DELETED, whatever becomes of its image."""
        self.control("set_artifact", artifact=artifact_id, status=status)

    def set_registry(
        self,
        *,
        kind: str | None = None,
        type: str | None = None,
        status: str | None = None,
        registry: str | None = None,
    ) -> dict[str, str]:
        """DOCKER or MAVEN …; LOCAL, REMOTE, VIRTUAL or TRANSITIONAL; CREATING, ACTIVE or DELETING."""
        registry_document: dict[str, str] = self.control(
            "set_registry", kind=kind, type=type, status=status, registry=registry
        )
        return registry_document

    def soft_delete(self, image_id: str) -> dict[str, Any]:
        """The registry's own policy deletes an image softly; the switch `soft_deleted` says how it is shown."""
        image: dict[str, Any] = self.control("soft_delete", image=image_id)
        return image
