"""The schema for editors has the same keys and values as the loader, and accepts every valid file."""

import re

import pytest
import yaml

from policies.limits import Limits
from tests.config.reading.test_gallery import FOLDER
from tests.config.test_settings import LEAST, WHOLE
from worker.config.document import Document, Notification, Retention, Timing, Web
from worker.config.registry import (
    AfterRun,
    Credentials,
    DefaultKeys,
    EndpointKeys,
    EvidenceSettings,
    Rate,
    RegistryKeys,
    WorkloadIdentity,
)
from worker.config.schema import schema

SCHEMA = schema()
MODELS = (
    AfterRun,
    Credentials,
    DefaultKeys,
    EndpointKeys,
    EvidenceSettings,
    Limits,
    Notification,
    Rate,
    RegistryKeys,
    Retention,
    Timing,
    Web,
    WorkloadIdentity,
)
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
READ = {
    "$ref", "$schema", "$defs", "title", "description", "examples", "default", "type", "properties", "required",
    "items", "allOf", "if", "then",
    "additionalProperties", "propertyNames", "pattern", "enum", "const", "anyOf", "oneOf", "minimum", "maximum",
    "exclusiveMinimum", "minLength", "maxLength", "minItems", "minProperties", "maxProperties",
}  # fmt: skip


def errors(value, rule, at=""):
    """The few words of JSON Schema that ours uses, so that no validator is needed."""
    assert set(rule) <= READ, set(rule) - READ
    if "$ref" in rule:
        yield from errors(value, SCHEMA["$defs"][rule["$ref"].removeprefix("#/$defs/")], at)
    for part in rule.get("allOf", ()):
        yield from errors(value, part, at)
    if "if" in rule and not list(errors(value, rule["if"], at)):
        yield from errors(value, rule["then"], at)
    for word, wanted in (("anyOf", range(1, 99)), ("oneOf", (1,))):
        if word in rule and sum(not list(errors(value, part, at)) for part in rule[word]) not in wanted:
            yield f"{at}: {word}"
    kinds = rule.get("type", list(TYPES))
    if not any(is_a(kind, value) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        yield f"{at}: type"
    elif isinstance(value, dict):
        yield from errors_of_mapping(value, rule, at)
    elif isinstance(value, list):
        if len(value) < rule.get("minItems", 0):
            yield f"{at}: number of items"
        for number, item in enumerate(value):
            yield from errors(item, rule.get("items", {}), f"{at}[{number}]")
    else:
        yield from errors_of_scalar(value, rule, at)


def is_a(kind, value):
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def errors_of_mapping(value, rule, at):
    yield from (f"{at}.{key}: required" for key in rule.get("required", []) if key not in value)
    if not rule.get("minProperties", 0) <= len(value) <= rule.get("maxProperties", 99):
        yield f"{at}: number of properties"
    for key, inner in value.items():
        here = f"{at}.{key}"
        more = rule.get("additionalProperties", {})
        known = rule.get("properties", {}).get(key, more)
        yield from errors(key, rule.get("propertyNames", {}), here)
        yield from [f"{here}: unknown"] if known is False else errors(inner, known, here)


def errors_of_scalar(value, rule, at):
    if isinstance(value, str) and not re.search(rule.get("pattern", ""), value):
        yield f"{at}: pattern"
    if "enum" in rule and value not in rule["enum"]:
        yield f"{at}: enum"
    if "const" in rule and value != rule["const"]:
        yield f"{at}: const"
    if isinstance(value, str) and not rule.get("minLength", 0) <= len(value) <= rule.get("maxLength", len(value)):
        yield f"{at}: length"
    if isinstance(value, (int, float)):
        least, most = rule.get("minimum", value), rule.get("maximum", value)
        if not least <= value <= most or value <= rule.get("exclusiveMinimum", value - 1):
            yield f"{at}: bounds"


@pytest.mark.parametrize("text", [LEAST, WHOLE, "policies: {}"], ids=["least", "whole", "no registries"])
def test_the_schema_accepts_valid_files(text):
    assert list(errors(yaml.safe_load(text), SCHEMA)) == []


@pytest.mark.parametrize(
    "file",
    [
        "unknown-key", "unknown-registry-key", "unknown-limit", "unknown-timing", "unknown-condition",
        "settle-without-unit", "later-condition", "key-of-another-kind", "id-of-an-oci-registry",
        "credentials-of-another-kind", "two-ways-into-oci", "username-without-password", "password-in-the-file",
        "url-with-query", "repositories-empty", "repositories-with-a-port", "token-host-is-a-url", "push-time", "kind",
        "transitional-false", "registry-name", "registry-is-text",
        "mode",
        "duration-without-unit", "duration-in-words", "share-as-number", "size-without-unit", "size-in-words",
        "count-in-quotes", "count-negative", "rate-zero", "concurrency", "id-with-a-slash", "schedule-six-fields",
        "secret-in-the-file", "secret-twice", "two-ways-to-sign-in", "metadata-false", "endpoint-with-path",
        "endpoint-with-password", "redis-scheme", "store-kind", "policy-is-a-mapping", "rule-without-a-name",
        "rule-keeps-and-deletes", "newest-in-a-select-rule", "size-of-a-condition", "rule-without-a-condition",
        "digest", "empty-value", "empty-schedule", "empty-deadline", "empty-list", "times-by-date",
        "times-without-zone", "in-use-is-a-mapping", "source-is-text", "source-without-kind", "source-kind",
        "source-without-name", "source-without-path", "source-of-another-kind", "source-name", "source-with-password",
        "source-token-in-the-file", "source-without-namespaces", "source-context-is-a-number", "default-source",
        "identity-without-token", "identity-account", "notify-of-a-registry", "notify-without-url",
        "notify-not-an-address", "notify-outcome", "notify-no-outcome", "notify-sometimes",
    ],
)  # fmt: skip
def test_the_schema_refuses_mistakes_that_an_editor_can_see(file):
    assert list(errors(yaml.safe_load((FOLDER / f"{file}.yaml").read_text()), SCHEMA)) != []


@pytest.mark.parametrize("model", MODELS)
def test_schema_and_loader_have_the_same_keys(model):
    assert set(SCHEMA["$defs"][model.__name__]["properties"]) == set(model.model_fields)
    assert SCHEMA["$defs"][model.__name__]["additionalProperties"] is False


def test_schema_and_loader_have_the_same_top_level_keys():
    assert set(SCHEMA["properties"]) == set(Document.model_fields)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_schema_accepts_required_keys_in_defaults():
    assert "required" not in SCHEMA["$defs"]["RegistryKeys"]
