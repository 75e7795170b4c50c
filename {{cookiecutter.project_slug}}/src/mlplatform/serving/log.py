"""The request log: JSON lines in files of this process, which `ingest` takes away."""

import asyncio
import fcntl
import os
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import orjson

from mlplatform.config.serving import RequestLog
from mlplatform.errors import UserError
from mlplatform.features.online import micros

SUFFIX = ".jsonl"
_Waiting = tuple[bytes, int, "asyncio.Future[None] | None"]


class LogFullError(UserError):
    """The disk takes no more, or not fast enough; the request must not be answered."""


class LogWriter:
    """Writes lines from a thread. While a file is open it is locked; the lock of a process that dies is free again.

    `strict`: a request waits until its lines are on disk, together with those of others. `batched`: they get there
    within the interval. No more than `pending` lines wait in memory: requests wait for room, and fail after `patience`
    seconds.
    """

    def __init__(self, folder: Path, settings: RequestLog, patience: float) -> None:
        self._folder = folder
        self._settings = settings
        self._strict = settings.durability == "strict"
        self._patience = patience
        self._pending: list[_Waiting] = []
        self._lines = 0
        self._wake = threading.Condition()
        self._closes: float | None = None  # until then it is tried to bring to disk what waits
        self._file: BinaryIO | None = None
        self._opened = 0.0
        self.error = ""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._run, name="request log", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Lines that are not on disk yet."""
        return self._lines

    async def write(self, lines: Sequence[bytes]) -> None:
        """Take the lines of one request. Raises LogFullError; then none of them is kept."""
        if not self._thread.is_alive():
            raise LogFullError("the request log is closed")
        deadline = time.monotonic() + self._patience
        while self._lines and self._lines + len(lines) > self._settings.pending:
            if time.monotonic() >= deadline:
                raise LogFullError(self.error or "the disk is slower than the requests")
            await asyncio.sleep(0.01)
        done = asyncio.get_running_loop().create_future() if self._strict else None
        with self._wake:
            self._pending.append((b"".join(line + b"\n" for line in lines), len(lines), done))
            self._lines += len(lines)
            if self._strict or self._lines * 2 > self._settings.pending:
                self._wake.notify()
        if done is not None:
            await done

    def close(self) -> None:
        """Bring to disk what waits, and give the file away. What the disk has not taken in time is said to be lost."""
        with self._wake:
            self._closes = time.monotonic() + min(self._patience, 20)
            self._wake.notify()
        self._thread.join(timeout=30)
        if self._lines:
            sys.stderr.write(f"request log: {self._lines} rows that were answered are lost: {self.error}\n")

    def _run(self) -> None:
        interval = self._settings.interval.total_seconds()
        while True:
            with self._wake:
                if self._closes is None and not (self._strict and self._pending):
                    self._wake.wait(interval)
                taken, self._pending = self._pending, []
                closes = self._closes
            if taken:
                self._store(taken)
            if self._file and (closes or time.monotonic() - self._opened > self._settings.segment.total_seconds()):
                self._file.close()
                self._file = None
            if closes and (not self._pending or time.monotonic() >= closes):
                return

    def _store(self, taken: list[_Waiting]) -> None:
        try:
            self._append(b"".join(text for text, _, _ in taken))
        except OSError as error:
            if not self.error:
                sys.stderr.write(f"request log: {self._folder}: {error}\n")
            self.error = str(error)
            if not self._strict:
                with self._wake:
                    self._pending[:0] = taken
                    self._wake.wait(0.5)  # the disk may have room again
                return
        else:
            self.error = ""
        with self._wake:
            self._lines -= sum(count for _, count, _ in taken)
        failure = LogFullError(self.error) if self.error else None
        for _, _, done in taken:
            if done is not None:
                done.get_loop().call_soon_threadsafe(_answer, done, failure)

    def _append(self, text: bytes) -> None:
        """All of the text, on disk, or none of it."""
        if self._file and not os.fstat(self._file.fileno()).st_nlink:  # somebody has deleted it
            self._file.close()
            self._file = None
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}-{uuid.uuid4().hex[:8]}{SUFFIX}"
            unlocked = self._folder / f".{name}"  # nobody takes it away before it is locked
            file = unlocked.open("ab", buffering=0)
            fcntl.flock(file, fcntl.LOCK_EX)
            unlocked.rename(self._folder / name)
            self._file, self._opened = file, time.monotonic()
        end = self._file.tell()
        try:
            left = memoryview(text)
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError:
            try:
                self._file.truncate(end)
                self._file.seek(end)
            except OSError:  # half a line may stay, which has to be the last one
                self._file = None
            raise


class Tally:
    """How many requests ended with each status, refused ones too, and how long they took together, in seconds."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, float]] = {}

    def saw(self, status: int, seconds: float, requests: int = 1) -> None:
        known, together = self._seen.get(status, (0, 0.0))
        self._seen[status] = known + requests, together + seconds

    async def tell(self, log: LogWriter, now: datetime) -> None:
        """Put what was counted into the log and begin anew; where the log takes nothing, go on counting."""
        seen, self._seen = self._seen, {}
        if not seen:
            return
        row = {"tally": uuid.uuid4().hex, "prediction_time": micros(now)}
        counts = [{**row, "status": status, "requests": n, "seconds": both} for status, (n, both) in seen.items()]
        try:
            await log.write([orjson.dumps(count) for count in counts])
        except LogFullError:
            for status, (requests, seconds) in seen.items():
                self.saw(status, seconds, requests)


def _answer(done: "asyncio.Future[None]", failure: LogFullError | None) -> None:
    if done.done():  # whoever waited has gone
        return
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(failure)
