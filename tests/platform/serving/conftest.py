"""A real server on a free port of this machine, in a thread of the test, which ends it."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlplatform.contract import Project
from mlplatform.environment import Environment
from mlplatform.features.online import publish
from mlplatform.serving.access import new_key
from mlplatform.serving.app import Service
from mlplatform.serving.server import server as make
from server import Running, Start
from steps import overlay
from tiny.project import PROJECT


@pytest.fixture
def start(project: Path, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """start(**serving): a server of prod at `now`, features published, with settings of `serving` on top."""
    key, entry = new_key("a test")
    monkeypatch.setenv("SERVING_KEYS", entry)
    ends: list[Callable[[], None]] = []

    def begin(*, folder: Path = project, published: bool = True, owner: Project = PROJECT, **settings: Any) -> Running:
        name = overlay(folder, "served", {"serving": {"poll": "1s", **settings}})
        env = Environment.load("prod", owner, folder, ("test", name))
        if published:
            publish(env, now)
        times = [now]
        service = Service(env, lambda: times[0])
        server = make(service, "127.0.0.1", 0)
        thread = threading.Thread(target=server.run)
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": key}, timeout=30)

        def end() -> None:
            client.close()
            server.should_exit = True
            thread.join(timeout=30)
            assert not thread.is_alive(), "the server does not stop"

        ends.append(end)
        return Running(service, client, times)

    yield begin
    for end in ends:
        end()
