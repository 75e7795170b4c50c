"""Tables in a catalog that Spark has, as Unity Catalog is one: the same statements, on Delta tables in a local one."""

import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from conftest import Duplicate, LoadEnv
from mlplatform.config.sections import SparkSettings
from mlplatform.engine import Cluster
from mlplatform.engine.spark import Spark
from mlplatform.errors import ConfigError, ForbiddenError, GoneError, MissingTableError
from mlplatform.pipelines.deploy import deploy
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.monitor import monitor
from mlplatform.pipelines.train import train
from mlplatform.storage.address import place
from mlplatform.storage.catalog import Among, Catalog, Window, open_catalog
from mlplatform.storage.unity import session
from sparks import HERE, assert_same
from steps import advance, overlay
from tiny.deliveries import START

pytestmark = pytest.mark.spark
pytest.importorskip("pyspark")

NOON = datetime(2025, 1, 1, 12)
ROWS = pa.table({"item": ["a", "b", "c"], "at": [NOON, NOON + timedelta(hours=1), None], "value": [1, 2, None]})


@pytest.fixture(scope="module")
def schemas() -> Iterator[None]:
    """A session as the one that Databricks gives a job, and the schemas that the bundle makes."""
    cluster = Cluster(SparkSettings.model_validate(HERE), Path(), "tiny")
    Spark(lambda name: None, cluster=cluster).query("SELECT 1 AS one").count()
    session().conf.set("spark.sql.timestampType", "TIMESTAMP_LTZ")  # as it is there, and cannot be changed
    names = ("bronze", "silver", "quarantine", "features", "predictions", "monitoring", "ops")
    for name in [f"{project}_{schema}" for project in ("tiny", "small") for schema in names]:
        session().sql(f"CREATE SCHEMA IF NOT EXISTS spark_catalog.{name}")
    yield
    session().conf.set("spark.sql.timestampType", "TIMESTAMP_NTZ")
    for name in [f"{project}_{schema}" for project in ("tiny", "small") for schema in names]:
        session().sql(f"DROP SCHEMA spark_catalog.{name} CASCADE")


@pytest.fixture
def catalog(schemas: None) -> Iterator[Catalog]:
    found = open_catalog(Path(), "uc://spark_catalog/small", owner="prod", reader="prod")
    yield found
    for name in found.names():
        session().sql(f"DROP TABLE spark_catalog.small_{name}")


def test_the_pipelines_make_the_same_tables_there(
    world: Path, schemas: None, load_env: LoadEnv, duplicate: Duplicate, tmp_path: Path
) -> None:
    """From landing files to alerts, with a champion; MLflow is the local one."""
    found = []
    unity = {"root": "uc://spark_catalog/tiny", "engine": "spark", "spark": {"master": "databricks"}}
    for name, settings in (("duckdb", {}), ("unity", {"lakehouse": unity})):
        project = tmp_path / name
        project.mkdir()
        (project / "conf").symlink_to(duplicate(world, tmp_path / f"{name}-conf") / "conf")
        env = load_env("prod", project, overlay(project, "more", settings))
        first, second = (START + timedelta(days=days) for days in (73, 80))
        advance(env, first)
        train(env, first, reason="first model")
        deploy(env, first)
        advance(env, second)
        infer(env, second)
        monitor(env, second)
        found.append(env)
    assert found[1].catalog.names().count("predictions.tiny") == 1
    session().sql("DROP TABLE spark_catalog.tiny_ops.lease")
    assert_same(*found)


def test_rows_are_appended_replaced_updated_and_deleted(catalog: Catalog) -> None:
    def items(where: Window | None = None) -> list[Any]:
        return sorted(catalog.read("silver.items", ["item"], where)["item"].to_pylist())

    assert catalog.append("silver.items", ROWS) == 3
    assert items(Window("at", NOON, NOON + timedelta(hours=2))) == ["b"]
    wider = pa.table({"item": ["d"], "at": [NOON], "value": [4], "more": ["x"]})
    assert catalog.replace("silver.items", wider, Window("at", NOON - timedelta(hours=1), NOON)) == 1
    assert (items(), catalog.read("silver.items", ["more"])["more"].null_count) == (["b", "c", "d"], 2)
    changed = pa.table({"item": ["b", "e"], "at": [NOON, NOON], "value": [20, 5], "more": ["y", "z"]})
    assert catalog.upsert("silver.items", changed, ["item"]) == 2
    assert catalog.delete("silver.items", Among("item", ["c"])) == 1
    catalog.remove("silver.items", pa.table({"item": ["d"]}))
    assert items() == ["b", "e"]
    assert sum(catalog.read("silver.items", ["value"])["value"].to_pylist()) == 25
    catalog.compact("silver.items", timedelta(days=7))
    assert (catalog.count("silver.items"), catalog.names()) == (2, ["silver.items"])


def test_marks_and_changes_are_kept_with_their_commits(catalog: Catalog) -> None:
    assert catalog.mark("bronze.items", "stream") is None
    catalog.append("bronze.items", ROWS, {"stream": 7, "other": 1})
    catalog.append("bronze.items", ROWS.slice(0, 1), {"stream": 8})
    assert (catalog.mark("bronze.items", "stream"), catalog.mark("bronze.items", "other")) == (8, 1)
    newest = catalog.snapshot("bronze.items").version
    (change,) = catalog.changes("bronze.items", newest - 1)
    assert (change.version, change.rewrites) == (newest, False)
    assert [row for batch in change.batches for row in batch.to_pylist()] == ROWS.slice(0, 1).to_pylist()
    catalog.delete("bronze.items", Among("item", ["a"]))
    assert list(catalog.changes("bronze.items", newest)) == []
    catalog.upsert("bronze.items", ROWS.slice(1, 1), ["item"])
    assert [change.rewrites for change in catalog.changes("bronze.items", newest)] == [True]
    with pytest.raises(GoneError, match="version -1 is not kept"):
        list(catalog.changes("bronze.items", -2))


def test_another_environments_tables_are_read_and_never_written(catalog: Catalog) -> None:
    catalog.append("silver.items", ROWS)
    other = open_catalog(Path(), "uc://spark_catalog/small", owner="prod", reader="dev")
    assert other.count("silver.items") == 3
    gone = pa.table({"item": ["a"]})
    for write in (
        lambda: other.append("silver.items", ROWS),
        lambda: other.replace("silver.items", ROWS, Window("at")),
        lambda: other.upsert("silver.items", ROWS, ["item"]),
        lambda: other.delete("silver.items", Window("at")),
        lambda: other.remove("silver.items", gone),
        lambda: other.compact("silver.items", timedelta(0)),
        lambda: other.lease("dev").__enter__(),
    ):
        with pytest.raises(ForbiddenError, match="dev may read prod's tables, not write them"):
            write()
    assert catalog.count("silver.items") == 3


def test_what_is_not_there_is_told_with_what_is(catalog: Catalog) -> None:
    catalog.append("silver.items", ROWS)
    with pytest.raises(MissingTableError, match=r"prod has no table silver\.things yet \(its tables: silver\.items\)"):
        catalog.count("silver.things")
    assert catalog.read("ops.runs").num_rows == 0
    with pytest.raises(ConfigError, match=r"lakehouse\.landing: uc:// is not supported"):
        place(Path(), "uc://prod", "lakehouse.landing")


def test_one_at_a_time_has_the_tables(catalog: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []
    second = open_catalog(Path(), "uc://spark_catalog/small", owner="prod", reader="prod")

    def wait() -> None:
        with second.lease("the second"):
            order.append("second")

    with catalog.lease("the first"):
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(3)
        order.append("first")
    waiting.join(60)
    assert order == ["first", "second"]
    assert "the second waits: the first on" in capsys.readouterr().err
