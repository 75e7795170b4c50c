"""The project's SQL, model and metrics on empty tables, which are made from its sources and contracts."""

import inspect
import re
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from mlplatform.config.loading import suggestion
from mlplatform.contract import FeatureView, JsonLines, Labels, Metric, Project, SilverTable
from mlplatform.engine import ENGINES, Engine, View, lint
from mlplatform.errors import ForbiddenError, QueryError
from mlplatform.features import TIMES, columns
from mlplatform.monitoring import metrics
from mlplatform.storage.catalog import load
from mlplatform.storage.formats import PROVENANCE, REST

_TIMESTAMP = pa.timestamp("us")
_BRONZE = {**dict.fromkeys(PROVENANCE, _TIMESTAMP), "source_file": pa.string(), "source_row": pa.int64()}
_READS = re.compile(r"\b(?:bronze|silver|features)\.\w+")
_EXAMPLE_ROWS = 60
Schema = Generator[str, None, pa.Schema | None]


class DryRun:
    """Tells what is wrong, and keeps what it has learned for others to compare with.

    `schemas` are those of the tables of Silver and features, and of `entities`; `joined` and `inputs` are frames
    without rows, `measured` the names of the model's metrics. None stands for what cannot be known, because
    something else is wrong.
    """

    def __init__(self, project: Project, folder: Path, external: frozenset[str] = frozenset()) -> None:
        self.project, self.folder, self._external = project, folder, external
        self._sql = package_folder(project) / "sql"
        self._engine: Engine = load(ENGINES, "duckdb", "")(lambda name: None, memory_limit="1GB")
        self.schemas: dict[str, pa.Schema] = {}
        self.joined: pd.DataFrame | None = None
        self.inputs: pd.DataFrame | None = None
        self.measured: tuple[str, ...] | None = None

    def problems(self) -> Iterator[str]:
        """All that is wrong; of mistakes that follow from another one only that one."""
        yield from self._undeclared_files()
        unnamable = list(self._unnamable())
        yield from unnamable
        if unnamable:
            return
        for table in self.project.tables:
            yield from self._silver(table)
        yield from self._entities()
        yield from self._labels()
        for view in self.project.views:
            yield from self._view(view)
        if "entities" in self.schemas:
            yield from self._join()
        yield from self._model()
        yield from self._metrics()

    def _path(self, name: str) -> str:
        return _relative(self._sql / name, self.folder)

    def _undeclared_files(self) -> Iterator[str]:
        """SQL files that nothing declares; those that are missing are found when they should run."""
        declared = ["entities.sql", "labels.sql", *(f"silver/{table.name}.sql" for table in self.project.tables)]
        declared += [f"features/{view.name}.sql" for view in self.project.views]
        found = sorted(path.relative_to(self._sql).as_posix() for path in self._sql.rglob("*.sql"))
        for name in [name for name in found if name not in declared]:
            yield f"{self._path(name)}: nothing declares it{suggestion(name, declared)}"

    def _unnamable(self) -> Iterator[str]:
        """Names that the platform puts into SQL of its own, and which SQL takes for something else."""
        named = [("PROJECT.entity.keys", self.project.entity.keys)]
        named += [(f"SilverTable {table.name!r}: keys", table.keys) for table in self.project.tables]
        for view in self.project.views:
            named += [(f"FeatureView {view.name!r}: keys", view.keys), ("FeatureView", (view.name,))]
        for where, name in [(where, name) for where, names in named for name in names]:
            sql, rows = f"SELECT t.{name} FROM (SELECT {name} FROM given.rows) AS t", pa.schema({name: pa.string()})
            try:
                found = self._engine.query(sql, given={"given.rows": rows.empty_table()}).schema.names
            except QueryError:
                found = []
            if found != [name]:
                yield f"{where}: {name!r} is a word of SQL, or no plain name: take another one"
        for what in ("sources", "tables", "views"):
            names = [item.name for item in getattr(self.project, what)]
            for name in dict.fromkeys(names):
                if not re.fullmatch(r"[a-z_]\w*", name) or name != name.lower():
                    yield f"PROJECT.{what}: {name!r} names a table, so it is of small letters, digits and underscores"
                elif names.count(name) > 1:
                    yield f"PROJECT.{what}: {name!r} is the name of {names.count(name)}: each needs its own"

    def _silver(self, table: SilverTable) -> Iterator[str]:
        import pandera.errors

        place, sources = f"silver/{table.name}.sql", {source.name: source for source in self.project.sources}
        types = {name: kind.type for name, kind in table.contract.dtypes.items() if kind is not None}
        typed = {field.name: _arrow(field.type) for field in pl.DataFrame(schema=types).to_arrow().schema}
        self.schemas[table.table] = pa.schema(typed)
        if table.source not in sources:
            yield from unknown(f"SilverTable {table.name!r}", "there is no source", [table.source], sources)
            return
        source = sources[table.source]
        names = (*source.columns, *([REST] if isinstance(source.format, JsonLines) else []))
        bronze = pa.schema(dict.fromkeys(names, pa.string()) | _BRONZE)
        found = yield from self._run(place, {f"bronze.{table.source}": bronze})
        if found is None:
            return
        try:
            table.contract.validate(pl.DataFrame(found.empty_table()), lazy=True)
        except pandera.errors.SchemaErrors as error:
            yield from (f"{self._path(place)}: {line}" for line in _breaches(error.failure_cases, found.names))
        yield from self._lacking(place, found, {**dict.fromkeys(table.keys), "available_at": _TIMESTAMP, **_JUDGED})
        yield from self._unfit(place, found, "Delta keeps no such type", _is_kept)
        self.schemas[table.table] = pa.schema(dict(zip(found.names, found.types, strict=True)) | typed)

    def _entities(self) -> Iterator[str]:
        found = yield from self._run("entities.sql")
        times = dict.fromkeys(("prediction_time", "available_at"), _TIMESTAMP)
        if found is not None:
            wrong = list(self._lacking("entities.sql", found, dict.fromkeys(self.project.entity.keys) | times))
            wrong += self._unfit("entities.sql", found, _SEEN, _is_seen)
            yield from wrong
            if not wrong:
                self.schemas["entities"] = found
            fields = self.project.entity.fields
            yield from unknown("PROJECT.entity.fields", "entities.sql gives no", fields, found.names)
        if not self.project.entity.keys:
            yield "PROJECT.entity.keys: there are none: what tells one row to predict for from another?"

    def _labels(self) -> Iterator[str]:
        found = yield from self._run("labels.sql")
        if found is None:
            return
        labels = self.project.labels
        wanted = self._entity_types(self.project.entity.keys) | {"label": None} | dict.fromkeys(TIMES, _TIMESTAMP)
        yield from self._lacking("labels.sql", found, wanted)
        if "label" in found.names:
            kind = found.field("label").type
            if not (pa.types.is_string(kind) if labels.classes else _is_number(kind)):
                meant = "names of classes" if labels.classes else "numbers"
                yield f"{self._path('labels.sql')}: label is {kind}, but Labels({labels.kind!r}, ...) are {meant}"
            elif labels.classes:
                for line, name in lint.texts(self.project.sql("labels.sql"), "label"):
                    where = f"{self._path('labels.sql')}:{line - 1}"
                    yield from unknown(where, "Labels(...) have no class", [name], labels.classes)

    def _view(self, view: FeatureView) -> Iterator[str]:
        place = f"features/{view.name}.sql"
        found = yield from self._run(place)
        if found is None:
            return
        wrong = list(self._lacking(place, found, self._entity_types(view.keys) | dict.fromkeys(TIMES, _TIMESTAMP)))
        if "entities" in self.schemas:
            given = self.schemas["entities"].names
            wrong += unknown(f"FeatureView {view.name!r}: keys", "entities.sql gives no", view.keys, given)
        wrong += self._unfit(place, found, _SEEN, _is_seen)
        yield from wrong
        if not wrong:
            self.schemas[view.table] = found

    def _join(self) -> Iterator[str]:
        project = self.project
        views = [
            View(view.name, view.keys, 1, columns(view, self.schemas[view.table]))
            for view in project.views
            if view.table in self.schemas
        ]
        rows, given = self.schemas["entities"].empty_table(), self._empty()
        joined = self._engine.point_in_time(rows, views, as_of=pd.Timestamp(0).to_pydatetime(), given=given)
        self.joined = joined.schema.empty_table().to_pandas()
        for where, names in (
            ("PROJECT.baseline.groups", project.baseline.groups),
            ("PROJECT.slices", project.slices),
            ("PROJECT.entity.sensitive", project.entity.sensitive),  # a misspelt one would be written
        ):
            yield from self._not_joined(where, names, self.joined)

    def _model(self) -> Iterator[str]:
        model = self.project.model
        where = f"{type(model).__module__}.{type(model).__qualname__}"
        if not isinstance(model.primary, Metric):
            yield f"{where}.primary: {model.primary!r} is no Metric(name, measure, greater_is_better)"
        if self.joined is not None:
            self.inputs = yield from self._call(model.inputs, self.joined)
            yield from self._asked_in_vain(model.weights, self.joined.assign(label=None))
        for name, kind in {} if self.inputs is None else self.inputs.dtypes.items():
            if kind != "float64" and not pd.api.types.is_string_dtype(kind):
                yield f"{where}.inputs: gives {name} as {kind}: numbers are float64, categories text"
        try:
            built: Any = model.build(model.defaults)
        except Exception as error:
            yield f"{located(error, self.folder)} (build, with `defaults`)"
        else:
            if not (callable(getattr(built, "fit", None)) and callable(getattr(built, "predict", None))):
                yield f"{where}.build: gives {type(built).__name__}, which cannot fit and predict"
        for name in model.requirements:
            try:
                metadata.version(name)
            except metadata.PackageNotFoundError:
                yield f"{where}.requirements: {name!r} is not installed"

    def _metrics(self) -> Iterator[str]:
        project, model = self.project, self.project.model
        try:
            measured = self.measured = tuple(model.metrics(*_example(project.labels)))
        except Exception as error:
            yield f"{located(error, self.folder)} (metrics, of {_EXAMPLE_ROWS} made-up labels and scores)"
            return
        if isinstance(model.primary, Metric):
            where = f"{type(model).__module__}.{type(model).__qualname__}.primary"
            yield from unknown(where, "`metrics` gives no", [model.primary.name], measured)
        clash = project.metrics.keys() & {*measured, *metrics.DRIFT, *metrics.OTHER}
        yield from (f"PROJECT.metrics: {name!r} is the name of another metric" for name in sorted(clash))
        if self.joined is not None:
            kept = (*project.entity.keys, "prediction_time", *project.slices, *project.baseline.groups, "feature_time")
            added = (*project.labels.score_columns, "threshold", "prediction", "model_version", "run_id", "label")
            window = self.joined.reindex(columns=list(dict.fromkeys((*kept, *added))))
            for measure in project.metrics.values():
                yield from self._asked_in_vain(measure, window)

    def _run(self, place: str, bronze: Mapping[str, pa.Schema] | None = None) -> Schema:
        """Give the columns of a file's SQL; a file of Silver reads `bronze`, the others what is known by then."""
        given = self._empty() if bronze is None else {name: schema.empty_table() for name, schema in bronze.items()}
        try:
            sql = self.project.sql(place)
        except FileNotFoundError:
            if Path(place).stem not in self._external:
                yield f"{self._path(place)}: the file is missing"
            return None
        except QueryError as error:
            yield f"{self._path(place)}{str(error).removeprefix(f'sql/{place}')}"
            return None
        reads = set(_READS.findall(re.sub(r"--.*", "", sql).lower()))
        lost = list(unknown(self._path(place), "there is no table", sorted(reads - given.keys()), given))
        yield from lost
        if lost:
            return None
        try:
            query = self._engine.query(sql, given=given)
            found = query.schema
        except (QueryError, ForbiddenError) as error:
            text = str(error).partition("LINE ")[0]  # not the line itself, which its number names
            yield f"{self._path(place)}{' '.join(text.split()).removeprefix(f'sql/{place}')}"
            return None
        # Where a query stands in another one, DuckDB renames the second of two columns in silence.
        named = query.arrow().schema.names
        lower = [name.lower() for name in named]
        if again := [name for name in named if lower.count(name.lower()) > 1]:
            yield f"{self._path(place)}: gives {', '.join(again)}, which to SQL are one name: it knows no capitals"
            return None
        # The first line is the file's name (see `Project.sql`).
        yield from (f"{self._path(place)}:{line - 1}: {problem}" for line, problem in lint.problems(sql))
        return found

    def _empty(self) -> dict[str, pa.Table]:
        return {name: schema.empty_table() for name, schema in self.schemas.items()}

    def _entity_types(self, keys: Sequence[str]) -> dict[str, pa.DataType | None]:
        entities = self.schemas.get("entities", pa.schema({}))
        return {key: entities.field(key).type if key in entities.names else None for key in keys}

    def _lacking(self, place: str, found: pa.Schema, wanted: Mapping[str, pa.DataType | None]) -> Iterator[str]:
        """Columns that SQL should give, and does not, or with another type."""
        yield from unknown(self._path(place), "gives no column", wanted, found.names)
        for name, kind in wanted.items():
            given = found.field(name).type if name in found.names else None
            if given and kind and given != kind and not (_is_number(given) and _is_number(kind)):
                yield f"{self._path(place)}: {name} is {given}, and should be {kind}"

    def _unfit(self, place: str, found: pa.Schema, why: str, fits: Callable[[pa.DataType], bool]) -> Iterator[str]:
        for field in found:
            if not fits(field.type):
                yield f"{self._path(place)}: {field.name} is {field.type}: {why}"

    def _not_joined(self, where: str, names: Iterable[str], frame: pd.DataFrame) -> Iterator[str]:
        """Names that are no columns of `frame`; where a view is wrong itself, its features are not missed as well."""
        wrong = tuple(f"{view.name}__" for view in self.project.views if view.table not in self.schemas)
        yield from unknown(where, "there is no column", [n for n in names if not n.startswith(wrong)], frame.columns)

    def _call(self, function: Callable[[pd.DataFrame], Any], frame: pd.DataFrame) -> Generator[str, None, Any]:
        """What an owner's function makes of a frame without rows; None where it asks for columns that are not there.

        It is given each of these and called again, so that all of them are told.
        """
        given = frame
        while True:
            try:
                result = function(given.copy())
                return result if given is frame else None
            except KeyError as error:
                asked = re.findall(r"'([^']+)'", re.sub(r"dtype='[^']*'", "", str(error)))
                missing = [name for name in dict.fromkeys(asked) if name not in given.columns]
                place, *_ = located(error, self.folder).split(": ")
                yield from self._not_joined(place, missing, frame)
                given = given.assign(**dict.fromkeys(missing, np.nan))
                failure: Exception | None = None if missing else error
            except Exception as error:
                failure = error
            if failure:
                yield f"{located(failure, self.folder)} (on no rows)"
                return None

    def _asked_in_vain(self, function: Callable[[pd.DataFrame], Any], frame: pd.DataFrame) -> Iterator[str]:
        """Only the columns that are missing: anything else may be due to there being no rows."""
        yield from (line for line in self._call(function, frame) if not line.endswith("(on no rows)"))


_SEEN = "rows to score hold numbers, text, booleans, dates and times: make several columns of it, or text"
_JUDGED = {"source_file": pa.string(), "source_row": pa.int64()}


def package_folder(project: Project) -> Path:
    return Path(str(resources.files(project.package)))


def located(error: Exception, folder: Path) -> str:
    """An error, with the last line of the owner's code that was reached."""
    text, platform = f"{type(error).__name__}: {error}".splitlines()[0], Path(inspect.getfile(Project)).parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(folder) and not path.is_relative_to(platform) and "site-packages" not in path.parts:
            return f"{_relative(path, folder)}:{frame.lineno}: {text}"
    return text


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def unknown(where: str, what: str, names: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    """A line for each of the names that is not known, with the one that was probably meant."""
    known = list(known)
    yield from (f"{where}: {what} {name}{suggestion(name, known)}" for name in names if name not in known)


def _breaches(cases: pl.DataFrame, given: Sequence[str]) -> Iterator[str]:
    """Pandera's failures of a table without rows, in words; of each column the first."""
    told = set()
    for case in cases.iter_rows(named=True):
        found = str(case["failure_case"]).splitlines()[0]
        name = case["column"] or found
        if name not in told:
            told.add(name)
            if case["check"] == "column_in_dataframe":
                yield f"gives no column {name}, which its contract has{suggestion(name, list(given))}"
            elif case["check"] == "column_in_schema":
                yield f"gives the column {name}, which its contract does not have"
            else:
                yield f"{name}: the contract says {case['check']}, the SQL gives {found}"


def _arrow(kind: pa.DataType) -> pa.DataType:
    """As DuckDB gives text; Polars has a type of its own for it."""
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else kind


def _is_seen(kind: pa.DataType) -> bool:
    types = pa.types
    known = types.is_boolean, types.is_string, types.is_date, types.is_timestamp, _is_number
    return any(holds(kind) for holds in known)


def _is_kept(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind) or pa.types.is_binary(kind) or _is_seen(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _example(labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Made-up labels of the declared kind and scores of the right shape."""
    random, turn = np.random.default_rng(0), np.arange(_EXAMPLE_ROWS)
    if labels.classes:
        names = np.array(labels.classes, dtype=object)
        return names[turn % len(names)], random.dirichlet(np.ones(len(names)), len(turn))
    return (turn % 2).astype(float), random.uniform(0.05, 0.95, len(turn))
