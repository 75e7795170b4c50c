"""Promotion: one artifact goes from dev through staging to prod, by each one's gates, and there is no other way."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from deltalake import write_deltalake
from mlflow import MlflowClient

from mlplatform.environment import Environment
from mlplatform.errors import ForbiddenError
from mlplatform.features import columns
from mlplatform.monitoring.alerts import SCHEMA
from mlplatform.monitoring.dashboard import publish
from mlplatform.pipelines.deploy import deploy
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.ingest import ingest
from mlplatform.pipelines.promote import promote
from mlplatform.pipelines.retrain import due
from mlplatform.pipelines.train import request_staging, train
from mlplatform.registry import approval
from mlplatform.registry.scoring import input_example, load
from mlplatform.registry.store import Registry
from mlplatform.registry.transfer import MANIFEST, PromotionError, export_version
from mlplatform.registry.transitions import Decision
from mlplatform.revision import NotReleasedError
from mlplatform.storage.delta import DeltaCatalog
from mlplatform.storage.ops import COMPARISONS
from steps import files, overlay
from tiny.project import PROJECT

LoadEnv = Callable[..., Environment]
Duplicate = Callable[[Path, Path], Path]
DAY = timedelta(days=1)


# conf/ where one artifact is promoted, as `deployment_pattern = deploy_models` renders it.
DEPLOY_MODELS: dict[str, dict[str, Any]] = {
    "dev": {"pipelines": {"retraining": {"alerts_from": "prod"}}},
    "staging": {"pipelines": {"refused": ["train"]}, "promotion": {"source": "dev"}},
    "prod": {"pipelines": {"refused": ["train"]}, "promotion": {"source": "staging"}},
}


def settle(project: Path, name: str, settings: dict[str, Any]) -> None:
    """Change what conf/<name>.yml says, section by section."""
    path = project / "conf" / f"{name}.yml"
    shipped = yaml.safe_load(path.read_text(encoding="utf-8"))
    merged = shipped | {section: {**shipped.get(section, {}), **values} for section, values in settings.items()}
    path.write_text(yaml.safe_dump(merged), encoding="utf-8")


@pytest.fixture(scope="module")
def accepted(
    trained: Path, duplicate: Duplicate, tmp_path_factory: pytest.TempPathFactory, load_env: LoadEnv, now: datetime
) -> Path:
    """A project whose dev has trained and accepted version 1; staging has data and no model. Not to be changed.

    prod has a version 1 of the test world's own, which was refused.
    """
    project = duplicate(trained, tmp_path_factory.mktemp("accepted") / "project")
    for name, settings in DEPLOY_MODELS.items():
        settle(project, name, settings)
    prod, staging = load_env("prod", project), load_env("staging", project)
    (first,) = Registry(prod).ledger.pending("Staging", now)
    approval.reject(Registry(prod), first, Decision(now, "test", "only promoted versions count"))
    for pipeline in (ingest, featurize):
        pipeline(staging, now)
    dev = load_env("dev", project, overlay(project, "quick", {"training": {"tuning": {"enabled": False}}}))
    train(dev, now)
    deploy(dev, now)
    assert Registry(dev).ledger.champion() == 1
    return project


@pytest.fixture
def project(accepted: Path, duplicate: Duplicate, tmp_path: Path) -> Path:
    """A copy of it of the test's own."""
    return duplicate(accepted, tmp_path / "project")


@pytest.fixture
def staging(project: Path, load_env: LoadEnv) -> Environment:
    return load_env("staging", project)


def test_the_dashboard_says_what_makes_a_first_version_here(project: Path, load_env: LoadEnv, tmp_path: Path) -> None:
    settings = {"monitoring": {"title": "Störung & Süd"}, "pipelines": {"refused": ["train"]}}
    staging = load_env("staging", project, overlay(project, "titled", settings))
    page = publish(staging, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "No model version is registered yet. <code>promote</code> makes the first one." in page
    assert "<title>Störung &amp; Süd · staging</title>" in page


def versions(env: Environment) -> dict[int, dict[str, str]]:
    return {int(version.version): dict(version.tags) for version in Registry(env).versions()}


def scores(env: Environment, number: int) -> np.ndarray:
    folder = Registry(env).files(number, "model")
    example = input_example(folder)
    assert example is not None
    return np.asarray(PROJECT.model.predict(load(PROJECT.model, folder).fitted, example))


def test_what_dev_has_accepted_passes_the_gates_of_staging_and_then_of_prod(
    staging: Environment, project: Path, now: datetime, load_env: LoadEnv
) -> None:
    dev, prod = load_env("dev", project), load_env("prod", project)
    for env, number in ((staging, 1), (prod, 2)):
        promote(env, now)
        registry = Registry(env)
        assert registry.ledger.stage(number) == "None"
        waiting = versions(env)[number]
        assert (waiting["stage"], waiting["requested"]) == ("None", "Staging")
        deploy(env, now)
        assert registry.ledger.champion(now) == number
        (row,) = env.catalog.read(COMPARISONS).to_pylist()
        assert (row["model"], row["challenger"], row["window_end"]) == (registry.model, number, now)
        assert int(registry.client.get_registered_model(registry.model).aliases["champion"]) == number
    first = Registry(dev).version(1)
    for env, number, source in ((staging, 1, "dev"), (prod, 2, "staging")):
        version = Registry(env).version(number)
        assert version.run_id == version.tags["promoted_run"] == first.run_id
        assert (version.tags["promoted_from"], version.tags["promoted_version"]) == (source, "1")
        assert (version.tags["env"], version.tags["identity"]) == ("dev", first.tags["identity"])
        assert version.tags["stage"] == "Production"
        assert f"accepted in {source} as version 1" in {t.request_reason for t in Registry(env).ledger.all()}
        assert (scores(env, number) == scores(dev, 1)).all()


def test_a_promotion_is_judged_on_rows_that_came_after_the_training(staging: Environment, now: datetime) -> None:
    dev = Registry(staging, "dev")
    early = now - DAY
    assert promote(staging, early).notes == [f"dev has accepted no version by {early}: nothing to promote"]
    assert versions(staging) == {}
    promote(staging, now + DAY)
    assert versions(staging)[1]["holdout_end"] == (now + DAY).isoformat()
    deploy(staging, now + DAY)
    (row,) = staging.catalog.read(COMPARISONS).to_pylist()
    assert row["window_end"] == now + DAY
    assert row["window_start"] == datetime.fromisoformat(dev.version(1).tags["train_end"])


def test_a_promotion_that_is_repeated_changes_nothing(staging: Environment, now: datetime) -> None:
    promote(staging, now)
    deploy(staging, now)
    before = versions(staging), Registry(staging).ledger.all()
    for as_of in (now, now + DAY):
        promote(staging, as_of)
        deploy(staging, as_of)
    assert (versions(staging), Registry(staging).ledger.all()) == before


class Killed(BaseException):
    """The process is dead."""


def test_a_promotion_that_is_killed_anywhere_and_repeated_ends_the_same(
    staging: Environment, tmp_path: Path, duplicate: Duplicate, load_env: LoadEnv, now: datetime
) -> None:
    def state(env: Environment) -> Any:
        return versions(env), [(t.version, t.to_stage, t.status, t.reason) for t in Registry(env).ledger.all()]

    whole = load_env("staging", duplicate(staging.folder, tmp_path / "whole"))
    promote(whole, now)
    for survives in count():
        env = load_env("staging", duplicate(staging.folder, tmp_path / f"killed-{survives}"))
        left = survives

        def counted(write: Callable[..., Any]) -> Callable[..., Any]:
            @wraps(write)
            def mortal(*arguments: Any, **named: Any) -> Any:
                nonlocal left
                if left <= 0:
                    raise Killed
                left -= 1
                return write(*arguments, **named)

            return mortal

        with pytest.MonkeyPatch.context() as patch:
            for owner, name in (
                (MlflowClient, "copy_model_version"),
                (MlflowClient, "set_model_version_tag"),
                (DeltaCatalog, "upsert"),
            ):
                patch.setattr(owner, name, counted(getattr(owner, name)))
            try:
                promote(env, now)
            except Killed:
                pass
            else:
                break
        promote(env, now)
        assert state(env) == state(whole), f"killed before write {survives + 1}"
    assert survives > 5, "the test kills too little"


# No other way: each of these is refused, and leaves nothing behind.


@pytest.mark.parametrize("name", ["staging", "prod"])
def test_only_dev_trains(project: Path, now: datetime, load_env: LoadEnv, name: str) -> None:
    env = load_env(name, project, overlay(project, "shipped", {"pipelines": DEPLOY_MODELS[name]["pipelines"]}))
    before = versions(env)
    with pytest.raises(ForbiddenError, match=rf"{name} does not train: .*pipelines.refused in conf/{name}.yml"):
        train(env, now)
    assert versions(env) == before


def test_nothing_is_promoted_into_dev(project: Path, now: datetime, load_env: LoadEnv) -> None:
    dev = load_env("dev", project)
    before = versions(dev)
    with pytest.raises(PromotionError, match="dev trains its own models"):
        promote(dev, now)
    assert versions(dev) == before


def test_prod_does_not_take_what_staging_has_not_accepted(project: Path, now: datetime, load_env: LoadEnv) -> None:
    staging, prod = load_env("staging", project), load_env("prod", project)
    before = versions(prod)
    for _ in range(2):
        assert promote(prod, now).notes == [f"staging has accepted no version by {now}: nothing to promote"]
        promote(staging, now)  # it waits at staging's gates, which is not enough
    strict = overlay(project, "strict", {"registry": {"comparison": {"margin": 1000.0}}})
    deploy(load_env("staging", project, strict), now)
    assert Registry(staging).ledger.stage(1) == "Archived"
    assert Registry(staging, "dev").ledger.champion() == 1
    promote(prod, now)
    assert versions(prod) == before


def test_a_version_that_waits_or_was_refused_in_dev_stays_there(
    project: Path, now: datetime, load_env: LoadEnv
) -> None:
    dev, staging = load_env("dev", project), load_env("staging", project)
    registry = Registry(dev)
    first = registry.version(1)
    for identity in ("refused", "waiting"):
        number = registry.register(first.run_id, first.source, replace(registry.tags(1), identity=identity))
        request_staging(registry, number, now, "a test")
        if identity == "refused":
            deploy(dev, now)
            assert registry.ledger.stage(number) == "Archived"
    promote(staging, now)
    assert {tags["identity"] for tags in versions(staging).values()} == {first.tags["identity"]}


def test_prod_promotes_with_released_code_only(project: Path, now: datetime, load_env: LoadEnv) -> None:
    staging = load_env("staging", project)
    promote(staging, now)
    deploy(staging, now)
    strict = overlay(project, "released", {"pipelines": {"released_code_only": True}})
    prod = load_env("prod", project, strict)
    before = versions(prod)
    with pytest.raises(NotReleasedError, match="prod runs released code only"):
        promote(prod, now)
    assert versions(prod) == before


def test_a_promotion_changes_nothing_in_the_environment_it_comes_from(
    staging: Environment, project: Path, now: datetime, load_env: LoadEnv
) -> None:
    dev = load_env("dev", project)
    written = files(dev.reports)
    before = versions(dev)
    promote(staging, now)
    assert files(dev.reports) == written
    assert versions(dev) == before


def test_a_model_that_cannot_score_the_features_of_an_environment_is_refused_there(
    staging: Environment, now: datetime
) -> None:
    view = PROJECT.views[-1]
    rows = staging.catalog.read(view.table)
    feature = columns(view, rows.schema)[0]
    write_deltalake(
        staging.catalog.snapshot(view.table).uri,
        rows.drop_columns([feature]),
        mode="overwrite",
        schema_mode="overwrite",
    )
    promote(staging, now)
    deploy(staging, now)
    registry = Registry(staging)
    assert registry.ledger.stage(1) == "Archived"
    (refused,) = [t for t in registry.ledger.all() if t.status == "rejected"]
    assert refused.reason.startswith("it cannot score the newest rows of staging: ")
    assert f"{view.name}__{feature}" in refused.reason


# Two stores: staging keeps its models in an MLflow database of its own.


@pytest.fixture
def apart(project: Path, load_env: LoadEnv) -> Environment:
    """staging with a store of its own."""
    store = {"tracking_uri": "sqlite:///data/apart/mlflow.db", "artifacts": "data/apart/artifacts"}
    settle(project, "staging", {"registry": store})
    return load_env("staging", project)


def test_between_two_stores_the_artifact_is_exported_and_imported(
    apart: Environment, project: Path, now: datetime, load_env: LoadEnv
) -> None:
    dev = load_env("dev", project)
    expected = scores(dev, 1)
    promote(apart, now)
    deploy(apart, now)
    promote(apart, now + DAY)
    registry, first = Registry(apart), Registry(dev).version(1)
    (version,) = registry.versions()
    assert registry.ledger.champion(now) == 1
    assert registry.client.tracking_uri != Registry(dev).client.tracking_uri
    assert version.tags["promoted_run"] == first.run_id != version.run_id
    assert {**first.tags, "stage": "", "holdout_end": ""}.items() <= {
        **version.tags,
        "stage": "",
        "holdout_end": "",
    }.items()
    shutil.rmtree(project / "data" / "mlflow")  # what was imported needs the other store no more
    assert (scores(apart, 1) == expected).all()
    run = registry.client.get_run(version.run_id)
    assert run.data.metrics
    assert {"model_card.md", "slices.json", "reference.parquet"} <= registry.artifact_names(1)


def test_a_folder_that_was_changed_or_comes_from_elsewhere_is_not_imported(
    apart: Environment, project: Path, tmp_path: Path, now: datetime, load_env: LoadEnv
) -> None:
    folder = tmp_path / "version"
    with pytest.raises(PromotionError, match=f"holds no exported version \\(no {MANIFEST}\\)"):
        promote(apart, now, tmp_path)
    export_version(Registry(load_env("dev", project)), 1, folder)
    card = folder / "artifacts" / "model_card.md"
    text = card.read_text(encoding="utf-8")
    card.write_text(f"{text}Best of all.\n", encoding="utf-8")
    with pytest.raises(PromotionError, match="is not what dev exported: its files have changed"):
        promote(apart, now, folder)
    card.write_text(text, encoding="utf-8")
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / MANIFEST).write_text(json.dumps({**manifest, "env": "prod"}), encoding="utf-8")
    with pytest.raises(PromotionError, match="comes from prod: staging takes versions from dev only"):
        promote(apart, now, folder)
    assert versions(apart) == {}
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    for _ in range(2):
        promote(apart, now, folder)
    assert list(versions(apart)) == [1]


def test_dev_answers_the_alerts_of_prod_and_writes_nothing_there(
    project: Path, now: datetime, load_env: LoadEnv
) -> None:
    triggered = overlay(project, "triggered", {"pipelines": {"retraining": {"mode": "triggered"}}})
    dev, prod = load_env("dev", project, triggered), load_env("prod", project, triggered)
    later = now + 60 * DAY
    assert due(dev, later) == ""
    values = {"rule": "ranking has worsened", "message": "bad", "action": "retrain", "metric": "m", "column": "all"}
    values |= {"slice": "all", "raised_at": later, "window_start": later - DAY, "window_end": later}  # type: ignore[dict-item]
    row = {name: values.get(name, 0.0) for name in SCHEMA}
    prod.catalog.append("ops.alerts", pa.Table.from_pylist([row]))
    before = files(prod.reports)
    assert due(dev, later) == "alert ranking has worsened: bad"
    assert files(prod.reports) == before
