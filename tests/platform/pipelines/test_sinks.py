"""Sinks of batch: files and databases hold what the table holds, whatever is killed, scored late or scored again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
import sqlalchemy as sa
from polars.testing import assert_frame_equal

from copies import make
from mlplatform.config.sections import Sink
from mlplatform.environment import Environment
from mlplatform.errors import StorageError, UserError
from mlplatform.pipelines.infer import infer
from mlplatform.storage.delta import DeltaCatalog
from mlplatform.storage.sinks import DatabaseSink, FileSink, open_sink
from steps import Killed, Mortal, advance, overlay, read
from stores import postgres

LoadEnv = Callable[..., Environment]
DAY = timedelta(days=1)
KEPT = ["item_id", "prediction_time", "kind", "feature_time", "score", "model", "model_version", "run_id", "late"]
SINKS = [
    {"kind": "parquet", "to": "data/out"},
    {"kind": "csv", "to": "data/csv"},
    {"kind": "database", "to": "PREDICTIONS"},
]


@contextmanager
def sqlite(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder / 'predictions.db'}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.storage)])
def address(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database without a table; its address is in the environment."""
    if request.param == "postgres":
        pytest.importorskip("psycopg")
    with sqlite(tmp_path) if request.param == "sqlite" else postgres() as found:
        monkeypatch.setenv("PREDICTIONS", found)
        yield found


@pytest.fixture
def ready(prod: Environment, load_env: LoadEnv, now: datetime) -> Environment:
    """prod with sinks, and four days that nobody has scored."""
    advance(prod, now + 4 * DAY)
    return load_env("prod", prod.folder, overlay(prod.folder, "sinks", {"pipelines": {"inference": {"sinks": SINKS}}}))


def held(env: Environment, address: str) -> dict[str, pl.DataFrame]:
    """What each sink holds."""
    engine = sa.create_engine(address, poolclass=sa.NullPool)
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT * FROM predictions")).mappings().all()
        types = {c["name"]: str(c["type"]) for c in sa.inspect(connection).get_columns("predictions")}
        key = sa.inspect(connection).get_pk_constraint("predictions")["constrained_columns"]
    assert set(key) == {"environment", "item_id"}
    assert {row["environment"] for row in rows} == {"prod"}
    assert types["score"].startswith("DOUBLE")
    assert types["model_version"] == "BIGINT"
    times = [
        pl.col(name).cast(pl.String).str.to_datetime(time_unit="us") for name in ("prediction_time", "feature_time")
    ]
    late = pl.col("late").cast(pl.Boolean)
    of_database = pl.DataFrame([dict(row) for row in rows], infer_schema_length=None)
    return {
        "database": of_database.with_columns(times).with_columns(late),
        "parquet": pl.read_parquet(env.folder / "data" / "out" / "prod" / "*.parquet"),
        "csv": pl.read_csv(env.folder / "data" / "csv" / "prod" / "*.csv").with_columns(times),
    }


def same(env: Environment, address: str) -> int:
    """Every sink holds the rows of the table, to the last digit; returns their number."""
    table = read(env, "predictions.tiny").select(KEPT).sort("item_id")
    for found in held(env, address).values():
        assert_frame_equal(found.select(KEPT).sort("item_id"), table, check_exact=True)
    return table.height


def test_sinks_hold_what_the_table_holds(ready: Environment, address: str, now: datetime) -> None:
    infer(ready, now + DAY)
    first = same(ready, address)
    infer(ready, now + 3 * DAY)
    assert same(ready, address) > first
    assert "predictions.tiny in sinks" not in infer(ready, now + 3 * DAY).written, "nothing is new"
    infer(ready, now + 3 * DAY, again=True)
    same(ready, address)
    days = sorted(path.stem for path in (ready.folder / "data" / "out" / "prod").glob("*.parquet"))
    assert days == sorted({f"{time:%Y-%m-%d}" for time in read(ready, "predictions.tiny")["prediction_time"]})


def test_a_day_takes_the_place_of_what_a_database_had_for_it_and_for_its_keys(address: str, tmp_path: Path) -> None:
    """From its midnight to the next, which is the next day's; what another environment has put there stays."""
    first, settings = datetime(2025, 3, 1), Sink(kind="database", to="PREDICTIONS", table="predictions")
    dev, prod = (open_sink(tmp_path, settings, name, ["item"], "at") for name in ("dev", "prod"))

    def rows(day: datetime, *items: str) -> pa.Table:
        return pa.table({"item": list(items), "at": [day] * len(items)})

    def held() -> list[str]:
        with sa.create_engine(address, poolclass=sa.NullPool).connect() as connection:
            found = connection.execute(sa.text("SELECT * FROM predictions ORDER BY environment, item")).mappings()
            return [f"{row['environment']} {row['item']} {str(row['at'])[:10]}" for row in found]

    for sink in (dev, prod):
        sink.put(first, rows(first, "a", "b"))
    prod.put(first + DAY, rows(first + DAY, "c"))
    prod.put(first, rows(first, "a"))
    others = ["dev a 2025-03-01", "dev b 2025-03-01"]
    assert held() == [*others, "prod a 2025-03-01", "prod c 2025-03-02"]
    prod.put(first + DAY, rows(first + DAY, "a", "c"))
    assert held() == [*others, "prod a 2025-03-02", "prod c 2025-03-02"]


def test_what_was_scored_otherwise_is_not_batch_s_to_publish(ready: Environment, address: str, now: datetime) -> None:
    infer(ready, now + DAY)
    streamed = read(ready, "predictions.tiny").with_columns(inference=pl.lit("streaming"), score=pl.lit(0.5))
    ready.catalog.append("predictions.tiny", streamed.to_arrow())
    infer(ready, now + 2 * DAY)
    assert 0.5 not in held(ready, address)["database"]["score"]


def test_a_new_database_gets_everything_and_an_old_one_what_is_missing(
    ready: Environment, address: str, now: datetime
) -> None:
    infer(ready, now + 2 * DAY)
    engine = sa.create_engine(address, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE predictions_published"))
        connection.execute(sa.text("DELETE FROM predictions WHERE kind = 'a'"))
        connection.execute(sa.text("ALTER TABLE predictions DROP COLUMN run_id"))
    infer(ready, now + 3 * DAY)
    same(ready, address)


WRITERS = [
    (DeltaCatalog, "append"),
    *((sink, name) for sink in (FileSink, DatabaseSink) for name in ("put", "reach")),
]


@pytest.mark.parametrize("survives", range(0, 18, 2))
def test_killed_anywhere_and_run_again_ends_the_same(
    ready: Environment, now: datetime, tmp_path: Path, survives: int
) -> None:
    """With the rows that a run before had put there; whoever dies within a day leaves what was there before."""
    with sqlite(tmp_path) as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREDICTIONS", address)
        infer(ready, now + DAY)
        with pytest.MonkeyPatch.context() as mortal:
            process = Mortal(mortal, survives, WRITERS)
            with suppress(Killed):
                infer(ready, now + 4 * DAY)
            assert process.cause or survives > 12
        infer(ready, now + 4 * DAY)
        assert same(ready, address) > 0


def test_a_transaction_that_fails_leaves_the_day_as_it_was(
    ready: Environment, address: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer(ready, now + DAY)
    before = held(ready, address)["database"]
    real, seen = sa.Connection.execute, []

    def breaks(self: sa.Connection, what: Any, *more: Any, **named: Any) -> Any:
        if str(what).startswith("INSERT INTO predictions "):
            seen.append(what)
            raise sa.exc.OperationalError("INSERT", {}, Exception("the server has gone"))
        return real(self, what, *more, **named)

    with monkeypatch.context() as patch:
        patch.setattr(sa.Connection, "execute", breaks)
        with pytest.raises(StorageError, match="the database of PREDICTIONS answers: the server has gone"):
            infer(ready, now + 2 * DAY, again=True)
    assert seen
    assert_frame_equal(held(ready, address)["database"], before, check_row_order=False)
    infer(ready, now + 2 * DAY)
    same(ready, address)


def test_sensitive_fields_stay_here(ready: Environment, now: datetime, tmp_path: Path) -> None:
    from dataclasses import replace

    from tiny.project import PROJECT

    secret = replace(PROJECT, entity=replace(PROJECT.entity, sensitive=("kind",)))
    with sqlite(tmp_path) as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREDICTIONS", address)
        infer(Environment.load("prod", secret, ready.folder, ("test", "sinks")), now + DAY)
    found = pl.read_parquet(ready.folder / "data" / "out" / "prod" / "*.parquet")
    assert "item_id" in found.columns
    assert "kind" not in found.columns


def test_a_database_that_is_not_there_is_told_before_anything_is_scored(
    ready: Environment, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREDICTIONS", raising=False)
    with pytest.raises(UserError, match="variable PREDICTIONS is not set"):
        infer(ready, now + DAY)
    monkeypatch.setenv("PREDICTIONS", "nonsense://me:hunter2@host/db")
    with pytest.raises(UserError, match="driver that is not installed") as refused:
        infer(ready, now + DAY)
    assert "hunter2" not in str(refused.value)
    assert not ready.catalog.exists("predictions.tiny")


@pytest.mark.parametrize(
    ("sinks", "reason"),
    [
        ([{"kind": "excel", "to": "data/out"}], "'database', 'parquet' or 'csv'"),
        ([{"kind": "database", "to": "postgresql://me:hunter2@host/db"}], "that is a secret"),
        ([{"kind": "database", "to": "HERE", "table": "a table"}], "table"),
        ([{"kind": "parquet", "to": "data/out"}, {"kind": "csv", "to": "data/out"}], "the same place"),
        ([{"kind": "parquet", "to": "data/out", "too": "data/out"}], "too"),
        ([{"kind": "parquet", "to": "ftp://host/out"}], "ftp:// is not supported"),
        ([{"kind": "parquet", "to": "s3://me:key@bucket/out"}], "holds no credentials"),
    ],
    ids=["a kind", "a secret", "a table", "twice", "a key", "a scheme", "credentials"],
)
def test_check_finds_settings_that_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sinks: list[dict[str, str]], reason: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path / "src")
    copy = make(tmp_path)
    overlay(copy.folder, "more", {"pipelines": {"inference": {"sinks": sinks}}})
    (line,) = set(copy.problems())
    assert line.startswith("conf/more.yml: pipelines.inference"), line
    assert reason in line
    assert "hunter2" not in line
