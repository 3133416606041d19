"""A night on a shelf: on the usual kind of store, or on each kind."""

from collections.abc import Callable

import pytest

from tests.support.shelf import ShelfNight, ShelfNights


@pytest.fixture
def night(shelf_nights: ShelfNights) -> ShelfNight:
    return shelf_nights()


@pytest.fixture
def either(new_store: Callable[[], str | None], shelf_nights: ShelfNights) -> ShelfNight:
    """A night on each kind of store."""
    return shelf_nights(store=new_store())
