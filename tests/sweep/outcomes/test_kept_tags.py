"""Registries that delete less than an image, or more: they leave its tags, or delete its children."""

from collections.abc import Callable

import pytest

from tests.support.harness import Harness
from tests.support.oci.fake import FakeRegistry
from tests.support.oci.manifests import Pushed
from worker.store.runs import Run

PATH = "shop/api"
RULES = [{"name": "releases", "keep": {"tags": ["v*"]}}, {"name": "old", "delete": {"tags": ["pr-*"]}}]


@pytest.fixture
def harness(on_fake: Callable[..., Harness]) -> Harness:
    return on_fake(rules=RULES, concurrency=1)


def ended_by_kept_tags(run: Run) -> bool:
    assert (run.state, run.outcome, run.deleted, run.gone) == ("finished", "failed", 0, 0)
    assert run.message is not None
    assert "\n" not in run.message
    return "this registry keeps the tags of deleted images" in run.message and "pr-1 still serves it" in run.message


class TestTagsThatServeADeletedDigest:
    @pytest.fixture(autouse=True)
    def switched(self, fake: FakeRegistry) -> None:
        fake.switches.deleted = "tags answer"

    @pytest.fixture
    def pushed(self, fake: FakeRegistry) -> tuple[Pushed, Pushed]:
        """An index and its only child."""
        child = fake.push(PATH, layers=[b"child"])
        fake.push(PATH, "v1", layers=[b"kept"])
        return fake.push_index(PATH, "pr-1", children=[child.digest]), child

    def test_a_digest_that_this_run_deleted_with_its_tags_left(
        self, fake: FakeRegistry, harness: Harness, pushed: tuple[Pushed, Pushed]
    ) -> None:
        index, child = pushed
        run = harness.sweep()
        assert ended_by_kept_tags(run)
        assert harness.outcomes(run.id)[index.digest] == ("failed", "operation_failed")
        assert child.digest in fake.state()[PATH]

    def test_a_digest_deleted_before_this_run_with_its_tags_left(
        self, fake: FakeRegistry, harness: Harness, pushed: tuple[Pushed, Pushed]
    ) -> None:
        """The digest is 404, its tag is listed and serves it."""
        index, child = pushed
        harness.sweep()
        asked = len(fake.requests)
        second = harness.sweep()
        assert ended_by_kept_tags(second)
        assert harness.outcomes(second.id)[index.digest] == ("failed", "operation_failed")
        assert child.digest in fake.state()[PATH]
        assert "DELETE" not in {request.method for request in fake.requests[asked:]}

    def test_a_digest_deleted_after_its_reading_with_its_tags_left(
        self, fake: FakeRegistry, harness: Harness, pushed: tuple[Pushed, Pushed]
    ) -> None:
        """Another client deletes it first: our own request finds nothing."""
        index, child = pushed
        fake.before("DELETE", "/manifests/", lambda: fake.delete(PATH, index.digest))
        run = harness.sweep()
        assert ended_by_kept_tags(run)
        assert child.digest in fake.state()[PATH]

    def test_a_tag_that_names_another_image_now(
        self, fake: FakeRegistry, harness: Harness, pushed: tuple[Pushed, Pushed]
    ) -> None:
        """It was pushed while the image was deleted, and keeps nothing of it."""
        index, _ = pushed
        fake.before("DELETE", "/manifests/", lambda: fake.push(PATH, "pr-1", layers=[b"new"]))
        run = harness.sweep()
        assert run.outcome == "succeeded"
        assert harness.outcomes(run.id)[index.digest] == ("deleted", None)


class TestChildrenThatAreDeletedWithTheirIndex:
    def pushed(self, fake: FakeRegistry, *, shared: bool = True) -> str:
        """Two indexes with a child of their own each, and one that a kept index lists as well; its digest."""
        kept = fake.push(PATH, layers=[b"kept"]).digest
        fake.push_index(PATH, "v1", children=[kept])
        for number in (1, 2):
            own = fake.push(PATH, layers=[f"own {number}".encode()]).digest
            fake.push_index(PATH, f"pr-{number}", children=[own, kept] if shared else [own])
        return kept

    def test_a_kept_child_deleted_with_its_index_stops_the_run(self, fake: FakeRegistry, harness: Harness) -> None:
        kept = self.pushed(fake)
        fake.switches.cascades = True
        run = harness.sweep()
        assert (run.outcome, run.deleted) == ("failed", 1)
        assert run.message is not None
        assert f"the registry deleted {kept} of the same repository, which the plan keeps" in run.message
        assert len(fake.deleted) == 1

    def test_a_planned_child_deleted_with_its_index_does_not_stop_the_run(
        self, fake: FakeRegistry, harness: Harness
    ) -> None:
        self.pushed(fake, shared=False)
        fake.switches.cascades = True
        run = harness.sweep()
        assert (run.outcome, run.deleted, run.gone) == ("succeeded", 2, 2)

    def test_kept_children_that_stay_are_read_once(self, fake: FakeRegistry, harness: Harness) -> None:
        kept = self.pushed(fake)
        run = harness.sweep()
        assert (run.outcome, run.deleted) == ("succeeded", 4)
        lines = fake.lines()
        deletions = [at for at, line in enumerate(lines) if line.startswith("DELETE")]
        between = lines[deletions[0] : deletions[-1]]
        assert [line for line in between if line.endswith(kept)] == [f"HEAD /v2/{PATH}/manifests/{kept}"]
