"""The invariants of every history: checked after every commit, at every DELETE and after every step.

The checks read committed rows through a connection of their own, and the contents of the in-memory registry.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from policies.image import Image
from tests.support.memory_registry import Instance
from tests.system.histories.model import Key, bytes_of, expected_plan, reclaimed, subjects
from tests.system.histories.plan_context import EVIDENCE_VALID_FOR, is_held
from tests.system.histories.process import Process

if TYPE_CHECKING:
    from tests.system.histories.history import History

UNCONFIRMED = ("failed", "unconfirmed")
RECHECK_VALID_FOR = timedelta(minutes=10)
SECOND = timedelta(seconds=1)


class InvariantError(AssertionError):
    """An invariant does not hold."""


VIOLATIONS: list[str] = []  # in order; with threads a violation may not come again when Hypothesis repeats it


def require(holds: bool, text: str, **facts: object) -> None:
    if not holds:
        VIOLATIONS.append(f"{text}: {facts}")
        raise InvariantError(VIOLATIONS[-1])


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


@dataclass(slots=True)
class Plan:
    """A stored plan, and the registry that it was made of."""

    started: datetime
    listings: dict[str, dict[str, Instance]]
    unread: set[Key]
    items: dict[Key, int]  # number
    blobs: dict[str, int]  # of the whole registry
    changes: int  # MemoryRegistry.changes when its scan began
    effects: int  # MemoryRegistry.effects then
    complete: bool


@dataclass(slots=True)
class Intent:
    at: int
    process: Process
    run_id: str
    number: int
    sent: bool = False
    withdrawn: bool = False  # certainly not sent


@dataclass(slots=True)
class RecheckListing:
    listing: dict[str, Instance]
    began: datetime  # true time


@dataclass
class Invariants:
    history: "History"
    raw: sqlite3.Connection
    plans: dict[str, Plan] = field(default_factory=dict)
    intents: list[Intent] = field(default_factory=list)
    by_key: dict[str, list[Intent]] = field(default_factory=dict)
    rechecks: dict[Key, RecheckListing] = field(default_factory=dict)  # run and path
    _rechecked: dict[Key, int] = field(default_factory=dict)
    _begun: dict[tuple[str, int], int] = field(
        default_factory=dict
    )  # attempts of items in the state intent or accepted
    _leases: dict[tuple[str, int], datetime | None] = field(default_factory=dict)  # of batches, as last committed
    _fences: dict[tuple[str, int], int] = field(default_factory=dict)
    _settled: set[tuple[str, int]] = field(default_factory=set)
    _counters: dict[str, float] = field(default_factory=dict)

    def rows(self, query: str, *args: object) -> list[Any]:
        return self.raw.execute(query, args).fetchall()

    def committed(self, process: Process) -> None:
        """After a commit of a process of ours: check the rows that are new."""
        with self.history.lock:
            self._note_claim(process)
            self._note_rechecks(process)
            self._check_new_plans(process)
            self._check_new_intents(process)
            self._check_new_outcomes()
            self._note_leases()

    def _note_leases(self) -> None:
        batches = self.rows("select run_id, number, fence, lease_until, takeovers from batch where not done")
        self._leases = {(row["run_id"], row["number"]): _instant(row["lease_until"]) for row in batches}
        self._fences |= {(row["run_id"], row["number"]): row["fence"] for row in batches}
        if any(row["takeovers"] for row in batches):
            self.history.stats["seen: a batch was taken over"] += 1

    def _note_claim(self, process: Process) -> None:
        task_call = process.task_call
        if task_call is None or task_call.task != "gc.delete_batch" or process.claimed_at is not None:
            return
        process.claimed_at = self.history.true_time
        fence = self.rows("select fence from batch where run_id = ? and number = ?", *task_call.args)
        if fence and fence[0]["fence"] == self._fences.get((str(task_call.args[0]), int(task_call.args[1])), 0) + 1:
            process.fence = fence[0]["fence"]

    def _note_rechecks(self, process: Process) -> None:
        if process.task_call is None or process.task_call.task != "gc.recheck":
            return
        run_id, path = map(str, process.task_call.args)
        rows = self.rows("select rechecked_at from repository where run_id = ? and path = ?", run_id, path)
        rechecked_at = rows[0]["rechecked_at"] if rows else None
        if rechecked_at is not None and rechecked_at != self._rechecked.get((run_id, path)):
            self._rechecked[run_id, path] = rechecked_at
            if path in process.listings:
                self.rechecks[run_id, path] = RecheckListing(process.listings[path], process.began_listing[path])

    def _check_new_plans(self, process: Process) -> None:
        for run in self.rows("select * from run where planned_at is not null and not forgotten"):
            if run["id"] in self.plans:
                continue
            items = self.rows("select number, repository, digest from item where run_id = ?", run["id"])
            planned = {(item["repository"], item["digest"]): item["number"] for item in items}
            listings = {path: dict(images) for path, images in process.listings.items()}
            started = _instant(run["started_at"])
            assert started is not None
            self._check_plan(process, run, planned.keys(), started)
            require(bool(run["complete"]) == (not process.refused), "a complete plan has listed every repository")
            both = reclaimed(listings, planned.keys(), planned.keys(), set(), set())
            require(run["reclaimable_bytes"] == both, "reclaimable bytes are exact", row=dict(run), expected=both)
            self.plans[run["id"]] = Plan(
                started,
                listings,
                process.unread,
                planned,
                process.blobs_before,
                process.changes_before,
                process.effects_before,
                bool(run["complete"]),
            )

    def _check_plan(self, process: Process, run: Any, planned: Set[Key], now: datetime) -> None:
        """A plan equals the model's; it is smaller where images have to settle or the context has just changed."""
        protected = self._protected(process.listings, now, None)
        policy, listings = self.history.policy, process.listings
        expected = expected_plan(listings, process.unread, now, policy, protected)
        facts = {"run": dict(run), "plan": planned, "expected": expected}
        assert process.began is not None
        if self.history.context_changed_at > process.began - EVIDENCE_VALID_FOR - self.history.stepped_back:
            expected = expected_plan(listings, process.unread, now, policy, set())
            require(planned <= expected, "a plan is a subset of the model's plan", **facts)
        elif process.settle or run["suspicion"]:
            require(planned <= expected, "a plan is a subset of the model's plan", **facts)
            self._check_settled(process, planned, now, facts)
        else:
            require(planned == expected, "a plan equals the model's plan", **facts)

    def _protected(
        self, listings: Mapping[str, Mapping[str, Instance]], now: datetime, before: datetime | None
    ) -> set[Key]:
        """Images that are held at a time or in use; with `before`, in use since then."""
        holds = self.rows("select * from hold where released_at is null")
        protected = {
            (path, digest)
            for path, images in listings.items()
            for digest, instance in images.items()
            if holds and is_held(holds, now, path, instance)
        }
        if (in_use := self.history.in_use) is not None:
            for path, images in listings.items():
                protected |= {(path, digest) for digest in in_use.users(images, path, before)}
        return protected

    def _check_settled(self, process: Process, planned: Set[Key], now: datetime, facts: dict[str, Any]) -> None:
        """Every planned image was listed with the same tags in every plan for at least `settle`."""
        settle = process.settle
        for path, digest in planned if settle else ():
            tags = process.listings[path][digest].tags
            seen = None
            for plan in sorted(self.plans.values(), key=lambda plan: plan.started, reverse=True):
                if path in plan.listings:
                    instance = plan.listings[path].get(digest)
                    if instance is None or instance.tags != tags:
                        break
                    seen = plan.started
            require(
                seen is not None and now - seen >= settle, "a planned image has settled", path=path, seen=seen, **facts
            )

    def _check_new_intents(self, process: Process) -> None:
        items = self.rows(
            "select run_id, number, batch, repository, digest, owners, stop_reason, idempotency_key, attempts from item"
            " where state in ('intent', 'accepted')"
        )
        before, self._begun = self._begun, {}
        for item in items:
            item_key = (item["run_id"], item["number"])
            self._begun[item_key] = item["attempts"]
            if item["stop_reason"] is not None:
                self.history.stats["seen: an item was stopped"] += 1
            if item["attempts"] > before.get(item_key, 0):  # else no intent is new; a withdrawn intent may come again
                intent = Intent(self.history.tick(), process, *item_key)
                self.intents.append(intent)
                self.by_key.setdefault(item["idempotency_key"], []).append(intent)
                self._check_intent(process, item)
        for item_key, attempts in before.items():
            if self._begun.get(item_key, 0) < attempts:
                self._note_withdrawal(item_key)

    def _note_withdrawal(self, item_key: tuple[str, int]) -> None:
        state = self.rows("select state from item where run_id = ? and number = ?", *item_key)
        if state and state[0]["state"] in ("planned", "intent"):
            last = [intent for intent in self.intents if (intent.run_id, intent.number) == item_key][-1]
            last.withdrawn = not last.sent

    def _check_intent(self, process: Process, item: Any) -> None:
        run = self.rows("select * from run where id = ?", item["run_id"])[0]
        batch = self.rows("select * from batch where run_id = ? and number = ?", item["run_id"], item["batch"])[0]
        now = self.history.now()
        facts = {"item": dict(item), "run": dict(run), "batch": dict(batch), "now": now}
        require(
            run["id"] == process.run_id and run["id"] in self.plans,
            "a process deletes only images of its own stored plan",
            **facts,
        )
        require(run["mode"] == "delete", "a dry run deletes nothing", **facts)
        require(run["state"] == "deleting" and run["stop"] is None, "a stopped run deletes nothing", **facts)
        require(item["stop_reason"] is None, "an item with a stop reason is not deleted", **facts)
        lease = self._leases.get((item["run_id"], item["batch"]))  # before this commit
        require(
            batch["fence"] == process.fence and lease is not None and lease > now,
            "a process deletes only under its lease",
            **facts,
        )
        started, deleting = _instant(run["started_at"]), _instant(run["deleting_at"])
        assert started is not None
        assert deleting is not None
        require(now - SECOND < started + self.history.plan_max_age, "a plan expires", **facts)
        if self.history.deadline is not None:
            require(now - SECOND < deleting + self.history.deadline, "a deadline stops a run", **facts)
        self._check_standing(process, item, now, facts)
        self._check_owners(item, facts)
        self._check_needs(item["run_id"], item["repository"], item["digest"], facts)

    def _check_standing(self, process: Process, item: Any, now: datetime, facts: dict[str, Any]) -> None:
        """The image is neither held nor paused at the intent, nor in use ten minutes before the batch was claimed."""
        pauses = self.rows("select registry from pause where resumed_at is null and registry in ('production', '*')")
        require(not pauses, "nothing is deleted in a pause", **facts)
        path, digest = item["repository"], item["digest"]
        listing = self.plans[item["run_id"]].listings[path]
        holds = self.rows("select * from hold where released_at is null")
        require(not is_held(holds, now, path, listing[digest]), "a held image is not deleted", **facts)
        assert process.claimed_at is not None
        before = process.claimed_at - EVIDENCE_VALID_FOR - self.history.stepped_back
        in_use = self.history.in_use
        if in_use is not None:
            require(
                digest not in in_use.users(listing, path, before),
                "an image in use is not deleted",
                used=in_use,
                **facts,
            )
            broken = in_use.broken_since
            require(broken is None or broken > before, "without evidence nothing is deleted", used=in_use, **facts)

    def _check_owners(self, item: Any, facts: dict[str, Any]) -> None:
        for owner in json.loads(item["owners"]):
            rows = self.rows(
                "select state from item where run_id = ? and repository = ? and digest = ?",
                item["run_id"],
                item["repository"],
                owner,
            )
            states = [row["state"] for row in rows]
            require(states in (["deleted"], ["gone"]), "owners are deleted first", owner=owner, states=states, **facts)

    def _check_needs(self, run_id: str, path: str, digest: str, facts: dict[str, Any]) -> None:
        """No image that the registry has, and that this run has seen, needs the image."""
        plan = self.plans[run_id]
        seen = plan.listings[path]
        item = seen[digest]
        recheck = self.rechecks.get((run_id, path))
        require(recheck is not None, "a repository is listed again first", **facts)
        assert recheck is not None
        for instance in self.history.registry.repositories.get(path, {}).values():
            known = seen.get(instance.digest)
            listed_again = recheck.listing.get(instance.digest)
            seen_by_run = (known is not None and known.id == instance.id) or (
                listed_again is not None and listed_again.id == instance.id
            )
            if not seen_by_run:
                continue  # pushed after the recheck
            if digest in (instance.content.children or ()):
                require(False, "a child of an index is not deleted", index=instance, **facts)
            if instance.digest in subjects(item):
                require(False, "a referrer is not deleted before its subject", subject=instance, **facts)
            if (known is None or known.id != instance.id) and listed_again is not None:
                require(
                    digest not in subjects(listed_again),
                    "an image that a new image needs is not deleted",
                    needs=instance,
                    **facts,
                )

    def deletion_sent(self, process: Process, path: str, image: Image, key: str) -> None:
        """A process sends a DELETE."""
        facts = {"process": process.task_call, "path": path, "digest": image.digest, "id": image.id, "key": key}
        row = self.rows(
            "select run_id, number, image from item where run_id = ? and repository = ? and idempotency_key = ?",
            process.run_id,
            path,
            key,
        )
        intents = [intent for intent in self.by_key.get(key, []) if intent.process is process and not intent.sent]
        require(len(row) == 1 and len(intents) >= 1, "an intent is recorded before a deletion", rows=len(row), **facts)
        intent = intents[-1]
        intent.sent = True
        assert process.run_id is not None
        planned = self.plans[process.run_id].listings[path][image.digest]
        require(json.loads(row[0]["image"])["id"] == planned.id == image.id, "the planned image is deleted", **facts)
        reading = process.readings.pop(image.id, None)
        require(reading is not None and reading.at < intent.at, "an image is reread before its deletion", **facts)
        assert reading is not None
        facts_planned = (planned.digest, planned.tags, planned.created_at)
        require(
            reading.facts == facts_planned, "a changed image is not deleted", read=reading, planned=planned, **facts
        )
        modes = [mode for at, mode in process.modes if reading.at < at < intent.at]
        require(bool(modes) and modes[-1] == "delete", "the mode is reread for each intent", modes=modes, **facts)
        recheck = self.rechecks[process.run_id, path]
        claimed = process.claimed_at
        assert claimed is not None
        require(
            claimed - recheck.began < RECHECK_VALID_FOR + SECOND + self.history.stepped_back,
            "a repository was listed within ten minutes",
            claimed=claimed,
            recheck=recheck.began,
            **facts,
        )
        require(process.run_id in self.plans, "a plan is stored first", **facts)

    def _check_new_outcomes(self) -> None:
        items = self.rows(
            "select run_id, number, repository, digest, image, state from item where state in ('deleted', 'gone')"
        )
        for item in items:
            if (item_key := (item["run_id"], item["number"])) in self._settled:
                continue
            self._settled.add(item_key)
            image_id = json.loads(item["image"])["id"]
            facts = dict(item)
            require(
                not self.history.registry.is_there(image_id),
                "an image recorded as deleted or gone does not exist",
                item=facts,
            )
            if item["state"] == "deleted":
                intents = [intent for intent in self.intents if (intent.run_id, intent.number) == item_key]
                ours = any(not intent.withdrawn for intent in intents)  # a recorded intent may have been sent
                require(ours, "an image recorded as deleted was deleted by us", item=facts)

    def check(self) -> None:
        """After every step of the history."""
        self._check_runs()
        self._check_effects()
        self._check_counters()

    def _check_runs(self) -> None:
        runs = self.rows("select * from run")
        active = [run["id"] for run in runs if run["state"] in ("pending", "planning", "planned", "deleting")]
        require(len(active) <= 1, "at most one run is active", active=active)
        foreign = sum(run["foreign_deletions"] for run in runs)
        require(
            foreign <= self.history.registry.removed,
            "foreign deletions were made by others",
            runs=[dict(run) for run in runs],
        )
        audited = Counter(row["run_id"] for row in self.rows("select run_id from audit"))
        for run in runs:
            done = run["deleted"] + run["gone"]
            require(audited[run["id"]] == done, "each deletion has one audit row", run=dict(run), audit=audited)
            if (plan := self.plans.get(run["id"])) is None or run["forgotten"]:
                continue
            states: dict[str, set[Key]] = {}
            for item in self.rows("select number, repository, digest, state from item where run_id = ?", run["id"]):
                states.setdefault(item["state"], set()).add((item["repository"], item["digest"]))
            for state in ("deleted", "gone", "skipped", "failed"):
                require(run[state] == len(states.get(state, ())), "a run counts its items", run=dict(run), items=states)
            gone = states.get("gone", set())
            ours = self._ours(run["id"], states.get("deleted", set()), gone)
            expected = reclaimed(plan.listings, plan.items.keys(), ours, gone, self._kept_blobs(run["id"], plan))
            require(run["reclaimed_bytes"] == expected, "reclaimed bytes are exact", run=dict(run), expected=expected)

    def _ours(self, run_id: str, deleted: set[Key], gone: set[Key]) -> set[Key]:
        """Images that we deleted, and images that were deleted with an index or a subject that we deleted."""
        ours = set(deleted)
        rows = self.rows("select repository, digest, owners from item where run_id = ? and state = 'gone'", run_id)
        while more := {
            key
            for row in rows
            if (key := (row["repository"], row["digest"])) in gone - ours
            and any((row["repository"], owner) in ours for owner in json.loads(row["owners"]))
        }:
            ours |= more
        return ours

    def _kept_blobs(self, run_id: str, plan: Plan) -> set[str]:
        """Blobs that an image pushed after the plan names as well."""
        rows = self.rows("select digest from blob where run_id = ? and still_referenced", run_id)
        kept = {row["digest"] for row in rows}
        planned = {blob for images in plan.listings.values() for blob in bytes_of(images.values())}
        require(kept <= planned, "a kept blob was planned", blobs=kept)
        return kept

    def _check_effects(self) -> None:
        """Every image that we deleted has its row."""
        for effect in self.history.registry.effects:
            rows = self.rows(
                "select i.state, i.outcome_cause, i.image, r.state as run_state from item i"
                " join run r on r.id = i.run_id where i.repository = ? and i.digest = ? and i.run_id in (?)",
                effect.repository,
                effect.instance.digest,
                self.by_key[effect.key][0].run_id if effect.key in self.by_key else "",
            )
            require(len(rows) == 1, "a deletion is recorded", effect=effect, rows=[dict(row) for row in rows])
            item = rows[0]
            final = (item["state"], item["outcome_cause"])
            allowed = final[0] == "deleted" or final == UNCONFIRMED
            begun = item["run_state"] != "finished" and final[0] in ("intent", "accepted")
            require(allowed or begun, "a deletion is recorded as such", effect=effect, item=dict(item))

    def _check_counters(self) -> None:
        sums = self.rows(
            "select count(*) as runs, total(deleted) as deleted, total(gone) as gone, total(skipped) as skipped,"
            " total(failed) as failed, total(reclaimed_bytes) as reclaimed_bytes from run"
        )[0]
        now: dict[str, float] = dict(sums)
        now |= {f"{row['name']} {row['label']}": row["value"] for row in self.rows("select * from tally")}
        now["audit"] = self.rows("select count(*) as n from audit")[0]["n"]
        for name, value in self._counters.items():
            require(now.get(name, 0) >= value, "no counter falls", name=name, before=value, now=now.get(name))
        self._counters = now

    def check_end(self) -> None:
        """At the end every run is finished; where nobody else changed anything, reclaimed bytes are the freed bytes."""
        runs = self.rows("select * from run")
        for run in runs:
            require(run["state"] == "finished", "every run finishes", run=dict(run))
            left = self.rows(
                "select number, state from item where run_id = ? and state in ('intent', 'accepted')", run["id"]
            )
            require(not left, "no deletion stays unconfirmed", run=dict(run), items=[dict(row) for row in left])
        last = runs[-1] if runs else None
        plan = self.plans.get(last["id"]) if last else None
        if last is None or plan is None or plan.changes != self.history.registry.changes or not plan.complete:
            return
        intents = [intent for intent in self.intents if intent.run_id == last["id"]]
        unconfirmed = self.rows("select 1 from item where outcome_cause = 'unconfirmed'")
        others = len(self.history.registry.effects) - plan.effects
        if unconfirmed or others != last["deleted"] or not intents:
            return
        left_now = bytes_of(instance for _, instance in self.history.registry.instances())
        freed = sum(size for blob, size in plan.blobs.items() if blob not in left_now)
        self.history.stats["bytes: compared with the registry"] += 1
        require(last["reclaimed_bytes"] == freed, "reclaimed bytes are the freed bytes", run=dict(last), freed=freed)
