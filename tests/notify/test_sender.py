"""Messages that are delivered, refused or unanswered; no part of an address is logged."""

import re
from pathlib import Path

import pytest

from tests.support.servers import free_port
from tests.support.webhook import Webhook
from worker.config.secret import Secret
from worker.config.settings import Notification
from worker.notify import sender
from worker.notify.sender import Message

MESSAGE = Message("a title", "a body", "info")


@pytest.mark.parametrize(
    ("status", "failure"),
    [(200, None), (204, None), (500, "HTTP status 500"), (404, "HTTP status 404"), (None, "no answer in time")],
)
def test_reports_the_status_of_a_failed_delivery(hook: Webhook, status: int | None, failure: str | None) -> None:
    hook.status = status
    failures = sender.send(MESSAGE, {7: Notification(url=hook.url)}, seconds=0.5 if status is None else 10)
    assert failures == ({} if failure is None else {7: failure})


def test_a_hanging_service_does_not_delay_the_others(hook: Webhook) -> None:
    hook.status = None
    with Webhook().listening() as well:
        to = {
            0: Notification(url=hook.url),
            1: Notification(url=well.url),
            2: Notification(url=f"json://127.0.0.1:{free_port()}/"),
        }
        failures = sender.send(MESSAGE, to, seconds=1.0)
    assert failures == {0: "no answer in time", 2: "apprise could not deliver it"}
    assert well.titles == ["a title"]


def test_names_the_location_of_an_unreadable_secret(tmp_path: Path) -> None:
    missing = Notification(url=Secret(file=tmp_path / "none"))
    assert sender.send(MESSAGE, {0: missing}) == {0: f"file {tmp_path}/none does not exist"}


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        ("json://127.0.0.1:8080/hook", True),
        ("mailto://user:password@example.org", True),
        ("slack://TokenA", False),
        ("no-such-service://x", False),
        ("json://", False),
        ("", False),
    ],
)
def test_recognizes_addresses_that_apprise_supports(url: str, answer: bool, caplog: pytest.LogCaptureFixture) -> None:
    assert sender.is_supported_address(url) is answer
    assert caplog.text == ""


def test_only_the_sender_imports_apprise() -> None:
    module = Path(sender.__file__)
    importers = [
        path
        for path in module.parent.parent.rglob("*.py")
        if re.search(r"^\s*(from|import) apprise\b", path.read_text(), re.M)
    ]
    assert importers == [module]
