"""The same pipelines on DuckDB and on Spark, over Delta tables that either writes and the other goes on with."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from conftest import CONF, Duplicate, LoadEnv
from mlplatform.config.sections import SparkSettings
from mlplatform.contract import Entity
from mlplatform.engine import Cluster, View
from mlplatform.engine.duckdb import DuckDb
from mlplatform.engine.spark import Spark
from mlplatform.environment import Environment
from mlplatform.errors import ContractError, ForbiddenError, MissingTableError, QueryError
from mlplatform.features.frames import labelled, sample
from mlplatform.pipelines.deploy import deploy
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.monitor import monitor
from mlplatform.pipelines.train import train
from sparks import HERE, JARS, SESSION, assert_same, clean, end, port, tables
from steps import Edited, advance, overlay, twice
from tiny.deliveries import START
from tiny.project import PROJECT
from traps import ROWS, TRAPS, TRAPS_IN_ROWS

pytestmark = pytest.mark.spark
pytest.importorskip("pyspark")

FIRST, SECOND, THIRD = (START + timedelta(days=days) for days in (73, 80, 87))


def on_spark(load_env: LoadEnv, project: Path) -> Environment:
    return load_env("prod", project, overlay(project, "spark", {"lakehouse": {"engine": "spark", "spark": HERE}}))


def first(env: Environment) -> None:
    """A champion, and a week of predictions by it."""
    advance(env, FIRST)
    train(env, FIRST, reason="first model")
    deploy(env, FIRST)
    week(env, SECOND)


def week(env: Environment, end: datetime) -> None:
    advance(env, end)
    infer(env, end)
    monitor(env, end)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, load_env: LoadEnv) -> tuple[Environment, Environment]:
    """The same project after the same pipelines, by DuckDB and by Spark. Not to be changed."""
    folders = [tmp_path_factory.mktemp(name) for name in ("duckdb", "spark")]
    for folder in folders:
        shutil.copytree(CONF, folder / "conf")
    found = load_env("prod", folders[0]), on_spark(load_env, folders[1])
    for env in found:
        first(env)
    return found


@pytest.fixture(scope="module")
def engine() -> Spark:
    return Spark(lambda name: None, cluster=Cluster(SparkSettings.model_validate(HERE), Path(), "tiny"))


def test_what_the_lint_refuses_differs_and_what_it_says_to_write_does_not(engine: Spark) -> None:
    given = {"given.rows": DuckDb().query(f"SELECT * FROM {ROWS}").arrow()}
    for traps, rows in ((TRAPS, ""), (TRAPS_IN_ROWS, " FROM given.rows")):
        sides = [f"{sql} AS {side}{n}" for n, trap in enumerate(traps) for side, sql in zip("xy", trap, strict=False)]
        sql = f"SELECT {', '.join(sides)}{rows}"
        by_duckdb, by_spark = (each.query(sql, given=given).arrow().to_pylist()[0] for each in (DuckDb(), engine))
        for n, (refused, instead, expected) in enumerate(traps):
            assert by_duckdb[f"x{n}"] != by_spark[f"x{n}"], refused
            assert (by_duckdb[f"y{n}"], by_spark[f"y{n}"]) == (expected, expected), instead


def test_every_table_is_the_same(pair: tuple[Environment, Environment]) -> None:
    assert len(tables(pair[0])["predictions.tiny"]) == 70
    assert_same(*pair)


def test_each_engine_goes_on_with_the_tables_of_the_other(
    pair: tuple[Environment, Environment], load_env: LoadEnv, duplicate: Duplicate, tmp_path: Path
) -> None:
    by_spark = on_spark(load_env, duplicate(pair[0].folder, tmp_path / "a"))
    by_duckdb = load_env("prod", duplicate(pair[1].folder, tmp_path / "b"))
    for env in (by_spark, by_duckdb):
        week(env, THIRD)
    assert_same(by_duckdb, by_spark)


def test_training_rows_are_the_same_and_so_is_their_share(pair: tuple[Environment, Environment]) -> None:
    found = [labelled(env, SECOND, START, SECOND, 0.5).arrow() for env in pair]
    assert 250 < found[0].num_rows < 450
    assert_frame_equal(*(pl.DataFrame(rows) for rows in found), abs_tol=1e-9, rel_tol=0)


@pytest.mark.parametrize("keys", [("name",), ("day", "number")])
def test_of_too_many_rows_the_same_entities_are_taken(
    pair: tuple[Environment, Environment], keys: tuple[str, ...]
) -> None:
    project, found = Edited(**{**vars(PROJECT), "entity": Entity(keys)}), []
    for env in pair:
        other = Environment(env.name, project, env.folder, env.config)
        rows = other.engine.query("SELECT * FROM given.rows", given={"given.rows": twice(400)})
        found.append(sample(other, rows, 200))
    assert found[0][1:] == found[1][1:]
    assert 150 < found[0].taken <= 200
    assert_frame_equal(*(pl.DataFrame(some.rows) for some in found))


def test_the_point_in_time_join_keeps_its_rules(engine: Spark) -> None:
    noon = datetime(2025, 1, 1, 12)

    def hours(*numbers: float) -> list[datetime]:
        return [noon + timedelta(hours=number) for number in numbers]

    entities = pa.table({"id": range(5), "key": ["a", "a", "b", None, "z"], "prediction_time": hours(0, 3, 0, 0, 0)})
    rows = pa.table(
        {
            "key": ["a", "a", "a", "b", "b", None],
            # Known at the very time; later, but of an older event; two at once; older than its time to live.
            "event_timestamp": hours(-1, -2, 2, -9, -9.5, -1),
            "available_at": hours(0, 1, 4, -1, -1, -1),
            "value": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        }
    )
    whole = pa.table({"event_timestamp": hours(-1), "available_at": hours(-1), "level": [7.0]})
    views = [View("keyed", ["key"], 6 * 3600, ["value"]), View("whole", [], 6 * 3600, ["level"])]
    given = {"features.keyed": rows, "features.whole": whole}
    found = [
        pl.DataFrame(
            e.point_in_time(entities, views, as_of=noon + timedelta(days=1), given=given, order=["id"]).arrow()
        )
        for e in (DuckDb(), engine)
    ]
    assert found[1]["keyed__value"].to_list() == [1.0, 1.0, None, None, None]
    assert_frame_equal(*found)


@pytest.mark.parametrize(
    "text", ["2025-01-01 06:00", "2025-01-01T06:00:00+0230", "2025-01-01 06:00-05", "2025-01-01", " 2025-01-01T06:00Z ",
             "2025-01-01 06:00:00.25+18:00", "yesterday", "infinity", "2025-01-01 25:00", "06:00"],
)  # fmt: skip
def test_text_means_the_same_time(engine: Spark, text: str) -> None:
    sql = f"SELECT to_utc('{text}') AS time"
    assert engine.query(sql).arrow().to_pylist() == DuckDb().query(sql).arrow().to_pylist()


def test_few_rows_are_kept_in_few_parts(engine: Spark) -> None:
    """With as many as a cluster sorts into, each step would start hundreds of tasks for nothing."""
    engine.query("SELECT 1 AS x").count()
    engine._session.conf.set("spark.sql.shuffle.partitions", "20")
    try:
        rows = engine.query("SELECT * FROM VALUES (1), (2), (3), (4), (5) AS t (x) ORDER BY x")
        assert (rows.count(), rows.kept.rdd.getNumPartitions()) == (5, 1)
    finally:
        engine._session.conf.set("spark.sql.shuffle.partitions", "1")


def test_what_is_wrong_is_told_as_on_duckdb(engine: Spark) -> None:
    for sql in ("DROP TABLE silver.items", "INSERT INTO t SELECT 1"):
        with pytest.raises(ForbiddenError):
            engine.query(sql)
    with pytest.raises(MissingTableError):
        engine.query("SELECT * FROM silver.items")
    for sql in ("SELECT 1; SELECT 2", "SELECT nothing", "SELECT CAST('x' AS DOUBLE) AS x"):
        with pytest.raises(QueryError):
            engine.query(sql).arrow()

    def refuse(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise ContractError("row 3 is bad")

    rows = engine.query("SELECT 1 AS x")
    with pytest.raises(ContractError, match="row 3 is bad"):
        rows.map(refuse, rows.schema).count()


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A master and two workers on loopback, which know nothing of this process: the address, and the workers."""
    where, environment = clean(folder)
    address = f"spark://127.0.0.1:{port()}"
    started: list[subprocess.Popen[bytes]] = []

    def start(kind: str, *arguments: str) -> "subprocess.Popen[bytes]":
        command = [str(where / "spark-class"), f"org.apache.spark.deploy.{kind}", "--host", "127.0.0.1"]
        with (folder / f"{len(started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, *arguments], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        started.append(process)
        return process

    try:
        start("master.Master", "--port", address.rpartition(":")[2], "--webui-port", "0")
        own = ("--cores", "1", "--memory", "1g", "--webui-port", "0")
        workers = [start("worker.Worker", *own, "--work-dir", str(folder / name), address) for name in "ab"]
        yield address, workers
    finally:
        for process in started:
            end(process)


def test_a_cluster_whose_worker_is_killed_ends_with_the_right_tables(
    world: Path, load_env: LoadEnv, duplicate: Duplicate, now: datetime, tmp_path: Path
) -> None:
    project = duplicate(world, tmp_path / "project")
    shutil.rmtree(project / "data" / "prod" / "silver")
    shutil.rmtree(project / "data" / "prod" / "features")
    with cluster(tmp_path) as (address, workers):
        # The driver is too small for anything but plans: rows stay on the workers.
        session: dict[str, Any] = {**SESSION, "spark.driver.memory": "512m", "spark.driver.maxResultSize": "1m"}
        session |= {"spark.executor.memory": "512m", "spark.executor.cores": "1", "spark.python.worker.reuse": "true"}
        far = {"master": address, "jars": str(JARS), "session": session}
        overlay(project, "spark", {"lakehouse": {"engine": "spark", "spark": far}})
        code = (
            "import sys; from datetime import datetime; from pathlib import Path\n"
            "from mlplatform.environment import Environment\n"
            "from mlplatform.pipelines.featurize import featurize\n"
            "from mlplatform.pipelines.ingest import ingest\n"
            "from tiny.project import PROJECT\n"
            "env = Environment.load('prod', PROJECT, Path(sys.argv[1]), ('test', 'spark'))\n"
            f"as_of = datetime.fromisoformat('{now}')\n"
            "ingest(env, as_of); featurize(env, as_of, backfill=True)\n"
        )
        # Not the archives that sessions of this process ship.
        paths = os.pathsep.join(path for path in sys.path if Path(path).is_dir() and path)
        driver = subprocess.Popen(
            [sys.executable, "-c", code, str(project)], cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}
        )
        try:
            silver, deadline = project / "data" / "prod" / "silver" / "items" / "_delta_log", time.monotonic() + 240
            while not silver.exists() and driver.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)
            assert silver.exists(), "the cluster wrote nothing"
            end(workers[0])
            assert driver.wait(240) == 0
        finally:
            driver.kill()
    expected, found = (tables(load_env("prod", folder)) for folder in (world, project))
    names = [name for name in expected if name.startswith(("silver.", "features."))]
    assert len(names) == 4
    for name in names:
        assert_frame_equal(found[name], expected[name], abs_tol=1e-9, rel_tol=0)
