"""The rows of a plan: written from decisions, and read back."""

import json
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection

from policies.image import Repository
from policies.plan import Plan, RepositoryPlan
from tests.store.rows import HOUR, NOW, add_item, add_run, column
from tests.support import builders
from tests.support.builders import digest, image, index, policy, repository
from tests.support.planning import composed
from worker.store import Store, freed_bytes, plans
from worker.store.plans import BATCH_SIZE, ROWS_PER_TRANSACTION, PlanRows, PlanWriter, Segment
from worker.store.tables import batch, blob, inventory, item, run
from worker.store.tables import repository as repository_table

RULES = policy({"keep": {"tags": ["v*"]}}, {"delete": {"tags": ["pr-*"]}}, {"delete": {"untagged": True}})
SHOP = repository(
    "shop/api",
    image("old", "pr-1", layers=["base", "own"]),
    image("child", layers=["base"]),
    index("index", "pr-2", lists=["child"]),
    image("kept", "v1", layers=["kept"]),
)
WEB = repository("shop/web", image("web", "pr-1", layers=["base"]))


@dataclass
class Written:
    """A plan whose rows were made, repository by repository."""

    plan: Plan
    parts: dict[str, RepositoryPlan]
    rows: dict[str, tuple[Segment, PlanRows]]
    sha256: str

    def write(self, connection: Connection) -> None:
        for segment, rows in self.rows.values():
            plans.write_rows(connection, segment, rows)


def written(*repositories: Repository, run_id: str = "run-1") -> Written:
    plan, parts = composed(repositories, RULES, builders.NOW)
    writer, rows = PlanWriter(run_id, plan.summary), {}
    for listed_repository in sorted(repositories, key=lambda repository: repository.path):
        segment, lines = (
            Segment.of(listed_repository.path, listed_repository.images),
            msgspec.json.Encoder().encode_lines(parts[listed_repository.path].decisions),
        )
        rows[listed_repository.path] = segment, writer.rows(segment, lines, parts[listed_repository.path].deletions)
    return Written(plan, parts, rows, writer.plan_sha256)


def test_groups_deletions_into_batches_by_wave_in_their_order() -> None:
    (_, rows), (_, web) = written(SHOP, WEB).rows.values()
    assert [(row["number"], row["repository"], row["wave"]) for row in (*rows.batches, *web.batches)] == [
        (0, "shop/api", 0), (1, "shop/api", 1), (2, "shop/web", 0),
    ]  # fmt: skip
    assert [(planned_item["number"], planned_item["batch"]) for planned_item in (*rows.items, *web.items)] == [
        (0, 0),
        (1, 0),
        (2, 1),
        (3, 2),
    ]
    assert {planned_item["digest"] for planned_item in rows.items[:2]} == {digest("old"), digest("index")}
    child = rows.items[2]
    assert (child["digest"], json.loads(child["owners"])) == (digest("child"), [digest("index")])


def test_a_blob_that_only_deletions_reference_is_one_row() -> None:
    (_, shop), (_, web) = written(SHOP, WEB).rows.values()
    by_digest = {blob_row["digest"]: blob_row for blob_row in (*shop.blobs, *web.blobs)}
    assert {name: (value["size"], value["remaining"]) for name, value in by_digest.items()} == {
        digest("base"): (10, 3), digest("own"): (10, 1),
    }  # fmt: skip
    assert web.blobs == []  # its blob was numbered with the repository before
    numbers = {
        planned_item["digest"]: set(freed_bytes.unpack_numbers(planned_item["blobs"]))
        for planned_item in (*shop.items, *web.items)
    }
    base, own = by_digest[digest("base")]["number"], by_digest[digest("own")]["number"]
    assert numbers == {digest("old"): {base, own}, digest("child"): {base}, digest("index"): set(),
                       digest("web"): {base}}  # fmt: skip


def test_a_batch_has_at_most_batch_size_items() -> None:
    many = repository("a", *(image(number, f"pr-{number}") for number in range(BATCH_SIZE + 1)))
    ((_, rows),) = written(many).rows.values()
    assert [sum(planned_item["batch"] == number for planned_item in rows.items) for number in (0, 1)] == [BATCH_SIZE, 1]


def test_the_hash_depends_on_the_deletions_only() -> None:
    same = repository("shop/api", *SHOP.images, image("more", "v2"))
    other = repository("shop/api", *SHOP.images[:2], SHOP.images[3])
    assert written(SHOP).sha256 == written(SHOP, run_id="run-2").sha256 == written(same).sha256
    assert written(SHOP).sha256 != written(other).sha256 != written(SHOP, WEB).sha256


def test_reads_a_plan_as_it_was_written(store: Store) -> None:
    plan = written(SHOP, WEB)
    with store.write() as connection:
        add_run(connection, planned_at=NOW)
        plan.write(connection)
        assert plans.repositories(connection, "run-1") == ["shop/api", "shop/web"]
        assert plans.images_of(connection, "run-1", "shop/api") == SHOP.images
        assert plans.decisions_of(connection, "run-1", "shop/api") == plan.parts["shop/api"].decisions
        assert plans.kept_digests(connection, "run-1", "shop/api") == (digest("kept"),)
        assert plans.kept_digests(connection, "run-1", "shop/web") == ()
        planned_items = list(plans.items_of(connection, "run-1"))
        deletions = [deletion.decision for part in plan.parts.values() for deletion in part.deletions]
        assert sorted(stored.decision.digest for stored in planned_items) == sorted(
            decision.digest for decision in deletions
        )
        assert {(stored.state, stored.attempts, stored.at) for stored in planned_items} == {("planned", 0, None)}


def test_an_incomplete_plan_has_no_items(store: Store) -> None:
    with store.write() as connection:
        add_run(connection)
        written(SHOP).write(connection)
        assert list(plans.items_of(connection, "run-1")) == []
        assert plans.newest_plan(connection, "production") is None
        assert plans.newest_images_of(connection, "production", "shop/api") == ()
        assert list(plans.newest_images(connection, "production")) == []


def test_the_newest_plan_is_of_the_last_run_with_a_stored_plan(store: Store) -> None:
    with store.write() as connection:
        for number, forgotten in enumerate((False, False, True)):
            run_id = f"run-{number}"
            facts = {"planned_at": NOW + number * HOUR, "forgotten": forgotten}
            add_run(connection, run_id, state="finished", **facts)
            written(SHOP if number else WEB, run_id=run_id).write(connection)
        add_run(connection, "elsewhere", registry="staging", state="finished", planned_at=NOW + 9 * HOUR)
        assert plans.newest_plan(connection, "production") == "run-1"
        assert list(plans.newest_images(connection, "production")) == [("shop/api", SHOP.images)]
        assert plans.newest_images_of(connection, "production", "shop/api") == SHOP.images
        assert plans.newest_images_of(connection, "production", "shop/web") == ()
        connection.execute(run.update().values(forgotten=True))
        assert plans.newest_plan(connection, "production") is None


def test_stores_the_same_inventory_once(store: Store) -> None:
    with store.write() as connection:
        written(SHOP).write(connection)
        written(SHOP, WEB, run_id="run-2").write(connection)
        assert len(column(connection, inventory, "sha256")) == 2
        assert column(connection, repository_table, "run_id") == ["run-1", "run-2", "run-2"]


def test_clear_deletes_the_rows_of_an_earlier_scan_of_the_run(store: Store) -> None:
    with store.write() as connection:
        written(SHOP).write(connection)
        written(WEB, run_id="run-2").write(connection)
        plans.clear(connection, "run-1")
        for table in (repository_table, batch, item, blob):
            assert set(column(connection, table, "run_id")) == {"run-2"}, table.name


def test_reports_the_outcome_of_an_item_with_its_decision(store: Store) -> None:
    with store.write() as connection:
        add_run(connection, planned_at=NOW)
        add_item(connection, 1, image("second"), state="skipped", outcome_cause="locked", message="no", attempts=2)
        add_item(connection, 0, image("first"), state="deleted", operation_id="op1", at=NOW)
        first, second = plans.items_of(connection, "run-1")
    assert (first.decision.digest, first.state, first.operation_id, first.at) == (
        digest("first"),
        "deleted",
        "op1",
        NOW,
    )
    assert (second.state, second.outcome_cause, second.message, second.attempts) == ("skipped", "locked", "no", 2)


def test_portions_of_repositories_have_a_bounded_number_of_deletions() -> None:
    segment = Segment.of("a", ())

    def rows(items: int) -> tuple[Segment, PlanRows]:
        return segment, PlanRows({}, [], [{}] * items, [])

    sizes = [
        [len(rows_of.items) for _, rows_of in portion]
        for portion in plans.portions(map(rows, [ROWS_PER_TRANSACTION, 1, 2, 600, 3]))
    ]
    assert sizes == [[ROWS_PER_TRANSACTION], [1, 2, 600], [3]]
    assert [len(portion) for portion in plans.portions(rows(0) for _ in range(ROWS_PER_TRANSACTION + 1))] == [
        ROWS_PER_TRANSACTION,
        1,
    ]
    assert list(plans.portions([])) == []
