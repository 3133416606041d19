"""User names and passwords from Docker's configuration file, from a credential helper, or from a command.

Programs run without a shell and with a time limit; their output is never shown. Sources: the protocol of
docker-credential-helpers, the reference of Docker's configuration file, containers-auth.json(5).
"""

import base64
import binascii
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from worker.config.files import PipeReader
from worker.config.secret import SecretError, read_docker_config
from worker.config.settings import Credentials, namespace_of
from worker.registries.errors import SignInError
from worker.registries.http.tokens import Basic, Token, Tokens, base64_of, expiring_token, read_credentials
from worker.text import one_line

SECONDS = 30.0  # time limit of a program
MAX_BYTES = 64 * 1024
FRESH = 600.0  # seconds until credentials without an expiry are requested again
IDENTITY = "<token>"  # Docker's user name for an identity token, which is exchanged for tokens
HUB = "https://index.docker.io/v1/"  # Docker's own name of Docker Hub
HUB_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
NO_GLOB = re.compile(r"[a-z0-9._-]+", re.IGNORECASE)  # a segment of a glob without wildcards
NOT_FOUND = b"credentials not found in native keychain"
FORM = '{"Username": …, "Secret": …} or {"username": …, "password": …, "expires_at": "2026-11-20T03:00:00Z"}'


class User(Basic):
    """A user name and a password, fetched on demand."""

    def identity_token(self, refused: str | None = None) -> str | None:
        """An identity token other than the `refused` one; None: a name and a password. Raises SignInError."""
        if self.name:
            return None
        if refused is not None:
            self.tokens.replace(f"{IDENTITY}:{refused}")
        name, _, secret = self.tokens.current().partition(":")
        return secret if name == IDENTITY else None

    def secrets(self) -> tuple[str, ...]:
        """The texts that must not be shown if a server quotes them."""
        secret = self.tokens.last
        if self.name:  # from a file, so it is known before it is sent
            with suppress(SignInError):
                secret = self.tokens.current()
        if not secret:
            return ()
        return base64_of(f"{self.prefix}{secret}"), secret if self.name else secret.partition(":")[2]


def user_of(credentials: Credentials, url: str) -> User | None:
    """The user of these credentials; None: anonymous. The password is read for each request, so it can be rotated."""
    name, secret = credentials.username, credentials.password
    if not name or not secret:
        return fetched_user(credentials, url)

    def fetch() -> Token:
        password = read_credentials(secret)
        _credentials(name, password, f"the user name or the password in {secret.where}")
        return Token(password, refresh_at=0.0, expires_at=0.0)

    remedy = f"check them with `docker login {server_of(url)}`"
    return User(Tokens(fetch, remedy, f"the user name {name!r} or the password in {secret.where} was"), name)


@lru_cache(maxsize=64)
def fetched_user(credentials: Credentials, url: str) -> User | None:
    """The user of a program or of Docker's configuration file; None: neither is configured.

    All clients of the process share it: a run opens many clients, and each would start the program.
    """
    server = server_of(url)
    if credentials.helper is not None:
        helper = credentials.helper
        tokens = Tokens(lambda: _ask_helper(helper, server), f"docker-credential-{helper} has no others", WHAT)
    elif credentials.docker_config is not None:
        path, below = credentials.docker_config, _common_path(credentials, url)
        remedy = f"run `docker login {server}` again for {path}"
        tokens = Tokens(lambda: in_docker_config(path, server, below), remedy, WHAT)
    elif credentials.command:
        tokens = Tokens(lambda: _run_command(credentials), f"{credentials.command[0]} prints no others", WHAT)
    else:
        return None
    return User(tokens)


WHAT = "the user name and the password were"


def server_of(url: str) -> str:
    """The name of a registry in Docker's configuration: host and port, for Docker Hub an old URL."""
    parts = urlsplit(url)
    return HUB if parts.hostname in HUB_HOSTS else parts.netloc


# Docker's configuration file.


def in_docker_config(path: Path, server: str, below: str = "") -> Token:
    """The credentials of a server, and of the path `below`: from the helper, or else from the file itself.

    Raises SignInError.
    """
    try:
        whole = read_docker_config(path)
    except SecretError as error:
        raise SignInError(str(error)) from None
    helper = _entry_of(whole.get("credHelpers"), server) or whole.get("credsStore")
    if isinstance(helper, str) and helper:
        written = [key for key in _mapping(whole.get("auths")) if _names_server(key, server, "")]
        with suppress(_NoSuchCredentialsError):
            return _ask_helper(helper, server, written)
    pair = _credentials_of(_mapping(_entry_of(whole.get("auths"), server, below)), path, server)
    return Token(pair, refresh_at=0.0, expires_at=0.0)  # read for each request, so that it can be rotated


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _entry_of(section: object, server: str, below: str = "") -> Any:
    """The entry of a server; None: no entry. Empty entries are only marks. The longest path takes precedence, then the
    exact name of the server.
    """
    entries = [(key, entry) for key, entry in _mapping(section).items() if entry and _names_server(key, server, below)]
    entries.sort(key=lambda pair: (-len(_host_and_path(pair[0])[1]), pair[0] != server))
    return entries[0][1] if entries else None


def _names_server(key: str, server: str, below: str) -> bool:
    """Whether a key names this server, or a parent path of `below` on it."""
    host, path = _host_and_path(key)
    return host == _host_and_path(server)[0] and (not path or f"{below}/".startswith(f"{path}/"))


def _host_and_path(key: str) -> tuple[str, str]:
    """Host and port of a key, and its path, without Docker's own /v1/ and /v2/."""
    if not key.isprintable():
        return "", ""
    scheme, _, rest = key.partition("://") if "://" in key else ("", "", key)
    host, _, path = rest.partition("/")
    host, path = host.lower().removesuffix(":80" if scheme.lower() == "http" else ":443"), path.strip("/")
    return "docker.io" if host in HUB_HOSTS else host, "" if path in ("v1", "v2") else path


def _common_path(credentials: Credentials, url: str) -> str:
    """The common parent path of the repositories of these credentials; empty: none."""
    literal = ["/".join(takewhile(NO_GLOB.fullmatch, glob.split("/"))) for glob in credentials.repositories]
    return "/".join(filter(None, (namespace_of(url), os.path.commonpath(literal) if literal else "")))


def _credentials_of(entry: dict[str, Any], path: Path, server: str) -> str:
    if token := entry.get("identitytoken"):
        return _credentials(IDENTITY, token, f"file {path}: the identitytoken of {server}")
    name, password = entry.get("username"), entry.get("password")
    if auth := entry.get("auth"):
        try:
            name, _, password = base64.b64decode(str(auth), validate=True).decode().rstrip("\0").partition(":")
        except (binascii.Error, ValueError):
            raise SignInError(f"file {path}: the auth of {server} is not base64 of NAME:PASSWORD") from None
    if not name or not password:
        raise SignInError(f"file {path} has no password for {server}; run `docker login {server}`")
    return _credentials(name, password, f"file {path}: the password of {server}")


def _credentials(name: object, password: object, what: str) -> str:
    """ "name:password". Raises SignInError: JSON can contain a lone surrogate, which cannot be sent."""
    pair = f"{name}:{password}"
    try:
        pair.encode()
    except UnicodeEncodeError:
        raise SignInError(f"{what} has invalid characters; write it again") from None
    return pair


# Programs.


class _NoSuchCredentialsError(SignInError):
    """The helper has no credentials for this server."""


def _ask_helper(helper: str, server: str, others: Iterable[str] = ()) -> Token:
    """The credentials of a helper for a server, by its name, its URL, or its other names. Raises SignInError."""
    program = f"docker-credential-{helper}"
    for name in dict.fromkeys((server, server if "://" in server else f"https://{server}", *others)):
        code, output = _run((program, "get"), None, name.encode())
        if code and NOT_FOUND in output:
            continue
        if code:
            remedy = f"run `echo {name} | {program} get` as the same user to see why"
            raise SignInError(f"{program} failed with exit code {code}; {remedy}")
        return _read(output, program)
    raise _NoSuchCredentialsError(f"{program} has no password for {server}; run `docker login {server}`")


def _run_command(credentials: Credentials) -> Token:
    """The credentials that a command prints. Raises SignInError."""
    program = credentials.command[0]
    code, output = _run(credentials.command, credentials.folder, b"")
    if code:
        raise SignInError(f"{program} failed with exit code {code}; run the command as the same user to see why")
    return _read(output, program)


def _run(command: tuple[str, ...], folder: Path | None, content: bytes) -> tuple[int, bytes]:
    """Exit code and output. Standard error is discarded, as it may contain a secret. Raises SignInError."""
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    try:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=none, cwd=folder, start_new_session=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL or a lone surrogate
        why = getattr(error, "strerror", None) or "its name or an argument is not valid text"
        raise SignInError(f"{one_line(command[0])} cannot be started: {why}; is it installed for this user?") from None
    killed = threading.Event()

    def kill() -> None:
        killed.set()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(SECONDS, kill)
    timer.start()
    reader = PipeReader(process.stdout, lambda read: read, lambda read: len(read) > MAX_BYTES)
    try:
        if process.stdin is not None:
            with suppress(BrokenPipeError), process.stdin as stream:
                stream.write(content)
        code = process.wait()
    finally:
        timer.cancel()
    output = reader.ended()
    if len(output) > MAX_BYTES:
        raise SignInError(f"{command[0]} printed more than {MAX_BYTES >> 10} KiB; it must print {FORM}")
    if killed.is_set():
        raise SignInError(f"{command[0]} did not end within {SECONDS:.0f} s and was killed; it must not prompt")
    return code, output


def _read(output: bytes, program: str) -> Token:
    """The credentials in a program's output, in Docker's format or ours. Raises SignInError, which never quotes it."""
    try:
        printed = json.loads(output)
    except (ValueError, RecursionError):
        printed = None
    fields = {str(name).lower(): value for name, value in _mapping(printed).items()}
    name, password = fields.get("username"), fields.get("secret", fields.get("password"))
    if not isinstance(name, str) or not isinstance(password, str) or not name or not password or ":" in name:
        raise SignInError(f"{program} printed no user name with a password; it must print {FORM}")
    pair = _credentials(name, password, f"the password that {program} printed")
    if (expires_at := fields.get("expires_at")) is None:
        return Token(pair, refresh_at=time.monotonic() + FRESH, expires_at=float("inf"))
    life = _seconds_until(expires_at, program)
    if life <= 0:
        raise SignInError(f"{program} printed a password that has expired; check this machine's clock")
    return expiring_token(pair, life)


def _seconds_until(instant: object, program: str) -> float:
    """Seconds until an instant with a time zone, or until a Unix time. Raises SignInError."""
    with suppress(ValueError, OverflowError):
        if isinstance(instant, str) and (moment := datetime.fromisoformat(instant)).tzinfo is not None:
            return (moment - datetime.now(UTC)).total_seconds()
        if isinstance(instant, (int, float)) and not isinstance(instant, bool):
            return instant - time.time()
    raise SignInError(f"{program} printed an expires_at without a time zone or in another format; it must print {FORM}")
