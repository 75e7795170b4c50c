"""The flights' SQL on DuckDB and on Spark, on days around both changes of the clocks: the same numbers."""

from collections.abc import Iterator
from datetime import timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from mlplatform.contract import Deliveries, Source
from mlplatform.engine.duckdb import DuckDb
from mlplatform.storage import landing
from mlplatform.storage.landing import inspect

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark
pyspark = pytest.importorskip("pyspark.sql")

# Where the template has what a render with the sample gets.
OPTIONS = Path(__file__).parents[3] / "{{cookiecutter.project_slug}}" / "options"
PACKAGE = Path("src", "{{cookiecutter.package_name}}")
FLIGHTS = OPTIONS / "sample=flights" / PACKAGE
SILVER = {f"silver.{file.stem}": file.read_text() for file in sorted(FLIGHTS.glob("sql/silver/*.sql"))}
QUERIES = {
    **SILVER,
    **{f"features.{file.stem}": file.read_text() for file in sorted(FLIGHTS.glob("sql/features/*.sql"))},
    "entities": (FLIGHTS / "sql" / "entities.sql").read_text(),
    **{
        f"labels {file.parts[-5]}": file.read_text()
        for file in sorted(OPTIONS.glob(f"sample=flights,*/{PACKAGE}/sql/labels.sql"))
    },
}
# The rows that land in the second step of each pair are the sample: five days, from 8 March and from 1 November.
DAY = timedelta(days=1)
STEPS = [(start, start + 5) for start in (66, 304)]


@pytest.fixture(scope="session")
def deliveries() -> Deliveries:
    spec = spec_from_file_location("flights_deliveries", FLIGHTS / "deliveries.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Deliveries = module.DELIVERIES
    return found


@pytest.fixture(scope="session")
def tables(deliveries: Deliveries, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    folder, engine = tmp_path_factory.mktemp("landing"), DuckDb()
    for day in sorted(day for pair in STEPS for day in pair):
        deliveries.deliver(folder, deliveries.begin + day * DAY)
    ends = [deliveries.begin + end * DAY for _, end in STEPS]
    bronze = {}
    for name in SILVER:
        source = name.removeprefix("silver.")
        files = landing.look(folder, [Source(source, ())], ends[-1]).files[source]
        read = [inspect(file, Source(source, ()), timedelta()) for file in files if file.landed_at in ends]
        bronze[f"bronze.{source}"] = pa.Table.from_batches(
            [rows for found in read if found for rows in found.batches()]
        )
    return bronze | {name: engine.query(sql, given=bronze).arrow() for name, sql in SILVER.items()}


@pytest.fixture(scope="session")
def spark(tables: dict[str, pa.Table], tmp_path_factory: pytest.TempPathFactory) -> "Iterator[SparkSession]":
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
    session = pyspark.SparkSession.builder.master("local[1]").config(map=settings).getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    session.sql(
        "CREATE TEMPORARY FUNCTION to_utc(text STRING) RETURNS TIMESTAMP_NTZ "
        "RETURN CAST(TRY_CAST(trim(text) AS TIMESTAMP_LTZ) AS TIMESTAMP_NTZ)"
    )
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
def test_both_engines_give_the_same(query: str, tables: dict[str, pa.Table], spark: "SparkSession") -> None:
    sql, needs = QUERIES[query], "bronze" if query in SILVER else "silver"
    given = {name: rows for name, rows in tables.items() if name.startswith(needs)}
    duckdb = comparable(DuckDb().query(sql, given=given).arrow())
    assert duckdb.height > 50
    assert differences(duckdb, comparable(spark.sql(sql).toArrow())) == []


def test_a_silent_difference_is_seen(spark: "SparkSession") -> None:
    sql = "SELECT CAST(2.5 AS INT) AS rounded, CAST(2.5 AS DOUBLE) AS kept"
    assert differences(comparable(DuckDb().query(sql).arrow()), comparable(spark.sql(sql).toArrow())) == ["rounded"]


def test_the_sample_holds_both_changes_of_the_clocks(deliveries: Deliveries, tables: dict[str, pa.Table]) -> None:
    days = set(pl.Series(tables["silver.schedule"]["event_timestamp"]).dt.date())
    assert {(deliveries.begin + (start + n) * DAY).date() for start, _ in STEPS for n in range(1, 4)} <= days
