"""Sends messages through the library apprise, within a time limit. Only this module imports it, when it is needed.

An address is a secret: of what apprise logs or raises, only an HTTP status leaves this module.
"""

import logging
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from worker.config.secret import SecretError

if TYPE_CHECKING:
    from worker.config.settings import Notification

SECONDS = 15.0  # for one message to all recipients
STATUS = re.compile(r"\berror=(\d{3})\b")  # in apprise's warnings
NAME = "registry-gc"

MessageKind = Literal["info", "success", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Message:
    """Plain text; some services show `kind` as a colour."""

    title: str
    body: str
    kind: MessageKind


def is_supported_address(url: str) -> bool:
    """Whether apprise supports this address. Sends nothing."""
    return _service(url) is not None


def send(message: Message, to: Mapping[int, "Notification"], seconds: float = SECONDS) -> dict[int, str]:
    """Send a message to all recipients in parallel. Returns number -> reason of each failed delivery."""
    senders = {number: _Sender(message, recipient) for number, recipient in to.items()}
    for sender in senders.values():
        sender.start()
    deadline = time.monotonic() + seconds
    for sender in senders.values():
        sender.join(max(0.0, deadline - time.monotonic()))
    failures = {number: sender.failure for number, sender in senders.items()}
    return {number: failure for number, failure in failures.items() if failure is not None}


class _Sender(threading.Thread):
    """One delivery. A daemon thread: the process does not wait for a service that never answers."""

    def __init__(self, message: Message, to: "Notification") -> None:
        super().__init__(daemon=True)
        self._message = message
        self._to = to
        self.failure: str | None = "no answer in time"

    def run(self) -> None:
        try:
            service = _service(self._to.address())
            if service is None:
                self.failure = "apprise does not support the address"
                return
            title, kind = self._message.title, self._message.kind
            sent = service.notify(self._message.body, title=title, notify_type=kind, body_format="text")
            self.failure = None if sent else _statuses.last() or "apprise could not deliver it"
        except SecretError as error:
            self.failure = str(error)
        except Exception as error:  # noqa: BLE001 -- code of one of a hundred services; its text may hold the address
            self.failure = type(error).__name__


def _service(url: str) -> Any:
    """The apprise service of an address; None: not supported. Its log records go only to `_statuses`."""
    from apprise import Apprise, AppriseAsset  # noqa: PLC0415 - a third of a second that only some need to pay

    logger = logging.getLogger("apprise")
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    logger.handlers[:] = [_statuses]
    for handler in logging.getLogger().handlers:
        handler.addFilter(_silence)
    asset = AppriseAsset(app_id=NAME, app_desc=NAME, async_mode=False)
    service = Apprise.instantiate(url, asset=asset)
    return None if service is None else Apprise(service, asset=asset)


class _Statuses(logging.Handler):
    """Collects the last HTTP status that apprise logs in each thread."""

    def __init__(self) -> None:
        super().__init__()
        self._of_thread = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        if match := STATUS.search(record.getMessage()):
            self._of_thread.status = match[1]

    def last(self) -> str | None:
        status = getattr(self._of_thread, "status", None)
        return f"HTTP status {status}" if status else None


def _silence(_record: logging.LogRecord) -> bool:
    """Drops log records of a sending thread: the libraries of some services log whole addresses at DEBUG."""
    return not isinstance(threading.current_thread(), _Sender)


_statuses = _Statuses()
