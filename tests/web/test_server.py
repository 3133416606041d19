"""The server: an address in use, and the stop."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.support.servers import RedisServer
from tests.support.waiting import until
from tests.web.pages import Pages, write


def test_the_server_stops_on_sigterm(own: Pages) -> None:
    own.process.send_signal(signal.SIGTERM)
    assert until(lambda: own.process.poll() is not None, what="the end of the server")
    assert own.process.returncode in (0, -signal.SIGTERM)


def test_an_address_in_use_is_one_line(pages: Pages, tmp_path: Path, redis: RedisServer) -> None:
    command = [sys.executable, "-m", "tests.web.process", str(write(tmp_path, redis.url)), str(pages.port)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].endswith(f"127.0.0.1:{pages.port} cannot be bound: Address already in use")
