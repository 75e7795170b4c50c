"""MLflow's webhook for real: a server, `registry listen`, and a request for Staging that ends with a decision."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

import mlplatform
import tiny
from mlplatform.environment import Environment
from mlplatform.pipelines.train import request_staging
from mlplatform.registry.store import Registry
from mlplatform.registry.tags import HeldOut, VersionTags
from mlplatform.storage.catalog import Span

SECRET = "only MLflow and the receiver know"
PATIENCE = 180  # seconds; MLflow's server needs 8 to start on an idle machine


@contextmanager
def running(command: list[str], folder: Path, log: Path, **variables: str) -> Iterator[None]:
    """A process of the test's own, until the test ends."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(Path(str(p.__file__)).parents[1]) for p in (mlplatform, tiny)),
        **variables,
    }
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", *command], cwd=folder, env=environment, stdout=output, stderr=output
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def wait(done: Callable[[], bool], *logs: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, "\n".join(log.read_text() for log in logs)
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def record(as_of: datetime) -> VersionTags:
    """The tags of a version that needs a feature view that there is not."""
    span = Span(as_of, as_of)
    return VersionTags(
        env="dev",
        as_of=as_of,
        identity="a test",
        code="a test",
        config="a test",
        data_digest="a test",
        data_versions={},
        feature_views=("crystal_ball",),
        parameters={},
        tuned=False,
        trained_on=span,
        held_out=HeldOut(span),
        summary="a test",
    )


def test_a_request_for_staging_reaches_the_gates_by_itself(
    blank: Path, tmp_path: Path, load_env: Callable[..., Environment], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, receiver = free_port(), free_port()
    store = {"tracking_uri": f"http://127.0.0.1:{server}", "artifacts": "mlflow-artifacts:/models"}
    # `listen` and the `deploy` that it starts read conf/dev.yml alone.
    dev = yaml.safe_load((blank / "conf" / "dev.yml").read_text(encoding="utf-8"))
    dev["registry"] = {**dev.get("registry", {}), **store}
    (blank / "conf" / "dev.yml").write_text(yaml.safe_dump(dev), encoding="utf-8")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    mlflow, listener = tmp_path / "mlflow.log", tmp_path / "listen.log"
    serve = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(server), "--workers", "1"]
    serve += ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db", "--artifacts-destination", str(tmp_path / "a")]
    settings = {
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    listen = [tiny.__name__, "registry", "listen", "--env", "dev", "--port", str(receiver)]
    with (
        running(serve, tmp_path, mlflow, **settings),
        running(listen, blank, listener, MLFLOW_WEBHOOK_SECRET=SECRET),
    ):
        wait(lambda: answers(server) and answers(receiver), mlflow, listener)
        env = load_env("dev", blank)
        registry = Registry(env)
        client = registry.client
        url = f"http://127.0.0.1:{receiver}/"
        client.create_webhook("deploy", url, ["model_version_tag.set"], secret=SECRET)

        run = client.create_run(registry.experiment())
        client.log_text(run.info.run_id, "not a model", "model/MLmodel")
        now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
        number = registry.register(run.info.run_id, f"{run.info.artifact_uri}/model", record(now))
        request_staging(registry, number, now, "a test")
        wait(lambda: registry.ledger.stage(number) == "Archived", mlflow, listener)
        wait(lambda: "ended" in listener.read_text(), mlflow, listener)

    (decision,) = [t for t in registry.ledger.all() if t.status == "rejected"]
    assert (decision.to_stage, decision.closed_by) == ("Staging", "compliance")
    assert "it needs the feature view crystal_ball, which this code does not have" in decision.reason
    assert "it does not load" in decision.reason
    lines = listener.read_text()
    assert lines.count("202, version 1 asks for Staging") == 1
    assert lines.count("deploy for version 1 starts") == 1
    assert "ended with exit code 0" in lines
    assert SECRET not in lines
