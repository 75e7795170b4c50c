"""Who may ask, and how often."""

import hashlib
import hmac
import os
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mlplatform.errors import UserError

KEYS, FILE = "SERVING_KEYS", "SERVING_KEYS_FILE"
_Mark = tuple[int, int, int]


class KeysError(UserError):
    """No API key is known, or an entry is not `name:sha256`; the message says where."""


def new_key(name: str) -> tuple[str, str]:
    """A key, which only its holder keeps, and the entry by which the server knows it: its name and its hash."""
    key = secrets.token_urlsafe(32)
    return key, f"{name}:{_hash(key)}"


class Keys:
    """API keys as `name:sha256`, from the variable SERVING_KEYS and the file that SERVING_KEYS_FILE names.

    The file has one entry a line and is read again when it changes: a line that is gone is a key that is revoked.
    Raises KeysError where there is none, or one that is no entry; one that comes later is left out.
    """

    def __init__(self) -> None:
        self._given, wrong = _entries(os.environ.get(KEYS, "").replace(",", "\n"))
        path = os.environ.get(FILE)
        self._file = Path(path) if path else None
        self._mark: _Mark | None = None
        self._read: list[tuple[str, bytes]] = []
        self._wrong = 0
        known = self._known()
        if wrong or self._wrong:
            where = KEYS if wrong else self._file
            raise KeysError(f"{where}: an entry is not `name:sha256` in lower case: `serving-key NAME` makes one")
        if not known:
            raise KeysError(
                f"no API key is known: put `name:sha256` into {KEYS}, or into the file that {FILE} names "
                "(`serving-key NAME` makes one), or set serving.keys to none on a machine of your own"
            )

    def who(self, key: str) -> str | None:
        """The name of the key's holder, in the same time for every key; None for one that is not known."""
        digest, found = _hash(key).encode(), None
        for name, known in self._known():
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def _known(self) -> list[tuple[str, bytes]]:
        if self._file is None:
            return self._given
        try:
            state = self._file.stat()
            mark = (state.st_mtime_ns, state.st_size, state.st_ino)
            if mark != self._mark:
                self._read, self._wrong = _entries(self._file.read_text(encoding="utf-8", errors="replace"))
                self._mark = mark
                if self._wrong:
                    sys.stderr.write(f"serving: {self._file}: {self._wrong} lines are no `name:sha256`, and left out\n")
        except OSError:  # nobody's key is known as long as it cannot be read
            self._read, self._mark = [], None
        return self._given + self._read


class Rate:
    """So many requests a second for each name, of which a second's worth may come at once."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def allows(self, name: str) -> bool:
        now, most = self._clock(), max(self._per_second, 1.0)
        left, then = self._left.get(name, (most, now))
        left = min(most, left + (now - then) * self._per_second)
        self._left[name] = (left - 1 if left >= 1 else left, now)
        return left >= 1


def _hash(key: str) -> str:
    # Keys are 256 random bits: a slow hash, which passwords need, would protect nothing more.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _entries(text: str) -> tuple[list[tuple[str, bytes]], int]:
    """Names and digests, and how many lines are no entry."""
    found, wrong = [], 0
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, digest = line.partition(":")
        if not name or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            wrong += 1
        else:
            found.append((name, digest.encode()))
    return found, wrong
