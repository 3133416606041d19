"""Repositories are read with the scan history: first-seen times, and images that lost their tags."""

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
    return {listed_image.digest: listed_image.created_at for listed_image in images}


UNTIMED = [image(1, "v1", days=None), image(2, "v2", days=None)]
TIMED = Rows({"shop/api": [image(1, "v1", days=50)]})


def test_keeps_a_push_time_that_the_registry_reports() -> None:
    before = RegistryHistory(seen={"shop/api": seen(image(1, "v1"), days=9)}, last_scan=HEAD)
    assert times(reader(before, YANDEX).read(TIMED, "shop/api")) == {digest(1): NOW - 50 * DAY}


def test_uses_the_first_seen_time_as_a_missing_push_time() -> None:
    before = RegistryHistory(seen={"shop/api": seen(UNTIMED[0], days=9)}, last_scan=HEAD)
    images_read = reader(before).read(Rows({"shop/api": UNTIMED}), "shop/api")
    assert times(images_read) == {digest(1): NOW - 9 * DAY, digest(2): NOW}


def test_ignores_the_history_of_other_repositories() -> None:
    before = RegistryHistory(seen={"shop/web": seen(UNTIMED[0], days=9)}, last_scan=HEAD)
    images_read = reader(before).read(Rows({"shop/api": UNTIMED[:1]}), "shop/api")
    assert times(images_read) == {digest(1): NOW}


def test_an_image_pushed_again_after_its_deletion_is_new() -> None:
    before = RegistryHistory(
        seen={"shop/api": seen(*UNTIMED, days=9)}, last_scan=HEAD, gone={"shop/api": frozenset([digest(1)])}
    )
    images_read = reader(before).read(Rows({"shop/api": UNTIMED}), "shop/api")
    assert times(images_read) == {digest(1): NOW, digest(2): NOW - 9 * DAY}


def test_records_the_return_of_a_missing_image() -> None:
    missing = update_history(seen(*UNTIMED, days=9), UNTIMED[:1], NOW - 5 * DAY, suspicious_absence=True)
    made = reader(RegistryHistory(seen={"shop/api": missing}, last_scan=HEAD))
    made.read(Rows({"shop/api": UNTIMED[:1]}), "shop/api")
    assert made.history.last_scan == HEAD
    images_read = made.read(Rows({"shop/api": UNTIMED}), "shop/api")
    assert times(images_read) == {digest(1): NOW - 9 * DAY, digest(2): NOW}
    assert made.history.last_scan is not None
    assert made.history.last_scan.returned == (NOW,)


def test_raises_the_error_of_an_unreadable_repository() -> None:
    with pytest.raises(UnavailableError):
        reader().read(Rows({"shop/api": UnavailableError("no answer")}), "shop/api")


def test_a_registry_that_was_never_scanned_has_no_history() -> None:
    made = reader()
    images_read: Any = times(made.read(Rows({"shop/api": UNTIMED}), "shop/api"))
    assert set(images_read.values()) == {NOW}
    assert made.history == RegistryHistory()
