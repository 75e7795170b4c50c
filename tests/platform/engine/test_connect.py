"""The same pipelines through a Spark Connect server, to which nothing but its address leads."""

import gc
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from conftest import Duplicate, LoadEnv
from mlplatform.config.sections import SparkSettings
from mlplatform.engine import Cluster
from mlplatform.engine.spark import Spark
from mlplatform.errors import ConfigError, ContractError, ForbiddenError, QueryError
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.ingest import ingest
from mlplatform.storage.catalog import Among, Window, open_catalog
from mlplatform.storage.unity import session
from sparks import HERE, assert_same, connect_server, end, port, tables, tls_front
from steps import overlay
from tiny.deliveries import START, land

pytestmark = pytest.mark.spark
pytest.importorskip("pyspark")
pytest.importorskip("grpc")

NEXT = START + timedelta(days=80)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[tuple[str, subprocess.Popen[bytes]]]":
    from pyspark.sql.connect.client import SparkConnectClient

    with connect_server(tmp_path_factory.mktemp("server")) as found:
        yield found
        for client in gc.get_objects():  # what each says at this process's end is not heard any more
            if type(client) is SparkConnectClient:
                client.set_retry_policies([])


@pytest.fixture(scope="module")
def server(process: "tuple[str, subprocess.Popen[bytes]]") -> str:
    return process[0]


def engine(**settings: Any) -> Spark:
    return Spark(lambda name: None, cluster=Cluster(SparkSettings.model_validate(settings), Path(), "tiny"))


def test_from_files_to_predictions_every_table_is_the_same(
    world: Path, server: str, load_env: LoadEnv, duplicate: Duplicate, tmp_path: Path
) -> None:
    """The champion scores what another week brings, from tables that DuckDB began."""
    found = []
    for name, spark in (("duckdb", {}), ("connect", {"engine": "spark", "spark": {"master": server}})):
        project = duplicate(world, tmp_path / name)
        env = load_env("prod", project, overlay(project, "more", {"lakehouse": spark}))
        land(env.landing, NEXT)
        for step in (ingest, featurize, infer):
            step(env, NEXT)
        found.append(env)
    assert len(tables(found[0])["predictions.tiny"]) == 70
    assert_same(*found)


def test_tables_of_a_catalog_are_written_there(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on serverless compute of Databricks, whose sessions are of this kind, and through Databricks Connect."""
    monkeypatch.setenv("SPARK_REMOTE", server)
    engine(master=server).query("SELECT 1 AS x").count()
    for schema in ("silver", "ops"):
        session().sql(f"CREATE SCHEMA spark_catalog.far_{schema}")
    catalog = open_catalog(Path(), "uc://spark_catalog/far", owner="prod", reader="prod")
    rows = pa.table({"item": ["a", "b", "c"], "at": [NEXT, NEXT + timedelta(hours=1), None], "value": [1, 2, None]})
    with catalog.lease("a test"):
        assert catalog.append("silver.items", rows, {"stream": 7}) == 3
        wider = pa.table({"item": ["d"], "at": [NEXT], "value": [4], "more": ["x"]})
        assert catalog.replace("silver.items", wider, Window("at", NEXT - timedelta(hours=1), NEXT)) == 1
        changed = pa.table({"item": ["b", "e"], "at": [NEXT, NEXT], "value": [20, 5], "more": ["y", "z"]})
        assert catalog.upsert("silver.items", changed, ["item"]) == 2
        assert catalog.delete("silver.items", Among("item", ["c"])) == 1
        catalog.remove("silver.items", pa.table({"item": ["d"]}))
        catalog.compact("silver.items", timedelta(days=7))
    assert catalog.mark("silver.items", "stream") == 7
    assert catalog.names() == ["ops.lease", "silver.items"]
    assert sorted(catalog.read("silver.items", ["item", "value"])["value"].to_pylist()) == [5, 20]
    there = Spark(catalog.snapshot, cluster=Cluster(SparkSettings(master="databricks"), Path(), "tiny"))
    found = there.query("SELECT item FROM silver.items").map(lambda batch: batch, pa.schema({"item": pa.string()}))
    assert sorted(found.arrow()["item"].to_pylist()) == ["b", "e"]
    assert not found.kept.storageLevel.useMemory, "serverless compute refuses to keep rows"


def test_what_is_wrong_is_told_as_by_a_session_of_ones_own(server: str) -> None:
    there = engine(master=server)
    for sql in ("SELECT nothing", "SELECT CAST('x' AS DOUBLE) AS x"):
        with pytest.raises(QueryError, match=r"^\[[A-Z_.]+\] [^\n]+ SQLSTATE: \w+"):
            there.query(sql).arrow()
    with pytest.raises(ForbiddenError):
        there.query("DROP TABLE silver.items")

    def refuse(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise ContractError(f"row 3 is bad{'.' * 9000}")

    rows = there.query("SELECT 1 AS x")
    with pytest.raises(ContractError, match=r"^row 3 is bad\.{9000}$"):
        rows.map(refuse, rows.schema).count()


def test_a_server_behind_tls_takes_the_token_of_the_environment(
    server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with tls_front(tmp_path, server, "right") as (address, certificate):
        monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(certificate))
        monkeypatch.setenv("SPARK_CONNECT_AUTHENTICATE_TOKEN", "wrong")
        with pytest.raises(ConfigError, match=r"^lakehouse.spark.master: the server says: Invalid [^\n]+_TOKEN\)$"):
            engine(master=address).query("SELECT 1 AS x")
        monkeypatch.setenv("SPARK_CONNECT_AUTHENTICATE_TOKEN", "right")
        for master in (address, f"{address}/;use_ssl=true"):  # a token asks for TLS by itself
            rows = engine(master=master).query("SELECT 1 AS x").map(lambda batch: batch, pa.schema({"x": pa.int32()}))
            assert rows.arrow().to_pylist() == [{"x": 1}]


def test_what_cannot_work_there_is_refused_in_a_sentence(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlplatform.engine.spark._PATIENCE", 1)
    nobody = f"127.0.0.1:{port()}"
    with pytest.raises(ValidationError, match=r"it belongs in the environment, as SPARK_CONNECT_AUTHENTICATE_TOKEN"):
        SparkSettings(master=f"sc://{nobody}/;use_ssl=true;token=secret")
    refused: dict[str, dict[str, Any]] = {
        "lakehouse.spark.session: spark.executor.memory is not for a session to set: ": {
            "master": server,
            "session": {"spark.executor.memory": "4g"},
        },
        f"lakehouse.spark.master: no Spark Connect server answers at {nobody}, with TLS and a certificate": {
            "master": f"sc://{nobody}/;use_ssl=true"
        },
        "lakehouse.spark.master: .INVALID_CONNECT_URL. ": {"master": "sc://"},
        "lakehouse.spark.python: a Spark Connect server has its own": {"master": server, "python": "/usr/bin/python3"},
        "a process has sessions at sc:// addresses, or one of a master": HERE,
    }
    for says, settings in refused.items():
        with pytest.raises(ConfigError, match=says):
            engine(**settings).query("SELECT 1 AS x").count()
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(ConfigError, match=r"needs the packages of .*: run `make setup EXTRAS=connect`"):
        engine(master="sc://127.0.0.1").query("SELECT 1 AS x")


def test_a_server_that_goes_away_is_told(server: str, process: "tuple[str, subprocess.Popen[bytes]]") -> None:
    """The last test: nothing works after it. What Spark's client does for ten minutes it does once."""
    there = engine(master=server)
    there._session.client.set_retry_policies([])
    kept = there.query("SELECT 1 AS x")
    assert kept.count() == 1
    end(process[1])
    with pytest.raises(QueryError, match="the Spark Connect server is gone: failed to connect"):
        there.query("SELECT 2 AS x").count()
