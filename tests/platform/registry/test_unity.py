"""Models in Unity Catalog: what its registry refuses is never asked of it, and what it leaves out is looked up."""

import json
import os
import re
import threading
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest

from conftest import Duplicate, LoadEnv
from mlplatform.delivery import databricks
from mlplatform.delivery.databricks import NotApprovedError
from mlplatform.errors import ConfigError, UserError
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
    registry.client.copy_model_version(f"models:/{MODEL}/1", MODEL)
    assert sorted(version.version for version in registry.versions()) == [1, 2], "each is on a page of its own"


@pytest.mark.parametrize("key", ["metric.roc_auc", "a-b/c d", "x=1:2,3", "plain", "mlflow.note.content"])
def test_keys_of_tags_come_back(key: str) -> None:
    assert not re.search(r"[.,\-=/: ]", encode(key))
    assert decode(encode(key)) == key


def test_values_are_handed_to_the_tasks_that_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    handed: dict[str, str] = {}
    values = SimpleNamespace(set=lambda key, value: handed.update({key: value}))
    runtime = SimpleNamespace(dbutils=SimpleNamespace(jobs=SimpleNamespace(taskValues=values)))
    monkeypatch.setitem(sys.modules, "databricks.sdk.runtime", runtime)
    with pytest.raises(UserError, match="due = true is for the next task of a job in Databricks"):
        databricks.hand_on("due", "true")
    assert handed == {}
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "client.4.0")
    databricks.hand_on("due", "true")
    assert handed == {"due": "true"}


def test_who_is_not_logged_in_is_told_so(
    blank: Path, load_env: LoadEnv, now: datetime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("DATABRICKS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    settings = {"tracking_uri": "databricks", "unity_schema": "prod.tiny_models"}
    registry = Registry(load_env("prod", blank, overlay(blank, "unity", {"registry": settings})))
    there: Any = SimpleNamespace(model=MODEL, ledger=SimpleNamespace(champion=lambda as_of: 3))
    for ask in (lambda: databricks.connect(registry, 17), lambda: databricks.publish(there, now)):
        with pytest.raises(ConfigError, match="lets nobody in without a log-in"):
            ask()
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    here = Registry(load_env("prod", blank))
    assert here.client.search_registered_models() == [], "MLflow keeps the addresses for the whole process"
    assert mlflow.get_registry_uri() == mlflow.get_tracking_uri() != "databricks-uc"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true", "nothing leaves this machine unasked"


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[str]]]:
    """Serving endpoints by name, each with the versions that it was given; the API is the documented one."""
    endpoints: dict[str, list[str]] = {}

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.split("?")[0].rpartition("/")[2]
            self.say(200 if name in endpoints else 404, {"name": name, "error_code": "RESOURCE_DOES_NOT_EXIST"})

        def do_POST(self) -> None:
            assert self.path.rstrip("/") == "/api/2.0/serving-endpoints"
            body = self.body()
            endpoints[body["name"]] = [served(body["config"])]
            self.say(200, body)

        def do_PUT(self) -> None:
            _, name, last = self.path.rsplit("/", 2)
            assert last == "config"
            endpoints[name].append(served(self.body()))
            self.say(200, {})

        def body(self) -> Any:
            assert self.headers["Authorization"] == "Bearer secret"
            return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

        def say(self, status: int, body: Any) -> None:
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    def served(config: Any) -> str:
        (entity,) = config["served_entities"]
        assert entity["entity_name"] == MODEL
        return str(entity["entity_version"])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("DATABRICKS_HOST", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("DATABRICKS_TOKEN", "secret")
    yield endpoints
    server.shutdown()
    server.server_close()


def test_an_endpoint_is_made_with_the_first_champion_and_changed_with_the_next(
    workspace: dict[str, list[str]], now: datetime
) -> None:
    champions: list[int | None] = [None, 3, 4]
    said = []
    for number in champions:
        ledger = SimpleNamespace(champion=lambda as_of, number=number: number)
        registry: Any = SimpleNamespace(model=MODEL, ledger=ledger)
        said.append(databricks.publish(registry, now))
    assert workspace == {"prod-tiny_models-tiny": ["3", "4"]}
    assert said[0] == f"{MODEL} has no champion yet, and so no endpoint"
