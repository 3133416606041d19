"""The keys of a rule in a policy document, and how to read each value. Editors use the JSON Schema of these forms."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from policies.findings import Explanation, Form, unknown_key, written
from policies.grammar import refuse_impossible
from policies.mistakes import BadValueError
from policies.patterns import Patterns
from policies.units import parse_duration, parse_share, parse_size, shown

LATER = frozenset(
    {"not_pulled_for", "pulled_within", "highest", "beyond_highest", "by", "version", "labels"}
    | {"media_types", "referrer", "orphan", "missing_children", "until_below", "all_of", "any_of", "not"}
)
A_RULE = "{name: …, delete: {…}}"
NAME_REMEDY = "write what the rule is for, in a few words"
_MOST = 10**9  # images; the greatest count
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def _listed(noun: str, example: str) -> Callable[[object], object]:
    def check(value: object) -> object:
        if not isinstance(value, list) or not value:
            inner = json.dumps(value if isinstance(value, str) else example, ensure_ascii=False)
            raise BadValueError(f"expected a list of {noun}s, got {shown(value)}", f"write, for example, [{inner}]")
        return value

    return check


def read_pattern(value: object, *, paths: bool) -> str:
    """Reads a pattern that a tag or a repository's path can match. Raises BadValueError: not text, not a pattern, or a
    pattern that no tag (with `paths`: no path) can match.
    """
    if not isinstance(value, str):
        raise BadValueError(f"expected a pattern, got {shown(value)}", "write it in quotes")
    Patterns((value,), paths)
    refuse_impossible(value, paths=paths)
    return value


def _digest(value: object) -> str:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise BadValueError(f"expected a digest, got {shown(value)}", "write sha256: and 64 digits 0-9a-f")
    return value


def _only_true(opposite: str) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        if value is not True:
            raise BadValueError(f"expected true, got {shown(value)}", opposite)
        return True

    return check


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MOST:
        got = f"expected a whole number from 0 to {_MOST}, got {shown(value)}"
        raise BadValueError(got, "write, for example, 10")
    return value


def _per(value: object) -> str:
    if isinstance(value, str) and value.startswith("re:"):
        raise BadValueError("counting by capture groups is not supported yet", "write repository or registry")
    if value not in ("repository", "registry"):
        got = f"expected repository or registry, got {shown(value)}"
        raise BadValueError(got, "leave it out to count in each repository")
    return str(value)


def _name(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        remedy = "write it in quotes" if isinstance(value, (int, float)) else NAME_REMEDY
        raise BadValueError(f"expected a name, got {shown(value)}", remedy)
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(written(parse_duration)),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+[smhdw]$", "examples": ["36h", "14d"]}),
]
Size = Annotated[
    int,
    BeforeValidator(written(parse_size)),
    WithJsonSchema(
        {"type": "string", "pattern": "^[0-9]+([.][0-9]+)? ?([kKMGTP]?i?B)$", "examples": ["500MB", "2TiB"]}
    ),
]
Share = Annotated[
    float,
    BeforeValidator(written(parse_share)),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+([.][0-9]+)? ?%$", "examples": ["30%"]}),
]
_Pattern = Annotated[str, BeforeValidator(partial(read_pattern, paths=False))]
_TagPatterns = Annotated[list[_Pattern], BeforeValidator(_listed("pattern", "pr-*"))]
_Path = Annotated[str, BeforeValidator(partial(read_pattern, paths=True))]
_PathPatterns = Annotated[list[_Path], BeforeValidator(_listed("pattern", "ml/**"))]
_DigestList = Annotated[
    list[Annotated[str, BeforeValidator(_digest)]], BeforeValidator(_listed("digest", "sha256:9f86…"))
]
_Number = Annotated[int, BeforeValidator(_count), Field(ge=0)]
_PerForm = Annotated[Literal["repository", "registry"], BeforeValidator(_per)]
_All = Annotated[Literal[True], BeforeValidator(_only_true("leave it out, and write conditions for the images"))]
_TaggedForm = Annotated[Literal[True], BeforeValidator(_only_true("write untagged: true for images without tags"))]
_UntaggedForm = Annotated[Literal[True], BeforeValidator(_only_true("write tagged: true for images with tags"))]


class Conditions(Form):
    """The conditions that every rule may have."""

    tags: _TagPatterns | None = None
    except_tags: _TagPatterns | None = None
    tagged: _TaggedForm | None = None
    untagged: _UntaggedForm | None = None
    digests: _DigestList | None = None
    older_than: Duration | None = None
    newer_than: Duration | None = None
    untagged_for: Duration | None = None
    larger_than: Size | None = None
    smaller_than: Size | None = None
    per: _PerForm | None = None
    all: _All | None = None

    A_MAPPING: ClassVar[Explanation] = ("a mapping of conditions", "write, for example, {older_than: 14d}")
    MISPLACED: ClassVar[Mapping[str, Explanation]] = {}  # conditions of the other kind of rule, with their remedies

    @classmethod
    def unknown(cls, key: str, _tree: object, /) -> Explanation:
        """The mistake of an unknown condition, and its remedy. A condition that is not supported yet, or that is for
        the other kind of rule, is called that, not unknown.
        """
        known = list(cls.model_fields)
        if key in LATER:
            return "is not supported yet", f"known here: {', '.join(known)}"
        return cls.MISPLACED.get(key) or unknown_key(key, known, cutoff=0.6)


class DeleteConditions(Conditions):
    """The conditions of a select rule."""

    any_tag: _TagPatterns | None = None
    beyond_newest: _Number | None = None

    MISPLACED: ClassVar[Mapping[str, Explanation]] = {
        "newest": ("is for keep rules", "write it in a keep rule, or beyond_newest here")
    }


class KeepConditions(Conditions):
    """The conditions of a keep rule."""

    newest: _Number | None = None

    MISPLACED: ClassVar[Mapping[str, Explanation]] = {
        "beyond_newest": ("is for select rules", "write it in a select rule, or newest here"),
        "any_tag": ("is for select rules", "write tags: in a keep rule one matching tag is enough"),
    }


class RuleForm(Form):
    """A rule of a policy: `delete` or `keep`, and its repositories."""

    name: Annotated[str, BeforeValidator(_name)]
    delete: DeleteConditions | None = None
    keep: KeepConditions | None = None
    repositories: _PathPatterns | None = None
    except_repositories: _PathPatterns | None = None

    A_MAPPING: ClassVar[Explanation] = ("a mapping of name, delete or keep", f"write, for example, {A_RULE}")

    @classmethod
    def missing(cls, _key: str, /) -> Explanation:
        return "expected a name, got nothing", NAME_REMEDY

    @classmethod
    def unknown(cls, key: str, tree: object, /) -> Explanation:
        """The mistake of an unknown key of a rule, and its remedy. A condition beside `delete` or `keep`, even one that
        is not supported yet, is to be written inside.
        """
        if key in {*DeleteConditions.model_fields, *KeepConditions.model_fields, *LATER}:
            verb = "keep" if isinstance(tree, dict) and "keep" in tree else "delete"
            return f"{key} is a condition", f"write it inside {verb}: {{…}}"
        return unknown_key(key, list(cls.model_fields), cutoff=0.6)
