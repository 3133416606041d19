"""The Celery side of commands: tasks are enqueued while Redis accepts them."""

import json
import subprocess
import sys

import pytest
from redis import Redis

from tests.support.sandbox import Sandbox
from tests.support.servers import redis_server
from worker.app import KEY_PREFIX

SCRIPT = """
import sys
from worker.cli.with_celery import enqueue
from worker.config.settings import load
from worker.runs.lifecycle import TaskCall
for _ in sys.stdin:
    print(enqueue(load(), [TaskCall("gc.scan", ("run-1",)), TaskCall("gc.delete_batch", ("run-1", 7))]), flush=True)
"""


@pytest.mark.slow
def test_enqueues_tasks_and_reports_false_without_redis(tmp_path):
    with redis_server() as redis:
        sandbox = Sandbox(tmp_path, redis=redis.url)
        command = [sys.executable, "-c", SCRIPT]
        process = subprocess.Popen(
            command, env=sandbox.environ, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "True\n"
        client, enqueued = Redis.from_url(redis.url), {}
        for queue in ("gc.scan", "gc.delete"):
            (message,) = client.lrange(f"{KEY_PREFIX}{queue}", 0, -1)
            headers = json.loads(message)["headers"]
            enqueued[headers["task"]] = headers["argsrepr"]
        assert enqueued == {"gc.scan": "('run-1',)", "gc.delete_batch": "('run-1', 7)"}
        client.close()
        redis.kill()
        out, _ = process.communicate("\n", timeout=60)
        assert (process.returncode, out) == (0, "False\n")
