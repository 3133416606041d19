"""The keys that people may write in a rule, and how each value is read; the JSON Schema of these forms serves editors.

A value that cannot be read raises ValueError(text): what was expected, what was found, and what to write instead.
"""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from policies.grammar import refuse_impossible
from policies.patterns import Patterns
from policies.units import parse_duration, parse_size, shown

_MOST = 10**9  # images; the greatest count
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def _listed(what: str, example: str) -> Callable[[object], object]:
    def check(value: object) -> object:
        if not isinstance(value, list) or not value:
            inner = json.dumps(value if isinstance(value, str) else example, ensure_ascii=False)
            raise ValueError(f"expected a list of {what}s, got {shown(value)}; write, for example, [{inner}]")
        return value

    return check


def _pattern(*, paths: bool) -> Callable[[object], str]:
    def check(value: object) -> str:
        text = _text(value, "a pattern")
        Patterns((text,), paths)
        refuse_impossible(text, paths=paths)
        return text

    return check


def _text(value: object, what: str) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"expected {what}, got {shown(value)}; write it in quotes")


def _digest(value: object) -> str:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ValueError(f"expected a digest, got {shown(value)}; write sha256: and 64 digits 0-9a-f")
    return value


def _only_true(opposite: str) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        if value is not True:
            raise ValueError(f"expected true, got {shown(value)}; {opposite}")
        return True

    return check


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MOST:
        raise ValueError(f"expected a whole number from 0 to {_MOST}, got {shown(value)}; write, for example, 10")
    return value


def _per(value: object) -> str:
    if isinstance(value, str) and value.startswith("re:"):
        raise ValueError("a count by capture groups is not built yet; known here: repository, registry")
    if value not in ("repository", "registry"):
        raise ValueError(
            f"expected repository or registry, got {shown(value)}; leave it out to count in each repository"
        )
    return str(value)


def _name(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        remedy = "write it in quotes" if isinstance(value, (int, float)) else "say in a few words what the rule is for"
        raise ValueError(f"expected a name, got {shown(value)}; {remedy}")
    return value


_Pattern = Annotated[str, BeforeValidator(_pattern(paths=False))]
_TagPatterns = Annotated[list[_Pattern], BeforeValidator(_listed("pattern", "pr-*"))]
_PathPatterns = Annotated[
    list[Annotated[str, BeforeValidator(_pattern(paths=True))]], BeforeValidator(_listed("pattern", "ml/**"))
]
_DigestList = Annotated[
    list[Annotated[str, BeforeValidator(_digest)]], BeforeValidator(_listed("digest", "sha256:9f86…"))
]
_Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+[smhdw]$", "examples": ["14d"]}),
]
_Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?([kKMGTP]?i?B)$", "examples": ["5GiB"]}),
]
_Number = Annotated[int, BeforeValidator(_count), Field(ge=0)]
_PerForm = Annotated[Literal["repository", "registry"], BeforeValidator(_per)]
_All = Annotated[Literal[True], BeforeValidator(_only_true("leave it out, and say which images are meant"))]
_TaggedForm = Annotated[Literal[True], BeforeValidator(_only_true("write untagged: true for images without tags"))]
_UntaggedForm = Annotated[Literal[True], BeforeValidator(_only_true("write tagged: true for images with tags"))]


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Conditions(Form):
    """What may be asked in every rule."""

    tags: _TagPatterns | None = None
    except_tags: _TagPatterns | None = None
    tagged: _TaggedForm | None = None
    untagged: _UntaggedForm | None = None
    digests: _DigestList | None = None
    older_than: _Duration | None = None
    newer_than: _Duration | None = None
    untagged_for: _Duration | None = None
    larger_than: _Size | None = None
    smaller_than: _Size | None = None
    per: _PerForm | None = None
    all: _All | None = None


class DeleteConditions(Conditions):
    """What a select rule asks."""

    any_tag: _TagPatterns | None = None
    beyond_newest: _Number | None = None


class KeepConditions(Conditions):
    """What a keep rule asks."""

    newest: _Number | None = None


class RuleForm(Form):
    """One rule of a policy: `delete` or `keep`, and where."""

    name: Annotated[str, BeforeValidator(_name)]
    delete: DeleteConditions | None = None
    keep: KeepConditions | None = None
    repositories: _PathPatterns | None = None
    except_repositories: _PathPatterns | None = None
