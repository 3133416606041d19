"""What must be true, whatever happens: asked after every commit, at every deletion and after every step.

It reads the store by a connection of its own, and the registry as it really is.
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
from tests.system.histories.oracle import Key, bytes_of, goes, reclaimed, subjects
from tests.system.histories.plan_context import GOOD_FOR, held_by_people
from tests.system.histories.process import Process

if TYPE_CHECKING:
    from tests.system.histories.world import World

UNCONFIRMED = ("failed", "unconfirmed")
RECHECK_VALID_FOR = timedelta(minutes=10)
SECOND = timedelta(seconds=1)


class BrokenPromiseError(AssertionError):
    """The program did what it promises never to do."""


BROKEN: list[str] = []  # what was found first: side by side it may not come again


def promise(kept: bool, text: str, **facts: object) -> None:
    if not kept:
        BROKEN.append(f"{text}: {facts}")
        raise BrokenPromiseError(BROKEN[-1])


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


@dataclass(slots=True)
class Plan:
    """A plan as it was stored, and the world it was made of."""

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
    withdrawn: bool = False  # surely not sent


@dataclass(slots=True)
class Look:
    listing: dict[str, Instance]
    began: datetime  # true time


@dataclass
class Ledger:
    world: "World"
    raw: sqlite3.Connection
    plans: dict[str, Plan] = field(default_factory=dict)
    intents: list[Intent] = field(default_factory=list)
    by_key: dict[str, list[Intent]] = field(default_factory=dict)
    rechecks: dict[Key, Look] = field(default_factory=dict)  # run and path
    _looked: dict[Key, int] = field(default_factory=dict)
    _begun: dict[tuple[str, int], int] = field(default_factory=dict)  # attempts of what is begun
    _leases: dict[tuple[str, int], datetime | None] = field(default_factory=dict)  # of batches, as last committed
    _fences: dict[tuple[str, int], int] = field(default_factory=dict)
    _settled: set[tuple[str, int]] = field(default_factory=set)
    _counters: dict[str, float] = field(default_factory=dict)

    def rows(self, query: str, *args: object) -> list[Any]:
        return self.raw.execute(query, args).fetchall()

    def committed(self, process: Process) -> None:
        """After each commit of ours: what is new in the store was allowed."""
        with self.world.lock:
            self._note_claim(process)
            self._note_looks(process)
            self._check_new_plans(process)
            self._check_new_intents(process)
            self._check_new_outcomes()
            self._note_leases()

    def _note_leases(self) -> None:
        batches = self.rows("select run_id, number, fence, lease_until, takeovers from batch where not done")
        self._leases = {(one["run_id"], one["number"]): _instant(one["lease_until"]) for one in batches}
        self._fences |= {(one["run_id"], one["number"]): one["fence"] for one in batches}
        if any(one["takeovers"] for one in batches):
            self.world.stats["seen: a batch was taken over"] += 1

    def _note_claim(self, process: Process) -> None:
        task_call = process.task_call
        if task_call is None or task_call.task != "gc.delete_batch" or process.claimed_at is not None:
            return
        process.claimed_at = self.world.true_time
        fence = self.rows("select fence from batch where run_id = ? and number = ?", *task_call.args)
        if fence and fence[0]["fence"] == self._fences.get((str(task_call.args[0]), int(task_call.args[1])), 0) + 1:
            process.fence = fence[0]["fence"]

    def _note_looks(self, process: Process) -> None:
        if process.task_call is None or process.task_call.task != "gc.recheck":
            return
        run_id, path = map(str, process.task_call.args)
        found = self.rows("select rechecked_at from repository where run_id = ? and path = ?", run_id, path)
        rechecked_at = found[0]["rechecked_at"] if found else None
        if rechecked_at is not None and rechecked_at != self._looked.get((run_id, path)):
            self._looked[run_id, path] = rechecked_at
            if path in process.listings:
                self.rechecks[run_id, path] = Look(process.listings[path], process.began_listing[path])

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
            promise(bool(run["complete"]) == (not process.refused), "what could not be listed is named")
            both = reclaimed(listings, planned.keys(), planned.keys(), set(), set())
            promise(run["reclaimable_bytes"] == both, "reclaimable bytes are exact", row=dict(run), expected=both)
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
        """A plan is what brute force finds; less, where images have to settle; about, where people just spoke."""
        stays = self._stays(process.listings, now, None)
        law, listings = self.world.law, process.listings
        expected = goes(listings, process.unread, now, law, stays)
        facts = {"run": dict(run), "plan": planned, "expected": expected}
        assert process.began is not None
        if self.world.standing_changed_at > process.began - GOOD_FOR - self.world.stepped_back:
            expected = goes(listings, process.unread, now, law, set())
            promise(planned <= expected, "a plan is no more than brute force finds", **facts)
        elif process.settle or run["suspicion"]:
            promise(planned <= expected, "a plan is no more than brute force finds", **facts)
            self._check_settled(process, planned, now, facts)
        else:
            promise(planned == expected, "a plan is what brute force finds", **facts)

    def _stays(
        self, listings: Mapping[str, Mapping[str, Instance]], now: datetime, before: datetime | None
    ) -> set[Key]:
        """What is held at an instant, or in use; since `before`, if that is said."""
        holds = self.rows("select * from hold where released_at is null")
        found = {
            (path, digest)
            for path, images in listings.items()
            for digest, held in images.items()
            if holds and held_by_people(holds, now, path, held)
        }
        if (in_use := self.world.in_use) is not None:
            for path, images in listings.items():
                found |= {(path, digest) for digest in in_use.users(images, path, before)}
        return found

    def _check_settled(self, process: Process, planned: Set[Key], now: datetime, facts: dict[str, Any]) -> None:
        """What goes was there, with these tags, in every plan since one that is old enough."""
        settle = process.settle
        for path, digest in planned if settle else ():
            tags = process.listings[path][digest].tags
            seen = None
            for plan in sorted(self.plans.values(), key=lambda plan: plan.started, reverse=True):
                if path in plan.listings:
                    held = plan.listings[path].get(digest)
                    if held is None or held.tags != tags:
                        break
                    seen = plan.started
            promise(seen is not None and now - seen >= settle, "what goes has settled", path=path, seen=seen, **facts)

    def _check_new_intents(self, process: Process) -> None:
        found = self.rows(
            "select run_id, number, batch, repository, digest, owners, stop_reason, idempotency_key, attempts from item"
            " where state in ('intent', 'accepted')"
        )
        before, self._begun = self._begun, {}
        for item in found:
            place = (item["run_id"], item["number"])
            self._begun[place] = item["attempts"]
            if item["stop_reason"] is not None:
                self.world.stats["seen: an item was stopped"] += 1
            if item["attempts"] > before.get(place, 0):  # else none is new; one that was taken back may come again
                intent = Intent(self.world.tick(), process, *place)
                self.intents.append(intent)
                self.by_key.setdefault(item["idempotency_key"], []).append(intent)
                self._check_intent(process, item)
        for place, attempts in before.items():
            if self._begun.get(place, 0) < attempts:
                self._note_withdrawal(place)

    def _note_withdrawal(self, place: tuple[str, int]) -> None:
        state = self.rows("select state from item where run_id = ? and number = ?", *place)
        if state and state[0]["state"] in ("planned", "intent"):
            last = [one for one in self.intents if (one.run_id, one.number) == place][-1]
            last.withdrawn = not last.sent

    def _check_intent(self, process: Process, item: Any) -> None:
        run = self.rows("select * from run where id = ?", item["run_id"])[0]
        batch = self.rows("select * from batch where run_id = ? and number = ?", item["run_id"], item["batch"])[0]
        now = self.world.now()
        facts = {"item": dict(item), "run": dict(run), "batch": dict(batch), "now": now}
        promise(run["id"] == process.run_id and run["id"] in self.plans, "only its own stored plan", **facts)
        promise(run["mode"] == "delete", "a dry run deletes nothing", **facts)
        promise(run["state"] == "deleting" and run["stop"] is None, "a stopped run deletes nothing", **facts)
        promise(item["stop_reason"] is None, "an item with a stop reason is left alone", **facts)
        lease = self._leases.get((item["run_id"], item["batch"]))  # as it was before this commit
        promise(batch["fence"] == process.fence and lease is not None and lease > now, "only under a lease", **facts)
        started, deleting = _instant(run["started_at"]), _instant(run["deleting_at"])
        assert started is not None
        assert deleting is not None
        promise(now - SECOND < started + self.world.plan_max_age, "a plan grows old", **facts)
        if self.world.deadline is not None:
            promise(now - SECOND < deleting + self.world.deadline, "a deadline passes", **facts)
        self._check_standing(process, item, now, facts)
        self._check_owners(item, facts)
        self._check_needs(item["run_id"], item["repository"], item["digest"], facts)

    def _check_standing(self, process: Process, item: Any, now: datetime, facts: dict[str, Any]) -> None:
        """Neither held nor paused when the intent was written, nor in use ten minutes before the batch began."""
        pauses = self.rows("select registry from pause where resumed_at is null and registry in ('production', '*')")
        promise(not pauses, "nothing is deleted in a pause", **facts)
        path, digest = item["repository"], item["digest"]
        listing = self.plans[item["run_id"]].listings[path]
        holds = self.rows("select * from hold where released_at is null")
        promise(not held_by_people(holds, now, path, listing[digest]), "what is held stays", **facts)
        assert process.claimed_at is not None
        before = process.claimed_at - GOOD_FOR - self.world.stepped_back
        in_use = self.world.in_use
        if in_use is not None:
            promise(digest not in in_use.users(listing, path, before), "what is in use stays", used=in_use, **facts)
            broken = in_use.broken_since
            promise(broken is None or broken > before, "without evidence nothing is deleted", used=in_use, **facts)

    def _check_owners(self, item: Any, facts: dict[str, Any]) -> None:
        for owner in json.loads(item["owners"]):
            found = self.rows(
                "select state from item where run_id = ? and repository = ? and digest = ?",
                item["run_id"],
                item["repository"],
                owner,
            )
            states = [one["state"] for one in found]
            promise(states in (["deleted"], ["gone"]), "owners go first", owner=owner, states=states, **facts)

    def _check_needs(self, run_id: str, path: str, digest: str, facts: dict[str, Any]) -> None:
        """Nothing that is there, and that this run was told of, needs it."""
        plan = self.plans[run_id]
        seen = plan.listings[path]
        item = seen[digest]
        look = self.rechecks.get((run_id, path))
        promise(look is not None, "a repository is listed again first", **facts)
        assert look is not None
        for held in self.world.registry.repositories.get(path, {}).values():
            known = seen.get(held.digest)
            listed_again = look.listing.get(held.digest)
            told = (known is not None and known.id == held.id) or (
                listed_again is not None and listed_again.id == held.id
            )
            if not told:
                continue  # pushed since: nobody could know
            if digest in (held.content.children or ()):
                promise(False, "what an index lists stays", index=held, **facts)
            if held.digest in subjects(item):
                promise(False, "a signature stays with its subject", subject=held, **facts)
            if (known is None or known.id != held.id) and listed_again is not None:
                promise(digest not in subjects(listed_again), "what a new image needs stays", needs=held, **facts)

    def deletion_sent(self, process: Process, path: str, image: Image, key: str) -> None:
        """A DELETE leaves our hands."""
        facts = {"process": process.task_call, "path": path, "digest": image.digest, "id": image.id, "key": key}
        row = self.rows(
            "select run_id, number, image from item where run_id = ? and repository = ? and idempotency_key = ?",
            process.run_id,
            path,
            key,
        )
        intents = [one for one in self.by_key.get(key, []) if one.process is process and not one.sent]
        promise(len(row) == 1 and len(intents) >= 1, "an intent comes before a deletion", rows=len(row), **facts)
        intent = intents[-1]
        intent.sent = True
        assert process.run_id is not None
        planned = self.plans[process.run_id].listings[path][image.digest]
        promise(json.loads(row[0]["image"])["id"] == planned.id == image.id, "what was planned is deleted", **facts)
        reading = process.readings.pop(image.id, None)
        promise(reading is not None and reading.at < intent.at, "an image is read again first", **facts)
        assert reading is not None
        facts_planned = (planned.digest, planned.tags, planned.created_at)
        promise(reading.facts == facts_planned, "what changed is left alone", read=reading, planned=planned, **facts)
        modes = [mode for at, mode in process.modes if reading.at < at < intent.at]
        promise(bool(modes) and modes[-1] == "delete", "the mode is read again with each intent", modes=modes, **facts)
        look = self.rechecks[process.run_id, path]
        claimed = process.claimed_at
        assert claimed is not None
        promise(
            claimed - look.began < RECHECK_VALID_FOR + SECOND + self.world.stepped_back,
            "a repository was listed within ten minutes",
            claimed=claimed,
            look=look.began,
            **facts,
        )
        promise(process.run_id in self.plans, "a plan is stored first", **facts)

    def _check_new_outcomes(self) -> None:
        found = self.rows(
            "select run_id, number, repository, digest, image, state from item where state in ('deleted', 'gone')"
        )
        for item in found:
            if (place := (item["run_id"], item["number"])) in self._settled:
                continue
            self._settled.add(place)
            image_id = json.loads(item["image"])["id"]
            facts = dict(item)
            promise(
                not self.world.registry.is_there(image_id), "what is called deleted or gone is not there", item=facts
            )
            if item["state"] == "deleted":
                mine = [one for one in self.intents if (one.run_id, one.number) == place]
                ours = any(not one.withdrawn for one in mine)  # whoever recorded one may have sent it
                promise(ours, "deleted is what we deleted", item=facts)

    def check(self) -> None:
        """After every step."""
        self._check_runs()
        self._check_effects()
        self._check_counters()

    def _check_runs(self) -> None:
        runs = self.rows("select * from run")
        active = [run["id"] for run in runs if run["state"] in ("pending", "planning", "planned", "deleting")]
        promise(len(active) <= 1, "one active run", active=active)
        foreign = sum(run["foreign_deletions"] for run in runs)
        promise(
            foreign <= self.world.registry.removed, "foreign deletions are not ours", runs=[dict(run) for run in runs]
        )
        audited = Counter(row["run_id"] for row in self.rows("select run_id from audit"))
        for run in runs:
            done = run["deleted"] + run["gone"]
            promise(audited[run["id"]] == done, "one audit row for each deletion", run=dict(run), audit=audited)
            if (plan := self.plans.get(run["id"])) is None or run["forgotten"]:
                continue
            states: dict[str, set[Key]] = {}
            for item in self.rows("select number, repository, digest, state from item where run_id = ?", run["id"]):
                states.setdefault(item["state"], set()).add((item["repository"], item["digest"]))
            for state in ("deleted", "gone", "skipped", "failed"):
                promise(run[state] == len(states.get(state, ())), "a run counts its items", run=dict(run), items=states)
            gone = states.get("gone", set())
            ours = self._ours(run["id"], states.get("deleted", set()), gone)
            expected = reclaimed(plan.listings, plan.items.keys(), ours, gone, self._kept_blobs(run["id"], plan))
            promise(run["reclaimed_bytes"] == expected, "reclaimed bytes are exact", run=dict(run), expected=expected)

    def _ours(self, run_id: str, deleted: set[Key], gone: set[Key]) -> set[Key]:
        """What we deleted, and what is gone with an index or subject that we deleted."""
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
        """Blobs that an image pushed since the plan has named: nobody else ever pushed them to what is planned."""
        rows = self.rows("select digest from blob where run_id = ? and kept", run_id)
        kept = {row["digest"] for row in rows}
        planned = {blob for images in plan.listings.values() for blob in bytes_of(images.values())}
        promise(kept <= planned, "a kept blob was planned", blobs=kept)
        return kept

    def _check_effects(self) -> None:
        """Every image that is no longer there by our doing has its row."""
        for effect in self.world.registry.effects:
            found = self.rows(
                "select i.state, i.outcome_cause, i.image, r.state as run_state from item i"
                " join run r on r.id = i.run_id where i.repository = ? and i.digest = ? and i.run_id in (?)",
                effect.repository,
                effect.instance.digest,
                self.by_key[effect.key][0].run_id if effect.key in self.by_key else "",
            )
            promise(len(found) == 1, "a deletion is recorded", effect=effect, rows=[dict(one) for one in found])
            item = found[0]
            final = (item["state"], item["outcome_cause"])
            allowed = final[0] == "deleted" or final == UNCONFIRMED
            begun = item["run_state"] != "finished" and final[0] in ("intent", "accepted")
            promise(allowed or begun, "a deletion is recorded as such", effect=effect, item=dict(item))

    def _check_counters(self) -> None:
        sums = self.rows(
            "select count(*) as runs, total(deleted) as deleted, total(gone) as gone, total(skipped) as skipped,"
            " total(failed) as failed, total(reclaimed_bytes) as reclaimed_bytes from run"
        )[0]
        now: dict[str, float] = dict(sums)
        now |= {f"{row['name']} {row['label']}": row["value"] for row in self.rows("select * from tally")}
        now["audit"] = self.rows("select count(*) as n from audit")[0]["n"]
        for name, value in self._counters.items():
            promise(now.get(name, 0) >= value, "no counter falls", name=name, before=value, now=now.get(name))
        self._counters = now

    def check_end(self) -> None:
        """When all is quiet: every run has ended, and where nobody else did anything, bytes are what was freed."""
        runs = self.rows("select * from run")
        for run in runs:
            promise(run["state"] == "finished", "every run ends", run=dict(run))
            left = self.rows(
                "select number, state from item where run_id = ? and state in ('intent', 'accepted')", run["id"]
            )
            promise(not left, "no doubt is left", run=dict(run), items=[dict(one) for one in left])
        last = runs[-1] if runs else None
        plan = self.plans.get(last["id"]) if last else None
        if last is None or plan is None or plan.changes != self.world.registry.changes or not plan.complete:
            return
        mine = [one for one in self.intents if one.run_id == last["id"]]
        doubtful = self.rows("select 1 from item where outcome_cause = 'unconfirmed'")
        others = len(self.world.registry.effects) - plan.effects
        if doubtful or others != last["deleted"] or not mine:
            return
        left_now = bytes_of(held for _, held in self.world.registry.instances())
        freed = sum(size for blob, size in plan.blobs.items() if blob not in left_now)
        self.world.stats["bytes: compared with the world"] += 1
        promise(last["reclaimed_bytes"] == freed, "reclaimed bytes are what was freed", run=dict(last), freed=freed)
