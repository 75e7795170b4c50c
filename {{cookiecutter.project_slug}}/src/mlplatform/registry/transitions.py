"""Stage transitions of model versions: requested, then approved or rejected, and kept in `ops.transitions`.

The table is the truth about stages at any logical time; MLflow's tags and aliases only show what holds now.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

from mlplatform.environment import Environment
from mlplatform.storage import ops

Stage = Literal["None", "Staging", "Production", "Archived"]
Answer = Literal["approved", "rejected"]


class Decision(NamedTuple):
    """When, by logical time, who decides, and why."""

    as_of: datetime
    by: str
    reason: str


@dataclass(frozen=True)
class Transition:
    """A request to move a version between stages; `requested_at` and `closed_at` are logical times."""

    model: str
    version: int
    from_stage: Stage
    to_stage: Stage
    requested_at: datetime
    requested_by: str
    request_reason: str
    status: Literal["pending"] | Answer = "pending"
    closed_at: datetime | None = None
    closed_by: str = ""
    reason: str = ""
    recorded_at: datetime | None = None

    def closed(self, answer: Answer, as_of: datetime, by: str, reason: str) -> "Transition":
        return replace(self, status=answer, closed_at=as_of, closed_by=by, reason=reason)


class Ledger:
    """The transitions of a model, kept in the tables of the environment that owns it."""

    def __init__(self, env: Environment, model: str, owner: str) -> None:
        self._catalog = env.catalog_of(owner)
        self._model = model

    def record(self, *transitions: Transition) -> None:
        """Write requests or their outcomes, all in one Delta transaction."""
        now = ops.now()
        rows = [asdict(replace(transition, recorded_at=now)) for transition in transitions]
        self._catalog.upsert(ops.TRANSITIONS, ops.rows(ops.TRANSITIONS, rows), ops.KEYS[ops.TRANSITIONS])

    def all(self) -> list[Transition]:
        """Every transition, in the order in which they were closed; the pending ones last."""
        rows = self._catalog.read(ops.TRANSITIONS).to_pylist()
        mine = [Transition(**row) for row in rows if row["model"] == self._model]
        return sorted(mine, key=_order)

    def pending(self, to_stage: Stage, as_of: datetime) -> list[Transition]:
        """Requests that wait at `as_of`, oldest first."""
        waiting = [t for t in self.all() if t.status == "pending" and t.to_stage == to_stage]
        return sorted((t for t in waiting if t.requested_at <= as_of), key=lambda t: (t.requested_at, t.version))

    def stage(self, version: int, as_of: datetime = datetime.max) -> Stage:
        moves = [t for t in self._approved(as_of) if t.version == version]
        return moves[-1].to_stage if moves else "None"

    def champion(self, as_of: datetime = datetime.max) -> int | None:
        """The version in Production at `as_of`."""
        champion = None
        for move in self._approved(as_of):
            if move.to_stage == "Production":
                champion = move.version
            elif move.from_stage == "Production" and move.version == champion:
                champion = None
        return champion

    def challenger(self, as_of: datetime = datetime.max) -> int | None:
        """The version in Staging at `as_of`, the newest where there are several."""
        moves = {move.version: move.to_stage for move in self._approved(as_of)}
        return max((version for version, stage in moves.items() if stage == "Staging"), default=None)

    def champions(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime, int | None]]:
        """The consecutive spans of (`start`, `end`] with the version that was in Production from the span's start."""
        changes = {t.closed_at for t in self._approved(end) if t.closed_at and start < t.closed_at < end}
        edges = [start, *sorted(changes), end]
        for begin, finish in pairwise(edges):
            yield begin, finish, self.champion(begin)

    def previous_champion(self) -> int | None:
        """The version that the present one replaced; one that was rolled back from does not count."""
        held: list[int] = []
        for move in self._approved(datetime.max):
            if move.to_stage == "Production":
                held = held[: held.index(move.version)] if move.version in held else held
                held.append(move.version)
        return held[-2] if len(held) > 1 else None

    def _approved(self, as_of: datetime) -> list[Transition]:
        return [t for t in self.all() if t.status == "approved" and t.closed_at and t.closed_at <= as_of]


def _order(transition: Transition) -> tuple[datetime, datetime, int, int]:
    """What was closed first, comes first; of what one transaction closed, a rejection before the move to Archived."""
    closed, recorded = transition.closed_at or datetime.max, transition.recorded_at or datetime.max
    return closed, recorded, transition.version, get_args(Stage).index(transition.to_stage)
