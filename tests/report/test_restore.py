"""The result of a restore: each image's answer, missing digests, totals."""

import json
from typing import Any

import pytest

from policies.limits import Limits
from policies.rules import Policy
from worker.config.settings import Credentials, RegistrySettings
from worker.report.restore import restored_report
from worker.restore.images import MovedTag, RestoredImage
from worker.restore.restore import RestoreRequest

REGISTRY = RegistrySettings(
    name="production",
    kind="oci",
    url="https://registry.example.com",
    credentials=Credentials(anonymous=True),
    policy=Policy("nightly", ()),
    limits=Limits(),
)
DIGEST = f"sha256:{1:064x}"


def restored(answer: Any = "whole", **more: Any) -> RestoredImage:
    facts = {"run": "run-1", "repository": "shop/api", "digest": DIGEST, "answer": answer, "tags": ("v1", "v2")}
    return RestoredImage(**facts | more)


def asked(**more: Any) -> RestoreRequest:
    return RestoreRequest(REGISTRY, "run-1", {"shop/api": 2}, **more)


def test_a_restored_image_as_a_row_and_as_json() -> None:
    report = restored_report(asked(who="anna"), [restored(left=(MovedTag("v3", "sha256:9"),), message="v3 was pushed")])
    heading, row, *_ = report.table()
    assert heading.split()[:3] == ["REPOSITORY", "DIGEST", "TAGS"]
    assert row == f"shop/api    {DIGEST[:19]}  v1 v2  whole   v3 was pushed"
    assert report.head == {
        "registry": "production", "run": "run-1", "whole": 1, "partly": 0, "lost": 0, "unfinished": 0, "unkept": 0,
        "restored_by": "anna",
    }  # fmt: skip
    (image,) = json.loads(b"".join(report.json()))["images"]
    assert set(image) == {"repository", "digest", "run", "answer", "tags", "left", "missing", "message"}
    assert (image["digest"], image["tags"], image["left"]) == (
        DIGEST,
        ["v1", "v2"],
        [{"tag": "v3", "digest": "sha256:9"}],
    )


KEEP = "The next run selects restored images again. To keep one, change the policy or hold it, as in {}."
HOLD = "`registry-gc hold production {}`"


@pytest.mark.parametrize(
    ("images", "more", "lines"),
    [
        pytest.param([], {}, ["", "No images."], id="nothing"),
        pytest.param(
            [restored("lost", tags=(), missing=("sha256:2", "sha256:3")), restored("unfinished", tags=())],
            {},
            ["", f"Missing from shop/api@{DIGEST}:", "  sha256:2", "  sha256:3", "", "1 lost, 1 unfinished."],
            id="no image is restored: no hold to suggest",
        ),
        pytest.param(
            [restored("partly", tags=()), restored()],
            {"who": "an\x1bna", "unsaved": 1},
            [
                "",
                "Restored by an\\x1bna.",
                "Run run-1 deleted 1 image without saving a manifest.",
                "1 whole, 1 partly.",
                KEEP.format(HOLD.format("shop/api:v1")),
            ],
            id="the person, unsaved manifests, and a tag to hold",
        ),
        pytest.param(
            [restored(tags=())],
            {},
            ["", "1 whole.", KEEP.format(HOLD.format(f"shop/api@{DIGEST}"))],
            id="a digest to hold where no tag is back",
        ),
    ],
)
def test_missing_digests_and_totals_follow_the_table(
    images: list[RestoredImage], more: dict[str, Any], lines: list[str]
) -> None:
    assert list(restored_report(asked(**more), images).below) == lines
