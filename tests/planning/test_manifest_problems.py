"""Images whose manifests say too little: named with the reason, set aside by a person, warned of once."""

from policies.image import Blob, Image
from tests.support.builders import digest, image, index
from worker.planning.manifest_problems import ManifestProblems

NOTHING: frozenset[str] = frozenset()


def noted(*images: Image, ignored: frozenset[str] = NOTHING, **why: str) -> ManifestProblems:
    problems = ManifestProblems(ignored, {digest(name): reason for name, reason in why.items()})
    problems.add("shop/api", images)
    return problems


def test_an_unreadable_image_is_named_with_its_reason() -> None:
    found = noted(
        index("a", lists=None),
        index("b", lists=None),
        index("c", lists=None, media_type="x/" + "y" * 200),
        b="a time-out",
    )
    assert [(one.repository, one.digest) for one in found.unreadable] == [
        ("shop/api", digest(name)) for name in "abc"
    ]  # fmt: skip
    may_list = ", so it may list other images"
    assert [one.reason for one in found.unreadable] == [
        f"its manifest could not be read{may_list}",
        f"its manifest could not be read (a time-out){may_list}",
        f"its type x/{'y' * 98} is not known{may_list}",
    ]
    assert [warning.code for warning in found.warnings()] == ["unreadable_images"]


def test_what_a_person_has_set_aside_is_not_named() -> None:
    found = noted(index("a", lists=None), ignored=frozenset([digest("a")]))
    assert (found.unreadable, list(found.warnings())) == ((), [])


def test_what_can_be_read_needs_no_word() -> None:
    found = noted(image("a"), index("b", lists=["a"]), image("c", size=None))
    assert (found.unreadable, list(found.warnings())) == ((), [])


def test_an_image_with_blobs_and_no_size_is_warned_of() -> None:
    (one,) = noted(image("a", size=None, layers=["x"])).warnings()
    assert one.code == "unknown_sizes"
    assert one.message.startswith(f"1 image has no possible size, for example shop/api@{digest('a')}:")
    (two,) = noted(image("a", size=None, layers=["x"]), image("b", size=None, config=Blob(digest("c"), 1))).warnings()
    assert two.message.startswith("2 images have no possible size")


def test_what_is_noted_of_a_repository_again_takes_the_place_of_what_was_noted() -> None:
    found = noted(index("a", lists=None), image("b", size=None, layers=["x"]))
    found.add("base", [index("z", lists=None)])
    found.add("shop/api", [image("a")])
    assert [one.repository for one in found.unreadable] == ["base"]
    assert [warning.code for warning in found.warnings()] == ["unreadable_images"]


def test_they_are_named_in_order_of_their_repositories() -> None:
    found = noted(index("a", lists=None))
    found.add("base", [index("z", lists=None)])
    assert [one.repository for one in found.unreadable] == ["base", "shop/api"]
