"""Tells people of runs: that one is blocked, or how it ended. Never in a run's way: what fails here is only logged.

At least once: a try is written down before a message is sent, its success afterwards, so that a crash in between sends
it again, a few times at most. `reconcile` rings for what is due.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from worker.logs import Log
from worker.notify.notice import notice_body, notice_title
from worker.notify.sender import Message, MessageKind, send
from worker.runs.lifecycle import TaskCall
from worker.store import Store, notices
from worker.store import runs as run_rows
from worker.store.notices import Notice

if TYPE_CHECKING:
    from worker.config.settings import Notification, Settings

log = Log(__name__)

OLD = timedelta(days=1)  # who has not been told by then does not need to be
# When a message is tried again, from the try before: five tries within about an hour.
AGAIN = tuple(timedelta(minutes=minutes) for minutes in (2, 8, 20, 30))
TRIES = len(AGAIN) + 1
MOST = 10  # messages rung in one minute: they share their queue with what opens runs
MOST_WHILE_FAILING = 2  # each may take as long as it is given

KINDS: Mapping[str, MessageKind] = {"succeeded": "success", "failed": "failure", "aborted": "info"}


def task_calls(store: Store, settings: "Settings", now: datetime) -> tuple[TaskCall, ...]:
    """Each minute: ring for the runs of which people are to be told now. Raises StoreError.

    What nobody wants to know, or is older than a day, is done with: who is added to the file tomorrow is not told.
    """
    with store.read() as connection:
        waiting = notices.unsent(connection)
    due: list[TaskCall] = []
    for one in waiting:
        if not _wanted(settings, one) or one.since < now - OLD:
            with store.write() as connection:
                notices.mark_notified(connection, one)
        elif _may_try(one, now):
            due.append(TaskCall("gc.notify", (one.run_id,)))
    return tuple(due[: MOST_WHILE_FAILING if any(one.tries for one in waiting) else MOST])


def _wanted(settings: "Settings", notice: Notice) -> dict[int, "Notification"]:
    """Who is to be told, by number in the file."""
    return {
        number: one
        for number, one in enumerate(settings.notify)
        if notice.word in one.on and (not one.registries or notice.registry in one.registries)
    }


def _may_try(notice: Notice, now: datetime) -> bool:
    return notice.after is None or notice.after <= now


def send_messages(store: Store, settings: "Settings", run_id: str, now: datetime) -> None:
    """Send the messages that a run still owes. Safe to call twice, late, or never. Raises StoreError."""
    with store.write() as connection:
        notice = notices.get(connection, run_id)
        if notice is None or not _may_try(notice, now):
            return
        wanted = {number: one for number, one in _wanted(settings, notice).items() if number not in notice.notified}
        tries = notice.tries + 1
        if not wanted or tries > TRIES:
            notices.mark_notified(connection, notice)
            return
        again = now + AGAIN[min(tries, len(AGAIN)) - 1]
        notices.record_attempt(connection, notice, tries=tries, after=again, notified=notice.notified)
        run = run_rows.get(connection, run_id)
    if run is None:
        return
    message = Message(notice_title(run), notice_body(run), KINDS.get(notice.word, "warning"))
    failures = send(message, wanted)
    _log(notice, wanted, failures, tries)
    with store.write() as connection:
        current = notices.get(connection, run_id)
        if current is None or current.word != notice.word:
            return  # somebody else told it too, or there is something newer to tell
        if not failures or tries == TRIES:
            notices.mark_notified(connection, current)
        elif current.tries == tries:
            told = current.notified | (wanted.keys() - failures.keys())
            notices.record_attempt(connection, current, tries=tries, after=again, notified=told)


def _log(notice: Notice, wanted: Iterable[int], failures: Mapping[int, str], tries: int) -> None:
    for number in wanted:
        facts = {"run": notice.run_id, "registry": notice.registry, "of": notice.word, "to": f"notify[{number}]"}
        if number not in failures:
            log.info("notification_sent", **facts)
        elif tries < TRIES:
            log.warning("notification_failed", **facts, reason=failures[number], tries=tries)
        else:
            log.error("notification_given_up", **facts, reason=failures[number], tries=tries)
