"""A Kubernetes API server over real HTTP, as far as lists go: pages, continue tokens, rights, and faults on demand."""

import base64
import gzip
import ipaddress
import json
import ssl
import threading
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

TOKEN = "token-of-the-service-account"
KINDS = {
    "pods": "Pod",
    "replicationcontrollers": "ReplicationController",
    "deployments": "Deployment",
    "statefulsets": "StatefulSet",
    "daemonsets": "DaemonSet",
    "replicasets": "ReplicaSet",
    "controllerrevisions": "ControllerRevision",
    "jobs": "Job",
    "cronjobs": "CronJob",
}
GROUPS = {"/api/v1": {"pods", "replicationcontrollers"}, "/apis/batch/v1": {"jobs", "cronjobs"}}
GROUPS["/apis/apps/v1"] = set(KINDS) - GROUPS["/api/v1"] - GROUPS["/apis/batch/v1"]


class ApiServer:
    """Listens on a loopback port as long as the context is open."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.objects: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.namespaces = {"default"}
        self.page = 500  # objects at most, whatever is asked for
        self.missing: set[str] = set()  # resources that this server does not have
        self.forbidden: set[tuple[str, str]] = set()  # (resource, namespace or "*")
        self.faults: dict[str, list[str]] = defaultdict(list)  # the faults of the next requests for a resource
        self.requests: list[str] = []
        self.unknown: list[str] = []
        self.released = threading.Event()  # lets requests that are kept waiting go
        handler = type("Bound", (_Handler,), {"api": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.scheme = "https" if certificate else "http"
        self.authority = certificate and certificate.parent / "ca.crt"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def add(self, resource: str, name: str, namespace: str = "default", **rest: Any) -> None:
        self.namespaces.add(namespace)
        self.objects[resource].append({"metadata": {"name": name, "namespace": namespace, "uid": "u"}, **rest})


def kubeconfig(path: Path, servers: dict[str, ApiServer], token: str = TOKEN, **user: Any) -> Path:
    """A file with one context for each server; the first is the current one."""
    names = list(servers)
    addresses: dict[str, dict[str, str]] = {name: {"server": servers[name].url} for name in names}
    for name in names:
        if servers[name].authority:
            addresses[name]["certificate-authority"] = str(servers[name].authority)
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": names[0],
                "clusters": [{"name": name, "cluster": addresses[name]} for name in names],
                "users": [{"name": "gc", "user": user or {"token": token}}],
                "contexts": [{"name": name, "context": {"cluster": name, "user": "gc"}} for name in names],
            }
        )
    )
    return path


def certificate(folder: Path) -> Path:
    """One that signs itself, for 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    start, address = datetime.now(UTC) - timedelta(days=1), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = made.public_bytes(Encoding.PEM)
    (folder / "ca.crt").write_bytes(public)
    (folder / "both.pem").write_bytes(private + public)
    return folder / "both.pem"


class _Handler(BaseHTTPRequestHandler):
    api: ApiServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.api.requests.append(self.path)
        target = self._resource(parts.path)
        if self.headers.get("authorization", "").lower() != f"bearer {TOKEN}":
            return self._status(401, "Unauthorized")
        if target is None:
            self.api.unknown.append(self.path)
            return self._status(404, "NotFound")
        return self._found(*target, query)

    def _found(self, resource: str, namespace: str, query: dict[str, str]) -> None:
        if {(resource, namespace), (resource, "any")} & self.api.forbidden:
            return self._status(403, "Forbidden")
        if resource == "namespaces":
            there = namespace in self.api.namespaces
            return self._answer({"kind": "Namespace", "apiVersion": "v1"}) if there else self._status(404, "NotFound")
        if resource in self.api.missing:
            return self._status(404, "NotFound")
        if self.api.faults[resource] and (fault := self.api.faults[resource].pop(0)):
            return self._fault(fault)
        return self._list(resource, namespace, query)

    def _resource(self, path: str) -> tuple[str, str] | None:
        """(resource, namespace or "*"), for paths that the API has."""
        for root, resources in GROUPS.items():
            if not path.startswith(f"{root}/"):
                continue
            match path.removeprefix(f"{root}/").split("/"):
                case [resource] if resource in resources:
                    return resource, "*"
                case ["namespaces", namespace, resource] if resource in resources:
                    return resource, namespace
                case ["namespaces", namespace] if root == "/api/v1":
                    return "namespaces", namespace
        return None

    def _list(self, resource: str, namespace: str, query: dict[str, str]) -> None:
        every = [item for item in self.api.objects[resource] if namespace in ("*", item["metadata"]["namespace"])]
        start = int(base64.b64decode(query.get("continue", "")) or 0)
        end = start + min(int(query.get("limit", "500")), self.api.page)
        more = base64.b64encode(str(end).encode()).decode() if end < len(every) else ""
        metadata: dict[str, Any] = {"resourceVersion": "1000"}
        if more:
            metadata |= {"continue": more, "remainingItemCount": len(every) - end}
        items = every[start:end] or None  # as Go writes an empty slice
        self._answer({"kind": f"{KINDS[resource]}List", "apiVersion": "v1", "metadata": metadata, "items": items})

    def _fault(self, fault: str) -> None:
        if fault.isdigit():
            return self._status(int(fault), "Expired" if fault == "410" else "Fault")
        if fault == "hang":
            self.api.released.wait(30)
            self.close_connection = True
        elif fault == "cut":
            self._head(200, 5000)
            self.wfile.write(b'{"kind": "PodList", "metadata": {}, "items": [')
            self.close_connection = True
        elif fault == "drip":
            self._head(200, 5000)
            for _ in range(5000):
                if self.api.released.wait(0.05):
                    break
                self.wfile.write(b" ")
                self.wfile.flush()
            self.close_connection = True
        elif fault == "redirect":
            self._answer({}, 302, {"Location": f"{self.api.url}/elsewhere"})
        else:
            content = fault.encode()
            self._head(200, len(content))
            self.wfile.write(content)
        return None

    def _status(self, code: int, reason: str) -> None:
        self._answer({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}, code)

    def _answer(self, document: dict[str, Any], code: int = 200, headers: dict[str, str] | None = None) -> None:
        content, headers = json.dumps(document).encode(), headers or {}
        if "gzip" in self.headers.get("accept-encoding", "") and len(content) > 20_000:
            content, headers = gzip.compress(content, 1), headers | {"Content-Encoding": "gzip"}
        self._head(code, len(content), headers)
        self.wfile.write(content)

    def _head(self, code: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(length),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass
