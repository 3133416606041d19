"""The configuration as the rest of the program sees it: typed, checked, read once.

What the file contains is a contract (docs/configuration.md). Environment variables only say where things are, or make
a run more careful than the file says.
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
    """The file to read: as named, else as REGISTRY_GC_CONFIG says, else registry-gc.yaml in the working folder."""
    return path or Path(environ.get("REGISTRY_GC_CONFIG") or DEFAULT_FILE)


def load(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    look_for_secrets: bool = True,
    store_is_needed: bool = False,
) -> Settings:
    """The configuration of `path`, or of where the environment points. Raises ConfigError with every mistake.

    A secret that cannot be read is a mistake, unless it is not looked for: what works offline needs none, and who only
    asks the store (`store_is_needed`) just the one that may be the store's URL.
    """
    return read_settings(
        find(path, environ), environ, look_for_secrets=look_for_secrets, store_is_needed=store_is_needed
    )
