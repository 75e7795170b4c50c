"""The engine for many machines: Spark SQL over Delta tables as they were known at a time, on executors.

A relation is a DataFrame. What a function makes of its batches (contracts, scoring) is `mapInArrow`: the very functions
that a loop on DuckDB calls run where the rows are. The packages that they come from are shipped to the workers.
"""

import base64
import logging
import os
import pickle
import re
import signal
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, TypeAlias
from weakref import finalize

import pyarrow as pa

from mlplatform.engine import NO_QUERY, QUALIFIED_NAME, Cluster, Find, View, located, newest_known, sources
from mlplatform.errors import ConfigError, ForbiddenError, QueryError, UserError
from mlplatform.storage.address import UNITY, scheme
from mlplatform.storage.catalog import BatchFunction, Rows, Snapshot, Spool, Window, load, quoted

DataFrame: TypeAlias = Any  # pyspark has types of its own for each kind of session

_SESSION = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.timestampType": "TIMESTAMP_NTZ",
    # A cluster's defaults are for tables of terabytes: a query over fewer rows would mostly start tasks.
    "spark.sql.adaptive.coalescePartitions.parallelismFirst": "false",
    "spark.sql.optimizer.canChangeCachedPlanOutputPartitioning": "true",  # of what is kept, too
    "spark.databricks.delta.snapshotPartitions": "2",
}
_DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.ui.showConsoleProgress": "false",
}
# As in dialect.sql: text with an offset or without, as a time in UTC; anything else is null.
_TO_UTC = r"""
CREATE OR REPLACE TEMPORARY FUNCTION to_utc(text STRING) RETURNS TIMESTAMP_NTZ RETURN CASE
    WHEN rlike(trim(text), concat(
        r'^\d{4}-\d\d-\d\d([ T]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?',
        r'(Z|[+-]((0\d|1[0-7])(:?[0-5]\d)?|18(:?00)?))?)?$'
    ))
    -- Spark wants seconds before an offset, and a colon in it.
    THEN CAST(TRY_CAST(regexp_replace(regexp_replace(regexp_replace(
        trim(text), r'^(.{16})([Z+-])', '$1:00$2'), r'(.{19,}[+-]\d\d)$', '$1:00'), r'(.{19,}[+-]\d\d)(\d\d)$', '$1:$2'
    ) AS TIMESTAMP_LTZ) AS TIMESTAMP_NTZ)
END"""
_REMOTE = "sc://"
_PATIENCE = 20.0  # seconds
# What stands in for Spark's own builder, by `lakehouse.spark.master`.
_SESSIONS = {"databricks": "mlplatform.storage.unity:session"}
_QUERY = re.compile(r"(\s|--[^\n]*\n|/\*.*?\*/|\()*(SELECT|WITH|VALUES|FROM)\b", re.IGNORECASE | re.DOTALL)
# What may follow a table that has no name of its own in the query.
_NO_ALIAS = (
    "WHERE|GROUP|ORDER|HAVING|LIMIT|WINDOW|UNION|EXCEPT|INTERSECT|ON|USING|JOIN|INNER|LEFT|RIGHT|FULL|CROSS|SEMI|ANTI|"
    "NATURAL|LATERAL|TABLESAMPLE|PIVOT|UNPIVOT"
)
_NAMED = re.compile(
    rf"'(?:[^']|'')*'|--[^\n]*|\"(?P<quoted>(?:[^\"]|\"\")*)\"|{QUALIFIED_NAME.pattern}(?P<column>\.)?"
    rf"(?P<alias>\s+(?:AS\b|(?!(?:{_NO_ALIAS})\b)[a-z_\"`]))?",
    re.IGNORECASE,
)
_RAISED = re.compile(r"<<([A-Za-z0-9+/=]+)>>")
_SAID = re.compile(r"\[[A-Z0-9_.]+\] .*?SQLSTATE: \w+(; line \d+ pos \d+)?", re.DOTALL)  # what is wrong with a query
_ANSWER = re.compile(r'StatusCode\.(\w+)\s+details = "([^"]*)"')  # of a server, or of none
_CONNECTED: list[Any] = []  # sessions on Spark Connect servers
_OWN = tempfile.TemporaryDirectory(prefix="mlplatform-")  # what executors fetch as they come; Spark wants a folder, too


class Spark:
    """Answers SQL over `schema.table` names, which `find` resolves to Delta tables. See `Engine`."""

    def __init__(self, find: Find, *, memory_limit: str = "", cluster: Cluster) -> None:
        self._find = find
        self._cluster = cluster

    @cached_property
    def _session(self) -> Any:
        """This process has one session, which its first engine makes."""
        interrupted = signal.getsignal(signal.SIGINT)
        session = _session(self._cluster)
        if interrupted is not signal.default_int_handler and current_thread() is main_thread():
            signal.signal(signal.SIGINT, interrupted)  # Spark takes Ctrl-C for itself, whoever listens to it
        for package in ("mlplatform", self._cluster.package):
            _ship(session, package)
        return session

    @property
    def _keeps(self) -> bool:
        """Whether executors may keep rows: serverless compute of Databricks, which is always remote, refuses to."""
        from pyspark.sql.utils import is_remote

        return self._cluster.settings.master not in _SESSIONS or not is_remote()

    def query(
        self,
        sql: str,
        *,
        as_of: datetime | None = None,
        since: datetime | None = None,
        given: Mapping[str, Rows] | None = None,
    ) -> "Frame":
        if not _QUERY.match(sql):
            raise ForbiddenError(located(sql, NO_QUERY))
        known = Window("available_at", since, as_of).predicate("TIMESTAMP_NTZ ")
        tables = sources(sql, self._find, given)
        with _told(sql):
            frames = {
                name.replace(".", "__"): self._frame(source).where(
                    known if not name.startswith("given.") and "available_at" in source.schema.names else "true"
                )
                for name, source in tables.items()
            }
            # In brackets nothing but a query can stand.
            statement = f"SELECT * FROM ({_with_places(sql.rstrip().rstrip(';'))}\n)"
            # Without a frame to place Spark takes a statement as it is, so that its braces must not stand doubled.
            answer = self._session.sql(statement, **frames) if frames else self._session.sql(statement.format())
            return Frame(answer, list(tables.values()), keeps=self._keeps)

    def point_in_time(
        self,
        entities: Rows,
        views: Sequence[View],
        *,
        as_of: datetime,
        since: datetime | None = None,
        given: Mapping[str, Rows] | None = None,
        order: Sequence[str] = (),
    ) -> "Frame":
        # Spark has no ASOF JOIN, and a join on a range of times does not end. So entities and rows of a view stand in
        # one sequence, by time, in which each entity takes the last row before it: one sort for each view.
        steps = ["step0 AS (SELECT struct(entities.*) AS entity FROM given.entities AS entities)"]
        for number, view in enumerate(views):
            steps.append(f"step{number + 1} AS ({_joined(f'step{number}', view, [v.name for v in views[:number]])})")
        columns = [
            f"CASE WHEN {_is_fresh(view)} THEN {view.name}.{quoted(column)} END AS {quoted(f'{view.name}__{column}')}"
            for view in views
            for column in view.columns
        ]
        times = [f"CASE WHEN {_is_fresh(view)} THEN {view.name}.event_timestamp END" for view in views]
        nothing = "CAST(NULL AS TIMESTAMP_NTZ)"
        sql = f"WITH {', '.join(steps)} SELECT entity.*, " + ", ".join(
            [*columns, f"greatest({', '.join([nothing, nothing, *times])}) AS feature_time"]
        )
        sql += f" FROM step{len(views)}"
        if order:
            sql += f" ORDER BY {', '.join(f'entity.{name}' for name in order)}"
        return self.query(sql, as_of=as_of, since=since, given={**(given or {}), "given.entities": entities})

    def _frame(self, source: Rows | Snapshot) -> DataFrame:
        if isinstance(source, Snapshot):
            if scheme(source.uri) == UNITY:
                table = source.uri.removeprefix(f"{UNITY}://")
                return self._session.sql(f"SELECT * FROM {table} VERSION AS OF {source.version}")
            uri = re.sub("^s3://", "s3a://", source.uri)
            return self._session.read.format("delta").option("versionAsOf", source.version).load(uri)
        if isinstance(source, Frame):
            return source.kept
        rows = source if isinstance(source, pa.Table) else pa.Table.from_batches(source.batches(), source.schema)
        return self._session.createDataFrame(rows, _spark_schema(rows.schema))


class Frame:
    """A relation whose rows are computed on executors, and written by them."""

    def __init__(self, frame: DataFrame, needs: Sequence[object], *, keeps: bool) -> None:
        for name, kind in frame.dtypes:
            if kind == "timestamp":  # with a zone: what date_trunc gives, for one
                frame = frame.withColumn(name, frame[name].cast("timestamp_ntz"))
        self._frame = frame
        self._needs = needs  # what they hold on executors stays there while this relation may ask for it
        self._keeps = keeps

    @cached_property
    def schema(self) -> pa.Schema:
        from pyspark.sql.pandas.types import to_arrow_schema

        return pa.schema([field.with_nullable(True) for field in to_arrow_schema(self._frame.schema)])

    @cached_property
    def kept(self) -> DataFrame:
        """The rows, computed once and kept by the executors, in memory or on their disks."""
        if not self._keeps:
            return self._frame
        frame = self._frame.persist()
        finalize(self, _let_go, frame)
        return frame

    @cached_property
    def stored(self) -> Spool:
        return Spool(self.schema, self.batches())

    def count(self) -> int:
        with _told():
            return int(self.kept.count())

    def batches(self) -> Iterator[pa.RecordBatch]:
        rows = self.kept if "kept" in vars(self) else self._frame
        with _told():
            for row in rows.mapInArrow(_packed, "packed binary").toLocalIterator():
                for batch in pa.ipc.open_stream(row.packed):
                    yield pa.RecordBatch.from_arrays(batch.columns, schema=self.schema)

    def arrow(self) -> pa.Table:
        return pa.Table.from_batches(self.batches(), self.schema)

    def map(self, function: BatchFunction, schema: pa.Schema) -> "Frame":
        mapped = self._frame.mapInArrow(_Mapped(function), _spark_schema(schema))
        return Frame(mapped, self._needs, keeps=self._keeps)

    def write_delta(self, uri: str, *, predicate: str | None, configuration: Mapping[str, str]) -> int:
        rows = self.count()
        writer = self.kept.write.format("delta").options(**configuration).option("mergeSchema", "true")
        writer = writer.mode("overwrite").option("replaceWhere", predicate) if predicate else writer.mode("append")
        with _told():
            if scheme(uri) == UNITY:
                writer.saveAsTable(uri.removeprefix(f"{UNITY}://"))
            else:
                writer.save(re.sub("^s3://", "s3a://", uri))
        return rows

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.arrow().__arrow_c_stream__(requested_schema)


def _let_go(frame: DataFrame) -> None:
    """Free what executors keep; a server that is gone keeps nothing."""
    with suppress(Exception):
        frame.unpersist()


class _Mapped:
    """A function of one batch as `mapInArrow` wants it; an error for people comes back as what it was."""

    def __init__(self, function: BatchFunction) -> None:
        self._function = function

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        try:
            yield from map(self._function, batches)
        except UserError as error:
            raise RuntimeError(f"<<{base64.b64encode(pickle.dumps(error)).decode()}>>") from error


@contextmanager
def _told(sql: str = "") -> Iterator[None]:
    """What a function raised for people, and what is wrong with a query; anything else stays as it is."""
    from pyspark.errors import PySparkException

    try:
        from py4j.protocol import Py4JError
    except ImportError:  # a session that is somewhere else needs none
        Py4JError = PySparkException  # noqa: N806
    try:
        yield
    except (PySparkException, Py4JError) as error:
        if raised := _RAISED.search(str(error)):
            raise pickle.loads(base64.b64decode(raised[1])) from None
        if (gone := _ANSWER.search(str(error))) and gone[1] == "UNAVAILABLE":
            for session in _CONNECTED:  # each thing that they say at the process's end would be tried for ten minutes
                session.client.set_retry_policies([])
            raise QueryError(f"lakehouse.spark.master: the Spark Connect server is gone: {gone[2]}") from error
        if said := _SAID.search(str(error)):
            raise QueryError(located(sql, said[0])) from error
        raise


def _with_places(sql: str) -> str:
    """The query with `{schema__table}` where it names a table, for Spark's session to put a frame there."""

    def place(match: re.Match[str]) -> str:
        if match["quoted"] is not None:
            name = match["quoted"].replace('""', '"').replace("`", "``")
            return f"`{name}`"  # what double quotes mean is a setting that not every Spark lets one change
        if match["table"] is None:
            return match[0]
        if match["column"]:
            return f"{match['table']}."
        name = f"\0{match['schema'].lower()}__{match['table'].lower()}\1"
        return name + (match["alias"] or f" AS {match['table']}")

    placed = _NAMED.sub(place, sql)
    return placed.replace("{", "{{").replace("}", "}}").replace("\0", "{").replace("\1", "}")


def _joined(entities: str, view: View, before: Sequence[str]) -> str:
    """SQL that adds to each entity, as a struct of the view's name, the newest row that was known to it."""
    carried, keys = "".join(f"{name}, " for name in before), "".join(f"{key}, " for key in view.keys)
    values = ", ".join(quoted(name) for name in dict.fromkeys(("event_timestamp", *view.columns)))
    partition = f"PARTITION BY {keys[:-2]} " if keys else ""
    return (
        f"SELECT entity, {carried}{view.name} FROM ("
        f"SELECT entity, {carried}last_value(value) IGNORE NULLS OVER ({partition}ORDER BY at, comes "
        f"ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS {view.name} FROM ("
        f"SELECT entity, {carried}{''.join(f'entity.{key}, ' for key in view.keys)}"
        f"entity.prediction_time AS at, 1 AS comes, NULL AS value FROM {entities} "
        f"UNION ALL SELECT NULL, {'NULL, ' * len(before)}{keys}available_at, 0, struct({values}) "
        f"FROM ({_latest_known(view)})"
        ")) WHERE entity IS NOT NULL"
    )


def _latest_known(view: View) -> str:
    """The rows of a feature view that were, when they became available, the latest event known of their entity."""
    has_keys = " AND ".join(f"{key} IS NOT NULL" for key in view.keys) or "true"
    rows = f"SELECT * FROM features.{view.name} WHERE {has_keys}"
    if view.marked:
        return f"{rows} AND superseded IS NOT TRUE"
    newest = f"SELECT *, {newest_known(view.keys)} AS _newest FROM ({rows})"
    return f"SELECT * FROM ({newest}) WHERE event_timestamp >= _newest"


def _is_fresh(view: View) -> str:
    times = ("entity.prediction_time", f"{view.name}.event_timestamp")
    prediction, event = (f"unix_micros(CAST({time} AS TIMESTAMP_LTZ))" for time in times)
    return f"{prediction} - {event} <= {view.ttl * 1_000_000}"


def _spark_schema(schema: pa.Schema) -> Any:
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema, prefer_timestamp_ntz=True)


def _packed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Each batch as one value, so that the driver can take them one after the other."""
    for batch in batches:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        yield pa.record_batch([pa.array([sink.getvalue().to_pybytes()], pa.binary())], ["packed"])


def _session(cluster: Cluster) -> Any:
    try:
        from pyspark.sql import SparkSession
        from pyspark.sql.utils import is_remote
    except ImportError as error:
        raise ConfigError(f"lakehouse.engine: spark needs the package pyspark ({error}): run `make spark`") from error
    settings, remote = cluster.settings, cluster.settings.master.startswith(_REMOTE)
    if settings.master in _SESSIONS:
        session = load(_SESSIONS, settings.master, "lakehouse.spark.master")()
        return _prepared(session, {"spark.sql.session.timeZone": "UTC", **settings.session})
    if SparkSession.getActiveSession() is not None and is_remote() is not remote:
        raise ConfigError(f"lakehouse.spark.master: a process has sessions at {_REMOTE} addresses, or one of a master")
    if remote and settings.python:
        raise ConfigError("lakehouse.spark.python: a Spark Connect server has its own: PYSPARK_PYTHON where it starts")
    if remote:
        return _prepared(_connected(settings.master), settings.session)
    os.environ["PYSPARK_PYTHON"] = settings.python or sys.executable
    jars = sorted(map(str, (cluster.folder / settings.jars).glob("*.jar")))
    if not jars and "spark.jars.packages" not in settings.session:
        raise ConfigError(f"lakehouse.spark.jars: there are no jars in {settings.jars}: run `make spark` first")
    files = {"spark.sql.warehouse.dir": _OWN.name} | ({"spark.jars": ",".join(jars)} if jars else {})
    builder = SparkSession.builder.appName(cluster.package).master(settings.master)
    return _prepared(builder.config(map=_SESSION | _DELTA | files | settings.session).getOrCreate(), {})


@cache
def _connected(address: str) -> Any:
    """A session of this process's own on a Spark Connect server. Raises ConfigError where none answers."""
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    setting = "lakehouse.spark.master"
    try:
        import grpc
        from pyspark.sql.connect.client import DefaultChannelBuilder

        server = DefaultChannelBuilder(address)
        with server.toChannel() as channel:  # Spark itself would try for ten minutes, without a word
            grpc.channel_ready_future(channel).result(timeout=_PATIENCE)
        _CONNECTED.append(SparkSession.builder.remote(address).config(map=_SESSION).create())
        return _CONNECTED[-1]
    except ImportError as error:
        needs = "needs the packages of pyspark[connect]: run `make setup EXTRAS=connect`"
        raise ConfigError(f"{setting}: {_REMOTE} {needs} ({error})") from error
    except grpc.FutureTimeoutError as error:
        how = ", with TLS and a certificate that is trusted here" if server.secure else ""
        raise ConfigError(f"{setting}: no Spark Connect server answers at {server.endpoint}{how}") from error
    except (PySparkException, ValueError) as error:
        said = _ANSWER.search(str(error))
        token = " (SPARK_CONNECT_AUTHENTICATE_TOKEN)" if said and said[1] == "UNAUTHENTICATED" else ""
        raise ConfigError(f"{setting}: {f'the server says: {said[2]}{token}' if said else error}") from error


def _prepared(session: Any, settings: Mapping[str, str]) -> Any:
    """The session with these settings, and our function. Raises ConfigError for what only a server's start sets."""
    from pyspark.errors import PySparkException

    logging.getLogger("SQLQueryContextLogger").disabled = True  # what is wrong with a query is told once
    for name, value in settings.items():
        try:
            session.conf.set(name, value)
        except PySparkException as error:
            said = str(error).splitlines()[0]
            raise ConfigError(f"lakehouse.spark.session: {name} is not for a session to set: {said}") from error
    session.sql(_TO_UTC)
    return session


@cache
def _ship(session: Any, package: str) -> None:
    """Give the workers a package of this process: what was not sent to them they do not know."""
    from pyspark.sql.utils import is_remote

    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return  # in a job there: the wheel is installed
    spec = find_spec(package)
    folder = Path(next(iter(spec.submodule_search_locations or [])) if spec else "")
    if not folder.is_dir():  # it runs from an archive itself, which `spark-submit --py-files` gave the workers, too
        return
    file = Path(_OWN.name, f"{package}.zip")
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
            archive.write(path, Path(package, path.relative_to(folder)))
    if is_remote():
        session.addArtifacts(str(file), pyfile=True)
    else:
        session.sparkContext.addPyFile(str(file))
