"""The key `in_use`: one model for each kind of evidence, read piece by piece, so that each kind has its own keys."""

from datetime import timedelta
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema

from policies.units import shown
from worker.config import fields
from worker.config.collecting import Collector
from worker.config.document import Left, Model, Pause, SecretModel, Text
from worker.config.fields import Address, Names
from worker.config.settings import EvidenceKind, EvidenceSettings
from worker.config.yaml_reader import join

SourceName = Annotated[
    str, BeforeValidator(fields.read_name), WithJsonSchema({"type": "string", "pattern": f"^{fields.NAME}$"})
]


class EvidenceModel(Model):
    """What every source of evidence has."""

    name: SourceName = Field(description="a name of its own, such as name: production-cluster")
    max_age: Pause = Field(default=timedelta(hours=24), description="older evidence is no evidence")
    allow_empty: bool = Field(default=False, description="nothing, or suddenly less than half, in use is fine")
    allow_foreign: bool = Field(default=False, description="naming no image of any registry of this file is fine")


class FileEvidenceModel(EvidenceModel):
    """A document in a file."""

    kind: Literal["file"]
    path: Text = Field(description="path: FILE, relative to this file")


class HttpEvidenceModel(EvidenceModel):
    """The same document by GET."""

    kind: Literal["http"]
    url: Address = Field(description="url: https://…")
    token: Left[SecretModel] = Field(default=None, description="sent as a bearer token")


class KubernetesEvidenceModel(EvidenceModel):
    """Pods and templates of pods in clusters."""

    kind: Literal["kubernetes"]
    max_age: Pause = Field(default=timedelta(hours=1), description="it is read live")
    kubeconfig: Left[Text] = Field(default=None, description="a file, relative to this one")
    contexts: Left[Names] = Field(default=None, description="absent: the current one, or the cluster this runs in")
    namespaces: Left[Names] = Field(default=None, description="absent: all")


MODELS: dict[str, type[EvidenceModel]] = {
    "file": FileEvidenceModel,
    "http": HttpEvidenceModel,
    "kubernetes": KubernetesEvidenceModel,
}


def read_evidence(collector: Collector, sources: list[Any], at: str) -> tuple[EvidenceSettings, ...]:
    """Every source of a registry that has no mistake; the mistakes of the others are collected."""
    read: dict[str, EvidenceSettings] = {}
    for number, tree in enumerate(sources):
        here = join(at, number)
        settings = _source(collector, tree, here)
        if settings is None:
            continue
        if settings.name in read:
            collector.add(join(here, "name"), f"a second source is named {shown(settings.name)}", "choose another name")
        read[settings.name] = settings
    return tuple(read.values())


def _source(collector: Collector, tree: Any, at: str) -> EvidenceSettings | None:
    kinds = get_args(EvidenceKind)
    listed = " or ".join((", ".join(kinds[:-1]), kinds[-1]))
    if not isinstance(tree, dict):
        collector.add(at, f"expected a mapping, got {shown(tree)}", "write name and kind, and what the kind needs")
        return None
    kind = tree.get("kind")
    if not isinstance(kind, str) or kind not in MODELS:
        what = f"expected {listed}, got {shown(kind)}" if "kind" in tree else "is missing"
        remedy = fields.closest(kind, kinds) if isinstance(kind, str) else ""
        collector.add(join(at, "kind"), what, remedy or f"write {listed}")
        return None
    model: Any = collector.model(MODELS[kind], tree, at)
    return None if model is None else _settings(collector, model, at)


def _settings(collector: Collector, model: Any, at: str) -> EvidenceSettings:
    folder = collector.path.parent
    path, kubeconfig = getattr(model, "path", None), getattr(model, "kubeconfig", None)
    return EvidenceSettings(
        name=model.name,
        kind=model.kind,
        max_age=model.max_age,
        allow_empty=model.allow_empty,
        allow_foreign=model.allow_foreign,
        path=folder / path if path else None,
        url=getattr(model, "url", None),
        token=collector.secret(getattr(model, "token", None), join(at, "token")),
        kubeconfig=folder / kubeconfig if kubeconfig else None,
        contexts=getattr(model, "contexts", None) or (),
        namespaces=getattr(model, "namespaces", None) or (),
    )
