"""Evidence from a file: the time in its content counts, and a path that is not a regular file never blocks."""

import os
import socket
from datetime import UTC, datetime, timedelta

import pytest

from worker.config.settings import EvidenceSettings
from worker.evidence import EvidenceError, Use, read
from worker.evidence.document import MAX_BYTES

LINES = "# as_of: 2026-11-23T03:00:00Z\ncr.yandex/r/shop/api:v7\n# end\n"


def source(path):
    return EvidenceSettings(name="list", kind="file", max_age=timedelta(hours=24), path=path)


def test_the_age_of_a_file_is_in_its_content(tmp_path):
    path = tmp_path / "in-use"
    path.write_text(LINES)
    read_ = read(source(path))
    assert read_.as_of == datetime(2026, 11, 23, 3, tzinfo=UTC)
    assert read_.uses == (Use(None, "cr.yandex/r/shop/api:v7", "list"),)


def pipe(path):
    os.mkfifo(path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def large(path):
    with path.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(
            pipe, "{}: is not a regular file; write the whole file again, as docs/evidence.md shows", id="a named pipe"
        ),
        pytest.param(
            lambda path: path.mkdir(),
            "{} cannot be read: Is a directory; check that the file exists and is readable",
            id="a folder",
        ),
        pytest.param(
            lambda path: path.symlink_to("/dev/zero"),
            "{}: is not a regular file; write the whole file again, as docs/evidence.md shows",
            id="a device",
        ),
        pytest.param(
            listening,
            "{} cannot be read: No such device or address; check that the file exists and is readable",
            id="a socket",
        ),
        pytest.param(
            lambda path: None,
            "{} cannot be read: No such file or directory; check that the file exists and is readable",
            id="nothing",
        ),
        pytest.param(
            large, "{}: is larger than 64 MiB; write the whole file again, as docs/evidence.md shows", id="too large"
        ),
        pytest.param(
            lambda path: path.write_text(""),
            "{}: is empty; write the whole file again, as docs/evidence.md shows",
            id="the output of a failed kubectl",
        ),
    ],
)
def test_reports_why_a_source_gives_no_evidence(tmp_path, make, message):
    path = tmp_path / "in-use"
    make(path)
    with pytest.raises(EvidenceError) as raised:
        read(source(path))
    assert str(raised.value) == f"evidence list: {message.format(path)}"
