"""What tests of Spark share: its settings for this machine, and what makes two environments' tables the same."""

from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from mlplatform.environment import Environment

JARS = Path(__file__).parents[2] / "build" / "jars"
LOOPBACK = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1", "spark.ui.enabled": "false"}
# Small tables gain nothing from compilers, and wait for them.
SESSION = {
    **LOOPBACK,
    "spark.driver.memory": "700m",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.shuffle.partitions": "1",
}
HERE = {"master": "local[2]", "jars": str(JARS), "session": SESSION}
# What clocks on the wall decide, and the numbers of runs.
WALL_CLOCK = ("ingested_at", "modified", "scored_at", "recorded_at", "run_id", "started_at", "seconds")


def tables(env: Environment) -> dict[str, pl.DataFrame]:
    """All tables, without what the wall clock decides, in one order of rows."""
    found = {}
    for name in env.catalog.names():
        rows = pl.DataFrame(env.catalog.read(name))
        if "metric" in rows.columns:
            rows = rows.filter(~pl.col("metric").is_in(["run_seconds", "rows_per_second"]))
        rows = rows.drop(WALL_CLOCK, strict=False)
        found[name] = rows.sort(rows.columns)
    return found


def assert_same(left: Environment, right: Environment) -> None:
    ours, theirs = tables(left), tables(right)
    assert ours.keys() == theirs.keys()
    for name, rows in ours.items():
        assert_frame_equal(rows, theirs[name], check_exact=False, abs_tol=1e-9, rel_tol=0)
