"""Logs: one JSON object a line on standard error, readable lines on a terminal. Neither has secrets.

A command without --verbose sets nothing up, and logs nothing below a warning.
"""

import json
import logging
import sys
from functools import partialmethod
from typing import TYPE_CHECKING, Any, TextIO

from worker.text import escaped, masked, plain_json

if TYPE_CHECKING:  # structlog takes as long to load as a command's own work
    from structlog.typing import EventDict, Processor, WrappedLogger

# A lost connection, by library and name: neither library is imported for it.
LOST = {"redis.ConnectionError", "redis.TimeoutError", "kombu.OperationalError", "builtins.ConnectionError"}
QUIET = ("httpx", "httpcore", "urllib3", "alembic")  # they log every request at INFO


class Log:
    """`log.info("verified", run=…)`: a constant event, and facts as fields of the record."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def log(self, level: int, event: str, **facts: Any) -> None:
        self._logger.log(level, event, extra=facts)

    debug = partialmethod(log, logging.DEBUG)
    info = partialmethod(log, logging.INFO)
    warning = partialmethod(log, logging.WARNING)
    error = partialmethod(log, logging.ERROR)
    critical = partialmethod(log, logging.CRITICAL)


class _LostConnection(logging.Filter):
    """Logs a lost connection to Redis as one line: a traceback through libraries does not help."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Remove the traceback of a lost connection. True: no record is dropped. Changes the record itself, so that
        later handlers do not get the traceback either.
        """
        if record.exc_info and record.exc_info[0] is not None:
            kinds = record.exc_info[0].__mro__
            if not LOST.isdisjoint(f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in kinds):
                record.exc_info = None
        return True


def configure(*, verbose: bool = False, stream: TextIO | None = None) -> None:
    """Send every record of every logger to `stream` (default: standard error). Safe to call again."""
    import structlog  # noqa: PLC0415 - commands that log nothing need not load it

    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    before: list[Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.stdlib.ExtraAdder(),  # our fields
    ]
    after: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,  # without frames' values, which could be secrets
        structlog.processors.StackInfoRenderer(),
    ]
    if stream.isatty():
        plain = structlog.dev.ConsoleRenderer(timestamp_key="at", exception_formatter=structlog.dev.plain_traceback)
        after += [_escape, plain]
    else:
        # No character of the JSON ends a line, changes the writing direction, or controls a terminal.
        after.append(
            structlog.processors.JSONRenderer(
                serializer=lambda event, **options: plain_json(json.dumps(event, ensure_ascii=False, **options))
            )
        )
    after.append(lambda _logger, _name, line: masked(str(line)))
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=after, foreign_pre_chain=before))
    if not verbose:
        handler.addFilter(_LostConnection())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.WARNING)


def _escape(_logger: "WrappedLogger", _name: str, event: "EventDict") -> "EventDict":
    """Fields that are safe for a terminal: a tag or a registry's message may have any character."""
    shown = {escaped(str(key)): escaped(value) if isinstance(value, str) else value for key, value in event.items()}
    for key in ("exception", "stack"):  # of several lines: indented, so that no line looks like a record
        if isinstance(text := event.get(key), str):
            shown[key] = "\n".join(f"    {escaped(line)}" for line in text.split("\n"))
    return shown
