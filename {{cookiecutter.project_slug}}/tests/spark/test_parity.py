"""The same SQL on DuckDB and on Spark, on days around both changes of the clocks: the same numbers."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from pyspark.sql import SparkSession

from {{ cookiecutter.package_name }}.lakehouse import landing
from {{ cookiecutter.package_name }}.lakehouse.contracts import usecase_sql
from {{ cookiecutter.package_name }}.lakehouse.duckdb_engine import DuckDb
from {{ cookiecutter.package_name }}.usecase.features import FEATURE_VIEWS
from {{ cookiecutter.package_name }}.usecase.replay import START, land
from {{ cookiecutter.package_name }}.usecase.tables import SILVER

# The rows that land in the second step of each pair are the sample.
DAY = timedelta(days=1)
PERIODS = [(START + start * DAY, START + (start + 5) * DAY) for start in (66, 304)]  # from 8 March, 1 November
QUERIES = {
    **{f"silver_sql/{table.name}.sql": "bronze" for table in SILVER},
    **{f"feature_sql/{view.name}.sql": "silver" for view in FEATURE_VIEWS},
    "entities.sql": "silver",
    "labels.sql": "silver",
}


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    folder, engine = tmp_path_factory.mktemp("landing"), DuckDb()
    for moment in sorted(moment for period in PERIODS for moment in period):
        land(folder, moment)
    bronze = {f"bronze.{table.source}": _sample(folder, table.source) for table in SILVER}
    silver = {f"silver.{table.name}": engine.query(table.sql, given=bronze) for table in SILVER}
    return bronze | silver


def _sample(folder: Path, source: str) -> pa.Table:
    ends = [end for _, end in PERIODS]
    files = [file for file in landing.landed_files(folder, source, ends[-1]) if file.landed_at in ends]
    return pa.concat_tables([landing.read(file).rows for file in files])


@pytest.fixture(scope="session")
def spark(tables: dict[str, pa.Table], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    folder = tmp_path_factory.mktemp("spark")
    settings = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.timestampType": "TIMESTAMP_NTZ",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.sql.shuffle.partitions": "1",
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
    }
    session = SparkSession.builder.master("local[1]").config(map=settings).getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    for schema in ("bronze", "silver"):
        session.sql(f"CREATE DATABASE {schema}")
    for name, rows in tables.items():
        file = folder / f"{name}.parquet"
        parquet.write_table(rows, file)
        session.sql(f"CREATE TABLE {name} USING parquet LOCATION '{file}'")
    yield session
    session.stop()


def comparable(rows: pa.Table) -> pl.DataFrame:
    """Times as naive UTC, numbers as doubles; sorted by all that is no measurement."""
    frame = pl.DataFrame(pl.from_arrow(rows))
    frame = frame.with_columns(
        pl.col(pl.Datetime("us", "*")).dt.convert_time_zone("UTC").dt.replace_time_zone(None),
        pl.selectors.integer().cast(pl.Float64),
    )
    return frame.sort(pl.selectors.string() | pl.selectors.datetime())


def differences(left: pl.DataFrame, right: pl.DataFrame) -> list[str]:
    """The columns in which two frames differ, numbers by more than 1e-9."""
    if left.schema != right.schema or left.height != right.height:
        return [f"{left.schema}, {left.height} rows against {right.schema}, {right.height} rows"]
    near = pl.col("left").eq_missing(pl.col("right"))
    found = []
    for name, kind in left.schema.items():
        pair = pl.DataFrame({"left": left[name], "right": right[name]})
        close = (pl.col("left") - pl.col("right")).abs() <= 1e-9 if kind == pl.Float64 else pl.lit(False)
        if not pair.select((near | close.fill_null(False)).all()).item():
            found.append(name)
    return found


@pytest.mark.parametrize("query", QUERIES)
def test_both_engines_give_the_same(query: str, tables: dict[str, pa.Table], spark: SparkSession) -> None:
    sql = usecase_sql(query)
    given = {name: rows for name, rows in tables.items() if name.startswith(QUERIES[query])}
    duckdb = comparable(DuckDb().query(sql, given=given))
    assert duckdb.height > 50
    assert differences(duckdb, comparable(spark.sql(sql).toArrow())) == []


def test_a_silent_difference_is_seen(spark: SparkSession) -> None:
    sql = "SELECT CAST(2.5 AS INT) AS rounded, CAST(2.5 AS DOUBLE) AS kept"
    assert differences(comparable(DuckDb().query(sql)), comparable(spark.sql(sql).toArrow())) == ["rounded"]


def test_the_sample_holds_both_changes_of_the_clocks(tables: dict[str, pa.Table]) -> None:
    days = set(pl.Series(tables[f"silver.{SILVER[0].name}"]["event_timestamp"]).dt.date())
    assert {(start + n * DAY).date() for start, _ in PERIODS for n in range(1, 4)} <= days
