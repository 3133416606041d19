"""The newest reading of each source: it is loaded as it was saved, and a newer one replaces it."""

from dataclasses import replace

from tests.store.rows import HOUR, NOW, column
from worker.evidence.reading import Reading, Use
from worker.store import Store
from worker.store.evidence import StoredReading, save_readings, stored_readings
from worker.store.tables import evidence

USES = (
    Use(by="Deployment shop/api", image="registry.example.com/shop/api:v1", digest=None),
    Use(by="pod shop/web-1\u2028", image=None, digest=f"sha256:{1:064x}"),
)
READING = Reading(as_of=NOW - HOUR, uses=USES)
CLUSTER = StoredReading("cluster", "ab" * 32, NOW, READING, baseline=7, foreign=1)


def test_loads_readings_by_the_name_of_their_source(store: Store) -> None:
    file = StoredReading("file", "cd" * 32, NOW, Reading(as_of=NOW, uses=()), baseline=0)
    with store.write() as connection:
        save_readings(connection, "production", [CLUSTER, file])
        save_readings(connection, "staging", [replace(file, baseline=3)])
        assert stored_readings(connection, "production") == {"cluster": CLUSTER, "file": file}
        assert stored_readings(connection, "staging")["file"].baseline == 3
        assert stored_readings(connection, "elsewhere") == {}
        assert sorted(column(connection, evidence, "count")) == [0, 0, 2]


def test_a_newer_reading_replaces_the_one_before(store: Store) -> None:
    newer = replace(CLUSTER, read_at=NOW + HOUR, reading=Reading(as_of=NOW, uses=USES[:1]), baseline=1, foreign=0)
    with store.write() as connection:
        save_readings(connection, "production", [CLUSTER])
        save_readings(connection, "production", [newer])
        assert stored_readings(connection, "production") == {"cluster": newer}
