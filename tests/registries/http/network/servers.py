"""A company's network between us and a registry: its own certificate authority, a TLS server, a proxy."""

import base64
import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = timedelta(days=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _certificate(subject: str, issuer: str, key: ec.EllipticCurvePublicKey, *, ca: bool) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(_name(issuer), _name(subject), key, x509.random_serial_number())
    made = made.not_valid_before(now - DAY).not_valid_after(now + DAY)
    return made.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)


class Authority:
    """A company's own authority, as many are: without key identifiers. `file` has its certificate."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        made = _certificate("Example Internal CA", "Example Internal CA", self._key.public_key(), ca=True)
        self.file = folder / "ca.pem"
        self.file.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(self, *hosts: str) -> Path:
        """A server's certificate for these hosts and 127.0.0.1, and its key, in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(host) for host in hosts]
        here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        made = _certificate("server", "Example Internal CA", key.public_key(), ca=False)
        made = made.add_extension(x509.SubjectAlternativeName([*names, here]), critical=False)
        file = self._folder / "server.pem"
        file.write_bytes(
            made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return file


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that gives each connection to `serve`, in its own thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve_and_close(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                serve(connection)

        def accept() -> None:
            with contextlib.suppress(OSError):  # closed: the test is over
                while True:
                    threading.Thread(target=serve_and_close, args=[listener.accept()[0]], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def pump(first: socket.socket, second: socket.socket) -> None:
    """Forward the bytes of each socket to the other, until both have ended."""

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=pass_on, args=(second, first), daemon=True)
    thread.start()
    pass_on(first, second)
    thread.join()


@contextlib.contextmanager
def tls_front(backend: Callable[[], str], certificate: Path) -> Iterator[int]:
    """The port of a TLS server that forwards requests to `backend()`, host:port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve(connection: socket.socket) -> None:
        host, _, port = backend().partition(":")
        with (
            context.wrap_socket(connection, server_side=True) as tls,
            socket.create_connection((host, int(port))) as behind,
        ):
            pump(tls, behind)

    with listening(serve) as port:
        yield port


class ForwardProxy:
    """A proxy as companies have: CONNECT, and plain http by its whole URL. `received` lists the requested targets."""

    def __init__(self, hosts: Mapping[str, str] | None = None, password: str = "", refuse: bool = False) -> None:
        self.hosts = dict(hosts or {})  # "registry.example.com:443" -> where it really is
        self.received: list[str] = []  # "CONNECT registry.example.com:443", "GET http://…"
        self.port = 0
        self._password, self._refuse = password, refuse

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def running(self) -> Iterator["ForwardProxy"]:
        with listening(self._serve) as self.port:
            yield self

    def _serve(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        lines = [stream.readline()]
        while (line := stream.readline()).strip():
            lines.append(line)
        method, target, _ = lines[0].decode().split()
        self.received.append(f"{method} {target}")
        if self._refuse or not self._allowed(lines):
            status = b"403 Forbidden" if self._refuse else b"407 Proxy Authentication Required"
            connection.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        where = target if method == "CONNECT" else target.split("/")[2]
        host, _, port = self.hosts.get(where, where).rpartition(":")
        with socket.create_connection((host, int(port))) as far:
            if method == "CONNECT":
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = "/" + target.split("/", 3)[3]
                kept = [line for line in lines[1:] if not line.lower().startswith((b"proxy-", b"connection:"))]
                far.sendall(b"".join([f"{method} {path} HTTP/1.1\r\nConnection: close\r\n".encode(), *kept, b"\r\n"]))
            pump(connection, far)

    def _allowed(self, lines: list[bytes]) -> bool:
        wanted = b"Basic " + base64.b64encode(self._password.encode())
        return not self._password or any(
            line.lower().startswith(b"proxy-authorization:") and line.split(b": ", 1)[1].strip() == wanted
            for line in lines
        )
