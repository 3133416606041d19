"""Holds and evidence of use, evaluated a second time by simpler code than the program's."""

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from tests.support.memory_registry import Instance

EVIDENCE_VALID_FOR = timedelta(minutes=10)  # the age that evidence may have when a batch uses it


@dataclass
class InUse:
    """The evidence file: the names in use, since when (true time), and whether the file is whole."""

    file: Path
    since: dict[str, datetime] = field(default_factory=dict)  # a digest, or path:tag
    trusted: bool = True
    broken_since: datetime | None = None
    changed_at: datetime | None = None

    def write(self, as_of: datetime, address: str) -> None:
        images = [name if name.startswith("sha256:") else f"{address}/{name}" for name in sorted(self.since)]
        text = json.dumps({"as_of": as_of.isoformat(), "images": images})
        self.file.write_text(text if self.trusted else text[: len(text) // 2])

    def users(self, images: Mapping[str, Instance], path: str, before: datetime | None) -> set[str]:
        """Digests of a repository that have been in use since `before`, and the indexes that list them."""
        names = {name for name, since in self.since.items() if before is None or since <= before}
        used = {
            digest
            for digest, instance in images.items()
            if digest in names
            or (instance.content.config is not None and instance.content.config.digest in names)
            or any(f"{path}:{tag}" in names for tag in instance.tags)
        }
        while more := {
            digest
            for digest, instance in images.items()
            if digest not in used and not used.isdisjoint(instance.content.children or ())
        }:
            used |= more
        return used


def is_held(rows: Iterable[sqlite3.Row], now: datetime, path: str, instance: Instance) -> bool:
    """Whether one of the holds covers the image at this time."""
    micros = now.timestamp() * 1e6
    return any(_on(row, path, instance) for row in rows if row["until"] is None or row["until"] > micros)


def _on(row: sqlite3.Row, path: str, instance: Instance) -> bool:
    match row["kind"]:
        case "repository":
            pattern = re.escape(row["value"]).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
            return re.fullmatch(pattern, path) is not None
        case "image":
            return bool(row["value"] == instance.id)
        case "digest":
            return row["repository"] in (None, path) and row["value"] == instance.digest
    if row["repository"] != path:
        return False
    return row["value"] in instance.tags or row["digest"] == instance.digest
