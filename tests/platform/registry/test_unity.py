"""Models in Unity Catalog: what its registry refuses is never asked of it, and what it leaves out is looked up."""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow
import pytest

from conftest import Duplicate, LoadEnv
from mlplatform.delivery import databricks
from mlplatform.delivery.databricks import NotApprovedError
from mlplatform.pipelines.deploy import deploy
from mlplatform.pipelines.train import train
from mlplatform.registry.store import Registry
from mlplatform.registry.unity import decode, encode
from steps import overlay

MODEL = "prod.tiny_models.tiny"


class Strict:
    """A local registry with the rules of Unity Catalog's (docs: Apply tags to Unity Catalog securable objects)."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.jobs: dict[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        assert "stage" not in name
        return getattr(self._client, name)

    def create_model_version(self, name: str, source: str, run_id: str, tags: dict[str, str], **more: Any) -> Any:
        assert len(tags) <= 48  # of 50; two are set later
        for key, value in tags.items():
            _refuse(key, value)
        return self._client.create_model_version(name, source, run_id, tags, **more)

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        _refuse(key, value)
        self._client.set_model_version_tag(name, version, key, value)

    def search_model_versions(self, filter_string: str, max_results: int, page_token: str | None = None) -> Any:
        assert max_results <= 100
        found = self._client.search_model_versions(filter_string, max_results=1, page_token=page_token)
        for version in found:
            version._tags = {}
        return found

    def update_registered_model(self, name: str, deployment_job_id: str) -> None:
        self._client.get_registered_model(name)
        self.jobs[name] = deployment_job_id


def _refuse(key: str, value: str) -> None:
    assert len(key) <= 255 and len(value) <= 1000, key
    assert not re.search(r"[.,\-=/: ]", key), key


@pytest.fixture
def unity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Strict]]:
    made: list[Strict] = []
    monkeypatch.chdir(tmp_path)  # where MLflow keeps artifacts that nobody gives a place
    client = mlflow.MlflowClient

    def make(tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
        if registry_uri != "databricks-uc":  # MLflow's own use of it
            return client(tracking_uri, registry_uri)
        made.append(Strict(client(tracking_uri)))
        return made[-1]

    monkeypatch.setattr(mlflow, "MlflowClient", make)
    monkeypatch.setattr(mlflow, "set_registry_uri", lambda uri: None)
    yield made


def test_a_version_gets_to_production_there(
    trained: Path, unity: list[Strict], load_env: LoadEnv, duplicate: Duplicate, now: datetime, tmp_path: Path
) -> None:
    project = duplicate(trained, tmp_path / "project")
    settings = {"unity_schema": "prod.tiny_models", "experiment": "/Shared/tiny", "approval": "manual"}
    env = load_env("prod", project, overlay(project, "unity", {"registry": settings}))
    registry = Registry(env)
    assert registry.model == MODEL
    databricks.connect(registry, 17)
    assert unity[-1].jobs == {MODEL: "17"}

    train(env, now, reason="first model")
    assert registry.client.get_experiment_by_name("/Shared/tiny") is not None
    assert env.project.model.primary.name in registry.tags(1).metrics, "its key has a full stop"
    assert train(env, now, reason="again").written == {}, "the version is found by a tag"
    deploy(env, now)
    with pytest.raises(NotApprovedError, match="nobody has approved it"):
        databricks.approve(registry, 1, now)
    registry.client.set_model_version_tag(MODEL, "1", databricks.APPROVAL, "Approved")
    assert "is approved" in databricks.approve(registry, 1, now)
    assert databricks.approve(registry, 1, now) == "version 1 is in Production already"
    assert str(registry.client.get_registered_model(MODEL).aliases["champion"]) == "1"
    assert registry.ledger.all()[-1].closed_by == "Databricks deployment job"


@pytest.mark.parametrize("key", ["metric.roc_auc", "a-b/c d", "x=1:2,3", "plain", "mlflow.note.content"])
def test_keys_of_tags_come_back(key: str) -> None:
    assert not re.search(r"[.,\-=/: ]", encode(key))
    assert decode(encode(key)) == key


def test_values_are_handed_to_the_tasks_that_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import SimpleNamespace

    handed: dict[str, str] = {}
    values = SimpleNamespace(set=lambda key, value: handed.update({key: value}))
    runtime = SimpleNamespace(dbutils=SimpleNamespace(jobs=SimpleNamespace(taskValues=values)))
    monkeypatch.setitem(sys.modules, "databricks.sdk.runtime", runtime)
    databricks.hand_on("due", "true")
    assert handed == {"due": "true"}
