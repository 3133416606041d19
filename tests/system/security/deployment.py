"""A deployment of real processes that know a secret of every kind, and every text that they leave behind."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from redis import Redis
from sqlalchemy import select

from tests.support.sentinels import Sentinels, files_below
from tests.support.servers import PostgresServer, RedisServer, free_port
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from tests.support.webhook import SECRET as HOOK_SECRET
from tests.support.webhook import Webhook
from worker.config.settings import load
from worker.store import Store, open_store
from worker.store.tables import metadata, run

ODD = "/+ü\"'&%="  # characters that every encoding writes differently
PASSWORDS = {
    "redis password": f"rEdis-{ODD}-s3sam3",
    "store password": f"sTore-{ODD}-s3sam3",
    "notify password": f"nOtify-{ODD}-s3sam3",
}
WEB_TOKEN = "wEb-tok3n-of-the-page"
EVIDENCE_TOKEN = "eVidence-tok3n-of-the-list"
REFUSED_TOKEN = "eVidence-tok3n-that-is-refused"
POD_TOKEN = "eyJhbGciOiJSUzI1NiJ9.cG9kLXRva2VuLW9mLWEtc2VydmljZS1hY2NvdW50LWluLWEtY2x1c3Rlcg.c2lnbmF0dXJl"
STALE_TOKEN = "t1.sTale-token-that-nobody-has-renewed-for-a-week"
REGISTRIES = ("key", "pod", "meta", "token", "stale", "refused")


class SecretsDeployment:
    """Six registries: four ways to sign in, a stale token, and evidence that is refused."""

    def __init__(self, folder: Path, simulator: Simulator, postgres: PostgresServer, redis: RedisServer) -> None:
        self.folder, self.simulator = folder, simulator
        self.secrets = folder / "secrets"  # the only folder that may hold secrets
        self.secrets.mkdir()
        self.postgres, self.redis = postgres, redis
        self.outputs: dict[str, bytes] = {}
        self.port = free_port()
        self.key = simulator.service_account_key()

    def secret(self, name: str, text: str) -> dict[str, str]:
        """Write a secret to its file; the configuration's reference to it."""
        (self.secrets / name).write_text(text)
        return {"file": str(self.secrets / name)}

    @property
    def environ(self) -> dict[str, str]:
        ours = {"REGISTRY_GC_CONFIG": str(self.folder / "registry-gc.yaml"), "STATE_DIRECTORY": f"{self.folder}/state"}
        return os.environ | ours | {"YC_METADATA_ADDR": self.simulator.url, "TEST_TOKEN": self.simulator.token}

    def document(self, evidence: str, hook: str) -> dict[str, Any]:
        passwords = {kind: quote(password, safe="") for kind, password in PASSWORDS.items()}
        store = self.postgres.create_database("sentinels").replace("tests@", f"tests:{passwords['store password']}@")
        redis = self.redis.url.replace("//", f"//:{passwords['redis password']}@")
        failing = f"json://me:{passwords['notify password']}@127.0.0.1:9/nobody"
        credentials: dict[str, Any] = {
            "key": {"service_account_key": self.secret("sa-key", json.dumps(self.key))},
            "pod": {
                "workload_identity": {
                    "service_account": self.simulator.link_subject(POD_TOKEN),
                    "token": self.secret("pod-token", POD_TOKEN),
                }
            },
            "meta": {"metadata": True},
            "token": {"iam_token": {"env": "TEST_TOKEN"}},
            "stale": {"iam_token": self.secret("stale-token", STALE_TOKEN)},
            "refused": {"iam_token": self.secret("token", self.simulator.token)},
        }
        source = {"name": "list", "kind": "http", "url": f"{evidence}/list", "max_age": "1h", "allow_foreign": True}
        in_use = {"pod": EVIDENCE_TOKEN, "refused": REFUSED_TOKEN}
        everything = ["succeeded", "partial", "blocked", "failed", "aborted"]
        return {
            "redis": self.secret("redis", redis),
            "store": self.secret("store", store),
            "web": {"listen": f"127.0.0.1:{self.port}", "token": self.secret("web-token", WEB_TOKEN)},
            "timing": {"reconcile": "1s", "lease": "3s"},
            "notify": [
                {"url": self.secret("hook", hook), "on": list(everything)},
                {"url": self.secret("failing", failing), "on": list(everything)},
            ],
            "registries": {
                name: {
                    "kind": "yandex-container-registry",
                    "id": f"crp{name}{'0' * (17 - len(name))}",
                    "credentials": given,
                    "endpoints": self.simulator.endpoints(),
                    "mode": "delete",
                    "policy": "nightly",
                    "limits": {"max_share": "100%"},
                    **({"in_use": [{**source, "token": self.secret(name, in_use[name])}]} if name in in_use else {}),
                }
                for name, given in credentials.items()
            },
            "policies": {"nightly": [{"name": "old ones", "delete": {"tags": ["pr-*"], "older_than": "14d"}}]},
        }

    def fill(self) -> None:
        """Push images to delete, and let the registry repeat tokens in its responses."""
        for name in REGISTRIES:
            registry_id = f"crp{name}{'0' * (17 - len(name))}"
            self.simulator.add_registry(registry_id, name)
            for number in range(3):
                self.simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * 86_400, registry=registry_id)
        leaking = f"Permission denied for {self.simulator.token}"
        self.simulator.fault("error", method="DELETE", times=2, code=7, message=leaking)
        self.simulator.fault("error", path="repositoryName=crptoken", times=1, code=13, message=leaking)

    @contextmanager
    def processes(self) -> Iterator[None]:
        """Run worker, beat and web with --verbose."""
        with ExitStack() as stack:
            for name in ("worker", "beat", "web"):
                log = stack.enter_context((self.folder / f"{name}.log").open("wb"))
                command = [sys.executable, "-m", "worker.cli", name, "--verbose"]
                process = subprocess.Popen(
                    command, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
                )
                stack.callback(process.wait)
                stack.callback(process.terminate)
            yield

    def ask(self, method: str, path: str, token: str = "") -> int:
        """Send a request to the web; its response is recorded in `outputs`."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        self.outputs[f"{method} {path.partition('?')[0]} {answer.status}"] = (
            answer.read() + str(answer.headers).encode()
        )
        connection.close()
        return answer.status

    def listening(self) -> bool:
        try:
            return self.ask("GET", "/healthz") in (200, 503)
        except OSError:
            return False

    def command(self, *words: str, **environ: str) -> int:
        """Call registry-gc; its output is recorded in `outputs`."""
        done = subprocess.run(
            [sys.executable, "-m", "worker.cli", *words],
            cwd=self.folder,
            env=self.environ | environ,
            capture_output=True,
            timeout=60,
            check=False,
        )
        self.outputs[f"registry-gc {' '.join(words)} ({len(self.outputs)})"] = done.stdout + done.stderr
        return done.returncode

    def tables(self, store: Store) -> dict[str, bytes]:
        """Every value of every table."""
        texts = {}
        with store.read() as connection:
            for table in metadata.sorted_tables:
                values = [value for row in connection.execute(select(table)).all() for value in row]
                bare = [
                    bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode() for value in values
                ]
                texts[f"table {table.name}"] = b"\n".join(bare)
        return texts

    def in_redis(self) -> dict[str, bytes]:
        """Every key and value, and every command that ever changed one."""
        client = Redis.from_url(self.redis.url, password=PASSWORDS["redis password"])
        texts = {}
        for key in client.scan_iter():
            texts[f"Redis {key!r}"] = (client.dump(key) or b"") + repr(_value(client, key)).encode()
        written = [path for path in self.redis.folder.rglob("*") if path.is_file()]
        assert any(b"gc.scan" in path.read_bytes() for path in written), "Redis wrote nothing down"
        return texts | {f"Redis's file {path.name}": path.read_bytes() for path in written}

    def sentinels(self) -> Sentinels:
        tokens = {f"token {number}": token for number, token in enumerate(self.simulator.tokens())}
        private = "".join(self.key["private_key"].split("\n")[1:-2])
        lines = {"private key": self.key["private_key"], "private key, a line of it": private[64:128]}
        others = {
            "web token": WEB_TOKEN,
            "evidence token": EVIDENCE_TOKEN,
            "refused evidence token": REFUSED_TOKEN,
            "pod token": POD_TOKEN,
            "stale token": STALE_TOKEN,
            "notify address": HOOK_SECRET,
        }
        return Sentinels(PASSWORDS | tokens | lines | others)

    def ended(self, store: Store) -> dict[str, str]:
        """Registry -> the outcome of its run; empty until every run is finished."""
        with store.read() as connection:
            rows = connection.execute(select(run.c.registry, run.c.state, run.c.outcome)).all()
        finished = len(rows) == len(REGISTRIES) and all(row.state == "finished" for row in rows)
        return {row.registry: row.outcome for row in rows} if finished else {}

    def store(self) -> Store:
        return open_store(load(self.folder / "registry-gc.yaml", environ=self.environ).store)

    def left_behind(self) -> Mapping[str, bytes]:
        """Logs and every other file of the folder, except the secrets."""
        return {f"file {name}": content for name, content in files_below(self.folder, [self.secrets]).items()}


def _value(client: "Redis[Any]", key: Any) -> Any:
    kind = client.type(key)
    if kind == b"string":
        return client.get(key)
    if kind == b"list":
        return client.lrange(key, 0, -1)
    if kind == b"hash":
        return client.hgetall(key)
    return client.smembers(key) if kind == b"set" else client.zrange(key, 0, -1, withscores=True)


@contextmanager
def evidence_server() -> Iterator[str]:
    """Serve a list of images in use for one token; repeat any other token in the response, as no service should."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            good = self.headers.get("Authorization") == f"Bearer {EVIDENCE_TOKEN}"
            listed = {"as_of": datetime.now(UTC).isoformat(), "images": ["sha256:" + "a" * 64]}
            content = json.dumps(
                listed if good else {"error": f"refused: {self.headers.get('Authorization')}"}
            ).encode()
            self.send_response(200 if good else 403)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def finished_deployment(
    folder: Path, simulator: Simulator, postgres: PostgresServer, redis: RedisServer
) -> Iterator[tuple[SecretsDeployment, dict[str, str]]]:
    """The deployment with every run finished and every process running, and the outcomes by registry."""
    Redis.from_url(redis.url).config_set("requirepass", PASSWORDS["redis password"])
    deployment = SecretsDeployment(folder, simulator, postgres, redis)
    deployment.fill()
    with evidence_server() as evidence, Webhook().listening() as hook:
        written = deployment.document(evidence, hook.url)
        (folder / "registry-gc.yaml").write_text(yaml.safe_dump(written, sort_keys=False))
        with deployment.processes():
            until(deployment.listening, what="the web")
            for name in REGISTRIES:
                assert deployment.ask("POST", f"/api/registries/{name}/runs", WEB_TOKEN) == 202
            store = deployment.store()
            outcomes = until(lambda: deployment.ended(store), timeout=90, what="the end of every run", every=0.2)
            until(
                lambda: len(hook.received) >= len(REGISTRIES), timeout=30, what="a notification of every run", every=0.2
            )
            store.dispose()
            yield deployment, outcomes
