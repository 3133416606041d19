"""Messages made by hand, as whoever can write to Redis can make them."""

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
    """One of Celery's protocol 2; `headers` come beside the usual ones, `body` instead of the usual one."""
    told = {"task": task, "id": task_id, "lang": "py", "argsrepr": "", "kwargsrepr": "", "root_id": task_id}
    usual = {"delivery_info": {"exchange": "", "routing_key": "gc.control"}, "delivery_tag": task_id}
    usual |= {"delivery_mode": 2, "priority": 0, "body_encoding": "utf-8"}
    return json.dumps(
        {
            "body": json.dumps([args, kwargs or {}, embed or {}]) if body is None else body,
            "content-type": content_type,
            "content-encoding": "utf-8",
            "headers": told | headers,
            "properties": usual | (properties or {}),
        }
    )


def in_base64(content: bytes) -> dict[str, Any]:
    """For `message(**…)`: this body, coded."""
    return {"body": base64.b64encode(content).decode(), "properties": {"body_encoding": "base64"}}


def push(redis: "Redis[Any]", text: str | bytes, queue: str = "gc.control") -> None:
    redis.lpush(f"{KEY_PREFIX}{queue}", text)


def left(redis: "Redis[Any]") -> int:
    """How many messages wait in the queues."""
    return sum(redis.llen(f"{KEY_PREFIX}{queue}") for queue in QUEUES)


def under_way(redis: "Redis[Any]") -> int:
    """How many a worker has taken and not yet answered for."""
    count: int = redis.hlen(f"{KEY_PREFIX}unacked")
    return count
