"""Celery messages made by hand, as anyone with write access to Redis can make them."""

import base64
import json
from typing import Any

from redis import Redis

from worker.app import KEY_PREFIX

QUEUES = ("gc.control", "gc.scan", "gc.delete")


def message(
    task: str,
    args: Any,
    *,
    kwargs: Any = None,
    embed: Any = None,
    task_id: str = "4f1c",
    body: str | None = None,
    content_type: str = "application/json",
    properties: dict[str, Any] | None = None,
    **headers: Any,
) -> str:
    """A message of Celery's protocol 2. `headers` are added to the usual headers; `body` replaces the usual body."""
    usual_headers = {"task": task, "id": task_id, "lang": "py", "argsrepr": "", "kwargsrepr": "", "root_id": task_id}
    usual = {"delivery_info": {"exchange": "", "routing_key": "gc.control"}, "delivery_tag": task_id}
    usual |= {"delivery_mode": 2, "priority": 0, "body_encoding": "utf-8"}
    return json.dumps(
        {
            "body": json.dumps([args, kwargs or {}, embed or {}]) if body is None else body,
            "content-type": content_type,
            "content-encoding": "utf-8",
            "headers": usual_headers | headers,
            "properties": usual | (properties or {}),
        }
    )


def in_base64(content: bytes) -> dict[str, Any]:
    """Arguments of `message` for a body in base64."""
    return {"body": base64.b64encode(content).decode(), "properties": {"body_encoding": "base64"}}


def push(redis: "Redis[Any]", text: str | bytes, queue: str = "gc.control") -> None:
    redis.lpush(f"{KEY_PREFIX}{queue}", text)


def queued(redis: "Redis[Any]") -> dict[str, int]:
    """How many messages each queue holds; empty queues are left out."""
    counts = {queue: int(redis.llen(f"{KEY_PREFIX}{queue}")) for queue in QUEUES}
    return {queue: count for queue, count in counts.items() if count}


def unacknowledged(redis: "Redis[Any]") -> dict[Any, Any]:
    """The messages that workers have taken and not acknowledged, by delivery tag."""
    return redis.hgetall(f"{KEY_PREFIX}unacked")
