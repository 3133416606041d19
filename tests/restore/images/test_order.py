"""The order in which images of a repository are put back."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tests.support.builders import digest, image
from worker.registries.interface import SavedManifest
from worker.restore.images import WantedImage, in_order
from worker.store.undo import UndoRecord


def wanted(name: int) -> WantedImage:
    one = image(name)
    return WantedImage(UndoRecord("run", name, "shop/api", one, SavedManifest(one.digest, "", b""), datetime.now(UTC)))


@given(st.data())
def test_what_is_listed_comes_before_what_lists_it(data: st.DataObject) -> None:
    """Whatever the order of the rows, and whatever they say of each other's subjects."""
    size = data.draw(st.integers(1, 12))
    lists = {
        number: data.draw(st.sets(st.integers(0, number - 1), max_size=4)) if number else set()
        for number in range(size)
    }
    about = {number: data.draw(st.sets(st.integers(0, size + 2), max_size=2)) for number in range(size)}
    needs = {digest(number): tuple(map(digest, some)) for number, some in lists.items()}
    subjects = {digest(number): tuple(map(digest, some)) for number, some in about.items()}
    names = data.draw(st.permutations(range(size)))
    order = [one.undo.item for one in in_order([wanted(name) for name in names], needs, subjects)]
    assert sorted(order) == list(range(size))
    assert all(order.index(child) < order.index(index) for index, some in lists.items() for child in some)
    assert order == [one.undo.item for one in in_order([wanted(name) for name in sorted(names)], needs, subjects)]
    if all(subject < one for one, some in about.items() for subject in some):  # no circle is possible
        assert all(order.index(subject) < order.index(one) for one, some in about.items() for subject in some)


def test_a_long_chain_is_no_recursion() -> None:
    chain = {digest(number): (digest(number - 1),) for number in range(1, 3000)}
    order = in_order([wanted(number) for number in range(3000)], chain, {})
    assert [one.undo.item for one in order] == list(range(3000))
