"""The stream: micro-batch after micro-batch, each a function of its time, so that killed and run again ends the same.

Events and their offsets are written to Bronze in one transaction. From there on everything is what batch does: the same
SQL for Silver and for features, the champion of the time, and predictions of those entities that have none yet.
"""

import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
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
from mlplatform.registry.scoring import new_features
from mlplatform.registry.store import Registry
from mlplatform.storage import ops
from mlplatform.storage.catalog import Among, BatchFunction, Rows, Window, load, option, quoted
from mlplatform.streaming.events import (
    ASIDE,
    SINKS,
    SOURCES,
    Event,
    EventSource,
    Handover,
    Sink,
    UnavailableError,
    as_rows,
    end_of,
)

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
        handover = option("mlplatform.streaming.structured:handover")
        try:
            # A replay has a time of its own, which no Spark knows.
            self._handover: Handover | None = handover(self.env, self._offset) if handover and not until else None
            source = None if self._handover else load(SOURCES, settings.source, "streaming.source")
            self._source: EventSource | None = source and source(self.env)
            sinks = [load(SINKS, name, "streaming.sinks") for name in settings.sinks]
            self._sinks: list[Sink] = [sink(self.env) for sink in sinks]
        except UnavailableError as error:  # later it would be waited for
            raise UserError(f"{error}. The stream of {env.name} does not begin without it: fix `streaming`") from error
        self._predictors: dict[tuple[int, bool], BatchFunction] = {}
        self._days: set[str] = set()
        self._unsettled = True  # a stream that was killed may have left something half done
        self.began, self.last = self._begin(since, until)
        new_features(self._registry, self.last)

    def advance(self, as_of: datetime, waits: Callable[[datetime], bool]) -> Run:
        """One micro-batch: take what has arrived, and bring everything up to `as_of`. Raises UnavailableError.

        Of more events than fit in one, all are prepared before anything is scored.
        """
        waited, behind = list[datetime](), True
        while behind:
            taken, behind = self._take(waits)
            with self.env.run("stream", as_of, permitted=True) as run:
                landed = self._take_over(run, self._handover) if self._handover else {}
                for source, events in taken.items():
                    self._land(run, source, pa.Table.from_batches([as_rows(source.columns, as_of, events)]))
                    landed[source.name] = min(event.arrived for event in events)
                waited += landed.values()
                self._prepare(run, set(landed))
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
        if self._source:
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
                        rows = pa.Table.from_batches([as_rows(source.columns, times[0], ())])
                        self.env.catalog.append(f"bronze.{source.name}", rows.drop_columns(list(ASIDE)))
        return min(times), max(times)

    def _offset(self, source: str, partition: str) -> int | None:
        return self.env.catalog.mark(f"bronze.{source}", _writer(partition))

    def _take(self, waits: Callable[[datetime], bool]) -> tuple[dict[Source, list[Event]], bool]:
        """Events by source, and whether there may be more."""
        taken, limit = dict[Source, list[Event]](), self.env.config.of(StreamingSettings).max_events
        for source in self.env.project.sources:
            offset = partial(self._offset, source.name)
            if self._source and (events := self._source.take(source.name, offset, limit, waits)):
                taken[source] = events
        return taken, any(len(events) == limit for events in taken.values())

    def _take_over(self, run: Run, handover: Handover) -> dict[str, datetime]:
        """Land what the engine has read itself; returns when the first of it arrived, by source."""
        landed: dict[str, datetime] = {}

        def land(source: Source, arrived: Rows) -> None:
            for time in self._land(run, source, arrived):
                landed[source.name] = min(time, landed.get(source.name, time))

        try:
            for source in self.env.project.sources:
                handover.hand_over(source, run.as_of, partial(land, source))
        except UnavailableError:  # what has landed of another source is prepared the next time
            self._unsettled = True
            raise
        return landed

    def _land(self, run: Run, source: Source, arrived: Rows) -> list[datetime]:
        """Events to Bronze, and what is none to quarantine; returns when the first of each partition arrived.

        What another process has written meanwhile, or this one before it was killed, is left out.
        """
        catalog, bronze, quarantine = self.env.catalog, f"bronze.{source.name}", ops.QUARANTINE + source.name
        ask = partial(self.env.engine.query, given={"given.arrived": arrived})
        sql = "SELECT _partition, min(landed_at) AS earliest FROM given.arrived GROUP BY _partition"
        partitions: dict[str, datetime] = {row["_partition"]: row["earliest"] for row in ask(sql).arrow().to_pylist()}
        if not partitions:
            return []
        new = self._later(bronze, partitions)
        sql = (
            "SELECT _partition, source_file, _reason, count(*) AS events, max(source_row) AS newest "
            f"FROM given.arrived WHERE {new} GROUP BY _partition, source_file, _reason"
        )
        groups = ask(sql).arrow().to_pylist()
        reasons, marks = Counter[str](), dict[str, int]()
        for group in groups:
            writer = _writer(group["_partition"])
            marks[writer] = max(marks.get(writer, 0), group["newest"] + 1)
            if group["_reason"] is not None:
                reasons[group["_reason"]] += group["events"]
        total = sum(group["events"] for group in groups)
        stop_if_too_many(self.env.config.lakehouse, bronze, total, reasons)
        if not groups:
            return list(partitions.values())
        self._name_days({group["source_file"] for group in groups})
        if reasons:
            # It comes first: a stream that is killed in between writes none of them twice.
            unwritten = ask(
                "SELECT source_file, source_row, _reason AS reason, _raw AS raw, landed_at AS available_at "
                f"FROM given.arrived WHERE _reason IS NOT NULL AND {new} AND {self._later(quarantine, partitions)} "
                "ORDER BY source_file, source_row"
            )
            run.wrote(quarantine, catalog.append(quarantine, unwritten, marks))
        columns = ", ".join(quoted(name) for name in arrived.schema.names if name not in ASIDE)
        rows = ask(
            f"SELECT {columns} FROM given.arrived WHERE _reason IS NULL AND {new} ORDER BY source_file, source_row"
        )
        run.wrote(bronze, catalog.append(bronze, rows, marks))
        return list(partitions.values())

    def _later(self, table: str, partitions: Iterable[str]) -> str:
        """SQL that is true for events that are not in a table."""
        known = {partition: self.env.catalog.mark(table, _writer(partition)) or 0 for partition in partitions}
        parts = (f"{Among('_partition', [name]).predicate()} AND source_row >= {mark}" for name, mark in known.items())
        return f"({' OR '.join(parts)})"

    def _name_days(self, files: set[str]) -> None:
        """Enter the days of partitions in ops.files, by which `expire` knows what is old."""
        if files - self._days:
            self._days |= set(self.env.catalog.read(ops.FILES, ["source_file"])["source_file"].to_pylist())
            new = [
                {"source_file": name, "landed_at": end_of(name), "rows": 0, "malformed": 0, "error": ""}
                for name in sorted(files - self._days)
            ]
            self.env.catalog.append(ops.FILES, ops.rows(ops.FILES, new))
            self._days |= files

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
            start = since if env.catalog.exists(view.table) else None
            rows, window = compute(env, view, run.as_of, start), Window("available_at", start, run.as_of)
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
