"""The online feature store: the latest values of each entity, by key, as `frames` would join them at the same time.

What is published is read at once: every write is one transaction, and a lookup of several views sees one moment.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from mlplatform.config.serving import ServingSettings
from mlplatform.contract import FeatureView
from mlplatform.environment import Environment
from mlplatform.errors import GoneError, UserError
from mlplatform.features import TIMES, columns
from mlplatform.storage.catalog import load

# By the name that `serving.online.store` holds.
STORES = {
    "sqlite": "mlplatform.features.stores:SqliteStore",
    "redis": "mlplatform.features.stores:RedisStore",
}
STATE = ("", "state")
EPOCH = datetime(1970, 1, 1)
_CHUNK = 1_000  # entries

Entry = tuple[str, str]
"""The name of a view, and a key in it as text."""


class OnlineStoreError(UserError):
    """The online store cannot be reached, or nothing has been published; the message says what to do."""


class Store(Protocol):
    """Text by view and key. Made of its address: see `address`."""

    def read(self, entries: Sequence[Entry]) -> list[str | None]:
        """The texts, all of one moment. Raises OnlineStoreError."""

    def publish(self, texts: Iterable[tuple[Entry, str]], whole: Sequence[str]) -> None:
        """Put texts in their places, and what `whole` views had out of the way: all in one transaction."""


class Found(NamedTuple):
    """Features of one entity: values by `<view>__<feature>`, the latest event used, and which are missing or stale."""

    values: dict[str, Any]
    feature_time: datetime | None
    missing: list[str]
    stale: list[str]


@dataclass(frozen=True)
class Layout:
    """What is published: up to when, of which version of each view's table, and the view's columns with their types."""

    as_of: datetime
    versions: dict[str, int]
    columns: dict[str, list[tuple[str, str]]]

    def text(self) -> str:
        return json.dumps({"as_of": self.as_of.isoformat(), "versions": self.versions, "columns": self.columns})

    @classmethod
    def of(cls, text: str) -> "Layout":
        known = json.loads(text)
        columns = {view: [tuple(pair) for pair in pairs] for view, pairs in known["columns"].items()}
        return cls(datetime.fromisoformat(known["as_of"]), known.get("versions", {}), columns)


def open_store(env: Environment, *, write: bool = False) -> Store:
    """The store of the environment whose features are read here. Raises ConfigError and OnlineStoreError."""
    owner = env.sources.owner
    settings = env.config_of(owner).of(ServingSettings).online
    file = env.folder / settings.folder / f"{owner}.db"
    store: Store = load(STORES, settings.store, "serving.online.store")(
        file, os.environ.get(settings.url, ""), f"{env.project.package}:{owner}", settings.url, write
    )
    return store


def publish(env: Environment, as_of: datetime, *, whole: bool = False) -> dict[str, int]:
    """Bring the store to what is known at `as_of`; returns the values written, by view.

    Only what became available since the last time is looked at, and what has been added for earlier times. With
    `whole`, for a time before the last one, and for a view whose columns or earlier rows have changed, everything is
    published anew.
    """
    store = open_store(env, write=True)
    (text,) = store.read([STATE])
    last = Layout.of(text) if text and not whole else None
    if last is not None and last.as_of > as_of:
        last = None
    external = {view.view for view in env.config.lakehouse.external_views}
    fresh: dict[str, list[tuple[str, str]]] = {}
    versions = {view.name: env.table(view.table).version for view in env.project.views}
    tables: dict[str, Iterator[tuple[Entry, str, Any]]] = {}
    anew = []
    for view in env.project.views:
        fresh[view.name] = _columns(env, view)
        is_known = last is not None and view.name not in external and last.columns.get(view.name) == fresh[view.name]
        since = _since(env, view, last) if last is not None and is_known else None
        tables[view.name] = _latest(env, view, as_of, since)
        if since is None:
            anew.append(view.name)
    written = dict.fromkeys(tables, 0)

    def texts() -> Iterator[tuple[Entry, str]]:
        for name, entries in tables.items():
            while chunk := list(islice(entries, _CHUNK)):
                known = [None] * len(chunk) if name in anew else store.read([entry for entry, _, _ in chunk])
                for (entry, value, event), there in zip(chunk, known, strict=True):
                    if there is None or json.loads(there)[0] <= event:
                        written[name] += 1
                        yield entry, value
        yield STATE, Layout(as_of, versions, fresh).text()

    store.publish(texts(), anew)
    return written


def _since(env: Environment, view: FeatureView, last: Layout) -> datetime | None:
    """What became available after this is not published yet; None where rows that are may have been taken away."""
    since = last.as_of
    try:
        for change in env.sources.changes(view.table, last.versions.get(view.name, -1), ["available_at"]):
            times = [pc.min(batch["available_at"]).as_py() for batch in change.batches if batch.num_rows]
            if change.rewrites and min(times, default=since) <= last.as_of:
                return None
            since = min([since, *(time - timedelta.resolution for time in times)])
    except GoneError:  # the log of its changes is cleaned up
        return None
    return since


def _columns(env: Environment, view: FeatureView) -> list[tuple[str, str]]:
    table = env.table(view.table)
    return [(name, str(table.schema.field(name).type)) for name in columns(view, table.schema)]


def _latest(
    env: Environment, view: FeatureView, as_of: datetime, since: datetime | None
) -> Iterator[tuple[Entry, str, Any]]:
    """The newest event of each key that became available in (`since`, `as_of`]; of those at one time the last known."""
    keys = ", ".join(view.keys) or "'all'"
    rows = env.engine.query(
        f"SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY {keys} ORDER BY event_timestamp DESC, available_at "
        f"DESC) AS place FROM {view.table}) WHERE place = 1",
        as_of=as_of,
        since=since,
    )
    names = [*TIMES, *(name for name, _ in _columns(env, view))]
    for batch in rows.batches():
        identities = zip(*(batch[key].to_pylist() for key in view.keys), strict=True) if view.keys else ()
        values = zip(*(batch[name].to_pylist() for name in names), strict=True)
        for identity, row in zip(identities or [()] * batch.num_rows, values, strict=True):
            if None not in identity:  # an unknown key is joined to nothing
                value = [plain(item) for item in row]
                yield (view.name, key_text(identity)), json.dumps(value), value[0]


class OnlineFeatures:
    """Looks features up by the fields of a request."""

    def __init__(self, env: Environment) -> None:
        self._store = open_store(env)
        self._views = [(v, round(v.ttl.total_seconds() * 1e6)) for v in env.project.views]
        self._state: str | None = None
        self.as_of = EPOCH
        self._owner = env.sources.owner
        self._readers: list[list[tuple[str, Callable[[Any], Any]]]] = []
        self.types: dict[str, pa.DataType] = {}
        self.layout()

    def layout(self) -> Layout:
        """What is published now. Raises OnlineStoreError."""
        return self._understand(self._store.read([STATE])[0])

    def at(self, row: Mapping[str, Any], now: datetime) -> Found:
        """What is known at `now` of the entity that `row` describes; a value is null once its time to live is over."""
        return self.of([row], now)[0]

    def of(self, rows: Sequence[Mapping[str, Any]], now: datetime) -> list[Found]:
        """See `at`: of each row, as published at one moment."""
        places = ((v.name, key_text([row[key] for key in v.keys])) for row in rows for v, _ in self._views)
        state, *texts = self._store.read([STATE, *places])
        moment, width = micros(now), len(self._views)
        try:
            if state != self._state:
                self._understand(state)
            return [self._found(texts[at * width : (at + 1) * width], moment) for at in range(len(rows))]
        except (ValueError, TypeError, KeyError) as error:
            raise OnlineStoreError(f"the online store is damaged: run `materialize --backfill` ({error!r})") from error

    def _found(self, texts: Sequence[str | None], moment: int) -> Found:
        values: dict[str, Any] = {}
        missing: list[str] = []
        stale: list[str] = []
        newest: int | None = None
        for (_, ttl), text, readers in zip(self._views, texts, self._readers, strict=True):
            event, _, *found = json.loads(text) if text is not None else (None, None)
            if event is None or moment - event > ttl:
                (missing if event is None else stale).extend(name for name, _ in readers)
                values.update((name, None) for name, _ in readers)
                continue
            newest = event if newest is None or event > newest else newest
            for (name, read), value in zip(readers, found, strict=True):
                if value is None:
                    missing.append(name)
                    values[name] = None
                else:
                    values[name] = read(value)
        return Found(values, None if newest is None else EPOCH + timedelta(microseconds=newest), missing, stale)

    def _understand(self, state: str | None) -> Layout:
        if state is None:
            raise OnlineStoreError(f"nothing is published online for {self._owner}: run `materialize` there first")
        layout = Layout.of(state)
        if absent := [view.name for view, _ in self._views if view.name not in layout.columns]:
            raise OnlineStoreError(f"{', '.join(absent)} is not published for {self._owner}: run `materialize` there")
        named = [[(f"{v.name}__{name}", kind) for name, kind in layout.columns[v.name]] for v, _ in self._views]
        self._readers = [[(name, _reader(kind)) for name, kind in pairs] for pairs in named]
        self.types = {name: arrow_type(kind) for pairs in named for name, kind in pairs}
        self._state, self.as_of = state, layout.as_of
        return layout


def key_text(values: Iterable[Any]) -> str:
    """A key as text: the same for the same values, whichever way they came."""
    return json.dumps([plain(value) for value in values])


def plain(value: Any) -> Any:
    """A value as JSON can hold it, without loss: times as microseconds."""
    if isinstance(value, datetime):
        return micros(value)
    return str(value) if isinstance(value, date | Decimal) else value


def micros(time: datetime) -> int:
    return (time - EPOCH) // timedelta.resolution


def arrow_type(kind: str) -> pa.DataType:
    """The Arrow type of this name."""
    if kind.startswith("timestamp"):
        return pa.timestamp("us")
    if kind.startswith("decimal128"):
        return pa.decimal128(*map(int, kind.partition("(")[2].rstrip(")").split(",")))
    return pa.type_for_alias({"double": "float64", "float": "float32", "date32[day]": "date32"}.get(kind, kind))


def _reader(kind: str) -> Callable[[Any], Any]:
    if kind.startswith("timestamp"):
        return lambda value: EPOCH + timedelta(microseconds=value)
    named: dict[str, Callable[[Any], Any]] = {"decimal128": Decimal, "date32[day]": date.fromisoformat}
    return named.get(kind.partition("(")[0], _same)


def _same(value: Any) -> Any:
    return value
