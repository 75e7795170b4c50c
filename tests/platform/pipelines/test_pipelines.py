"""All pipelines on a subset, in staging: from landing files to a dashboard."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from mlplatform.contract import SilverTable
from mlplatform.environment import Environment
from mlplatform.monitoring.dashboard import publish
from mlplatform.monitoring.status import status
from mlplatform.pipelines.deploy import deploy
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.ingest import ingest
from mlplatform.pipelines.maintain import maintain
from mlplatform.pipelines.monitor import monitor
from mlplatform.pipelines.retrain import retrain
from mlplatform.pipelines.train import train
from mlplatform.registry.scoring import load
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Transition
from mlplatform.storage import ops
from mlplatform.storage.landing import NAME_FORMAT
from mlplatform.storage.ops import RUNS
from mlplatform.training import data
from steps import overlay, read
from tiny.deliveries import land
from tiny.project import PROJECT

LoadEnv = Callable[..., Environment]
DAY = timedelta(days=1)
WEEKS = 14 * DAY
SPOILED = PROJECT.tables[1]  # any table whose contract knows what its source's first column may hold


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
    weekly = overlay(project, "weekly", {"pipelines": {"retraining": {"mode": "scheduled", "every": "7d"}}})
    env = load_env("staging", project, weekly)
    for pipeline in (ingest, featurize, train, deploy):
        pipeline(env, now)
    land(env.landing, now + WEEKS)
    spoil(env.landing / SPOILED.source, now + 5 * DAY)
    for pipeline in (ingest, featurize, infer, monitor):
        pipeline(env, now + WEEKS)
    return env


def spoil(folder: Path, at: datetime) -> None:
    """Land a file with a row that was there before, one whose key no contract allows, and one that is too short."""
    header, known, other = min(folder.glob("*.csv")).read_text(encoding="utf-8").splitlines()[:3]
    nowhere = other.replace(other[: other.index(",")], "ZZZ", 1)
    text = "\n".join([header, known, nowhere, "too,short"]) + "\n"
    (folder / f"{at:{NAME_FORMAT}}.csv").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("table", PROJECT.tables, ids=lambda table: table.name)
def test_every_line_that_landed_is_in_silver_or_in_quarantine(staging: Environment, table: SilverTable) -> None:
    files = [f.read_text(encoding="utf-8").splitlines()[1:] for f in (staging.landing / table.source).glob("*.csv")]
    lines = sum(map(len, files))
    malformed = sum("fields where the header has" in r for r in refused(staging, table)["reason"])
    assert lines > 100
    assert read(staging, f"bronze.{table.source}").height == lines - malformed
    assert read(staging, table.table).height + refused(staging, table).height == lines


@pytest.mark.parametrize("table", PROJECT.tables, ids=lambda table: table.name)
def test_facts_have_one_row_each_and_come_from_one_line(staging: Environment, table: SilverTable) -> None:
    rows = read(staging, table.table)
    assert rows.select(table.keys).is_unique().all()
    assert rows.select("source_file", "source_row").is_unique().all()


@pytest.mark.parametrize("table", PROJECT.tables, ids=lambda table: table.name)
def test_nothing_is_available_before_it_landed_or_after_now(staging: Environment, table: SilverTable) -> None:
    landed = read(staging, f"bronze.{table.source}").select("source_file", "source_row", "landed_at")
    rows = read(staging, table.table).join(landed, on=["source_file", "source_row"], how="left")
    assert rows["landed_at"].null_count() == 0
    assert rows.filter(pl.col("available_at") > pl.col("landed_at")).is_empty()


def refused(env: Environment, table: SilverTable) -> pl.DataFrame:
    """The rows in the quarantine of a table."""
    rows = read(env, f"quarantine.{table.name}")
    return rows if rows.width else pl.DataFrame(schema={"source_file": str, "source_row": int, "reason": str})


def test_bad_rows_are_in_quarantine_with_their_reasons(staging: Environment, now: datetime) -> None:
    rows = refused(staging, SPOILED).sort("source_row")
    assert set(rows["source_file"]) == {f"{SPOILED.source}/{now + 5 * DAY:{NAME_FORMAT}}.csv"}
    assert rows["source_row"].to_list() == [2, 3, 4]
    known, unknown, short = rows["reason"]
    assert known == f"already known: {', '.join(SPOILED.keys)}"
    assert unknown.startswith(f"{read(staging, f'bronze.{SPOILED.source}').columns[0]}: ")
    assert "2 fields" in short


def test_every_feature_view_has_rows_that_were_known_after_they_happened(staging: Environment) -> None:
    for view in PROJECT.views:
        rows = read(staging, view.table)
        assert rows.height > 0
        assert (rows["available_at"] >= rows["event_timestamp"]).all()
        assert rows.select(*view.keys, "event_timestamp").is_unique().all()


def test_the_version_carries_what_a_reviewer_needs(staging: Environment, now: datetime) -> None:
    registry = Registry(staging)
    names = registry.artifact_names(1)
    assert {"model_card.md", "slices.json", "reference.parquet", "config.yml", "precision_recall.png"} <= names
    tags = registry.version(1).tags
    assert tags["feature_views"].split(",") == [view.name for view in PROJECT.views]
    assert load(PROJECT.model, registry.files(1, "model")).columns
    reference = pl.read_parquet(registry.files(1, "reference.parquet"))
    trained_on = data.load(staging, now).train
    assert sorted(reference["amount"]) == sorted(trained_on["amount"]), "drift is measured against the training rows"
    heuristic = pl.read_parquet(registry.files(1, "baseline.parquet"))
    guesses = dict(zip(heuristic["kind"], heuristic["score"], strict=True))
    assert guesses == pytest.approx(trained_on.groupby("kind")["label"].mean().to_dict()), "and so is the heuristic"
    run = registry.client.get_run(registry.version(1).run_id)
    assert PROJECT.model.primary.name in run.data.metrics
    assert run.inputs.dataset_inputs
    aliases = registry.client.get_registered_model(registry.model).aliases
    assert {name: int(number) for name, number in aliases.items()} == {"champion": 1}


def test_every_entity_that_was_due_has_one_prediction_by_the_champion(staging: Environment, now: datetime) -> None:
    rows = read(staging, f"predictions.{Registry(staging).settings.model}")
    due = (
        staging.engine.query(
            f"SELECT count(*) AS due FROM ({PROJECT.sql('entities.sql')}) WHERE available_at <= prediction_time "
            f"AND prediction_time > TIMESTAMP '{now}' AND prediction_time <= TIMESTAMP '{now + WEEKS}'"
        )
        .arrow()
        .to_pylist()[0]["due"]
    )
    assert rows.height == due > 0
    assert rows.select(PROJECT.entity.keys).is_unique().all()
    assert rows["model_version"].unique().to_list() == [1]
    assert (rows["feature_time"] <= rows["prediction_time"]).all()
    assert rows["score"].is_finite().all()
    assert rows["model"].unique().to_list() == [Registry(staging).model]
    assert rows["run_id"].unique().to_list() == [Registry(staging).version(1).run_id]


def test_monitoring_measures_data_drift_performance_and_pipelines(staging: Environment) -> None:
    measured = set(read(staging, "monitoring.metrics")["metric"])
    assert {"rows", "missing_rate", "psi", "ks", "freshness_seconds", "label_coverage", "run_seconds"} <= measured
    assert {PROJECT.model.primary.name, f"baseline_{PROJECT.model.primary.name}"} <= measured


def test_every_run_is_on_record_and_status_tells(staging: Environment, now: datetime) -> None:
    runs = read(staging, RUNS)
    assert set(runs["status"]) == {"finished"}
    assert runs.height == 8
    lines = list(status(staging, now + WEEKS))
    assert f"champion: {Registry(staging).model} version 1" in lines


def test_status_tells_of_the_run_that_started_last(project: Path, load_env: LoadEnv, now: datetime) -> None:
    """Such as one for an earlier time, which somebody has just repeated."""
    staging = load_env("staging", project)
    for as_of in (now, now - WEEKS):
        with suppress(ZeroDivisionError), staging.run("infer", as_of):
            assert as_of == now or 1 / 0
    (line,) = [line for line in status(staging, now) if line.startswith("infer")]
    assert line.startswith(f"infer      failed as of {now - WEEKS}")


def test_status_tells_what_waits_and_the_newest_alerts(project: Path, load_env: LoadEnv, now: datetime) -> None:
    staging = load_env("staging", project)
    registry, asks = Registry(staging), partial(Transition, requested_by="a test", request_reason="newer")
    registry.ledger.record(
        asks(registry.model, 7, "Staging", "Production", now),
        asks(registry.model, 8, "None", "Staging", now),
        asks(registry.model, 9, "None", "Staging", now + DAY),
    )
    alert = {"rule": "drift", "column": "", "slice": "all", "value": 1.0, "threshold": 0.0, "action": "notify"}
    times = [now - back * DAY for back in range(-1, 6)]
    told = [{**alert, "window_end": time, "raised_at": time, "message": "far"} for time in times]
    staging.catalog.append(ops.ALERTS, ops.rows(ops.ALERTS, told))
    lines = list(status(staging, now))
    assert [line.partition(", since")[0] for line in lines if line.startswith("waiting")] == [
        "waiting: version 8 for the gates (deploy)",
        "waiting: version 7 for approval (registry approve)",
    ]
    assert [line for line in lines if line.startswith("alert")] == [f"alert {time} drift: far" for time in times[1:6]]


def test_retraining_ends_with_a_decision_that_is_on_record(
    staging: Environment, duplicate: Callable[[Path, Path], Path], tmp_path: Path, load_env: LoadEnv, now: datetime
) -> None:
    env = load_env("staging", duplicate(staging.folder, tmp_path / "project"), "weekly")
    assert [run.pipeline for run in retrain(env, now + WEEKS)] == ["train", "deploy"]
    registry = Registry(env)
    assert not registry.ledger.pending("Staging", now + WEEKS)
    assert not registry.ledger.pending("Production", now + WEEKS)
    compared = read(env, "ops.comparisons").filter(pl.col("challenger") == 2)
    assert compared["champion"].to_list() == ["1"]
    assert compared["metric"].to_list() == [PROJECT.model.primary.name]
    promoted = compared["accepted"].item()
    assert registry.ledger.champion() == (2 if promoted else 1)
    assert [registry.ledger.stage(n) for n in (1, 2)] == ["Archived", "Production"][:: 1 if promoted else -1]
    assert [v.tags["stage"] for v in registry.versions()] == [registry.ledger.stage(n) for n in (1, 2)]


def test_the_dashboard_is_one_file(staging: Environment, tmp_path: Path) -> None:
    page = publish(staging, tmp_path / "dashboard.html").read_text(encoding="utf-8")
    assert PROJECT.model.primary.name in page
    assert "<script src=" not in page


def test_dev_reads_stagings_tables_for_debugging(staging: Environment, load_env: LoadEnv) -> None:
    debug = overlay(staging.folder, "debug", {"lakehouse": {"features_from": "staging"}})
    dev = load_env("dev", staging.folder, debug)
    found = dev.engine.query(f"SELECT count(*) AS n FROM {PROJECT.tables[0].table}").arrow().to_pylist()[0]["n"]
    assert found == read(staging, PROJECT.tables[0].table).height


def test_expired_rows_are_gone_and_do_not_come_back(
    staging: Environment, duplicate: Callable[[Path, Path], Path], tmp_path: Path, load_env: LoadEnv, now: datetime
) -> None:
    env = load_env("staging", duplicate(staging.folder, tmp_path / "project"))
    table, after, predictions = PROJECT.tables[0], now + WEEKS, "predictions.tiny"
    before = read(env, f"silver.{table.name}")
    assert read(env, predictions)["prediction_time"].min() < now + DAY  # type: ignore[operator]
    maintain(env, now + env.config.lakehouse.expire_after + DAY)  # type: ignore[operator]
    kept = read(env, f"silver.{table.name}")
    assert 0 < kept.height < before.height
    assert read(env, f"bronze.{table.source}")["landed_at"].min() == after
    assert now + DAY <= read(env, predictions)["prediction_time"].min() < after  # type: ignore[operator]
    ingest(env, after + DAY)
    assert read(env, f"silver.{table.name}").equals(kept)
