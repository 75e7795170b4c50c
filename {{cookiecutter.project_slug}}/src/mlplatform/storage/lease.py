"""The lease of tables on an object store: one object there, which names its holder and is only written conditionally.

The holder renews it. That of a holder who died is free once it has not changed for `EXPIRES`, on the clock of whoever
waits for it: no two machines' clocks are compared.
"""

import json
import os
import socket
import sys
import threading
import time
from typing import Any

from mlplatform.errors import StorageError
from mlplatform.storage.address import Remote, extra_missing

EXPIRES = 60.0  # seconds
_NAME = ".lease"
_STALE = {"e_tag": '"0"', "version": "1"}  # of no object


class Lease:
    """The tables below `root` for oneself, within `with`. While somebody else has them this one says so and waits."""

    def __init__(self, root: Remote, holder: str, owner: str) -> None:
        self._root, self._holder, self._owner = root, holder, owner
        self._connect()
        self._version: dict[str, str] = {}  # of the object, as it was last seen or written
        self._renewed = 0.0
        self._over = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> "Lease":
        since, waits = time.monotonic(), False
        while True:
            before = self._version
            self._version, content = self._read()
            if self._version != before:
                since = time.monotonic()
            free = not content.get("holder") or time.monotonic() - since > self._expires
            if free and self._put(self._holder):
                break
            if not free and not waits:
                waits = True
                sys.stderr.write(
                    f"{self._holder} waits: {content['holder']} on {content['host']} has the tables of {self._owner}\n"
                )
            time.sleep(0.5)
        self._refuse_blind_store()
        self._renewing.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._renewing.join()
        if time.time() - self._renewed < self._expires:
            self._put("")

    def _connect(self) -> None:
        self._api, self._store = _store(self._root)

    @property
    def _expires(self) -> float:
        return EXPIRES

    def check(self) -> None:
        """Raise StorageError where somebody else may have the tables by now."""
        if time.time() - self._renewed > self._expires:
            raise StorageError(
                f"{self._root}: {self._holder} could not renew its lease for {self._expires:.0f} seconds, and somebody "
                "else may have the tables: it writes nothing more; run it again"
            )

    def _renew(self) -> None:
        while not self._over.wait(self._expires / 6):
            try:
                if not self._put(self._holder):
                    return
            except StorageError:
                continue  # until it expires

    def _read(self) -> tuple[dict[str, str], dict[str, str]]:
        """The object's version and what it says; nothing where it is not there."""
        try:
            found = self._api.get(self._store, _NAME)
            content = bytes(found.bytes())
        except FileNotFoundError:
            return {}, {}
        except (self._api.exceptions.BaseError, OSError) as error:
            raise self._told(error) from error
        try:
            return _version(found.meta), dict(json.loads(content))
        except ValueError:  # the lock of a folder on a disk, copied here with the tables
            return _version(found.meta), {}

    def _put(self, holder: str) -> bool:
        """Write the object, if it is still of the version that is known here. Returns whether it was."""
        at = time.time()
        content = {"holder": holder, "host": f"{socket.gethostname()}:{os.getpid()}", "at": str(at)}
        if not self._try(content, self._version or "create"):
            version, found = self._read()
            if found != content:  # or else it was written, and the answer was lost
                return False
            self._version = version
        self._renewed = at
        return True

    def _try(self, content: dict[str, str], mode: str | dict[str, str]) -> bool:
        errors = self._api.exceptions
        try:
            self._version = _version(self._api.put(self._store, _NAME, json.dumps(content).encode(), mode=mode))
        except (errors.AlreadyExistsError, errors.PreconditionError):
            return False
        except (errors.BaseError, OSError) as error:
            raise self._told(error) from error
        return True

    def _refuse_blind_store(self) -> None:
        """Of two commits at once a store that ignores conditions keeps the later one, and the other is lost."""
        if self._try({}, "create") or self._try({}, _STALE):
            raise StorageError(
                f"{self._root}: this store does not honour conditional writes (If-None-Match, If-Match), without which "
                "commits of two writers are lost: nothing is written there"
            )

    def _told(self, error: Exception) -> StorageError:
        return StorageError(f"{self._root}: {str(error).splitlines()[0][:400]}")


def _version(meta: dict[str, Any]) -> dict[str, str]:
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name)}


def _store(root: Remote) -> tuple[Any, Any]:
    try:
        import obstore
        import obstore.store
    except ImportError as error:
        raise extra_missing(str(root), "obstore") from error
    return obstore, obstore.store.from_url(str(root))
