"""`make demo [KIND=…]`: one scheduled run and one manual run against a registry of any kind, with every process real.

It starts a realistic registry (simulated over HTTP; of the kind oci Debian's own docker-registry), writes a
configuration whose cron line is due in the next minute, and runs `registry-gc up`: Redis, worker, beat and web on free
loopback ports.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from tests.demo.registries import KINDS, Stage, stage
from tests.support.servers import free_port
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "worker.cli"]
POLICY = [
    {"name": "in use", "keep": {"tags": ["latest", "stable"]}},
    {"name": "newest releases", "keep": {"newest": 5, "tags": ["v*.*.*"]}},
    {"name": "newest ten", "keep": {"newest": 10, "tagged": True}},
    {"name": "old releases", "delete": {"tags": ["v*.*.*"], "older_than": "180d"}},
    {"name": "pull requests", "delete": {"tags": ["pr-*"], "older_than": "14d"}},
    {"name": "leftovers", "delete": {"untagged": True, "older_than": "7d"}},
    {"name": "giants", "delete": {"larger_than": "1GiB", "older_than": "30d"}, "repositories": ["ml/**"]},
]


def say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def headline(text: str) -> None:
    say()
    say(f"== {text}")


def next_minute(now: datetime) -> datetime:
    """The next whole minute that is at least 15 seconds ahead: time for every process to have started."""
    return (now + timedelta(seconds=75)).replace(second=0, microsecond=0)


def configuration(on: Stage, folder: Path, port: int, due: datetime) -> dict[str, Any]:
    return {
        "store": f"sqlite:///{folder}/registry-gc.db",
        "web": {"listen": f"127.0.0.1:{port}"},
        "registries": {
            "production": on.settings(folder)
            | {
                "schedule": f"{due.minute} {due.hour} * * *",
                "timezone": "UTC",
                "mode": "delete",
                "policy": "nightly",
                "keep_per_repository": 1,
                "limits": {"max_images": 2000, "max_share": "60%"},
                "rate": {"requests_per_second": 1000, "concurrency": 16},
            }
        },
        "policies": {"nightly": policy(on.settings(folder)["kind"])},
    }


def policy(kind: str) -> list[dict[str, Any]]:
    """The demo's rules, without the rules about images that a registry of this kind cannot list."""
    return [rule for rule in POLICY if kind != "oci" or rule["name"] != "leftovers"]


class Demo:
    """Everything the demo runs, and the numbers that must agree at its end."""

    def __init__(self, on: Stage, folder: Path) -> None:
        self.stage = on
        self.port = free_port()
        self.due = next_minute(datetime.now(UTC))
        self.path = folder / "registry-gc.yaml"
        self.path.write_text(yaml.safe_dump(configuration(on, folder, self.port, self.due), sort_keys=False))
        self.environ = os.environ | {"REGISTRY_GC_CONFIG": str(self.path), "STATE_DIRECTORY": str(folder / "state")}
        self.log = folder / "up.log"

    def command(self, *words: str) -> int:
        """One of the commands a person would type, shown as typed, its output straight to the terminal."""
        say(f"$ registry-gc {' '.join(words)}")
        return subprocess.run([*COMMAND, *words], cwd=ROOT, env=self.environ, check=False).returncode

    def first_lines(self, count: int, *words: str) -> None:
        """Show the first lines of the output of a command."""
        say(f"$ registry-gc {' '.join(words)} | head -{count}")
        done = subprocess.run(
            [*COMMAND, *words], cwd=ROOT, env=self.environ, stdout=subprocess.PIPE, text=True, check=True
        )
        say("\n".join(done.stdout.splitlines()[:count]))

    def answer(self, *words: str) -> Any:
        """The JSON answer of a command."""
        done = subprocess.run(
            [*COMMAND, *words, "--format", "json"], cwd=ROOT, env=self.environ, stdout=subprocess.PIPE, check=True
        )
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def up(self) -> Iterator[None]:
        """Run `registry-gc up` in its own session; stop it as systemd does."""
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [*COMMAND, "up"], cwd=ROOT, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            try:
                until(lambda: self.healthy() or process.poll() is not None, timeout=60, what="registry-gc up")
                if process.poll() is not None:
                    raise SystemExit(f"registry-gc up ended: {self.log.read_text()}")
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=180)

    def healthy(self) -> bool:
        with contextlib.suppress(OSError):
            self.get("/metrics")
            return True
        return False

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    def metric(self, name: str) -> int:
        sample = re.search(rf'^{name}{{registry="production"}} (\S+)$', self.get("/metrics"), re.MULTILINE)
        assert sample is not None, f"/metrics has no {name}"
        return int(float(sample[1]))

    def scheduled_run(self) -> dict[str, Any]:
        """Wait for the scheduled run to finish, and show its progress until then."""

        def finished() -> dict[str, Any] | None:
            run = next((run for run in self.answer("runs")["runs"] if run["trigger"] == "schedule"), None)
            state = f"{run['state']}: {run['deleted']} of {run['planned']} deleted" if run else "not due yet"
            say(f"   {datetime.now(UTC):%H:%M:%S} {state}")
            return run if run and run["state"] == "finished" else None

        run = until(finished, timeout=150, what="the scheduled run", every=3)
        assert run is not None
        return run

    def compare(self) -> bool:
        """Print the reclaimed bytes of /metrics and the bytes that the registry freed, and compare them."""
        reclaimed, (lost, how) = self.metric("registry_gc_reclaimed_bytes_total"), self.stage.lost_bytes()
        say(f"   /metrics   registry_gc_reclaimed_bytes_total  {reclaimed:>20,}")
        say(f"   registry   {how:<34} {lost:>20,}")
        say("   equal" if reclaimed == lost else "   NOT EQUAL")
        return bool(reclaimed == lost)


def leftovers(folder: Path) -> list[str]:
    """Processes that still name the demo's folder."""
    names = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            if str(folder).encode() in words and int(entry.name) != os.getpid():
                names.append(entry.name)
    return names


def main() -> int:
    begun = time.monotonic()
    kind = (sys.argv[1:] or [""])[0] or KINDS[0]
    with tempfile.TemporaryDirectory(prefix="registry-gc-demo-") as name, stage(kind) as on:
        folder = Path(name)
        demo = Demo(on, folder)
        headline("A registry, a configuration, and every process")
        say(f"   kind       {kind}")
        say(f"   {on.title}")
        say(f"   schedule   production is due at {demo.due:%H:%M} UTC")
        if demo.command("check") != 0:
            return 1
        with demo.up():
            say(f"   running    Redis, worker, beat and web; metrics on http://127.0.0.1:{demo.port}/metrics")
            headline("What would go, why, and how many bytes")
            demo.command("plan", "production")
            headline("The scheduled run: beat starts it")
            run = demo.scheduled_run()
            demo.command("runs")
            ok = demo.compare() and run["outcome"] == "succeeded"
            headline("More is pushed, and a run is started by hand")
            on.push_more()
            by_hand = demo.command("sweep", "production", "--wait")
            demo.command("runs")
            headline("Reclaimed bytes, according to Prometheus and to the registry")
            ok = demo.compare() and ok and by_hand == 0
            ok = on.troubles() == [] and ok
            headline("The last of the audit")
            demo.first_lines(5, "audit", "production")
        left = leftovers(folder)
        say()
        say(
            f"Everything that was started is gone again. {time.monotonic() - begun:.0f} s."
            if not left
            else f"Left: {left}"
        )
    return 0 if ok and not left else 1


if __name__ == "__main__":
    sys.exit(main())
