"""Where the online feature store keeps its texts: a SQLite file, or Redis."""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from mlplatform.features.online import Entry, OnlineStoreError

_WAIT = 1.0  # seconds


class SqliteStore:
    """One table in a file. Readers see the last transaction that ended, and wait for no writer."""

    def __init__(self, file: Path, address: str, name: str, variable: str, write: bool) -> None:
        self._file = file
        if write:
            file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(file)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS entries "
                    "(view TEXT, key TEXT, text TEXT NOT NULL, PRIMARY KEY (view, key)) WITHOUT ROWID"
                )
        elif not file.is_file():
            raise OnlineStoreError(f"{file}: no online store there: run `materialize` first")
        self._connection = sqlite3.connect(
            f"{file.absolute().as_uri()}?mode={'rw' if write else 'ro'}",
            uri=True,
            timeout=30 if write else _WAIT,
            isolation_level=None,
            check_same_thread=False,
        )

    def read(self, entries: Sequence[Entry]) -> list[str | None]:
        execute, within = self._connection.execute, self._connection.in_transaction
        if not within:
            execute("BEGIN")
        try:
            found = [execute("SELECT text FROM entries WHERE view = ? AND key = ?", e).fetchone() for e in entries]
        except sqlite3.Error as error:
            raise OnlineStoreError(f"{self._file}: {error}") from error
        finally:
            if not within:
                execute("COMMIT")
        return [row[0] if row else None for row in found]

    def publish(self, texts: Iterable[tuple[Entry, str]], whole: Sequence[str]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany("DELETE FROM entries WHERE view = ?", [(view,) for view in whole])
            self._connection.executemany(
                "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", ((*entry, text) for entry, text in texts)
            )
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


class RedisStore:
    """Keys `<project>:<environment>:<view>:<key>` of a Redis (or Valkey) server. A write holds its texts in memory."""

    def __init__(self, file: Path, address: str, name: str, variable: str, write: bool) -> None:
        import redis

        if not address:
            raise OnlineStoreError(
                f"serving.online.store is redis: put its address into {variable} (redis://host:6379)"
            )
        self._failed = redis.RedisError
        self._name, self._variable = name, variable
        wait = 30 if write else _WAIT
        try:
            self._server: Any = redis.Redis.from_url(address, decode_responses=True, socket_timeout=wait)
        except ValueError as error:  # which may tell a password
            raise OnlineStoreError(f"{variable} holds no address of a Redis server (redis://host:6379)") from error

    def read(self, entries: Sequence[Entry]) -> list[str | None]:
        try:
            return list(self._server.mget([self._key(*entry) for entry in entries]))
        except self._failed as error:
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
            f"the Redis server whose address {self._variable} holds does not answer ({error}): start it, or mend that"
        )

    def _key(self, view: str, key: str) -> str:
        return f"{self._name}:{view}:{key}"
