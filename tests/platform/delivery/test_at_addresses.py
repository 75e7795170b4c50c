"""The whole life cycle with tables, deliveries and artifacts on an object store, and a server for the registry."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from mlplatform.delivery.integration import integrate
from mlplatform.environment import Environment
from mlplatform.errors import StorageError
from mlplatform.pipelines.ingest import ingest
from mlplatform.registry.store import Registry
from mlplatform.storage.landing import delivering
from steps import overlay, read
from stores import Store, environment, models
from tiny.deliveries import DELIVERIES, land

pytestmark = pytest.mark.storage
LoadEnv = Callable[..., Environment]


@pytest.fixture
def addresses(store: Store) -> dict[str, str]:
    root = store.fresh()
    return {"root": f"{root}/prod", "landing": f"{root}/landing", "artifacts": store.fresh_for_artifacts()}


def away(project: Path, addresses: dict[str, str], tracking_uri: str = "sqlite:///data/mlflow/mlflow.db") -> str:
    lakehouse = {name: addresses[name] for name in ("root", "landing")}
    kept = {"tracking_uri": tracking_uri, "artifacts": addresses["artifacts"]}
    return overlay(project, "away", {"lakehouse": {**lakehouse, "features_from": None}, "registry": kept})


@pytest.fixture
def server(store: Store, tmp_path: Path) -> Iterator[str]:
    with models(store, tmp_path) as address:
        yield address


@pytest.mark.parametrize("store", ["s3", "azure", "google"], indirect=True)
def test_the_life_cycle_runs_in_folders_that_are_empty_before_and_after(
    blank: Path, load_env: LoadEnv, addresses: dict[str, str], server: str, tmp_path: Path
) -> None:
    """Each step in a project of its own, as each job of CI has it: what is needed later is at the addresses."""
    name = away(blank, addresses, server)
    env = load_env("staging", blank, name)
    integrate(env, DELIVERIES, tmp_path / "report.md")
    assert "passed" in (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()[0]
    assert {path.name for path in blank.iterdir()} == {"conf"}
    end = DELIVERIES.integration[1]
    again = load_env("staging", blank, name)
    champion = Registry(again).ledger.champion(end)
    assert champion == 1
    assert Registry(again).files(champion, "model").is_dir()
    predicted = read(again, "predictions.tiny")
    assert predicted["item_id"].n_unique() == predicted.height > 100
    ingested = ingest(again, end)
    assert ingested.notes == [f"nothing new in {addresses['landing']}"]


def test_two_ingests_at_once_end_as_one(blank: Path, load_env: LoadEnv, addresses: dict[str, str]) -> None:
    until = DELIVERIES.integration[0]
    env = load_env("prod", blank, away(blank, addresses))
    with delivering(env.landing) as folder:
        landed = land(folder, until)
    code = """
import sys
from datetime import datetime
from pathlib import Path
from mlplatform.environment import Environment
from mlplatform.pipelines.ingest import ingest
from tiny.project import PROJECT
ingest(Environment.load("prod", PROJECT, Path(sys.argv[1]), ("test", "away")), datetime.fromisoformat(sys.argv[2]))
"""
    command = [sys.executable, "-c", code, str(blank), until.isoformat()]
    runs = [subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    for table in ("bronze.items", "silver.items"):
        rows = read(env, table)
        assert (rows.height, rows["item_id"].n_unique()) == (landed["items"], landed["items"])
    assert not env.catalog.exists("quarantine.items")
    assert read(env, "ops.runs")["status"].to_list() == ["finished"] * 2


def test_a_package_that_an_address_needs_and_that_is_missing_is_named(
    blank: Path, load_env: LoadEnv, addresses: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = load_env("prod", blank, away(blank, addresses))
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(StorageError, match=r"the package boto3 is missing: install it with `make setup EXTRAS=aws`"):
        _ = Registry(env).client
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StorageError, match=r"the package obstore is missing"):
        ingest(env, datetime(2025, 1, 1))
