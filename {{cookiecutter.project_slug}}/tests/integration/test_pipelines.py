"""All pipelines on a subset, in staging: from landing files to a dashboard."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from {{ cookiecutter.package_name }}.environment import RUNS, Environment
from {{ cookiecutter.package_name }}.lakehouse.contracts import usecase_sql
from {{ cookiecutter.package_name }}.lakehouse.landing import NAME_FORMAT
from {{ cookiecutter.package_name }}.lakehouse.retention import expire
from {{ cookiecutter.package_name }}.lakehouse.settings import Settings as LakehouseSettings
from {{ cookiecutter.package_name }}.monitoring.dashboard import collect, write_dashboard
from {{ cookiecutter.package_name }}.monitoring.settings import Settings as MonitoringSettings
from {{ cookiecutter.package_name }}.pipelines.deploy import deploy
from {{ cookiecutter.package_name }}.pipelines.featurize import featurize
from {{ cookiecutter.package_name }}.pipelines.infer import infer
from {{ cookiecutter.package_name }}.pipelines.ingest import ingest
from {{ cookiecutter.package_name }}.pipelines.monitor import monitor
from {{ cookiecutter.package_name }}.pipelines.retrain import retrain
from {{ cookiecutter.package_name }}.pipelines.status import status
from {{ cookiecutter.package_name }}.pipelines.train import train
from {{ cookiecutter.package_name }}.registry.store import Registry
from {{ cookiecutter.package_name }}.usecase import model
from {{ cookiecutter.package_name }}.usecase.features import ENTITY_KEY, FEATURE_VIEWS
from {{ cookiecutter.package_name }}.usecase.replay import land
from {{ cookiecutter.package_name }}.usecase.tables import SILVER

pytestmark = pytest.mark.xdist_group("integration")

LoadEnv = Callable[..., Environment]
DAY = timedelta(days=1)
WEEKS = 14 * DAY
SPOILED = SILVER[1]  # any table whose contract knows what its source's first column may hold


@pytest.fixture(scope="module")
def staging(
    world: Path,
    duplicate: Callable[[Path, Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
    load_env: LoadEnv,
    now: datetime,
) -> Environment:
    """Staging after its whole life cycle: trained at `now`, two weeks scored and monitored. Not to be changed."""
    project = duplicate(world, tmp_path_factory.mktemp("staging") / "project")
    (project / "conf" / "weekly.yml").write_text("pipelines: {retraining: {mode: scheduled, every: 7d}}\n")
    env = load_env("staging", project, "weekly")
    for pipeline in (ingest, featurize, train, deploy):
        pipeline(env, now)
    landing = project / env.settings(LakehouseSettings).landing
    spoil(landing / SPOILED.source / f"{now + 5 * DAY:{NAME_FORMAT}}.csv")
    land(landing, now + WEEKS)
    for pipeline in (ingest, featurize, infer, monitor):
        pipeline(env, now + WEEKS)
    return env


def spoil(file: Path) -> None:
    """Land a file with a row that was there before, one whose first value nobody knows, and one that is too short."""
    (first,) = file.parent.glob("*.csv")
    header, known, other = first.read_text(encoding="utf-8").splitlines()[:3]
    nowhere = other.replace(other[: other.index(",")], "ZZZ", 1)
    file.write_text("\n".join([header, known, nowhere, "too,short"]) + "\n", encoding="utf-8")


def read(env: Environment, name: str) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(env.tables.read(name)))


def test_every_landed_row_is_in_silver_or_in_quarantine(staging: Environment) -> None:
    landing = staging.project / staging.settings(LakehouseSettings).landing
    for table in SILVER:
        files = [file.read_text(encoding="utf-8").splitlines()[1:] for file in (landing / table.source).glob("*.csv")]
        refused = f"quarantine.{table.name}"
        rows = read(staging, refused).height if staging.tables.exists(refused) else 0
        assert sum(map(len, files)) == read(staging, f"silver.{table.name}").height + rows
        assert read(staging, f"silver.{table.name}").select(table.keys).is_unique().all()


def test_bad_rows_are_in_quarantine_with_their_reasons(staging: Environment, now: datetime) -> None:
    refused = read(staging, f"quarantine.{SPOILED.name}").sort("source_row")
    refused = refused.filter(pl.col("source_file") == f"{SPOILED.source}/{now + 5 * DAY:{NAME_FORMAT}}.csv")
    assert refused["source_row"].to_list() == [2, 3, 4]
    known, unknown, short = refused["reason"]
    assert known == f"already known: {', '.join(SPOILED.keys)}"
    assert unknown.startswith(f"{read(staging, f'bronze.{SPOILED.source}').columns[0]}: ")
    assert "2 fields" in short


def test_every_feature_view_has_rows_that_were_known_after_they_happened(staging: Environment) -> None:
    for view in FEATURE_VIEWS:
        rows = read(staging, view.table)
        assert rows.height > 0
        assert (rows["available_at"] >= rows["event_timestamp"]).all()
        assert rows.select(*view.keys, "event_timestamp").is_unique().all()


def test_the_version_carries_what_a_reviewer_needs(staging: Environment) -> None:
    registry = Registry(staging)
    names = registry.artifact_names(1)
    assert {"model_card.md", "slices.json", "reference.parquet", "config.yml", "shap_summary.png"} <= names
    tags = registry.version(1).tags
    assert tags["feature_views"].split(",") == [view.name for view in FEATURE_VIEWS]
    assert registry.load(1).metadata.signature is not None
    run = registry.client.get_run(registry.version(1).run_id)
    assert model.PRIMARY_METRIC in run.data.metrics
    assert run.inputs.dataset_inputs
    aliases = registry.client.get_registered_model(registry.model).aliases
    assert {name: int(number) for name, number in aliases.items()} == {"champion": 1}


def test_every_entity_that_was_due_has_one_prediction_by_the_champion(staging: Environment, now: datetime) -> None:
    rows = read(staging, f"predictions.{Registry(staging).settings.model}")
    due = staging.engine.query(
        f"SELECT count(*) AS due FROM ({usecase_sql('entities.sql')}) WHERE available_at <= prediction_time "
        f"AND prediction_time > TIMESTAMP '{now}' AND prediction_time <= TIMESTAMP '{now + WEEKS}'"
    ).to_pylist()[0]["due"]
    assert rows.height == due > 0
    assert rows[ENTITY_KEY].is_unique().all()
    assert rows["model_version"].unique().to_list() == [1]
    assert (rows["feature_time"] <= rows["prediction_time"]).all()
    assert rows["score"].is_finite().all()
    assert rows["model"].unique().to_list() == [Registry(staging).model]
    assert rows["run_id"].unique().to_list() == [Registry(staging).version(1).run_id]


def test_monitoring_measures_data_drift_performance_and_pipelines(staging: Environment) -> None:
    measured = set(read(staging, "monitoring.metrics")["metric"])
    assert {"rows", "missing_rate", "psi", "ks", "freshness_seconds", "label_coverage", "run_seconds"} <= measured
    assert {model.PRIMARY_METRIC, f"baseline_{model.PRIMARY_METRIC}"} <= measured


def test_every_run_is_on_record_and_status_tells(staging: Environment, now: datetime) -> None:
    runs = read(staging, RUNS)
    assert set(runs["status"]) == {"finished"}
    assert runs.height == 8
    lines = list(status(staging, now + WEEKS))
    assert f"champion: {Registry(staging).model} version 1" in lines


def test_retraining_ends_with_a_decision_that_is_on_record(
    staging: Environment, duplicate: Callable[[Path, Path], Path], tmp_path: Path, load_env: LoadEnv, now: datetime
) -> None:
    env = load_env("staging", duplicate(staging.project, tmp_path / "project"), "weekly")
    assert [run.pipeline for run in retrain(env, now + WEEKS)] == ["train", "deploy"]
    registry = Registry(env)
    assert not registry.ledger.pending("Staging", now + WEEKS)
    assert not registry.ledger.pending("Production", now + WEEKS)
    compared = read(env, "ops.comparisons").filter(pl.col("challenger") == 2)
    assert compared["champion"].to_list() == ["1"]
    assert compared["metric"].to_list() == [model.PRIMARY_METRIC]
    promoted = compared["accepted"].item()
    assert registry.ledger.champion() == (2 if promoted else 1)
    assert [registry.ledger.stage(n) for n in (1, 2)] == ["Archived", "Production"][:: 1 if promoted else -1]
    assert [v.tags["stage"] for v in registry.versions()] == [registry.ledger.stage(n) for n in (1, 2)]


def test_the_dashboard_is_one_file(staging: Environment, tmp_path: Path) -> None:
    data = collect(
        staging.tables,
        staging.settings(MonitoringSettings),
        title="test",
        environment=staging.name,
        metric=model.PRIMARY_METRIC,
        higher_is_better=model.GREATER_IS_BETTER,
    )
    page = write_dashboard(tmp_path / "dashboard.html", data).read_text(encoding="utf-8")
    assert model.PRIMARY_METRIC in page
    assert "<script src=" not in page


def test_dev_reads_stagings_tables_for_debugging(staging: Environment, load_env: LoadEnv) -> None:
    overlay = "lakehouse: {features_from: staging}\n"
    (staging.project / "conf" / "debug.yml").write_text(overlay, encoding="utf-8")
    dev = load_env("dev", staging.project, "debug")
    found = dev.engine.query(f"SELECT count(*) AS n FROM silver.{SILVER[0].name}").to_pylist()[0]["n"]
    assert found == read(staging, f"silver.{SILVER[0].name}").height


def test_expired_rows_are_gone_and_do_not_come_back(
    staging: Environment, duplicate: Callable[[Path, Path], Path], tmp_path: Path, load_env: LoadEnv, now: datetime
) -> None:
    env = load_env("staging", duplicate(staging.project, tmp_path / "project"))
    table, after = SILVER[0], now + WEEKS
    before = read(env, f"silver.{table.name}")
    expire(env, now + env.settings(LakehouseSettings).expire_after + DAY)  # type: ignore[operator]
    kept = read(env, f"silver.{table.name}")
    assert 0 < kept.height < before.height
    assert read(env, f"bronze.{table.source}")["landed_at"].min() == after
    ingest(env, after + DAY)
    assert read(env, f"silver.{table.name}").equals(kept)
