"""What a message must be to become a task: one of our tasks by an id and arguments, now, and nothing beside it.

Celery lets a message carry callbacks, chords, time limits, and a time of its own, and some that are no message of a
task at all end the worker that takes them, again and again, since nobody has answered for them. Who can write to Redis
can write all that; we send none of it. What is refused here is answered for, and logged.
"""

import functools
import json
import logging
from collections.abc import Callable
from typing import Any

import structlog
from celery import Task
from celery.worker.strategy import default
from kombu.transport.virtual import QoS

log = structlog.get_logger(__name__)

LARGEST = 64 * 1024  # bytes of a body; ours have some hundred
LONGEST_ID = 64  # as the store keeps it
PLAIN: dict[str, Any] = {
    "retries": 0, "timelimit": [None, None], "eta": None, "group": None, "group_index": None, "parent_id": None,
    "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {}, "ignore_result": True, "origin": "",
    "shadow": None, "meth": None, "argsrepr": "", "kwargsrepr": "",
}  # fmt: skip

Handler = Callable[..., Any]


def careful(task: Any, app: Any, consumer: Any, **kwargs: Any) -> Handler:
    """Celery's own way to begin a task, for messages that are in order."""
    begin: Handler = default(task, app, consumer, **kwargs)

    def handle(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **more: Any) -> Any:
        give_its_place_back(message)
        why = fault_of(task.name, message, body)
        if why:
            log.warning("refused: not a message of ours", task=task.name, why=why)
            return reject(logging.getLogger(__name__), consumer.connection_errors)
        told = message.headers
        message.headers = PLAIN | {name: told.get(name) for name in ("task", "id", "expires")} | {"root_id": told["id"]}
        return begin(message, body, ack, reject, callbacks, **more)

    return handle


def give_its_place_back(message: Any) -> None:
    """Let a message take none of the worker's places once it was answered for, even if Redis did not hear the answer.

    kombu would keep the place for it: with as many such messages as places a worker lives on and takes nothing more.
    """
    for name in ("ack", "reject"):
        setattr(message, name, functools.partial(_answer, message, getattr(message, name)))


def _answer(message: Any, answer: Callable[..., None], **how: Any) -> None:
    try:
        answer(**how)
    except BaseException:  # whatever it is, it goes on
        QoS.ack(message.channel.qos, message.delivery_tag)  # of our own books only
        raise


def fault_of(name: str, message: Any, body: Any) -> str:
    """Why a message cannot be a task of ours; empty: it can."""
    headers = message.headers
    if not name.startswith("gc."):
        return "no task of ours"  # Celery brings some along that call others
    if body is not None or not isinstance(headers, dict) or not _is_id(headers.get("id")):
        return "an older protocol, or no id"
    if message.content_type != "application/json" or message.content_encoding not in ("utf-8", "us-ascii"):
        return "not JSON"
    if headers.get("eta") is not None:
        return "for another time"  # a message that waits longer than Redis does is delivered again and again
    if not isinstance(headers.get("expires"), str | None):
        return "no time to expire at"
    return _fault_of_body(message.body)


def _fault_of_body(content: Any) -> str:
    if not isinstance(content, bytes | str) or len(content) > LARGEST:
        return "no body, or a large one"
    try:
        parts = json.loads(content)
    except (ValueError, RecursionError):
        return "a body that is not JSON"
    if not isinstance(parts, list) or [type(part) for part in parts] != [list, dict, dict]:
        return "not arguments"
    return "more than a task" if any(parts[2].values()) else ""


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_ID and value.isascii() and value.isprintable()


class CarefulTask(Task):  # type: ignore[type-arg]  # generic to the type checker only
    """A task whose messages are looked at first."""

    Strategy = "worker.processes.letterbox:careful"
