"""A user's name and password from docker's file, from a docker-credential helper, or from a command.

Programs run without a shell, for a bounded time; what they print is never shown. Sources: docker's
docker-credential-helpers (protocol), its configuration file's reference, containers-auth.json(5).
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

SECONDS = 30.0  # for a program to answer in
MAX_BYTES = 64 * 1024
FRESH = 600.0  # seconds for which an answer without an expiry is used before it is asked for again
IDENTITY = "<token>"  # docker's user name for an identity token, which is exchanged for the registry's own tokens
HUB = "https://index.docker.io/v1/"  # docker's name for Docker Hub
HUB_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
NO_GLOB = re.compile(r"[a-z0-9._-]+", re.IGNORECASE)  # a segment of a glob that stands for itself
NOT_FOUND = b"credentials not found in native keychain"
FORM = '{"Username": …, "Secret": …} or {"username": …, "password": …, "expires_at": "2026-11-20T03:00:00Z"}'


class User(Basic):
    """A name and a password that are fetched when they are needed. Signs with both."""

    def identity_token(self, refused: str | None = None) -> str | None:
        """The identity token, another than the `refused` one; None: it is a name and a password. Raises SignInError."""
        if self.name:
            return None
        if refused is not None:
            self.tokens.replace(f"{IDENTITY}:{refused}")
        name, _, secret = self.tokens.current().partition(":")
        return secret if name == IDENTITY else None

    def secrets(self) -> tuple[str, ...]:
        """What must not be shown, should a server repeat it."""
        secret = self.tokens.last
        if self.name:  # known without asking anybody, before it was ever sent
            with suppress(SignInError):
                secret = self.tokens.current()
        if not secret:
            return ()
        return base64_of(f"{self.prefix}{secret}"), secret if self.name else secret.partition(":")[2]


def user_of(credentials: Credentials, url: str) -> User | None:
    """Who signs in with these; None: nobody. A password's file is read anew each time, so that it may be rotated."""
    name, secret = credentials.username, credentials.password
    if not name or not secret:
        return fetched_user(credentials, url)

    def fetch() -> Token:
        password = read_credentials(secret)
        _pair(name, password, f"the user name or the password in {secret.where}")
        return Token(password, refresh_at=0.0, expires_at=0.0)

    remedy = f"see whether `docker login {server_of(url)}` accepts them"
    return User(Tokens(fetch, remedy, f"the user name {name!r} or the password in {secret.where} was"), name)


@lru_cache(maxsize=64)
def fetched_user(credentials: Credentials, url: str) -> User | None:
    """Who signs in where the configuration names a program or docker's file; None: it names neither.

    One for all clients of the process: a run opens many, and a program is not to be asked for each.
    """
    server = server_of(url)
    if credentials.helper is not None:
        helper = credentials.helper
        tokens = Tokens(lambda: _asked(helper, server), f"docker-credential-{helper} gives no other", WHAT)
    elif credentials.docker_config is not None:
        path, below = credentials.docker_config, _common_path(credentials, url)
        remedy = f"run `docker login {server}` again for {path}"
        tokens = Tokens(lambda: in_docker_config(path, server, below), remedy, WHAT)
    elif credentials.command:
        tokens = Tokens(lambda: _printed(credentials), f"{credentials.command[0]} prints no others", WHAT)
    else:
        return None
    return User(tokens)


WHAT = "the user name and the password were"


def server_of(url: str) -> str:
    """A registry as docker's file and its helpers name it: host and port, for Docker Hub an old address."""
    parts = urlsplit(url)
    return HUB if parts.hostname in HUB_HOSTS else parts.netloc


# Docker's file.


def in_docker_config(path: Path, server: str, below: str = "") -> Token:
    """What docker's file says of a server, and of the path `below` there: by its helper, else by itself.

    Raises SignInError.
    """
    try:
        whole = read_docker_config(path)
    except SecretError as error:
        raise SignInError(str(error)) from None
    helper = _of_server(whole.get("credHelpers"), server) or whole.get("credsStore")
    if isinstance(helper, str) and helper:
        written = [key for key in _mapping(whole.get("auths")) if _is_for(key, server, "")]
        with suppress(_NoSuchCredentialsError):
            return _asked(helper, server, written)
    pair = _pair_of(_mapping(_of_server(whole.get("auths"), server, below)), path, server)
    return Token(pair, refresh_at=0.0, expires_at=0.0)  # read anew each time, so that it may be rotated


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _of_server(section: object, server: str, below: str = "") -> Any:
    """What a section of docker's file says of a server; None: nothing. What is empty is only a mark. The longest path
    counts; of two keys of one path the server's own name outweighs others that mean it.
    """
    of_it = [(key, one) for key, one in _mapping(section).items() if one and _is_for(key, server, below)]
    of_it.sort(key=lambda pair: (-len(_place(pair[0])[1]), pair[0] != server))
    return of_it[0][1] if of_it else None


def _is_for(key: str, server: str, below: str) -> bool:
    """Whether a key of docker's file names this server, or a path of it that leads to `below`."""
    host, path = _place(key)
    return host == _place(server)[0] and (not path or f"{below}/".startswith(f"{path}/"))


def _place(key: str) -> tuple[str, str]:
    """Host and port of a key in docker's file, and its path: docker's own /v1/ or /v2/ is none."""
    if not key.isprintable():
        return "", ""
    scheme, _, rest = key.partition("://") if "://" in key else ("", "", key)
    host, _, path = rest.partition("/")
    host, path = host.lower().removesuffix(":80" if scheme.lower() == "http" else ":443"), path.strip("/")
    return "docker.io" if host in HUB_HOSTS else host, "" if path in ("v1", "v2") else path


def _common_path(credentials: Credentials, url: str) -> str:
    """The path that leads to every repository which these credentials are for; empty: there is none."""
    literal = ["/".join(takewhile(NO_GLOB.fullmatch, glob.split("/"))) for glob in credentials.repositories]
    return "/".join(filter(None, (namespace_of(url), os.path.commonpath(literal) if literal else "")))


def _pair_of(entry: dict[str, Any], path: Path, server: str) -> str:
    if token := entry.get("identitytoken"):
        return _pair(IDENTITY, token, f"file {path}: the identitytoken of {server}")
    name, password = entry.get("username"), entry.get("password")
    if auth := entry.get("auth"):
        try:
            name, _, password = base64.b64decode(str(auth), validate=True).decode().rstrip("\0").partition(":")
        except (binascii.Error, ValueError):
            raise SignInError(f"file {path}: the auth of {server} is not base64 of name:password") from None
    if not name or not password:
        raise SignInError(f"file {path} has no password for {server}; run `docker login {server}`")
    return _pair(name, password, f"file {path}: the password of {server}")


def _pair(name: object, password: object, what: str) -> str:
    """Both as they are sent. Raises SignInError for what JSON can hold and no text is: half of a character."""
    pair = f"{name}:{password}"
    try:
        pair.encode()
    except UnicodeEncodeError:
        raise SignInError(f"{what} has characters that do not exist; it has to be written anew") from None
    return pair


# Programs.


class _NoSuchCredentialsError(SignInError):
    """A helper keeps nothing for this server."""


def _asked(helper: str, server: str, others: Iterable[str] = ()) -> Token:
    """What a helper keeps for a server: by its name, its address, or what else it is called. Raises SignInError."""
    program = f"docker-credential-{helper}"
    for name in dict.fromkeys((server, server if "://" in server else f"https://{server}", *others)):
        code, output = _run((program, "get"), None, name.encode())
        if code and NOT_FOUND in output:
            continue
        if code:
            remedy = f"run `echo {name} | {program} get` as the same user to see why"
            raise SignInError(f"{program} failed with exit code {code}; {remedy}")
        return _read(output, program)
    raise _NoSuchCredentialsError(f"{program} keeps no password for {server}; run `docker login {server}`")


def _printed(credentials: Credentials) -> Token:
    """What a command prints. Raises SignInError."""
    program = credentials.command[0]
    code, output = _run(credentials.command, credentials.folder, b"")
    if code:
        raise SignInError(f"{program} failed with exit code {code}; run the command as the same user to see why")
    return _read(output, program)


def _run(words: tuple[str, ...], folder: Path | None, told: bytes) -> tuple[int, bytes]:
    """Exit code and output. What it says on standard error is nobody's: it may be a secret. Raises SignInError."""
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    try:
        process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=none, cwd=folder, start_new_session=True)
    except (OSError, ValueError) as error:  # of a name with a NUL or with half of a character
        why = getattr(error, "strerror", None) or "its name or an argument is no text"
        raise SignInError(f"{one_line(words[0])} cannot be started: {why}; is it installed for this user?") from None
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
                stream.write(told)
        code = process.wait()
    finally:
        timer.cancel()
    output = reader.ended()
    if len(output) > MAX_BYTES:
        raise SignInError(f"{words[0]} printed more than {MAX_BYTES >> 10} KiB; it is to print {FORM}")
    if killed.is_set():
        raise SignInError(f"{words[0]} did not end within {SECONDS:.0f} s and was killed; it must not ask anybody")
    return code, output


def _read(output: bytes, program: str) -> Token:
    """What a program printed, in docker's words or in ours. Raises SignInError, which shows nothing of it."""
    try:
        printed = json.loads(output)
    except (ValueError, RecursionError):
        printed = None
    found = {str(name).lower(): value for name, value in _mapping(printed).items()}
    name, password = found.get("username"), found.get("secret", found.get("password"))
    if not isinstance(name, str) or not isinstance(password, str) or not name or not password or ":" in name:
        raise SignInError(f"{program} printed no user name with a password; it is to print {FORM}")
    pair = _pair(name, password, f"the password that {program} printed")
    if (expires_at := found.get("expires_at")) is None:
        return Token(pair, refresh_at=time.monotonic() + FRESH, expires_at=float("inf"))
    life = _seconds_until(expires_at, program)
    if life <= 0:
        raise SignInError(f"{program} printed a password that has expired; check this machine's clock")
    return expiring_token(pair, life)


def _seconds_until(instant: object, program: str) -> float:
    """Of an instant with its zone, or in seconds since 1970."""
    with suppress(ValueError, OverflowError):
        if isinstance(instant, str) and (moment := datetime.fromisoformat(instant)).tzinfo is not None:
            return (moment - datetime.now(UTC)).total_seconds()
        if isinstance(instant, (int, float)) and not isinstance(instant, bool):
            return instant - time.time()
    raise SignInError(f"{program} printed an expires_at that is no instant with its zone; it is to print {FORM}")
