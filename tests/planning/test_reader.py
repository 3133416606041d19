"""Repositories are read beside what the store remembers: times of the first sight, images that lost their tags."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pytest

from policies.image import Image
from policies.scan_history import NO_HISTORY, RepositoryHistory, update_history
from tests.planning.rows import Rows
from tests.support.builders import DAY, NOW, digest, image
from tests.support.drivers import with_defaults
from worker.config.settings import Credentials, RegistrySettings
from worker.planning.reader import RepositoryReader
from worker.registries.errors import UnavailableError
from worker.store.scan_history import LastScan, RegistryHistory

HEAD = LastScan(NOW - DAY)
OCI = with_defaults(kind="oci", url="https://a.example", credentials=Credentials(anonymous=True))
YANDEX = with_defaults(id="crp1", credentials=Credentials(metadata=True))


def reader(before: RegistryHistory = RegistryHistory(), registry: RegistrySettings = OCI) -> RepositoryReader:  # noqa: B008 - frozen
    return RepositoryReader(None, registry, before, NOW)


def seen(*images: Image, days: float) -> RepositoryHistory:
    return update_history(NO_HISTORY, images, NOW - days * DAY)


def times(images: Iterable[Image]) -> dict[str, datetime | None]:
    return {one.digest: one.created_at for one in images}


UNTIMED = [image(1, "v1", days=None), image(2, "v2", days=None)]
TIMED = Rows({"shop/api": [image(1, "v1", days=50)]})


def test_a_push_time_that_the_registry_tells_stays() -> None:
    before = RegistryHistory(seen={"shop/api": seen(image(1, "v1"), days=9)}, last_scan=HEAD)
    assert times(reader(before, YANDEX).read(TIMED, "shop/api")) == {digest(1): NOW - 50 * DAY}


def test_an_image_without_a_push_time_was_pushed_when_it_was_first_seen() -> None:
    before = RegistryHistory(seen={"shop/api": seen(UNTIMED[0], days=9)}, last_scan=HEAD)
    found = reader(before).read(Rows({"shop/api": UNTIMED}), "shop/api")
    assert times(found) == {digest(1): NOW - 9 * DAY, digest(2): NOW}


def test_what_another_repository_saw_says_nothing() -> None:
    before = RegistryHistory(seen={"shop/web": seen(UNTIMED[0], days=9)}, last_scan=HEAD)
    found = reader(before).read(Rows({"shop/api": UNTIMED[:1]}), "shop/api")
    assert times(found) == {digest(1): NOW}


def test_what_went_and_was_pushed_again_is_new() -> None:
    before = RegistryHistory(
        seen={"shop/api": seen(*UNTIMED, days=9)}, last_scan=HEAD, gone={"shop/api": frozenset([digest(1)])}
    )
    found = reader(before).read(Rows({"shop/api": UNTIMED}), "shop/api")
    assert times(found) == {digest(1): NOW, digest(2): NOW - 9 * DAY}


def test_what_had_been_missing_and_is_there_again_is_noted_as_returned() -> None:
    missing = update_history(seen(*UNTIMED, days=9), UNTIMED[:1], NOW - 5 * DAY, suspicious_absence=True)
    made = reader(RegistryHistory(seen={"shop/api": missing}, last_scan=HEAD))
    made.read(Rows({"shop/api": UNTIMED[:1]}), "shop/api")
    assert made.history.last_scan == HEAD
    found = made.read(Rows({"shop/api": UNTIMED}), "shop/api")
    assert times(found) == {digest(1): NOW - 9 * DAY, digest(2): NOW}
    assert made.history.last_scan is not None
    assert made.history.last_scan.returned == (NOW,)


def test_what_cannot_be_read_is_the_callers_to_handle() -> None:
    with pytest.raises(UnavailableError):
        reader().read(Rows({"shop/api": UnavailableError("no answer")}), "shop/api")


def test_of_what_was_never_scanned_nothing_is_recalled() -> None:
    made = reader()
    found: Any = times(made.read(Rows({"shop/api": UNTIMED}), "shop/api"))
    assert set(found.values()) == {NOW}
    assert made.history == RegistryHistory()
