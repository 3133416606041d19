"""The order in which images of a repository are restored."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tests.support.builders import digest, image
from worker.registries.interface import SavedManifest
from worker.restore.images import WantedImage, restore_order
from worker.store.undo import UndoRecord


def wanted(name: int) -> WantedImage:
    listed_image = image(name)
    return WantedImage(
        UndoRecord(
            "run", name, "shop/api", listed_image, SavedManifest(listed_image.digest, "", b""), datetime.now(UTC)
        )
    )


@given(st.data())
def test_sorts_listed_images_before_their_index(data: st.DataObject) -> None:
    """Whatever the order of the rows, and whatever they say of each other's subjects."""
    size = data.draw(st.integers(1, 12))
    lists = {
        number: data.draw(st.sets(st.integers(0, number - 1), max_size=4)) if number else set()
        for number in range(size)
    }
    about = {number: data.draw(st.sets(st.integers(0, size + 2), max_size=2)) for number in range(size)}
    needs = {digest(number): tuple(map(digest, children)) for number, children in lists.items()}
    subjects = {digest(number): tuple(map(digest, of)) for number, of in about.items()}
    names = data.draw(st.permutations(range(size)))
    order = [
        wanted_image.undo.item for wanted_image in restore_order([wanted(name) for name in names], needs, subjects)
    ]
    assert sorted(order) == list(range(size))
    assert all(order.index(child) < order.index(index) for index, children in lists.items() for child in children)
    assert order == [
        wanted_image.undo.item
        for wanted_image in restore_order([wanted(name) for name in sorted(names)], needs, subjects)
    ]
    if all(subject < referrer for referrer, of in about.items() for subject in of):  # no cycle is possible
        assert all(order.index(subject) < order.index(referrer) for referrer, of in about.items() for subject in of)


def test_sorts_a_long_chain_without_recursion() -> None:
    chain = {digest(number): (digest(number - 1),) for number in range(1, 3000)}
    order = restore_order([wanted(number) for number in range(3000)], chain, {})
    assert [wanted_image.undo.item for wanted_image in order] == list(range(3000))
