"""What people asked for and what is in use, read a second time by plainer means than the program's."""

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from tests.support.memory_registry import Instance

GOOD_FOR = timedelta(minutes=10)  # evidence may be as old as that at the time of a batch


@dataclass
class InUse:
    """The file that says what is in use: what it says, since when (true time), and whether it can be believed."""

    file: Path
    since: dict[str, datetime] = field(default_factory=dict)  # a digest, or path:tag
    believed: bool = True
    broken_since: datetime | None = None
    changed_at: datetime | None = None

    def write(self, as_of: datetime, address: str) -> None:
        images = [one if one.startswith("sha256:") else f"{address}/{one}" for one in sorted(self.since)]
        text = json.dumps({"as_of": as_of.isoformat(), "images": images})
        self.file.write_text(text if self.believed else text[: len(text) // 2])

    def users(self, images: Mapping[str, Instance], path: str, before: datetime | None) -> set[str]:
        """Digests of a repository that are in use since `before`, and the indexes that list them."""
        names = {name for name, since in self.since.items() if before is None or since <= before}
        found = {
            digest
            for digest, held in images.items()
            if digest in names
            or (held.content.config is not None and held.content.config.digest in names)
            or any(f"{path}:{tag}" in names for tag in held.tags)
        }
        while more := {
            digest
            for digest, held in images.items()
            if digest not in found and not found.isdisjoint(held.content.children or ())
        }:
            found |= more
        return found


def held_by_people(rows: Iterable[sqlite3.Row], now: datetime, path: str, held: Instance) -> bool:
    """Whether one of these holds is on an image at this instant."""
    micros = now.timestamp() * 1e6
    return any(_on(row, path, held) for row in rows if row["until"] is None or row["until"] > micros)


def _on(row: sqlite3.Row, path: str, held: Instance) -> bool:
    match row["kind"]:
        case "repository":
            pattern = re.escape(row["value"]).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
            return re.fullmatch(pattern, path) is not None
        case "image":
            return bool(row["value"] == held.id)
        case "digest":
            return row["repository"] in (None, path) and row["value"] == held.digest
    if row["repository"] != path:
        return False
    return row["value"] in held.tags or row["digest"] == held.digest
