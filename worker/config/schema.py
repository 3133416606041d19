"""The JSON Schema of the configuration file, generated from the models that read it, so that their keys agree."""

from typing import Any, cast

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from policies.forms import RuleForm
from policies.patterns import LONGEST
from worker.config.document import Document
from worker.config.kinds import KINDS, ONLY_SOME_HAVE, WAYS_IN, Kind
from worker.config.registry import SOURCE_KEYS, Credentials, DefaultKeys, EvidenceSettings, RegistryKeys

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MODELS: tuple[type[BaseModel], ...] = (Document, RegistryKeys, DefaultKeys, Credentials, RuleForm)
MEANT = {"ge": "minimum"}  # pydantic keeps its own name for a bound behind a custom reader
DIGEST = "^sha256:[0-9a-f]{64}$"
NAME = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
NAMED = {"type": "object", "propertyNames": {"pattern": NAME}}  # a mapping by name


def schema() -> dict[str, Any]:
    """The whole schema, draft 2020-12, in plain values."""
    _, made = models_json_schema([(model, "validation") for model in MODELS], ref_template="#/$defs/{model}")
    definitions: dict[str, Any] = made["$defs"]
    document = definitions.pop("Document")
    # The parts that are read one by one
    document["properties"] |= {
        "defaults": {"$ref": "#/$defs/DefaultKeys"},
        "registries": NAMED | {"additionalProperties": {"$ref": "#/$defs/RegistryKeys"}},
        "policies": NAMED | {"additionalProperties": {"type": "array", "items": {"$ref": "#/$defs/RuleForm"}}},
    }
    # `defaults` may contain required keys, which a schema cannot express.
    del definitions["RegistryKeys"]["required"]
    definitions["RegistryKeys"]["allOf"] = [_of_kind(kind) for kind in KINDS.values()]
    definitions["EvidenceSettings"]["oneOf"] = [_source(kind) for kind in SOURCE_KEYS]
    _fill_in_rules(definitions)
    whole = {"$schema": DIALECT, **document, "title": "registry-gc.yaml", "$defs": definitions}
    return cast(dict[str, Any], _tidy(whole))


def _source(kind: str) -> dict[str, Any]:
    """The required keys of a source of this kind, and the forbidden keys of other kinds."""
    must = [key for key in SOURCE_KEYS[kind] if EvidenceSettings.model_fields[key].validate_default]
    others = {key: False for keys in SOURCE_KEYS.values() for key in keys if key not in SOURCE_KEYS[kind]}
    return {"properties": {"kind": {"const": kind}} | others, "required": must}


def _of_kind(kind: Kind) -> dict[str, Any]:
    """The forbidden keys of a registry that names this kind itself."""
    own = {key for way in kind.ways_in for key in way}
    foreign = {key: False for way in WAYS_IN for key in way if key not in own}
    keys: dict[str, Any] = dict.fromkeys(sorted(ONLY_SOME_HAVE - kind.keys), False)
    is_it = {"properties": {"kind": {"const": kind.name}}, "required": ["kind"]}
    return {"if": is_it, "then": {"properties": {**keys, "credentials": {"properties": foreign}}}}


def _fill_in_rules(definitions: dict[str, Any]) -> None:
    """The constraints that the readers of a rule check: no empty list or mapping, valid names and digests."""
    definitions["RuleForm"]["oneOf"] = [{"required": ["delete"]}, {"required": ["keep"]}]
    definitions["RuleForm"]["properties"]["name"] |= {"pattern": "\\S"}
    for form in ("DeleteConditions", "KeepConditions"):
        definitions[form]["minProperties"] = 1
    for form in ("RuleForm", "DeleteConditions", "KeepConditions"):
        for key, value in definitions[form]["properties"].items():
            for part in value.get("anyOf", ()):
                if part.get("type") == "array":
                    part["minItems"] = 1
                    part["items"] |= {"pattern": DIGEST} if key == "digests" else {"minLength": 1, "maxLength": LONGEST}


def _tidy(part: Any) -> Any:
    """The schema without details of the code: generated titles, Python defaults, null for an absent key."""
    if isinstance(part, list):
        return [_tidy(item) for item in part]
    if not isinstance(part, dict):
        return part
    kept = {MEANT.get(key, key): _tidy(value) for key, value in part.items() if not _is_noise(key, value)}
    alternatives = kept.get("anyOf")
    if isinstance(alternatives, list) and {"type": "null"} in alternatives:
        rest = [alternative for alternative in alternatives if alternative != {"type": "null"}]
        del kept["anyOf"]
        kept |= rest[0] if len(rest) == 1 else {"anyOf": rest}
    return kept


def _is_noise(key: str, value: Any) -> bool:
    if key == "title":
        return isinstance(value, str) and value != "registry-gc.yaml"
    plain = isinstance(value, (bool, int, float)) or value in ("UTC", "dry-run")
    return key == "default" and not plain
