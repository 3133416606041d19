"""Readers of single values of the configuration. A mistake names what was expected, what was written, the remedy.

Each value is an annotated type with the JSON Schema for editors. `urls` reads URLs.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BeforeValidator, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from policies.findings import written
from policies.forms import Duration, read_pattern
from policies.mistakes import BadValueError, closest, listed
from policies.patterns import LONGEST
from policies.units import shown
from worker.config.kinds import KINDS

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
DIGEST = "sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}"
Schema = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Reader:
    """How a value of the file is read, and its JSON Schema. Values that are built in Python are not read."""

    read: Callable[[Any], Any]
    schema: Schema

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return BeforeValidator(written(self.read)).__get_pydantic_core_schema__(source, handler)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: Any) -> Schema:
        return self.schema


def text_schema(pattern: str, *examples: str) -> Schema:
    return {"type": "string", "pattern": pattern} | ({"examples": list(examples)} if examples else {})


def list_schema(pattern: str) -> Schema:
    return {"type": "array", "items": {"type": "string", "pattern": pattern}, "minItems": 1}


def read_text(value: object, expected: str, remedy: str = "") -> str:
    """The value, if it is text. Raises BadValueError, which quotes another value: not for secrets. `expected`: the name
    of the value in the message.
    """
    if not isinstance(value, str):
        raise BadValueError(f"expected {expected}, got {shown(value)}", remedy)
    return value


def read_texts(value: object, what: str, example: str) -> list[str]:
    """A list that is not empty. Without the key, all are meant."""
    if not isinstance(value, list) or not value:
        remedy = f"write, for example, [{example}], or leave the key out"
        raise BadValueError(f"expected a list of {what}, got {shown(value)}", remedy)
    for text in value:
        if not isinstance(text, str) or not text.strip() or len(text) > LONGEST:
            raise BadValueError(f"expected {what}, got {shown(text)}", "put each in quotes")
    return list(dict.fromkeys(value))


def at_least(least: timedelta, text: str) -> AfterValidator:
    """Refuses a duration under `least`; `text` is the same duration in the notation of the file."""

    def check(value: timedelta) -> timedelta:
        if value < least:
            got = f"expected a duration of at least {text}, got {value.total_seconds():g}s"
            raise BadValueError(got, f"write {text} or more")
        return value

    return AfterValidator(check)


def read_name(value: object) -> str:
    """A name of a registry or policy, which is used in metric labels, paths and commands. 1 to 63 letters, digits, '.',
    '_' and '-', of which the first is a letter or digit. Raises BadValueError.
    """
    text = read_text(value, "a name", "write it in quotes")
    if not re.fullmatch(NAME, text):
        got = f"expected a name of letters, digits, '.', '_' and '-', at most 63, got {shown(text)}"
        raise BadValueError(got, "choose another name")
    return text


def read_kind(value: object) -> str:
    """A built-in kind of registry. Raises BadValueError, also for a kind that a program added itself: a file cannot
    name it.
    """
    known = listed(KINDS, "or")
    text = read_text(value, known, f"write {known}")
    if text not in KINDS:
        raise BadValueError(f"expected {known}, got {shown(text)}", closest(text, KINDS) or f"write {known}")
    return text


def read_id_of(what: str, shown_by: str) -> Callable[[object], str]:
    """Source: the API says letters and digits, at most 50."""

    def read(value: object) -> str:
        text = read_text(value, f"a {what}'s id", "put it in quotes")
        if not re.fullmatch("[A-Za-z0-9]{1,50}", text):
            raise BadValueError(f"expected a {what}'s id of letters and digits, got {shown(text)}", shown_by)
        return text

    return read


def read_instant(value: object) -> datetime:
    """An instant with its time zone, as UTC."""
    example = 'write, for example, "2026-11-20T03:00:00Z"'
    text = read_text(value, "an instant", example)
    if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        got = f"expected an instant, got the date {shown(text)}"
        raise BadValueError(got, f'write the time too: "{text}T00:00:00Z"')
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadValueError(f"expected an instant, got {shown(text)}", example) from None
    raise BadValueError(f"expected an instant with its time zone, got {shown(text)}", f'write "{text}Z" if it is UTC')


def read_schedule(value: object) -> str:
    """Five cron fields."""
    text = read_text(value, "a cron line", 'write, for example, "0 3 * * *"')
    fields = text.split()
    example = 'write minute, hour, day of month, month, day of week; for example "0 3 * * *"'
    if len(fields) != 5:
        raise BadValueError(f"expected a cron line of five fields, got {len(fields)} in {shown(text)}", example)
    if unsupported := re.search("[LW#]", re.sub("[A-Z]{3}", "", text.upper())):  # JUL and WED are names
        got = f"{unsupported.group()} is not supported in a cron line, got {shown(text)}"
        raise BadValueError(got, "write days as numbers or names")
    try:
        next(CronSim(text, datetime(2026, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        field = str(error).removeprefix("Bad ").replace("-", " ")
        raise BadValueError(f"expected a cron line, got {shown(text)}: its {field} is invalid", example) from None
    except StopIteration:
        raise BadValueError(f"the cron line {shown(text)} never matches", "no month has that day") from None
    return " ".join(fields)


def read_timezone(value: object) -> str:
    """The name of a time zone."""
    text = read_text(value, "a time zone", "write, for example, Europe/Moscow")
    try:
        ZoneInfo(text)
    except (ValueError, OSError, LookupError):  # a path, a folder's name, an unknown name
        remedy = closest(text, available_timezones()) or "write, for example, Europe/Moscow"
        raise BadValueError(f"there is no time zone {shown(text)}", remedy) from None
    return text


def read_paths(value: object) -> tuple[str, ...]:
    """Globs on repository paths, in upper or lower case."""
    paths = read_texts(value, "repositories", "shop/api, ml/**")
    for text in paths:
        if text.startswith("re:"):
            got = f"expected globs on repositories' paths, got {shown(text)}"
            raise BadValueError(got, "write, for example, ml/**")
        read_pattern(text, paths=True)
    return tuple(paths)


def read_digests(value: object) -> tuple[str, ...]:
    """Whole digests of images."""
    digests = read_texts(value, "digests", "sha256:9f86d081…")
    for digest in digests:
        if not re.fullmatch(DIGEST, digest):
            got = f"expected a digest, got {shown(digest)}"
            raise BadValueError(got, "write the whole digest, as the plan shows it: sha256:…")
    return tuple(digests)


def read_helper(value: object) -> str:
    """The NAME of a program docker-credential-NAME."""
    text = read_text(value, "the name of a helper", "write, for example, ecr-login")
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
        raise BadValueError(f"expected the name of a helper, got {shown(text)}", "write, for example, ecr-login")
    if text.startswith("docker-credential-"):
        raise BadValueError(f"expected the name of a helper, got {shown(text)}", f"write {text[18:] or 'ecr-login'}")
    return text


def read_words(value: object) -> tuple[str, ...]:
    """A program and its arguments. They are never quoted: an argument may be a secret. An argument may be empty.
    Whether the program exists is not checked here. Raises BadValueError.
    """
    words = value if isinstance(value, list) else []
    if not words or not all(isinstance(word, str) and "\0" not in word for word in words) or not words[0].strip():
        example = "write, for example, [/usr/local/bin/registry-password, production]"
        raise BadValueError("expected a list of a program and its arguments", f"{example}; no shell interprets it")
    return tuple(words)


def read_true(value: object) -> bool:
    """The value `true`; without the key, the value is false. Raises BadValueError for every other value, `false`
    included.
    """
    if value is not True:
        raise BadValueError(f"expected true, got {shown(value)}", "remove the key to turn it off")
    return True


IDS = "`yc container registry list` or `yc cloud-registry registry list` shows the ids"
ACCOUNTS = "`yc iam service-account list` shows the ids"
AN_ID = "^[A-Za-z0-9]{1,50}$"
LIST_OF_TEXTS = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}
Name = Annotated[str, Reader(read_name, text_schema(f"^{NAME}$"))]
KindName = Annotated[str, Reader(read_kind, {"enum": list(KINDS)})]
RegistryId = Annotated[str, Reader(read_id_of("registry", IDS), text_schema(AN_ID, "crpvab5oob146rh73ilt"))]
AccountId = Annotated[str, Reader(read_id_of("service account", ACCOUNTS), text_schema(AN_ID, "ajepg0mjt06siua65usm"))]
Schedule = Annotated[str, Reader(read_schedule, text_schema("^ *\\S+( +\\S+){4} *$", "0 3 * * *"))]
Timezone = Annotated[str, Reader(read_timezone, {"type": "string", "examples": ["Europe/Moscow"]})]
Paths = Annotated[tuple[str, ...], Reader(read_paths, list_schema("^[A-Za-z0-9._/*?\\[\\]!\\\\-]+$"))]
Digests = Annotated[tuple[str, ...], Reader(read_digests, list_schema(f"^({DIGEST})$"))]
Names = Annotated[tuple[str, ...], Reader(lambda value: tuple(read_texts(value, "names", "production")), LIST_OF_TEXTS)]
Words = Annotated[tuple[str, ...], Reader(read_words, LIST_OF_TEXTS | {"items": {"type": "string"}})]
HelperName = Annotated[
    str, Reader(read_helper, text_schema("^(?!docker-credential-)[A-Za-z0-9][A-Za-z0-9._-]*$", "ecr-login"))
]
Yes = Annotated[bool, Reader(read_true, {"const": True})]
# The notations of YAML and ISO 8601 with a time and a zone.
INSTANT = "^[0-9]{4}-?[0-9]{2}-?[0-9]{2}.[0-9:.,]+ ?(Z|[+-][0-9:]+)$"
Instant = Annotated[datetime, Reader(read_instant, text_schema(INSTANT, "2026-11-20T03:00:00Z"))]
Pause = Annotated[Duration, at_least(timedelta(seconds=1), "1s")]
