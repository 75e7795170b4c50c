"""The stream: micro-batch after micro-batch, each a function of its time, so that killed and run again ends the same.

Events and their offsets are written to Bronze in one transaction. From there on everything is what batch does: the same
SQL for Silver and for features, the champion of the time, and predictions of those entities that have none yet.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from threading import Event as Flag
from threading import Thread
from time import perf_counter

import pyarrow as pa

from mlplatform.config.streaming import StreamingSettings
from mlplatform.contract import Source
from mlplatform.environment import Environment, Run
from mlplatform.errors import GoneError, UserError
from mlplatform.features import compute
from mlplatform.features.frames import entities
from mlplatform.inference import predictor
from mlplatform.preparation.bronze import stop_if_too_many
from mlplatform.preparation.silver import refresh_silver
from mlplatform.registry.store import Registry
from mlplatform.storage import ops
from mlplatform.storage.catalog import BatchFunction, Window, load
from mlplatform.streaming.events import SINKS, SOURCES, Event, EventSource, Sink, UnavailableError, as_bronze, day_of

_EPOCH = datetime(1970, 1, 1)
_LONGEST_PAUSE = 60  # seconds between two attempts to reach a source or a sink
Say = Callable[[str], None]


class Stream:
    """An environment's stream. It begins at `since`, or where it was; the first time without `since`, now.

    Raises UserError where it would end before that, at `until`, and where a source or sink cannot be reached.
    """

    def __init__(self, env: Environment, since: datetime | None = None, until: datetime | None = None) -> None:
        env.refuse_to_build_what_is_borrowed()
        env.permit("stream")
        settings = env.config.of(StreamingSettings)
        tolerated = {"max_refused_share": settings.max_refused_share, "tolerated_rows": settings.tolerated_rows}
        lakehouse = env.config.lakehouse.model_copy(update=tolerated)
        config = env.config.model_copy(update={"lakehouse": lakehouse})
        self.env = Environment(env.name, env.project, env.folder, config)
        self._registry = Registry(self.env)
        self._table = f"predictions.{self._registry.settings.model}"
        try:
            self._source: EventSource = load(SOURCES, settings.source, "streaming.source")(self.env)
            sinks = [load(SINKS, name, "streaming.sinks") for name in settings.sinks]
            self._sinks: list[Sink] = [sink(self.env) for sink in sinks]
        except UnavailableError as error:  # later it would be waited for
            raise UserError(f"{error}. The stream of {env.name} does not begin without it: mend `streaming`") from error
        self._predictors: dict[tuple[int, bool], BatchFunction] = {}
        self._days: set[str] = set()
        self._unsettled = True  # a stream that was killed may have left something half done
        self.began, self.last = self._begin(since, until)

    def advance(self, as_of: datetime, waits: Callable[[datetime], bool]) -> Run:
        """One micro-batch: take what has arrived, and bring everything up to `as_of`. Raises UnavailableError.

        Of more events than fit in one, all are prepared before anything is scored.
        """
        limit, waited, behind = self.env.config.of(StreamingSettings).max_events, [], True
        while behind:
            taken: list[tuple[Source, list[Event]]] = []
            for source in self.env.project.sources:
                events = self._source.take(source.name, partial(self._offset, source.name), limit, waits)
                taken += [(source, events)] if events else []
            behind = any(len(events) == limit for _, events in taken)
            waited += [min(event.arrived for event in events) for _, events in taken]
            with self.env.run("stream", as_of, permitted=True) as run:
                for source, events in taken:
                    self._land(run, source, events)
                self._prepare(run, {source.name for source, _ in taken})
                if not behind:
                    self._featurize(run)
                    self._score(run, arrived=bool(waited))
                    for sink in self._sinks:
                        sink.publish(as_of)
                run.kept = not behind and any(run.written.values())
                run.lag_seconds = max([0.0, *((as_of - arrived).total_seconds() for arrived in waited)])
        # Not before something is taken: a replay comes only later to the time of what a killed one has landed.
        self._unsettled, self.last = self._unsettled and not waited, as_of
        return run

    def close(self) -> None:
        self._source.close()
        for sink in self._sinks:
            sink.close()

    def _begin(self, since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
        """When the stream of this environment began, and how far it is. The first start is recorded."""
        runs = self.env.catalog.read(ops.RUNS, ["pipeline", "status", "as_of"]).to_pylist()
        times = [run["as_of"] for run in runs if (run["pipeline"], run["status"]) == ("stream", "finished")]
        begun = bool(times)
        times = times or [since or datetime.now(UTC).replace(tzinfo=None)]
        if until and until < max(times):
            where = "is at {} already, and does not go back" if begun else "would begin at {}: give an earlier --since"
            raise UserError(f"--until {until}: the stream of {self.env.name} {where.format(max(times))}")
        if not begun:
            with self.env.run("stream", times[0], permitted=True):
                for source in self.env.project.sources:  # no feature waits for one that has sent nothing yet
                    if not self.env.catalog.exists(f"bronze.{source.name}"):
                        self.env.catalog.append(f"bronze.{source.name}", as_bronze(source, [], times[0])[0])
        return min(times), max(times)

    def _offset(self, source: str, partition: str) -> int | None:
        return self.env.catalog.mark(f"bronze.{source}", _writer(partition))

    def _land(self, run: Run, source: Source, events: Sequence[Event]) -> None:
        """Events to Bronze, and what is none to quarantine. What another process has written meanwhile is left out."""
        catalog, bronze, quarantine = self.env.catalog, f"bronze.{source.name}", ops.QUARANTINE + source.name
        marks = {_writer(event.partition): event.offset + 1 for event in sorted(events, key=lambda event: event.offset)}
        new = self._later(bronze, events)
        rows, refused = as_bronze(source, new, run.as_of)
        reasons: dict[str, int] = {}
        for reason in refused["reason"].to_pylist():
            reasons[reason] = reasons.get(reason, 0) + 1
        stop_if_too_many(self.env.config.lakehouse, bronze, len(new), reasons)
        if not new:
            return
        self._name_days(new)
        if refused.num_rows:
            # It comes first: a stream that is killed in between writes none of them twice.
            unwritten = as_bronze(source, self._later(quarantine, new), run.as_of)[1]
            run.wrote(quarantine, catalog.append(quarantine, unwritten, marks))
        run.wrote(bronze, catalog.append(bronze, rows, marks))

    def _later(self, table: str, events: Sequence[Event]) -> list[Event]:
        known = {p: self.env.catalog.mark(table, _writer(p)) or 0 for p in {event.partition for event in events}}
        return [event for event in events if event.offset >= known[event.partition]]

    def _name_days(self, events: Sequence[Event]) -> None:
        """Enter the days of partitions in ops.files, by which `expire` knows what is old."""
        days = {name: end for name, end in map(day_of, events) if name not in self._days}
        if days:
            self._days |= set(self.env.catalog.read(ops.FILES, ["source_file"])["source_file"].to_pylist())
            new = [
                {"source_file": name, "landed_at": end, "rows": 0, "malformed": 0, "error": ""}
                for name, end in days.items()
                if name not in self._days
            ]
            self.env.catalog.append(ops.FILES, ops.rows(ops.FILES, new))
            self._days |= set(days)

    def _prepare(self, run: Run, sources: set[str]) -> None:
        for table in self.env.project.tables:
            if self._unsettled or table.source in sources:
                refresh_silver(self.env, run, table)

    def _featurize(self, run: Run) -> None:
        """Bring the feature tables up to date, also where rows came late that count for earlier times.

        How far they are, in time and in versions of Silver, is kept with the last of them.
        """
        env, external = self.env, {view.view for view in self.env.config.lakehouse.external_views}
        views = [view for view in env.project.views if view.name not in external]
        if not views:
            return
        reached = env.catalog.mark(views[-1].table, _writer("time"))
        since = _EPOCH + timedelta(microseconds=reached) if reached else env.last_finished("featurize", run.as_of)
        marks, earliest = {_writer("time"): int((run.as_of - _EPOCH) / timedelta(microseconds=1))}, None
        for table in env.project.tables:
            if not env.catalog.exists(table.table):
                continue
            seen = env.catalog.mark(views[-1].table, _writer(table.table))
            if seen is None:
                marks[_writer(table.table)] = env.catalog.snapshot(table.table).version
                continue
            marks[_writer(table.table)] = seen
            try:
                for change in env.catalog.changes(table.table, seen, ["available_at"]):
                    marks[_writer(table.table)] = change.version
                    times = [time for batch in change.batches for time in batch["available_at"].to_pylist()]
                    earliest = min([*times, earliest or run.as_of])
            except GoneError:  # it was rewritten, and its earlier files deleted
                since, marks[_writer(table.table)] = None, env.catalog.snapshot(table.table).version
        late = since is None or (earliest is not None and earliest <= since)
        if since and earliest and late:
            since = earliest - timedelta.resolution if earliest > datetime.min else None
        moved = late or earliest is not None
        for view in views:
            rows, window = compute(env, view, run.as_of, since), Window("available_at", since, run.as_of)
            kept, found = marks if view is views[-1] else None, rows.count() > 0
            moved = moved or found
            if found or late or (kept and moved):  # what no mark covers would be written again in each micro-batch
                run.wrote(view.table, env.catalog.replace(view.table, rows, window, kept))

    def _score(self, run: Run, *, arrived: bool) -> None:
        """Predict for the entities that are due, and for those due before that have only now become known."""
        reach, on_time = self.env.config.pipelines.inference.first_window, self.env.config.of(StreamingSettings).on_time
        edge = max(self.began, self.last - on_time)
        if arrived or self._unsettled:
            self._score_span(run, max(self.began, self.last - reach), edge, late=True)
        self._score_span(run, edge, run.as_of, late=False)

    def _score_span(self, run: Run, start: datetime, end: datetime, *, late: bool) -> None:
        for begin, finish, version in self._registry.ledger.champions(start, end) if start < end else ():
            if version is None:
                continue
            rows = entities(self.env, finish, begin, finish, self._table, "streaming")
            if rows.stored.rows:
                predict = self._predictor(version, late)
                scored = rows.map(predict, predict(pa.RecordBatch.from_pylist([], rows.schema)).schema)
                run.wrote(self._table, self.env.catalog.append(self._table, scored))

    def _predictor(self, version: int, late: bool) -> BatchFunction:
        if (version, late) not in self._predictors:
            self._predictors[version, late] = predictor(self._registry, version, "streaming", late=late)
        return self._predictors[version, late]


def run(stream: Stream, times: Iterator[datetime], stop: Flag, say: Say, *, live: bool) -> int:
    """Advance through `times`, until they end or `stop` is set; returns the number of micro-batches.

    While a source or a sink does not answer, the stream waits for it. `live`: the times are those of the wall clock.
    """
    batches = 0
    for as_of in times:
        for attempt in count():
            clock, as_of = perf_counter(), max(as_of, stream.last)
            try:
                done = stream.advance(as_of, partial(_waits, as_of, live))
                break
            except UnavailableError as error:
                pause = min(2**attempt, _LONGEST_PAUSE)
                say(f"{error}; the stream tries again in {pause} s")
                if stop.wait(pause):
                    return batches
        batches += 1
        if done.kept:
            written = ", ".join(f"{table} {rows:,}" for table, rows in done.written.items() if rows)
            say(f"{as_of:%Y-%m-%d %H:%M:%S}: {written} ({perf_counter() - clock:.2f} s, lag {done.lag_seconds:.0f} s)")
    return batches


def told_to_stop() -> Flag:
    """Set from now on by SIGTERM and SIGINT."""
    stop = Flag()
    for name in (signal.SIGTERM, signal.SIGINT):
        # By a thread: a handler may interrupt the very line that has the lock of the flag, and wait for it for ever.
        signal.signal(name, lambda *_: Thread(target=stop.set).start())
    return stop


def wall_clock(every: timedelta, stop: Flag) -> Iterator[datetime]:
    """Now, again and again, with `every` between two starts."""
    while not stop.is_set():
        clock = perf_counter()
        yield datetime.now(UTC).replace(tzinfo=None)
        stop.wait(max(0, every.total_seconds() - (perf_counter() - clock)))


def replayed(begin: datetime, until: datetime, step: timedelta, speed: float | None, stop: Flag) -> Iterator[datetime]:
    """Logical times, `step` apart, as fast as they are worked through, or `speed` times as fast as they have passed."""
    while begin < until and not stop.is_set():
        clock, begin = perf_counter(), min(begin + step, until)
        yield begin
        if speed:
            stop.wait(max(0, step.total_seconds() / speed - (perf_counter() - clock)))


def _waits(as_of: datetime, live: bool, arrived: datetime) -> bool:
    """Whether an event is of a later micro-batch. In a live stream one from the future has a clock that is wrong."""
    return arrived > as_of and not (live and arrived > datetime.now(UTC).replace(tzinfo=None))


def _writer(name: str) -> str:
    return f"stream {name}"
