"""Where the online feature store keeps its texts: a SQLite file, or Redis."""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from mlplatform.features.online import Entry, OnlineStoreError

_WAIT = 1.0  # seconds


class SqliteStore:
    """One table in a file. Readers see the last transaction that ended, and wait for no writer."""

    def __init__(self, file: Path, address: str, name: str, variable: str, write: bool) -> None:
        self._file, self._write = file, write
        if write:
            with self._told():
                file.parent.mkdir(parents=True, exist_ok=True)
                with closing(sqlite3.connect(file)) as connection:
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.execute(
                        "CREATE TABLE IF NOT EXISTS entries "
                        "(view TEXT, key TEXT, text TEXT NOT NULL, PRIMARY KEY (view, key)) WITHOUT ROWID"
                    )
        self._is: tuple[int, int] | None = None
        self._open()

    def read(self, entries: Sequence[Entry]) -> list[str | None]:
        within = self._connection.in_transaction
        with self._told():
            if not within:
                self._open()
                self._connection.execute("BEGIN")
            try:
                sql = "SELECT text FROM entries WHERE view = ? AND key = ?"
                found = [self._connection.execute(sql, entry).fetchone() for entry in entries]
            finally:
                if not within and self._connection.in_transaction:
                    self._connection.execute("COMMIT")
        return [row[0] if row else None for row in found]

    def publish(self, texts: Iterable[tuple[Entry, str]], whole: Sequence[str]) -> None:
        with self._told():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany("DELETE FROM entries WHERE view = ?", [(view,) for view in whole])
                self._connection.executemany(
                    "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", ((*entry, text) for entry, text in texts)
                )
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def _open(self) -> None:
        """Open the file, again where another one has taken its place: a connection would go on with what is gone."""
        try:
            state = self._file.stat()
        except FileNotFoundError as error:
            raise OnlineStoreError(f"{self._file}: no online store there: run `materialize` first") from error
        if (state.st_dev, state.st_ino) != self._is:
            self._connection = sqlite3.connect(
                f"{self._file.absolute().as_uri()}?mode={'rw' if self._write else 'ro'}",
                uri=True,
                timeout=30 if self._write else _WAIT,
                isolation_level=None,
                check_same_thread=False,
            )
            self._is = state.st_dev, state.st_ino

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise OnlineStoreError(f"{self._file}: {error}") from error


class RedisStore:
    """Keys `<project>:<environment>:<view>:<key>` of a Redis (or Valkey) server. A write holds its texts in memory.

    A server that does not answer is not asked by readers for a second: who waits for it does nothing else.
    """

    def __init__(self, file: Path, address: str, name: str, variable: str, write: bool) -> None:
        import redis

        if not address:
            raise OnlineStoreError(
                f"serving.online.store is redis: put its address into {variable} (redis://host:6379)"
            )
        self._failed = redis.RedisError
        self._name, self._variable = name, variable
        self._rests, self._last = 0.0, Exception()
        wait = 30 if write else _WAIT
        try:
            self._server: Any = redis.Redis.from_url(address, decode_responses=True, socket_timeout=wait)
        except ValueError as error:  # which may tell a password
            raise OnlineStoreError(f"{variable} holds no address of a Redis server (redis://host:6379)") from error

    def read(self, entries: Sequence[Entry]) -> list[str | None]:
        if time.monotonic() < self._rests:
            raise self._away(self._last)
        try:
            return list(self._server.mget([self._key(*entry) for entry in entries]))
        except self._failed as error:
            self._rests, self._last = time.monotonic() + _WAIT, error
            raise self._away(error) from error

    def publish(self, texts: Iterable[tuple[Entry, str]], whole: Sequence[str]) -> None:
        try:
            with self._server.pipeline(transaction=True) as together:
                for view in whole:
                    for key in self._server.scan_iter(self._key(view, "*"), count=1_000):
                        together.delete(key)
                for entry, text in texts:
                    together.set(self._key(*entry), text)
                together.execute()
        except self._failed as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> OnlineStoreError:
        return OnlineStoreError(
            f"the Redis server whose address {self._variable} holds does not answer ({error}): start it, or fix that"
        )

    def _key(self, view: str, key: str) -> str:
        return f"{self._name}:{view}:{key}"
