"""The newest reading of every source of evidence; all processes share it, so that they rarely read a source."""

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
    """The newest reading of one source, and its time."""

    source: str
    sha256: str  # of the source's settings
    read_at: datetime
    reading: Reading
    baseline: int  # number of uses in the last scan's reading
    foreign: int = 0  # number of them that match no registry of the file and no digest of the inventory


def stored_readings(connection: Connection, registry: str) -> dict[str, StoredReading]:
    """The newest readings of a registry's sources, by the source's name."""
    readings = {}
    for row in connection.execute(select(evidence).where(evidence.c.registry == registry)):
        uses = tuple(_uses.decode_lines(zstandard.decompress(row.uses)))
        reading = Reading(as_of=row.as_of, uses=uses)
        readings[row.source] = StoredReading(
            row.source, row.sha256, row.read_at, reading, row.baseline, row.foreign_references
        )
    return readings


def save_readings(connection: Connection, registry: str, readings: Sequence[StoredReading]) -> None:
    """Save readings; each replaces its source's reading before."""
    for stored in readings:
        lines = b"".join(_encoder.encode(use) + b"\n" for use in stored.reading.uses)
        values = {
            "registry": registry,
            "source": stored.source,
            "sha256": stored.sha256,
            "as_of": stored.reading.as_of,
            "read_at": stored.read_at,
            "count": len(stored.reading.uses),
            "baseline": stored.baseline,
            "foreign_references": stored.foreign,
            "uses": zstandard.compress(lines, 3),
        }
        added = insert_for(connection, evidence).values(values)
        key = [evidence.c.registry, evidence.c.source]
        connection.execute(added.on_conflict_do_update(index_elements=key, set_=values))
