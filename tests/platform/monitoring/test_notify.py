"""Notification over a real HTTP server on this machine: delivered, or reported as not delivered."""

import json
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from threading import Thread
from typing import Any

import pytest
from rich.console import Console

from mlplatform.monitoring.notify import notify

Stored = Callable[..., list[str]]
LINES = ["price: ks 0.31 is above 0.2", "[region=north]: roc_auc 0.55 is below 0.6"]


class Inbox(HTTPServer):
    """Answers every POST with `status` and keeps what was posted."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.received: list[dict[str, Any]] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server_port}/secret-token"


class Receiver(BaseHTTPRequestHandler):
    server: Inbox

    def do_POST(self) -> None:
        self.server.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with Inbox() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def console() -> Console:
    return Console(file=StringIO(), width=200)


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Stored:
    """Puts addresses into environment variables and gives the variables' names."""

    def store(*urls: str) -> list[str]:
        for number, url in enumerate(urls):
            monkeypatch.setenv(f"SERVICE_{number}", url)
        return [f"SERVICE_{number}" for number in range(len(urls))]

    return store


def printed(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_alerts_reach_the_service_in_one_message(inbox: Inbox, stored: Stored, console: Console) -> None:
    assert notify("2 alerts in prod", LINES, stored(inbox.url), console) == []
    (message,) = inbox.received
    assert message["title"] == "2 alerts in prod"
    assert all(line in message["message"] for line in LINES)
    assert printed(console) == ""


def test_without_services_alerts_go_to_the_console(console: Console) -> None:
    assert notify("2 alerts in prod", LINES, (), console) == []
    assert all(line in printed(console) for line in LINES)  # the brackets of a slice are not taken for markup


def test_a_failed_delivery_is_reported_and_the_alert_is_not_lost(
    inbox: Inbox, stored: Stored, console: Console
) -> None:
    inbox.status = 500
    (failure,) = notify("alerts", LINES, stored(inbox.url), console)
    assert "500" in failure
    assert "secret-token" not in failure
    assert all(text in printed(console) for text in [*LINES, "not delivered"])


def test_one_service_that_is_down_does_not_keep_the_others_from_being_told(
    inbox: Inbox, stored: Stored, console: Console
) -> None:
    with socket.socket() as free:  # bound but not listening: connections are refused
        free.bind(("127.0.0.1", 0))
        down = f"json://127.0.0.1:{free.getsockname()[1]}/secret-token"
        failures = notify("alerts", LINES, stored(down, inbox.url), console)
    assert len(failures) == 1
    assert "secret-token" not in failures[0]
    assert len(inbox.received) == 1


def test_a_service_that_does_not_exist_is_reported_without_its_secret(stored: Stored, console: Console) -> None:
    (failure,) = notify("alerts", LINES, stored("slakc://secret-token"), console)
    assert failure == "SERVICE_0 (slakc://...): Apprise does not understand this URL"


def test_a_variable_that_is_not_set_is_reported(console: Console) -> None:
    assert notify("alerts", LINES, ["NOBODY_SET_THIS"], console) == ["NOBODY_SET_THIS: this variable is not set"]
    assert all(line in printed(console) for line in LINES)


def test_nothing_to_say_is_not_sent(inbox: Inbox, stored: Stored, console: Console) -> None:
    assert notify("alerts", [], stored(inbox.url), console) == []
    assert inbox.received == []
    assert printed(console) == ""
