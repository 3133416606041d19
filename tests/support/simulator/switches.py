"""Unknown behaviour of the real service as settings: the default is the likelier one, every position is possible."""

import types
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from tests.support.simulator.cloud_switches import CloudSwitches


@dataclass(frozen=True)
class Switches(CloudSwitches):
    """One field per uncertain behaviour of the services, Cloud Registry's own included.

    Times are seconds; `0` for a rate or a status means that it is off.
    """

    empty_fields: Literal["omitted", "printed"] = "omitted"
    timestamp_digits: Literal[0, 3, 6, 9] = 3  # with 3, a whole second has no fraction, as proto3 prints it
    page_token: Literal["keeps", "expires"] = "keeps"  # an expired one is INVALID_ARGUMENT
    deletes_during_paging: Literal["rows_vanish", "rows_shift"] = "rows_vanish"  # shift: one row is skipped
    list_order: Literal["id", "created_at"] = "id"  # created_at: newest first
    operation_seconds_from: float = 0.2
    operation_seconds_to: float = 3.0
    operations: Literal["finish", "never_done"] = "finish"
    image_vanishes: Literal["at_done", "at_acceptance"] = "at_done"
    missing_image: Literal["not_found", "operation_error"] = "not_found"
    missing_repository: Literal["not_found", "empty"] = "not_found"
    child_of_index: Literal["refused", "operation_error"] = "refused"
    deleted_index: Literal["children_stay", "cascade"] = "children_stay"
    index_fields: Literal["none", "sum"] = "none"  # sum: compressedSize over the children
    error_before_done: bool = False  # a failing operation shows `error` for a while before `done`
    requests_per_second: float = 0.0  # a token bucket of one second's worth; above it 429
    retry_after: int = 0  # seconds that a 429 of that bucket reports; 0: none
    front_proxy_status: Literal[0, 408, 503, 504] = 0  # every call of the services fails so, in plain text
    token_seconds: float = 43_200.0
    exchange_errors: Literal["oauth", "status"] = "oauth"  # of a pod's token: error and error_description, or a status
    idempotency: Literal["remembered", "forgotten"] = "remembered"
    size_metric_lag: float = 3_600.0
    phase: Literal["normal", "read_only", "gone"] = "normal"
    foreign_registry: Literal[403, 404] = 403
    ip_rules: Literal["open", "refuse"] = "open"  # refuse: Docker calls are answered 403
    may_view: bool = True  # without: PERMISSION_DENIED on every reading call
    may_delete: bool = True
    may_pull: bool = True
    docker_realm: Literal["same_host", "foreign_host"] = "same_host"
    clock_skew: float = 0.0  # of the registry's clock, so of `Date` too
    latency: float = 0.0  # before every answer of the services
    latency_jitter: float = 0.0  # evenly up to this much more


TYPES = get_type_hints(Switches)


class UnknownSwitchError(ValueError):
    """The switch, or this position of it, does not exist."""


def coerce(name: str, value: Any) -> Any:
    """A value for a switch from JSON or from the command line's text; raises UnknownSwitchError."""
    kind = TYPES.get(name)
    if kind is None:
        raise UnknownSwitchError(f"no switch {name!r}; there are {', '.join(TYPES)}")
    if get_origin(kind) is Literal:
        for choice in get_args(kind):
            if str(choice) == str(value):
                return choice
        raise UnknownSwitchError(f"{name}: one of {get_args(kind)}, got {value!r}")
    if kind is bool:
        texts = {"true": True, "false": False, "on": True, "off": False}
        if str(value).lower() in texts:
            return texts[str(value).lower()]
        raise UnknownSwitchError(f"{name}: true or false, got {value!r}")
    try:
        number = float(value)
        return int(number) if kind is int else number
    except (TypeError, ValueError) as error:
        raise UnknownSwitchError(f"{name}: a number, got {value!r}") from error


def turned(switches: Switches, changes: types.MappingProxyType[str, Any] | dict[str, Any]) -> Switches:
    """The switches with some of them in another position."""
    return replace(switches, **{name: coerce(name, value) for name, value in changes.items()})


def names() -> tuple[str, ...]:
    return tuple(field.name for field in fields(Switches))
