"""Checks that any project passes on its own data. A repository's tests/test_project.py is a few lines:

    from mlplatform.testing import conformance

    @conformance.checks(PROJECT, DELIVERIES)
    def test_the_project_conforms(check: conformance.Check) -> None:
        check()

Each check is a test of its own, without fixtures. The data are what DELIVERIES delivers up to the times of its
`integration`, the settings those of the integration test (conf/base.yml, staging.yml, integration.yml); everything is
written into temporary folders. Broken projects, on which each check fails, are in the tests of the template.
"""

import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache, cached_property, partial, wraps
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from mlplatform.config.loading import find_project
from mlplatform.contract import Deliveries, Project
from mlplatform.environment import Environment
from mlplatform.features.frames import entities, labelled
from mlplatform.pipelines.deploy import deploy
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.infer import infer, score
from mlplatform.pipelines.ingest import ingest
from mlplatform.pipelines.monitor import monitor
from mlplatform.pipelines.train import request_staging, train
from mlplatform.registry import scoring
from mlplatform.registry.store import Registry
from mlplatform.storage import ops
from mlplatform.storage.catalog import STORES, Window, load
from mlplatform.storage.landing import delivering
from mlplatform.training import data, evaluation, tuning
from mlplatform.training.record import Trained, record

if TYPE_CHECKING:
    import pytest

Check = Callable[[], None]
Run = Callable[..., object]  # calls a pipeline with an environment and a time
State = dict[str, pl.DataFrame]

# What a clock on the wall, or the number of a run, decides.
_WALL_CLOCK = ("ingested_at", "scored_at", "recorded_at", "run_id")
_FILES_CLOCK = ("size", "digest", "modified")  # formats such as gzip keep the time of writing in the file
_WALL_CLOCK_METRICS = ("run_seconds", "rows_per_second")
# Of several files, or of one, the rows are the same.
_PROVENANCE = ("source_file", "source_row")
_WRITERS = (
    *((load(STORES, "", "lakehouse.root"), name) for name in ("append", "replace", "upsert", "delete")),
    *((Registry, name) for name in ("register", "reconcile")),
)
_NOTHING_SCORED = "no champion has scored anything: nothing becomes due between the times of DELIVERIES.integration"
_NO_CHAMPION = "nothing was scored, since no version became champion: see the_model_beats_the_baseline"
_ABSURD = -1e9
_ROWS = 40  # scored one by one
_BUDGET = {
    "lakehouse": {"root": "data/tables", "landing": "data/landing", "features_from": None, "expire_after": None},
    "pipelines": {"released_code_only": False, "refused": []},
    "training": {"tuning": {"enabled": False}},
    "monitoring": {"notify": []},
    "registry": {"approval": "automatic", "tracking_uri": "sqlite:///data/mlflow.db", "artifacts": "data/artifacts"},
}


class World:
    """The owner's data in temporary folders, one for each way of getting them there."""

    def __init__(self, project: Project, deliveries: Deliveries) -> None:
        self.project, self.deliveries = project, deliveries
        self.start, self.end = deliveries.integration

    @cached_property
    def _folder(self) -> "tempfile.TemporaryDirectory[str]":
        return tempfile.TemporaryDirectory(prefix="conformance-")

    def environment(self, name: str, *, registry: bool = False) -> Environment:
        """An environment with the project's settings and nothing in it but, if asked for, a registry without models."""
        folder = Path(self._folder.name, name)
        shutil.rmtree(folder, ignore_errors=True)  # what an attempt that failed has left
        with resources.as_file(resources.files(self.project.package)) as package:
            shutil.copytree(find_project(package) / "conf", folder / "conf")
        (folder / "conf" / "conformance.yml").write_text(json.dumps(_BUDGET), encoding="utf-8")
        integration = ("integration",) if (folder / "conf" / "integration.yml").is_file() else ()
        env = Environment.load("staging", self.project, folder, (*integration, "conformance"))
        if registry:
            (folder / "data").mkdir()
            (folder / "data" / "mlflow.db").write_bytes(_empty_registry())
        return env

    def copy_of_backfill(self, name: str, *, registry: bool = False) -> Environment:
        env = self.environment(name, registry=registry)
        shutil.copytree(self.backfill.folder / "data", env.folder / "data", dirs_exist_ok=True)
        return env

    def advance(self, env: Environment, until: datetime) -> None:
        """Deliver up to a time, and bring tables and features up to it."""
        self.deliver(env, until)
        ingest(env, until)
        featurize(env, until)

    def deliver(self, env: Environment, until: datetime) -> None:
        with delivering(env.landing) as landing:
            self.deliveries.deliver(landing, until)

    def times(self, number: int) -> list[datetime]:
        """Times to the minute between the two of the integration test, always the same ones."""
        draw, minutes = random.Random(0), (self.end - self.start) // timedelta(minutes=1)
        return sorted(self.start + timedelta(minutes=draw.randrange(1, minutes)) for _ in range(number))

    @cached_property
    def moments(self) -> list[datetime]:
        """For each table of Silver a time just before one of its rows becomes known: whoever looks ahead sees it."""
        found, tables = [], self.project.tables
        for number, table in enumerate(tables, 1):
            known = _table(self.backfill, table.table)["available_at"].unique().sort()
            if len(known) == 1:  # a snapshot: nothing becomes known later
                found.append(known[0])
                continue
            assert len(known) > len(tables), f"{table.table}: hardly anything becomes known up to {self.end}"
            found.append(known[len(known) * number // (len(tables) + 1)] - timedelta(seconds=1))
        return sorted(set(found))

    def first_model(self, env: Environment, run: Run) -> None:
        """A model at `start`."""
        self.deliver(env, self.start)
        for pipeline in (ingest, featurize, train, deploy):
            run(pipeline, env, self.start)

    def use_model(self, env: Environment, run: Run) -> None:
        """Steps up to `end`, each scored and watched."""
        for time in (*self.times(2), self.end):
            self.deliver(env, time)
            for pipeline in (ingest, featurize, infer, monitor):
                run(pipeline, env, time)

    @cached_property
    def backfill(self) -> Environment:
        """Everything delivered and prepared at once. Not to be changed."""
        env = self.environment("backfill")
        self.advance(env, self.end)
        return env

    @cached_property
    def trained(self) -> Environment:
        env = self.environment("uninterrupted", registry=True)
        self.first_model(env, _run)
        return env

    @cached_property
    def uninterrupted(self) -> tuple[Environment, State]:
        """The same environment, step by step up to `end`, with what the tables held then."""
        self.use_model(self.trained, _run)
        return self.trained, _state(self.trained)

    @cached_property
    def scored(self) -> tuple[scoring.Scorer, pa.Table]:
        """The first version, and rows for it to score."""
        env, registry = self.trained, Registry(self.trained)
        rows = entities(env, self.start, self.deliveries.begin, self.start).arrow()
        sample = rows.take(random.Random(0).sample(range(rows.num_rows), min(_ROWS, rows.num_rows)))
        return scoring.load(self.project.model, registry.files(1, "model")), sample


def checks(
    project: Project, deliveries: Deliveries, which: "Sequence[Callable[[World], None]] | None" = None
) -> "Callable[[Callable[..., None]], pytest.MarkDecorator]":
    """Decorate a test that takes `check` and calls it: it becomes one test per check, of all or of `which`."""
    import pytest

    world = World(project, deliveries)
    cases = [pytest.param(partial(check, world), id=check.__name__) for check in which or CHECKS]

    def decorate(test: Callable[..., None]) -> Any:
        return pytest.mark.xdist_group("conformance")(pytest.mark.parametrize("check", cases)(test))

    return decorate


def what_was_known_then_is_what_a_run_then_finds(world: World) -> None:
    """The rows of a backfill that were available at a time equal a run with that `as_of`, and so do labels."""
    labels = f"SELECT * FROM ({world.project.sql('labels.sql')}\n) WHERE "
    for time in world.moments:
        env = world.environment(f"at-{time:%Y%m%dT%H%M}")
        world.advance(env, time)
        _assert_prepared_alike(env, world.backfill, time)
        known = labels + Window("available_at", until=time).predicate("TIMESTAMP ")
        ours, theirs = (_tidy(_query(of, known), _PROVENANCE) for of in (env, world.backfill))
        _assert_equal(ours, theirs, f"sql/labels.sql: labels that say in available_at that they were known at {time}")


def the_future_changes_no_earlier_row(world: World) -> None:
    """With absurd values in all that became available after a time, rows to score and to train on stay as they were."""
    time, clean, poisoned = world.moments[0], world.backfill, world.copy_of_backfill("poisoned")
    for table in world.project.tables:
        _poison(poisoned, table.table, table.keys, time)
    featurize(poisoned, world.end, backfill=True)
    for view in world.project.views:
        _poison(poisoned, view.table, view.keys, time)
    for build in (entities, labelled):
        ours, theirs = (pl.DataFrame(build(env, world.end, world.deliveries.begin, time)) for env in (poisoned, clean))
        assert theirs.height, f"sql/entities.sql gives nothing to predict before {time}"
        # A label may come later than the prediction.
        _assert_equal(ours.drop("label", strict=False), theirs.drop("label", strict=False), f"{build.__name__} rows")


def a_backfill_equals_increments(world: World) -> None:
    """What deliveries bring step by step ends in the same tables as all at once."""
    _assert_prepared_alike(world.uninterrupted[0], world.backfill, world.end)


def keys_are_unique(world: World) -> None:
    """One row per entity and per label, and per key in each table."""
    env, project = world.backfill, world.project
    for name in ("entities.sql", "labels.sql"):
        _assert_unique(_query(env, project.sql(name), world.end), project.entity.keys, f"sql/{name}")
    for table in project.tables:
        _assert_unique(_table(env, table.table), table.keys, table.table)
    for view in project.views:
        _assert_unique(_table(env, view.table), (*view.keys, "event_timestamp"), view.table)


def killed_pipelines_end_as_if_nothing_had_happened(world: World) -> None:
    """Each pipeline dies in the middle of its writes and runs again; the tables end the same."""
    env, died = world.environment("killed", registry=True), 0

    def run(pipeline: Callable[..., object], *arguments: object) -> None:
        nonlocal died
        try:
            with _dying(after=1 + died % 3):
                pipeline(*arguments)
        except _KilledError:
            died += 1
            pipeline(*arguments)

    world.first_model(env, run)
    world.use_model(env, run)
    assert died, "no pipeline has written anything"
    _assert_same(_state(env), world.uninterrupted[1])


def one_run_scores_what_many_do(world: World) -> None:
    """Each run of inference has scored what one at the end scores: with what was known at the prediction time."""
    env, before = world.uninterrupted
    _refuse_no_predictions(world)
    registry = Registry(env)
    champion = registry.ledger.champion(world.end)
    assert champion
    begin = max(world.start, world.times(2)[0] - env.config.pipelines.inference.first_window)
    whole = pl.DataFrame(score(registry, champion, begin, world.end))
    ours = before[f"predictions.{registry.settings.model}"].drop("late")
    _assert_equal(ours, _tidy(whole.select(ours.columns)), "what several runs have scored, beside one at the end")


def running_twice_changes_nothing(world: World) -> None:
    env, before = world.uninterrupted
    _refuse_no_predictions(world)
    for pipeline, as_of in ((ingest, world.end), (train, world.start), (deploy, world.start)):
        pipeline(env, as_of)
    featurize(env, world.end, backfill=True)
    infer(env, world.end, again=True)
    monitor(env, world.end)
    _assert_same(_state(env), before)


def scores_do_not_depend_on_their_batch(world: World) -> None:
    """A row scored alone, and in another order, gets the score that it has in company."""
    scorer, table = world.scored
    rows = table.to_pandas()
    together = scorer.scores(rows)
    # Each made a frame by itself: what is missing in other rows decides on the types of a column.
    alone = np.concatenate([scorer.scores(table.slice(number, 1).to_pandas()) for number in range(len(rows))])
    for found, how in ((alone, "alone"), (scorer.scores(rows[::-1])[::-1], "in the opposite order")):
        different = int((~np.isclose(found, together, rtol=1e-9, atol=1e-12).reshape(len(rows), -1)).any(1).sum())
        assert not different, f"{different} of {len(rows)} rows get another score {how}: see `inputs` and `predict`"


def input_types_do_not_depend_on_the_batch(world: World) -> None:
    """`inputs` gives the columns and types of the version's signature, also for a row without features."""
    scorer, rows = world.scored[0], world.scored[1].to_pandas()
    whole = world.project.model.inputs(rows)
    lone = rows.iloc[[0]].assign(**{name: None for name in rows.columns if "__" in name})
    for name, kind in whole.dtypes.items():
        number = pd.api.types.is_numeric_dtype(kind)
        assert not number or kind == "float64", f"`inputs` gives {name} as {kind}: numbers are float64"
        assert number or not whole[name].isna().any(), f"`inputs` gives gaps in {name}: categories have none"
    for frame, what in ((rows.iloc[[0]], "one row"), (lone, "one row without features")):
        given = world.project.model.inputs(frame)
        missing = set(whole.columns) ^ set(given.columns)
        assert not missing, f"`inputs` gives other columns for {what}: {', '.join(sorted(missing))}"
        expected = scorer.inputs(rows).dtypes
        assert scorer.inputs(frame).dtypes.equals(expected), f"the input of {what} has other types than of many rows"


def the_model_beats_the_baseline(world: World) -> None:
    """The first version passes compliance and wins its comparison: it is champion."""
    registry = Registry(world.trained)
    reasons = [t.reason for t in registry.ledger.all() if t.status == "rejected"]
    assert registry.ledger.champion(world.start) == 1, f"the model was refused: {'; '.join(reasons)}"


def a_model_of_shuffled_labels_is_refused(world: World) -> None:
    """What has learned from labels in random order knows nothing; the gates must see that.

    Chance may order a few rows well: a shuffle that is promoted has to be refused in two other orders.
    """
    notes = _shuffled(world, 0)
    if notes:
        again = [notes for seed in (1, 2) if (notes := _shuffled(world, seed))]
        assert not again, f"a model that knows nothing was promoted: {again[0]}"


def _shuffled(world: World, seed: int) -> str:
    """What the gates say of a model that they promote although its labels were shuffled; nothing if they refuse it."""
    env, model = world.copy_of_backfill(f"shuffled-{seed}", registry=True), world.project.model
    rows = data.load(env, world.start)
    labels = np.random.default_rng(seed).permutation(rows.train["label"].to_numpy())
    rows = replace(rows, train=rows.train.assign(label=labels))
    fitted = tuning.fit(model, model.defaults, rows.train)
    measured = evaluation.evaluate(world.project, fitted, rows.train, rows.holdout)
    registry = Registry(env)
    number = record(registry, Trained(world.start, "shuffled", fitted, model.defaults, None, rows, measured))
    request_staging(registry, number, world.start, "its labels were shuffled")
    notes = deploy(env, world.start).notes
    return "" if registry.ledger.champion(world.start) is None else "; ".join(notes)


CHECKS: tuple[Callable[[World], None], ...] = (
    keys_are_unique,
    what_was_known_then_is_what_a_run_then_finds,
    the_future_changes_no_earlier_row,
    a_backfill_equals_increments,
    the_model_beats_the_baseline,
    a_model_of_shuffled_labels_is_refused,
    scores_do_not_depend_on_their_batch,
    input_types_do_not_depend_on_the_batch,
    one_run_scores_what_many_do,
    running_twice_changes_nothing,
    killed_pipelines_end_as_if_nothing_had_happened,
)


@cache
def _empty_registry() -> bytes:
    """MLflow's database before its first model: to make it takes longer than to train, so it is made once."""
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mlflow.db")
        mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
        return path.read_bytes()


def _run(pipeline: Callable[..., object], *arguments: object) -> None:
    pipeline(*arguments)


class _KilledError(BaseException):
    """The process is dead: whatever it still tries to write fails."""


@contextmanager
def _dying(after: int) -> Iterator[None]:
    """Every write fails once so many have been made."""
    made = 0

    def counted(write: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(write)
        def attempt(*arguments: Any, **named: Any) -> Any:
            nonlocal made
            if made >= after:
                raise _KilledError
            made += 1
            return write(*arguments, **named)

        return attempt

    with ExitStack() as stack:
        for owner, name in _WRITERS:
            stack.enter_context(mock.patch.object(owner, name, counted(getattr(owner, name))))
        yield


def _poison(env: Environment, name: str, keys: tuple[str, ...], time: datetime) -> None:
    """Make absurd what the rows say that became available after `time`: numbers, names, and when it happened."""
    everything = _table(env, name)
    rows = everything.filter(pl.col("available_at") > time)
    if rows.is_empty() and everything["available_at"].n_unique() == 1:
        return  # a snapshot has no future
    assert rows.height, f"{name}: nothing became available after {time}: let deliveries.integration span more"
    spared = (*keys, "available_at", *_PROVENANCE)
    lies = [_lie(kind, time).alias(column) for column, kind in rows.schema.items() if column not in spared]
    env.catalog.replace(name, rows.with_columns(lies).to_arrow(), Window("available_at", after=time))


def _lie(kind: pl.DataType, time: datetime) -> pl.Expr:
    if kind.is_temporal():
        # As if it had happened, or were due, just before: never twice at once, for a view may have no other key.
        return (pl.lit(time - timedelta(hours=1)) - pl.duration(microseconds=pl.int_range(pl.len()))).cast(kind)
    return pl.lit(kind == pl.Boolean or (_ABSURD if kind.is_numeric() else "poison")).cast(kind)


def _state(env: Environment) -> State:
    """All tables, without what the wall clock decides."""
    found = {name: _tidy(_table(env, name)) for name in env.catalog.names() if name != ops.RUNS}
    if "monitoring.metrics" in found:
        measured = found["monitoring.metrics"]
        found["monitoring.metrics"] = measured.filter(~pl.col("metric").is_in(_WALL_CLOCK_METRICS))
    if ops.FILES in found:
        found[ops.FILES] = found[ops.FILES].drop(_FILES_CLOCK)
    return found


def _refuse_no_predictions(world: World) -> None:
    env, before = world.uninterrupted
    scored = f"predictions.{env.config.registry.model}"
    reason = _NOTHING_SCORED if Registry(env).ledger.champion(world.end) else _NO_CHAMPION
    assert scored in before and not before[scored].is_empty(), reason


def _assert_same(found: State, expected: State) -> None:
    assert sorted(found) == sorted(expected), f"tables {sorted(set(found) ^ set(expected))} are only in one of the two"
    for name, frame in expected.items():
        _assert_equal(found[name], frame, name)


def _assert_prepared_alike(run: Environment, backfill: Environment, time: datetime) -> None:
    names = [table.table for table in run.project.tables] + [view.table for view in run.project.views]
    for name in names:
        ours, theirs = _table(run, name), _query(backfill, f"SELECT * FROM {name}", time)
        assert theirs.height, f"{name} has no row that was available at {time}"
        early = theirs.height - ours.height
        assert early <= 0, (
            f"{name}: {early:,} of its rows say in available_at that they were known at {time}, and were not"
        )
        _assert_equal(_tidy(ours, _PROVENANCE), _tidy(theirs, _PROVENANCE), f"{name} as of {time}")


def _assert_equal(found: pl.DataFrame, expected: pl.DataFrame, what: str) -> None:
    from polars.testing import assert_frame_equal

    try:
        assert_frame_equal(found, expected, check_exact=False, rel_tol=1e-9, abs_tol=1e-9)
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from error


def _assert_unique(rows: pl.DataFrame, keys: tuple[str, ...], what: str) -> None:
    twice = rows.filter(rows.select(keys).is_duplicated()) if keys else rows[1:]
    assert twice.is_empty(), f"{what}: more than one row for {dict(twice.select(keys).row(0, named=True))}"


def _tidy(rows: pl.DataFrame, without: tuple[str, ...] = ()) -> pl.DataFrame:
    """Rows in an order of their own: by every column that is no float."""
    rows = rows.drop(*_WALL_CLOCK, *without, strict=False)
    return rows.sort([name for name, kind in rows.schema.items() if not kind.is_float()])


def _table(env: Environment, name: str) -> pl.DataFrame:
    return _query(env, f"SELECT * FROM {name}")


def _query(env: Environment, sql: str, as_of: datetime | None = None) -> pl.DataFrame:
    return pl.DataFrame(env.engine.query(sql, as_of=as_of))
