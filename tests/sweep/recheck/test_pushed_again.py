"""Images pushed, or pushed again, during a sweep: the images that they need are kept, on every kind of registry."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import update

from tests.support.oci.fake import FakeRegistry
from tests.support.simulator.client import Simulator
from tests.sweep.shops import PATH, STILL_NEEDED, Shop, first_deletion
from worker.runs.lifecycle import TaskCall
from worker.store.tables import repository


def test_an_index_that_is_pushed_again_keeps_its_children(shop: Shop) -> None:
    children = [shop.push(content="a"), shop.push(content="b")]
    index = shop.push_index(*children, tag="pr-1")
    shop.push("v1", content="kept")
    harness = shop.harness()
    run_id, task_calls = first_deletion(harness)
    assert index not in shop.there()

    assert shop.push_index(*children, tag="pr-1") == index
    harness.carry_out(task_calls)

    assert {index, *children} <= shop.there()
    assert harness.outcomes(run_id) == {index: ("deleted", None)} | dict.fromkeys(children, STILL_NEEDED)
    messages = {item.decision.digest: item.message for item in harness.items(run_id)}
    assert all(index in (messages[child] or "") for child in children)


def test_an_image_that_is_pushed_again_keeps_its_signature(shop: Shop) -> None:
    image = shop.push("pr-1", content="signed")
    signature = shop.sign(image)
    shop.push("v1", content="kept")
    harness = shop.harness()
    run_id, task_calls = first_deletion(harness)

    assert shop.push("pr-1", content="signed") == image
    harness.carry_out(task_calls)

    assert harness.outcomes(run_id) == {image: ("deleted", None), signature: STILL_NEEDED}
    assert {image, signature} <= shop.there()


def test_images_of_a_deleted_owner_that_is_not_pushed_again_are_deleted(shop: Shop) -> None:
    children = [shop.push(content="a"), shop.push(content="b")]
    index = shop.push_index(*children, tag="pr-1")
    signature = shop.sign(index)
    kept = shop.push("v1", content="kept")
    harness = shop.harness()

    run = harness.sweep()

    assert (run.outcome, run.deleted) == ("succeeded", 4)
    assert shop.there() == {kept}
    assert harness.outcomes(run.id)[signature] == ("deleted", None)


def test_an_index_that_cannot_be_read_keeps_everything(simulator: Simulator, tmp_path: Path) -> None:
    shop = Shop("yandex-container-registry", simulator, tmp_path)
    planned = shop.push("pr-1", content="a")
    shop.push("v1", content="kept")
    harness = shop.harness()
    run_id, task_calls = harness.plan_and_recheck()

    index = shop.push_index(planned, tag="v2")
    simulator.fault("status", path=f"/v2/.*{index}", status=404, times=None)
    harness.carry_out(task_calls)

    assert harness.outcomes(run_id) == {planned: ("skipped", "repository_changed")}
    assert planned in shop.there()
    harness.store.dispose()


def test_a_deleted_index_that_is_listed_again_counts_as_a_new_image(fake: FakeRegistry, tmp_path: Path) -> None:
    """Its digest and, where none is reported, its push time are the same."""
    shop = Shop("oci", fake, tmp_path)
    child = shop.push(content="a")
    shop.push_index(child, tag="pr-1")
    shop.push("v1", content="kept")
    harness = shop.harness()
    run_id, _ = first_deletion(harness)
    shop.push_index(child, tag="pr-1")
    with harness.store.write() as connection:  # as after ten minutes
        long_ago = datetime.now(UTC) - timedelta(hours=1)
        connection.execute(update(repository).where(repository.c.run_id == run_id).values(rechecked_at=long_ago))

    harness.do(TaskCall("gc.recheck", (run_id, PATH)))

    assert harness.outcomes(run_id)[child] == STILL_NEEDED
    messages = {item.decision.digest: item.message for item in harness.items(run_id)}
    assert messages[child] == "an image pushed since the plan needs it"
    harness.store.dispose()
