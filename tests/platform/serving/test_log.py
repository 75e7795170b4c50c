"""The request log: nothing that was answered is lost, whatever dies, and memory is bounded."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlplatform.config.serving import RequestLog, ServingSettings
from mlplatform.environment import Environment
from mlplatform.errors import UserError
from mlplatform.pipelines.collect import collect
from mlplatform.pipelines.forget import look
from mlplatform.preparation.forgotten import Subject
from mlplatform.serving.log import LogFullError, LogWriter, Tally
from mlplatform.serving.requests import folder
from mlplatform.serving.server import serve
from mlplatform.storage import ops
from server import Start
from steps import overlay, read
from tiny.project import PROJECT

LoadEnv = Callable[..., Environment]
ITEM: dict[str, Any] = {"item_id": "item-000001", "kind": "a", "amount": 40.0}
pytestmark = pytest.mark.serving

_WRITES = """
import asyncio, sys
from datetime import timedelta
from pathlib import Path
from mlplatform.config.serving import RequestLog, ServingSettings
from mlplatform.serving.log import LogWriter

async def go():
    log = LogWriter(Path(sys.argv[1]), RequestLog(durability=sys.argv[2], interval=timedelta(milliseconds=100)), 5)
    for number in range(1_000_000):
        await log.write([b'{"number": %d}' % number])
        print(number, flush=True)
        await asyncio.sleep(0.001)

asyncio.run(go())
"""


def lines(folder: Path) -> list[bytes]:
    return [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines(keepends=True)]


@pytest.mark.parametrize(("durability", "lost"), [("strict", 0), ("batched", 400)])
def test_kill_9_loses_nothing_that_strict_answered_and_an_interval_otherwise(
    tmp_path: Path, durability: str, lost: int
) -> None:
    command = [sys.executable, "-c", _WRITES, str(tmp_path), durability]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        answered = -1
        for line in process.stdout:
            answered = int(line)
            if answered == 300:
                os.kill(process.pid, signal.SIGKILL)
    whole = [json.loads(line)["number"] for line in lines(tmp_path) if line.endswith(b"\n")]
    assert whole == list(range(len(whole)))
    assert len(whole) >= answered + 1 - lost
    assert len(whole) > 0


def test_a_full_disk_answers_nobody_and_loses_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batched: what waits is bounded; then requests wait, and fail. It is written when there is room."""
    room = threading.Event()
    real = LogWriter._append

    def full(log: LogWriter, text: bytes) -> None:
        if not room.is_set():
            raise OSError(28, "No space left on device")
        real(log, text)

    monkeypatch.setattr(LogWriter, "_append", full)

    async def go(durability: str, most: int) -> int:
        settings = RequestLog(durability=durability, interval=timedelta(milliseconds=20), pending=most)  # type: ignore[arg-type]
        log, taken = LogWriter(tmp_path / durability, settings, patience=0.2), 0
        try:
            for _ in range(most + 5):
                try:
                    await log.write([b"{}"])
                    taken += 1
                except LogFullError:
                    break
            assert log.pending <= most
            if durability == "batched":
                room.set()
                while log.pending:
                    await asyncio.sleep(0.01)
        finally:
            log.close()
        return taken

    assert asyncio.run(go("strict", 5)) == 0
    assert lines(tmp_path / "strict") == []
    assert asyncio.run(go("batched", 5)) == 5
    assert lines(tmp_path / "batched") == [b"{}\n"] * 5


def test_what_a_full_disk_has_taken_is_taken_back_and_what_was_counted_is_told_later(
    tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    async def go() -> None:
        log, tally = LogWriter(tmp_path, RequestLog(durability="strict"), 5), Tally()
        tally.saw(200, 0.5)
        with monkeypatch.context() as disk:
            disk.setattr(os, "fsync", full)
            with pytest.raises(LogFullError):
                await log.write([b" " * 1000])
            await tally.tell(log, now)
        tally.saw(200, 0.25)
        await tally.tell(log, now)
        log.close()

    asyncio.run(go())
    (line,) = lines(tmp_path)
    told = json.loads(line)
    assert (told["status"], told["requests"], told["seconds"]) == (200, 2, 0.75)


def test_a_server_whose_disk_is_full_says_503_and_is_not_ready(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(log: LogWriter, text: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LogWriter, "_append", full)
    running = start(log={"durability": "strict"})
    assert running.predict(ITEM).status_code == 503
    assert "log" in running.client.get("/ready").text


def test_a_log_whose_files_are_deleted_goes_on_in_new_ones(tmp_path: Path) -> None:
    async def go() -> None:
        log = LogWriter(tmp_path / "log", RequestLog(durability="strict"), 5)
        for number in range(2):
            await log.write([b'{"number": %d}' % number])
            if number == 0:
                shutil.rmtree(tmp_path / "log")
        log.close()

    asyncio.run(go())
    assert lines(tmp_path / "log") == [b'{"number": 1}\n']


def test_what_a_full_disk_has_not_taken_when_the_server_ends_is_said_to_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(log: LogWriter, text: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LogWriter, "_append", full)

    async def go() -> None:
        log = LogWriter(tmp_path, RequestLog(durability="batched"), 0.1)
        await log.write([b"{}"] * 3)
        log.close()

    asyncio.run(go())
    assert "request log: 3 rows that were answered are lost: [Errno 28]" in capfd.readouterr().err


def test_a_file_is_taken_once_though_whoever_takes_it_dies(
    start: Start, prod: Environment, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start(folder=prod.folder, log={"durability": "strict"})
    for _ in range(3):
        running.predict(ITEM)
    (file,) = folder(prod).glob("*.jsonl")
    assert not collect(prod, now).written, "the server still writes to it"
    counted = Tally()
    for status in (200, 422):
        counted.saw(status, 0.1)
    asyncio.run(counted.tell(running.service.log, now))
    running.service.log.close()
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"request_id": "torn')
    with monkeypatch.context() as broken:
        broken.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            collect(prod, now)
    assert file.exists()
    assert {*collect(prod, now).written} == {ops.REQUESTS}, "the same ones again"
    assert read(prod, "predictions.tiny").height == 3
    assert sorted(read(prod, ops.REQUESTS)["status"]) == [200, 422]
    assert not file.exists()


def test_a_damaged_line_is_told_and_hides_no_other(start: Start, prod: Environment, now: datetime) -> None:
    running = start(folder=prod.folder, log={"durability": "strict"})
    for _ in range(3):
        running.predict(ITEM)
    stays = [line for line in look(prod, Subject({"item_id": ITEM["item_id"]})).stays if "log" in line]
    assert stays == [
        f"{folder(prod)}: 1 files of the request log are not searched: run `ingest` (or `collect`), and this again; "
        "the file that a server writes is taken in once it is closed, 0:01:00 after it was begun"
    ]
    running.service.log.close()
    (file,) = folder(prod).glob("*.jsonl")
    first, second, *others = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([first, b"\0" * (len(second) - 1) + b"\n", *others]))
    run = collect(prod, now)
    aside = file.with_suffix(".damaged")
    said = f"1 of {len(others) + 2} lines are damaged, the others are taken: {aside}"
    assert run.notes == [f"request log: {said}"]
    assert read(prod, "predictions.tiny").height == 2
    assert aside.read_bytes().startswith(first)
    assert not collect(prod, now).notes
    stays = [line for line in look(prod, Subject({"item_id": ITEM["item_id"]})).stays if "log" in line]
    assert stays == [f"{aside}: damaged lines of the request log, not searched: delete it where it holds the value"]


def test_sensitive_fields_are_never_written(start: Start, prod: Environment, now: datetime) -> None:
    secret = replace(PROJECT, entity=replace(PROJECT.entity, sensitive=("kind", "amount")))
    running = start(folder=prod.folder, owner=secret)
    assert running.predict(ITEM | {"kind": "zebra", "amount": 77.125}).status_code == 200
    running.service.log.close()
    text = b"".join(path.read_bytes() for path in folder(prod).iterdir())
    assert b"item-000001" in text
    assert b"zebra" not in text
    assert b"77.125" not in text
    collect(prod, now)
    assert read(prod, "predictions.tiny")["kind"].to_list() == [None]
    with pytest.raises(ValueError, match="cannot be sensitive"):
        replace(PROJECT.entity, sensitive=("item_id",))


def test_a_dev_server_reads_prods_features_and_writes_nothing_of_prods(
    start: Start, project: Path, load_env: LoadEnv, now: datetime
) -> None:
    """dev has no model of its own here: it says so, and prod's folders stay as they were."""
    from mlplatform.features.online import OnlineFeatures, publish
    from steps import files

    publish(load_env("prod", project), now)
    name = overlay(project, "borrows", {"lakehouse": {"features_from": "prod"}})
    before = files(project / "data" / "prod")
    dev = load_env("dev", project, name)
    assert OnlineFeatures(dev).at(ITEM, now).feature_time is not None
    assert folder(dev).name == "dev"
    assert files(project / "data" / "prod") == before


def test_no_server_starts_without_a_key(project: Path, load_env: LoadEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlplatform.serving.access import Keys

    monkeypatch.delenv("SERVING_KEYS", raising=False)
    with pytest.raises(UserError, match="no API key is known"):
        Keys()
    assert ServingSettings().host == "127.0.0.1"
    name = overlay(project, "open", {"serving": {"keys": "none", "host": "0.0.0.0"}})
    with pytest.raises(UserError, match=r"conf/open.yml: serving.*asks for keys"):
        load_env("prod", project, name)
    env = load_env("prod", project, overlay(project, "open", {"serving": {"keys": "none"}}))
    with pytest.raises(UserError, match=r"192\.0\.2\.1: a server that others reach asks for keys"):
        serve(env, lambda: datetime(2025, 1, 1), host="192.0.2.1")
    for setting, value in {"poll": "0s", "log": {"segment": "0m"}, "limits": {"seconds": float("inf")}}.items():
        with pytest.raises(UserError, match=rf"conf/open.yml: serving.{setting}.*: (it must be longer|Input.*finite)"):
            load_env("prod", project, overlay(project, "open", {"serving": {setting: value}}))
