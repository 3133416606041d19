"""The newest reading of every source of evidence: shared by all processes, so that none asks a source too often."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
import zstandard
from sqlalchemy import Connection, select

from worker.evidence.reading import Reading, Use
from worker.store.engine import insert_for
from worker.store.tables import evidence

_encoder = msgspec.json.Encoder()
_uses = msgspec.json.Decoder(Use)


@dataclass(frozen=True, slots=True)
class StoredReading:
    """What is known of one source: its newest reading, and when that was made."""

    source: str
    sha256: str  # of the source's settings
    read_at: datetime
    reading: Reading
    baseline: int  # how many uses the last scan's reading had
    foreign: int = 0  # how many of the last scan's matched no registry of the file and no digest of the inventory


def stored_readings(connection: Connection, registry: str) -> dict[str, StoredReading]:
    """By the source's name."""
    found = {}
    for row in connection.execute(select(evidence).where(evidence.c.registry == registry)):
        uses = tuple(_uses.decode_lines(zstandard.decompress(row.uses)))
        reading = Reading(as_of=row.as_of, uses=uses)
        found[row.source] = StoredReading(
            row.source, row.sha256, row.read_at, reading, row.baseline, row.foreign_references
        )
    return found


def save_readings(connection: Connection, registry: str, readings: Sequence[StoredReading]) -> None:
    """Keep these readings in place of the ones before."""
    for one in readings:
        lines = b"".join(_encoder.encode(use) + b"\n" for use in one.reading.uses)
        values = {
            "registry": registry,
            "source": one.source,
            "sha256": one.sha256,
            "as_of": one.reading.as_of,
            "read_at": one.read_at,
            "count": len(one.reading.uses),
            "baseline": one.baseline,
            "foreign_references": one.foreign,
            "uses": zstandard.compress(lines, 3),
        }
        added = insert_for(connection, evidence).values(values)
        key = [evidence.c.registry, evidence.c.source]
        connection.execute(added.on_conflict_do_update(index_elements=key, set_=values))
