"""The tables of the store, the same on SQLite and PostgreSQL. Instants are integers: microseconds since 1970, UTC.

A run has repositories (with inventory and decisions), batches and items (its deletions), and the blobs that only its
deletions reference. Other tables outlive a run: manifests, the audit with its chains, tallies, registries, heartbeats,
holds, pauses, evidence of use, and the scan history.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import SchemaItem

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ACTIVE = ("pending", "planning", "planned", "deleting")
UNFINISHED = ("planned", "intent", "accepted")


class Instant(TypeDecorator[datetime]):
    """An aware datetime, stored as microseconds since 1970 so that both databases compare it alike."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> int | None:
        return None if value is None else (value - EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any | None, _dialect: Dialect) -> datetime | None:
        return None if value is None else EPOCH + timedelta(microseconds=value)


metadata = MetaData()


def _table(name: str, *parts: SchemaItem) -> Table:
    return Table(name, metadata, *parts)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


run = _table(
    "run",
    Column("id", String(40), primary_key=True),
    Column("registry", Text, nullable=False),  # the configured name
    Column("registry_key", Text, nullable=False),  # kind, endpoint and id: identifies the registry itself
    Column("trigger", String(16), nullable=False),
    Column("task_id", String(64), unique=True),
    Column("mode", String(8), nullable=False),  # this run's
    Column("registry_mode", String(8), nullable=False),  # the registry's own, as the file said when the run was opened
    Column("state", String(16), nullable=False),
    Column("outcome", String(16)),
    Column("stop", String(16)),  # why nothing more is deleted: aborted, expired, deadline, hopeless, failed
    Column("message", Text),
    Column("scheduled_for", Instant),
    Column("opened_at", Instant, nullable=False),
    Column("started_at", Instant),  # of the scan: a plan's age counts from here
    Column("planned_at", Instant),
    Column("deleting_at", Instant),  # the deadline counts from here
    Column("swept_at", Instant),  # when its last batch was done
    Column("verified_at", Instant),  # when the verification ended
    Column("verifications", Integer, nullable=False, server_default="0"),  # started so far
    Column("finished_at", Instant),
    Column("policy", Text, nullable=False),
    Column("policy_sha256", String(64), nullable=False),
    Column("plan_sha256", String(64)),
    Column("complete", Boolean),
    Column("exceeded", Text, nullable=False, server_default="[]"),  # JSON: [{limit, value, allowed}]
    Column("unreadable", Text, nullable=False, server_default="[]"),  # JSON: [{repository, reason}]
    Column("rule_selected", Text, nullable=False, server_default="{}"),  # JSON: {rule: images}
    Column("suspicion", Text),  # why push times are not trusted
    Column("warnings", Text, nullable=False, server_default="[]"),  # JSON: [{code, message}]
    Column("unreadable_images", Text, nullable=False, server_default="[]"),  # JSON: [{repository, digest, reason}]
    Column("emptied_repositories", Text, nullable=False, server_default="[]"),  # JSON: [path]: no image is left
    Column("opened_by", Text),  # user@host, or the API's caller; null: the schedule
    Column("approved_by", Text),
    Column("aborted_by", Text),
    Column("terms", Text, nullable=False, server_default="{}"),  # JSON of store.runs.Terms
    Column("raced_pushes", Text, nullable=False, server_default="[]"),  # JSON: [{repository, digest, tags}]
    Column("differences", Text, nullable=False, server_default="[]"),  # JSON: [{repository, digest, difference}]
    *(_count(name) for name in ("images", "planned", "deleted", "gone", "skipped", "failed")),
    *(_count(f"{name}_bytes") for name in ("selected", "reclaimable", "reclaimed", "registry", "budget_missed")),
    _count("undecidable"),  # images kept because their order is unknown
    _count("difference_count"),  # found by the verification, listed or not
    _count("foreign_deletions"),  # images that vanished since the scan before, without a deletion by us
    Column("scans", Integer, nullable=False, server_default="0"),
    Column("systemic_failures", Integer, nullable=False, server_default="0"),  # in a row
    Column("forgotten", Boolean, nullable=False, server_default=text("false")),  # its plan is deleted
    Column("notified", String(16)),  # the outcome, or `blocked`, of the last notification that everybody got
    Column("audit_sha256", String(64), nullable=False, server_default=""),  # of its newest audit row
    Column("notifying", Text),  # JSON of an unfinished notification: {word, tries, after, told}
    Column("after_run_done", Boolean, nullable=False, server_default=text("false")),
    Column("after_run_tries", Integer, nullable=False, server_default="0"),
    Column("after_run_retry_at", Instant),  # not before
    Column("owner", Text),  # the lease of the scan, or of the verification
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("lease_until", Instant),
    UniqueConstraint("registry_key", "scheduled_for", name="one_run_per_due_time"),
    Index("run_by_registry", "registry", "opened_at"),
)
Index(
    "one_active_run",
    run.c.registry_key,
    unique=True,
    sqlite_where=run.c.state.in_(ACTIVE),
    postgresql_where=run.c.state.in_(ACTIVE),
)

repository = _table(
    "repository",
    Column("run_id", String(40), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("inventory", String(64), nullable=False, index=True),  # -> inventory.sha256
    Column("decisions", LargeBinary, nullable=False),  # zstd of the decisions, one JSON a line
    Column("rechecked_at", Instant),  # start of the listing of its last recheck
    Column("owner", Text),  # the lease of its recheck
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("lease_until", Instant),
    Column("refusal", Text),  # why nothing may be deleted in it; null: it may
)

inventory = _table(
    "inventory",
    Column("sha256", String(64), primary_key=True),
    Column("images", LargeBinary, nullable=False),  # zstd of the images, one JSON a line
)

batch = _table(
    "batch",
    Column("run_id", String(40), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("repository", Text, nullable=False),
    Column("wave", Integer, nullable=False),
    Column("done", Boolean, nullable=False, server_default=text("false")),
    Column("takeovers", Integer, nullable=False, server_default="0"),  # claims after a lease that expired
    Column("owner", Text),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("lease_until", Instant),
    Column("published_at", Instant),  # of its task call, until a worker claims it
    Index("batch_by_repository", "run_id", "repository", "wave"),
)

item = _table(
    "item",
    Column("run_id", String(40), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("batch", Integer, nullable=False),
    Column("repository", Text, nullable=False),
    Column("decision", Text, nullable=False),  # JSON of the plan's decision
    Column("image", Text, nullable=False),  # JSON of the listed image
    Column("digest", Text, nullable=False),
    Column("owners", Text, nullable=False),  # JSON: digests that must be deleted or gone first
    Column("blobs", LargeBinary, nullable=False),  # numbers of the blobs that only the plan's deletions reference
    Column("state", String(16), nullable=False, server_default="planned"),
    Column("outcome_cause", String(32)),
    Column("message", Text),
    Column("refused_hint", Boolean, nullable=False, server_default=text("false")),  # the refusal hints at protection
    Column("refused", Text),  # the registry's refusal as not permitted, while its cause is unknown
    Column("stop_reason", Text),  # why no further deletion request may be sent, even by its holder
    Column("idempotency_key", String(36)),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("operation_id", Text),
    Column("intent_at", Instant),  # of the first intent
    Column("at", Instant),  # of the last change
    Index("item_by_batch", "run_id", "batch"),
    Index("item_by_digest", "run_id", "repository", "digest"),
    Index("item_by_state", "run_id", "state"),
)

blob = _table(
    "blob",
    Column("run_id", String(40), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("remaining", Integer, nullable=False),  # references not yet deleted or gone
    Column("deleted_by_us", Boolean, nullable=False, server_default=text("false")),  # at least one reference
    Column("still_referenced", Boolean, nullable=False, server_default=text("false")),  # by a newer image
)

manifest = _table(
    "manifest",
    Column("registry_key", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("facts", LargeBinary, nullable=False),  # JSON of registries.interface.Manifest
)

# The manifest of an image, byte for byte, saved before the deletion request, to restore the image.
undo = _table(
    "undo",
    Column("run_id", String(40), primary_key=True),
    Column("item", Integer, primary_key=True),
    Column("registry", Text, nullable=False),  # the configured name
    Column("registry_key", Text, nullable=False),
    Column("repository", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("image", Text, nullable=False),  # JSON of the planned image: tags, children, subject, blobs
    Column("body", LargeBinary, nullable=False),  # zstd of the manifest's bytes
    Column("at", Instant, nullable=False),
    Index("undo_by_digest", "registry_key", "digest"),
)

audit = _table(
    "audit",
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Instant, nullable=False),
    Column("registry", Text, nullable=False),
    Column("repository", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("image_id", Text, nullable=False),
    Column("tags", Text, nullable=False),  # JSON
    Column("run_id", String(40), nullable=False),
    Column("item", Integer, nullable=False),
    Column("decision", Text, nullable=False),  # JSON: rule, reason, size, created_at, as planned
    Column("outcome", String(16), nullable=False),  # deleted or gone
    Column("operation_id", Text),
    Column("reclaimed_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False, server_default=""),  # of its run's row before, and of this row
    UniqueConstraint("run_id", "item", name="one_audit_row_per_item"),
    Index("audit_by_registry", "registry", "at"),
)

# The chain of runs: a row for each swept run, added when the run finishes.
swept_run = _table(
    "swept_run",
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("run_id", String(40), nullable=False),
    Column("seq", BigInteger, nullable=False),  # of the run's newest audit row; 0: none
    Column("last", String(64), nullable=False),  # that row's sha256
    Column("sha256", String(64), nullable=False),  # of the run before, and of this run
)

# The ends of the audit's chains. `former`: the last row of the chain that all registries shared before each run had its
# own; `anchor`: the newest deleted row of that chain. `runs`: the newest row of the chain of runs; `forgotten`: the
# newest row of the chain of runs whose audit rows are deleted.
chain = _table(
    "chain",
    Column("name", String(16), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
)

tally = _table(
    "tally",
    Column("registry", Text, primary_key=True),
    Column("name", String(40), primary_key=True),  # skipped, failed, api_requests, rate_wait_seconds
    Column("label", String(64), primary_key=True),
    Column("value", Float, nullable=False),
)

registry = _table(
    "registry",
    Column("name", Text, primary_key=True),
    Column("enabled_since", Instant, nullable=False),
    Column("cron_line", Text),  # cron line and zone
    Column("cron_line_since", Instant),  # since when the line is known: nothing is due before
    Column("auth_ok", Boolean, nullable=False, server_default=text("true")),
    Column("vanished_accepted_at", Instant),  # a person accepted what had vanished until then
)

hold = _table(
    "hold",
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("registry", Text, nullable=False),  # the configured name: holds stay if an entry changes its kind
    Column("kind", String(16), nullable=False),  # tag, digest, image or repository
    Column("repository", Text),  # a path, or a glob if `kind` is repository; null: any
    Column("value", Text, nullable=False),  # the tag, the digest, the image's id; for a repository the glob again
    Column("digest", Text),  # that the tag or id named when the hold was placed
    Column("until", Instant),  # null: for ever
    Column("reason", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("released_at", Instant),
    Column("released_by", Text),
    Index("hold_by_registry", "registry"),
)

pause = _table(
    "pause",
    Column("registry", Text, primary_key=True),  # the configured name; *: all of them
    Column("at", Instant, nullable=False),
    Column("who", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("resumed_at", Instant),  # null: still paused
    Column("resumed_by", Text),
)

evidence = _table(
    "evidence",
    Column("registry", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("sha256", String(64), nullable=False),  # of the source's settings
    Column("as_of", Instant, nullable=False),  # the source's own time
    Column("read_at", Instant, nullable=False),
    Column("count", Integer, nullable=False),
    Column("baseline", Integer, nullable=False),  # the count in the last scan's reading, for comparison
    # Uses of the last scan's reading that match no registry of the file and no digest of the inventory.
    Column("foreign_references", Integer, nullable=False, server_default="0"),
    Column("uses", LargeBinary, nullable=False),  # zstd of the uses, one JSON a line
)

scan_history = _table(
    "scan_history",
    Column("registry", Text, primary_key=True),  # RegistrySettings.history_key
    Column("path", Text, primary_key=True),
    Column("seen", LargeBinary, nullable=False),  # policies.scan_history: packed, then zstd
)

# The changes of a scan to the history, applied when its plan is stored.
scan_history_next = _table(
    "scan_history_next",
    Column("run_id", String(40), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("seen", LargeBinary, nullable=False),
)

store_info = _table(
    "store_info",
    Column("name", String(40), primary_key=True),  # store_id: identifies the store wherever it is opened
    Column("value", Text, nullable=False),
)

heartbeat = _table(
    "heartbeat",
    Column("name", String(40), primary_key=True),
    Column("at", Instant, nullable=False),
)
