"""The configuration for the rest of the program: typed, checked, read once.

The content of the file is a contract (docs/configuration.md). Environment variables only name locations, or make a run
more careful than the file.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from worker.config.addresses import HUB_HOSTS, YANDEX_HOSTS, api_of, namespace_of, one_endpoint
from worker.config.document import (
    OUTCOMES,
    Notification,
    Outcome,
    RegistrySettings,
    Retention,
    Settings,
    Timing,
    Web,
    key_of,
    kind_in,
)
from worker.config.reading import ConfigError, read_settings
from worker.config.registry import (
    AfterRun,
    Credentials,
    Endpoints,
    EvidenceKind,
    EvidenceSettings,
    Mode,
    Network,
    Rate,
    WorkloadIdentity,
)
from worker.config.secret import Secret, SecretError

__all__ = [
    "AfterRun",
    "ConfigError",
    "Credentials",
    "Endpoints",
    "EvidenceKind",
    "EvidenceSettings",
    "HUB_HOSTS",
    "Mode",
    "Network",
    "Notification",
    "OUTCOMES",
    "Outcome",
    "Rate",
    "RegistrySettings",
    "Retention",
    "Secret",
    "SecretError",
    "Settings",
    "Timing",
    "Web",
    "WorkloadIdentity",
    "YANDEX_HOSTS",
    "api_of",
    "find",
    "key_of",
    "kind_in",
    "load",
    "namespace_of",
    "one_endpoint",
]

DEFAULT_FILE = Path("registry-gc.yaml")


def find(path: Path | None, environ: Mapping[str, str]) -> Path:
    """The file to read: `path`, or REGISTRY_GC_CONFIG, or registry-gc.yaml in the working folder."""
    return path or Path(environ.get("REGISTRY_GC_CONFIG") or DEFAULT_FILE)


def load(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    look_for_secrets: bool = True,
    store_is_needed: bool = False,
) -> Settings:
    """The configuration of the file that `find` names. Raises ConfigError with every mistake.

    `look_for_secrets`: an unreadable secret is a mistake; offline commands need no secret. `store_is_needed`: the
    command needs the secret of the store's URL, if there is one.
    """
    return read_settings(
        find(path, environ), environ, look_for_secrets=look_for_secrets, store_is_needed=store_is_needed
    )
