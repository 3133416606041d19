"""Logs: one JSON object a line on standard error, readable lines where that is a terminal. Nothing secret in either."""

import json
import logging
import re
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

QUIET = ("httpx", "httpcore", "urllib3", "alembic")  # they tell every request at INFO

# What secrets look like, wherever they turn up: IAM tokens, headers, users and passwords in URLs, private keys.
SECRETS = re.compile(
    r"(?P<token>\bt1\.[A-Za-z0-9_\-=.]{16,})"
    r"|(?P<header>(?i:\bbearer\s+)[A-Za-z0-9_\-=.+/]{8,}|(?i:\bbasic\s+)[A-Za-z0-9+/=]{16,})"
    r"|(?P<jwt>\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*)"
    r"|(?P<user>(?<=://)[^/@\s\"']*:[^/@\s\"']*(?=@))"
    r"|(?P<key>-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$))"
)


def masked(text: str) -> str:
    """`text` without what looks like a secret: the last net, not the first."""
    return SECRETS.sub("***", text)


class _Masked:
    """A renderer whose line went through `masked`."""

    def __init__(self, render: Processor) -> None:
        self._render = render

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> str:
        return masked(str(self._render(logger, name, event)))


class _LostConnection(logging.Filter):
    """Lets a lost connection to Redis be one line: where in a library it was noticed helps nobody."""

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if record.exc_info else None
        if kind is not None and _is_lost_connection(kind):
            record.exc_info = None
        return True


def _is_lost_connection(kind: type[BaseException]) -> bool:
    names = {
        f"{one.__module__.partition('.')[0]}.{one.__name__}" for one in kind.__mro__
    }  # neither library is imported
    lost = {"redis.ConnectionError", "redis.TimeoutError", "kombu.OperationalError", "builtins.ConnectionError"}
    return not names.isdisjoint(lost)


def configure(*, verbose: bool = False, stream: TextIO | None = None) -> None:
    """Send everything that is logged by anybody to `stream` (standard error). Safe to call again."""
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    foreign: list[Processor] = [
        *shared,
        structlog.stdlib.ExtraAdder(),
    ]  # `extra={…}` of plain logging is our fields as well
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=_ending(stream), foreign_pre_chain=foreign))
    if not verbose:
        handler.addFilter(_LostConnection())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.WARNING)


def _ending(stream: TextIO) -> list[Processor]:
    """How a line ends up: without frames' values, which could be secrets, and without what a terminal would obey."""
    meta: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    meta += [structlog.processors.format_exc_info, structlog.processors.StackInfoRenderer()]
    if stream.isatty():
        plain = structlog.dev.ConsoleRenderer(timestamp_key="at", exception_formatter=structlog.dev.plain_traceback)
        return [*meta, _escape, _Masked(plain)]
    return [*meta, _Masked(structlog.processors.JSONRenderer(serializer=_json))]


def _json(event: EventDict, **kwargs: Any) -> str:
    """JSON alone leaves what ends lines elsewhere, turns writing round, or is a command in eight bits."""
    from worker.text import plain_json  # noqa: PLC0415 - the command's start need not wait for it

    return plain_json(json.dumps(event, ensure_ascii=False, **kwargs))


def _escape(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Fields as a terminal may show them: a tag or a registry's message may hold anything."""
    from worker.text import escaped  # noqa: PLC0415 - only at a terminal

    shown = {escaped(str(key)): escaped(value) if isinstance(value, str) else value for key, value in event.items()}
    for key in ("exception", "stack"):  # of several lines: set in, so that none can pass for a record of its own
        if isinstance(text := event.get(key), str):
            shown[key] = "\n".join(f"    {escaped(line)}" for line in text.split("\n"))
    return shown
