"""The same pipelines on DuckDB and on Spark, on Delta tables that either reads and extends: the same rows and types."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from conftest import CONF, LoadEnv
from mlplatform.engine import Cluster
from mlplatform.engine.spark import Spark
from mlplatform.environment import Environment
from mlplatform.errors import ContractError, ForbiddenError, QueryError
from mlplatform.pipelines.deploy import deploy
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.monitor import monitor
from mlplatform.pipelines.train import train
from steps import advance, overlay

pytestmark = pytest.mark.spark
pytest.importorskip("pyspark")

JARS = Path(__file__).parents[3] / "build" / "jars"
# One session for all tests of a process. What differs between two runs of the same: clocks on the wall, and numbers of runs.
SESSION = {
    "spark.driver.memory": "700m",
    "spark.sql.shuffle.partitions": "2",
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}
ON_SPARK = {"lakehouse": {"engine": "spark", "spark": {"master": "local[2]", "jars": str(JARS), "session": SESSION}}}
WALL_CLOCK = ("ingested_at", "modified", "scored_at", "recorded_at", "run_id", "started_at", "seconds", "digest", "code")
WEEK = timedelta(days=7)
