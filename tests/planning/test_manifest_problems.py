"""Images with unreadable manifests or without a size: named with the reason, unless the file ignores them."""

from policies.image import Blob, Image
from tests.support.builders import digest, image, index
from worker.planning.manifest_problems import ManifestProblems

NOTHING: frozenset[str] = frozenset()


def noted(*images: Image, ignored: frozenset[str] = NOTHING, **why: str) -> ManifestProblems:
    problems = ManifestProblems(ignored, {digest(name): reason for name, reason in why.items()})
    problems.add("shop/api", images)
    return problems


def test_names_an_unreadable_image_with_its_reason() -> None:
    problems = noted(
        index("a", lists=None),
        index("b", lists=None),
        index("c", lists=None, media_type="x/" + "y" * 200),
        b="a time-out",
    )
    assert [(failure.repository, failure.digest) for failure in problems.unreadable] == [
        ("shop/api", digest(name)) for name in "abc"
    ]  # fmt: skip
    may_list = ", so it may list other images"
    assert [failure.reason for failure in problems.unreadable] == [
        f"its manifest could not be read{may_list}",
        f"its manifest could not be read (a time-out){may_list}",
        f"its type x/{'y' * 98} is not known{may_list}",
    ]
    assert [warning.code for warning in problems.warnings()] == ["unreadable_images"]


def test_does_not_name_an_ignored_image() -> None:
    problems = noted(index("a", lists=None), ignored=frozenset([digest("a")]))
    assert (problems.unreadable, list(problems.warnings())) == ((), [])


def test_readable_images_cause_no_warning() -> None:
    problems = noted(image("a"), index("b", lists=["a"]), image("c", size=None))
    assert (problems.unreadable, list(problems.warnings())) == ((), [])


def test_warns_of_an_image_with_blobs_and_no_size() -> None:
    (warning,) = noted(image("a", size=None, layers=["x"])).warnings()
    assert warning.code == "unknown_sizes"
    assert warning.message.startswith(f"1 image has no possible size, for example shop/api@{digest('a')}:")
    (two,) = noted(image("a", size=None, layers=["x"]), image("b", size=None, config=Blob(digest("c"), 1))).warnings()
    assert two.message.startswith("2 images have no possible size")


def test_adding_a_repository_again_replaces_its_problems() -> None:
    problems = noted(index("a", lists=None), image("b", size=None, layers=["x"]))
    problems.add("base", [index("z", lists=None)])
    problems.add("shop/api", [image("a")])
    assert [failure.repository for failure in problems.unreadable] == ["base"]
    assert [warning.code for warning in problems.warnings()] == ["unreadable_images"]


def test_names_problems_in_the_order_of_repositories() -> None:
    problems = noted(index("a", lists=None))
    problems.add("base", [index("z", lists=None)])
    assert [failure.repository for failure in problems.unreadable] == ["base", "shop/api"]
