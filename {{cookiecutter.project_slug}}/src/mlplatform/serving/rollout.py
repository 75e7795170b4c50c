"""The version in Staging beside the champion: in its shadow, or answering for a share of the entities."""

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from mlplatform.config.serving import Rollout
from mlplatform.features.online import key_text
from mlplatform.serving.champion import Served, Stage


class Challenger:
    """Decides who answers for an entity, and takes the challenger out of the way when it fails or is slow."""

    def __init__(
        self, stage: Stage, settings: Rollout, keys: Sequence[str], alarm: Callable[[str, float, str], None]
    ) -> None:
        self._stage, self._settings, self._keys, self._alarm = stage, settings, keys, alarm
        self._out: int | None = None
        self._seen: deque[tuple[bool, float]] = deque(maxlen=settings.window)
        self._of: int | None = None

    @property
    def current(self) -> Served | None:
        """The challenger, unless it is out of the way."""
        served = self._stage.current
        return None if served is None or served.version == self._out else served

    def shadow(self) -> Served | None:
        return self.current if self._settings.mode == "shadow" else None

    def answers(self, row: dict[str, Any]) -> Served | None:
        """The challenger, where it answers for this entity: always the same ones."""
        if self._settings.mode not in ("canary", "ab"):
            return None
        digest = hashlib.sha256(key_text([row[key] for key in self._keys]).encode()).digest()
        return self.current if int.from_bytes(digest[:8]) < self._settings.share * 2**64 else None

    def saw(self, served: Served, failed: bool, seconds: float) -> None:
        """The rollback rule: see `Rollout`."""
        if served.version != self._of:
            self._seen.clear()
            self._of = served.version
        self._seen.append((failed, seconds))
        errors = sum(failed for failed, _ in self._seen)
        mean = sum(seconds for _, seconds in self._seen) / len(self._seen)
        full = len(self._seen) == self._settings.window
        if errors > self._settings.max_errors:
            reason = f"{errors} of its last {len(self._seen)} requests failed"
        elif full and mean > self._settings.max_seconds:
            reason = f"its last {len(self._seen)} requests took {mean:.3f} s each"
        else:
            return
        if self._out != served.version:
            self._out = served.version
            told = f"version {served.version} is out of the way ({self._settings.mode}): {reason}"
            self._alarm(told, float(errors), f"version={served.version}")
