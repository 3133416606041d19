"""Sends notifications about runs that are blocked or have ended. A failure is only logged, and never delays a run.

At least once: an attempt is recorded before a message is sent and its success afterwards, so that a crash in between
sends it again, a few times at most. `reconcile` publishes the tasks that are due.
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

OLD = timedelta(days=1)  # later a message is not sent any more
# Delays between attempts: five attempts within about an hour.
AGAIN = tuple(timedelta(minutes=minutes) for minutes in (2, 8, 20, 30))
TRIES = len(AGAIN) + 1
MOST = 10  # task calls a minute: they share the queue of the tasks that open runs
MOST_WHILE_FAILING = 2  # each may take its whole time limit

KINDS: Mapping[str, MessageKind] = {"succeeded": "success", "failed": "failure", "aborted": "info"}


def task_calls(store: Store, settings: "Settings", now: datetime) -> tuple[TaskCall, ...]:
    """The runs whose notification is due, once a minute. Raises StoreError.

    A notification without a recipient, or older than a day, is closed: a recipient that is added later does not get it.
    """
    with store.read() as connection:
        waiting = notices.unsent(connection)
    due: list[TaskCall] = []
    for notice in waiting:
        if not _recipients(settings, notice) or notice.since < now - OLD:
            with store.write() as connection:
                notices.mark_notified(connection, notice)
        elif notice.after is None or notice.after <= now:
            due.append(TaskCall("gc.notify", (notice.run_id,)))
    return tuple(due[: MOST_WHILE_FAILING if any(notice.tries for notice in waiting) else MOST])


def _recipients(settings: "Settings", notice: Notice) -> dict[int, "Notification"]:
    """The recipients of a notification, by number in the file."""
    return {
        number: recipient
        for number, recipient in enumerate(settings.notify)
        if notice.event in recipient.on and (not recipient.registries or notice.registry in recipient.registries)
    }


def send_messages(store: Store, settings: "Settings", run_id: str, now: datetime) -> None:
    """Send the messages that a run still owes. Safe to call twice, late, or never. Raises StoreError."""
    with store.write() as connection:
        notice = notices.get(connection, run_id)
        if notice is None or (notice.after is not None and notice.after > now):
            return
        recipients = {
            number: to for number, to in _recipients(settings, notice).items() if number not in notice.notified
        }
        tries = notice.tries + 1
        if not recipients or tries > TRIES:
            notices.mark_notified(connection, notice)
            return
        again = now + AGAIN[min(tries, len(AGAIN)) - 1]
        notices.record_attempt(connection, notice, tries=tries, after=again, notified=notice.notified)
        run = run_rows.get(connection, run_id)
    if run is None:
        return
    message = Message(notice_title(run), notice_body(run), KINDS.get(notice.event, "warning"))
    failures = send(message, recipients)
    _log(notice, recipients, failures, tries)
    with store.write() as connection:
        current = notices.get(connection, run_id)
        if current is None or current.event != notice.event:
            return  # another worker sent it too, or the notification has changed
        if not failures or tries == TRIES:
            notices.mark_notified(connection, current)
        elif current.tries == tries:
            reached = current.notified | (recipients.keys() - failures.keys())
            notices.record_attempt(connection, current, tries=tries, after=again, notified=reached)


def _log(notice: Notice, recipients: Iterable[int], failures: Mapping[int, str], tries: int) -> None:
    for number in recipients:
        facts = {"run": notice.run_id, "registry": notice.registry, "of": notice.event, "to": f"notify[{number}]"}
        if number not in failures:
            log.info("notification_sent", **facts)
        elif tries < TRIES:
            log.warning("notification_failed", **facts, reason=failures[number], tries=tries)
        else:
            log.error("notification_given_up", **facts, reason=failures[number], tries=tries)
