"""Programs that give passwords, how often they were asked, and drivers that sign in by them."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.registries.http.network.conftest import Opener
from tests.support.oci.fake import FakeRegistry
from worker.config.secret import Origin
from worker.config.settings import Credentials

Program = Callable[[str, str], Path]


NONE = "credentials not found in native keychain"


def calls(tmp_path: Path) -> list[str]:
    file = tmp_path / "bin" / "calls"
    return file.read_text().splitlines() if file.exists() else []


def printing(**document: Any) -> str:
    return f"print({json.dumps(json.dumps(document))})"


def signed_in(opened: Opener, registry: FakeRegistry, folder: Path | None = None, **way: Any) -> None:
    """`folder`: where the configuration file is."""
    origin = Origin(folder=folder, environ=os.environ, look_for_secrets=False) if folder else None
    assert opened(registry.url, credentials=Credentials.model_validate(way, context=origin)).clock()
