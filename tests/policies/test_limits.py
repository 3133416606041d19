"""A plan that deletes too much is refused, by any of its limits, in words that show by how much."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from policies.limits import Exceeded, Limits, Totals, exceeded, exceeded_text, unusual


@pytest.mark.parametrize(
    ("totals", "limits", "over"),
    [
        (Totals(images=20, delete=10), Limits(), []),
        (Totals(images=20, delete=11), Limits(), [Exceeded("max_share", 0.55, 0.5)]),
        (Totals(images=12, delete=12), Limits(), [Exceeded("max_share", 1.0, 0.5)]),
        (Totals(images=4, delete=4), Limits(), [Exceeded("max_share", 1.0, 0.5)]),
        (Totals(images=7, delete=4), Limits(), [Exceeded("max_share", 4 / 7, 0.5)]),
        (Totals(images=8, delete=4), Limits(), []),
        (Totals(images=3, delete=3), Limits(), []),
        (Totals(images=3, delete=3), Limits(max_share=0.5), [Exceeded("max_share", 1.0, 0.5)]),
        (Totals(images=12, delete=12), Limits(max_images=20), [Exceeded("max_share", 1.0, 0.5)]),
        (Totals(images=19, delete=19), Limits(max_share=0.9), [Exceeded("max_share", 1.0, 0.9)]),
        (Totals(images=0), Limits(max_share=0.0), []),
        (Totals(images=100, delete=1), Limits(max_share=0.0), [Exceeded("max_share", 0.01, 0.0)]),
        (Totals(images=100, delete=100), Limits(max_share=1.0), []),
        (Totals(images=100, delete=6), Limits(max_images=5), [Exceeded("max_images", 6, 5)]),
        (Totals(images=100, delete=5), Limits(max_images=5), []),
        (Totals(images=100, delete=1), Limits(max_images=0), [Exceeded("max_images", 1, 0)]),
        (Totals(images=100, delete=1, reclaimable_bytes=11), Limits(max_bytes=10), [Exceeded("max_bytes", 11, 10)]),
        (Totals(images=100, delete=1, selected_bytes=11, reclaimable_bytes=10), Limits(max_bytes=10), []),
    ],
)
def test_a_plan_is_over_a_limit_when_it_deletes_more_than_allowed(
    totals: Totals, limits: Limits, over: list[Exceeded]
) -> None:
    assert list(exceeded(totals, limits)) == over


@pytest.mark.parametrize(
    ("over", "text"),
    [
        (Exceeded("max_images", 9000, 5000), "max_images is 9,000, allowed 5,000"),
        (Exceeded("max_share", 0.6125, 0.5), "max_share is 61.25%, allowed 50%"),
        (Exceeded("max_share", 0.5000004, 0.5), "max_share is 50.00004%, allowed 50%"),
        (Exceeded("max_bytes", 3 * 1024**4, 2 * 1024**4), "max_bytes is 3 TiB, allowed 2 TiB"),
        (Exceeded("max_bytes", 1024**4 + 1, 1024**4), "max_bytes is 1,099,511,627,777 B, allowed 1,099,511,627,776 B"),
    ],
)
def test_describes_an_exceeded_limit(over: Exceeded, text: str) -> None:
    assert exceeded_text([over]) == exceeded_text([msgspec.to_builtins(over)]) == text
    assert exceeded_text([over, over]) == f"{text}; {text}"


@pytest.mark.parametrize(
    ("before", "allowed"),
    [
        pytest.param((2, 2, 2, 2), None, id="four plans are too few to compare with"),
        pytest.param((2, 2, 2, 2, 2), 6, id="three times two"),
        pytest.param((3, 3, 3, 3, 3), None, id="seven are not more than three times three"),
        pytest.param((0, 0, 0, 0, 0), 3, id="of plans without a deletion: three"),
        pytest.param((1, 1, 1, 900, 900), 3, id="some large plans do not count"),
        pytest.param((2, 2, 2, 2, 3, 3), 6, id="an even number"),
        pytest.param((2, 2, 2, 3, 3, 3), None, id="seven are not more than 7.5"),
    ],
)
def test_a_plan_of_three_times_the_usual_size_is_unusual(before: tuple[int, ...], allowed: int | None) -> None:
    over = () if allowed is None else (Exceeded("unusual", 7, allowed),)
    assert unusual(Totals(images=100, delete=7), before) == over


def test_describes_vanished_and_unusual() -> None:
    assert exceeded_text([Exceeded("vanished", 1 / 3, 0.2), Exceeded("unusual", 7000, 300)]) == (
        "33.33% of the images of the last complete scan are missing, not deleted by us, allowed 20%; "
        "7,000 images are more than three times what a plan usually deletes here, allowed 300"
    )


def test_all_limits_that_a_plan_is_over_are_named() -> None:
    totals = Totals(images=10, delete=9, reclaimable_bytes=100)
    assert exceeded(totals, Limits(max_images=8, max_share=0.8, max_bytes=99)) == (
        Exceeded("max_images", 9, 8),
        Exceeded("max_share", 0.9, 0.8),
        Exceeded("max_bytes", 100, 99),
    )


@pytest.mark.parametrize("wrong", [{"max_images": -1}, {"max_images": 1.5}, {"max_images": True}, {"max_imagse": 1}])
def test_rejects_an_invalid_limit(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Limits.model_validate(wrong)


@given(st.integers(1, 1000), st.data())
def test_more_deletions_are_never_within_limits_that_fewer_are_over(images: int, data: st.DataObject) -> None:
    fewer = data.draw(st.integers(0, images))
    more = data.draw(st.integers(fewer, images))
    limits = Limits(
        max_images=data.draw(st.none() | st.integers(0, 1000)), max_share=data.draw(st.none() | st.floats(0, 1))
    )

    def over(delete: int) -> set[str]:
        return {limit.limit for limit in exceeded(Totals(images=images, delete=delete), limits)}

    assert over(fewer) <= over(more)


def test_no_plan_exceeds_an_absent_limit() -> None:
    assert exceeded_text([]) == ""
    assert unusual(Totals(images=100, delete=100), ()) == ()
