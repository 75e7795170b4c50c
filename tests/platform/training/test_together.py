"""Two trainings at once end as one would, and one that was killed leaves nothing that stands in the way."""

import os
import shutil
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from conftest import Duplicate, LoadEnv
from mlplatform.pipelines.train import train
from mlplatform.registry.store import Registry

CODE = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
import mlflow
from mlplatform.environment import Environment
from mlplatform.pipelines.train import train
from mlplatform.registry.store import Registry
from tiny.project import PROJECT

if sys.argv[3] == "killed":
    mlflow.sklearn.log_model = lambda *args, **given: os.kill(os.getpid(), signal.SIGKILL)
env = Environment.load("prod", PROJECT, Path(sys.argv[1]), ("test",))
print("ready", flush=True)
sys.stdin.readline()
train(env, datetime.fromisoformat(sys.argv[2]))
"""


@pytest.fixture
def untrained(trained: Path, duplicate: Duplicate, tmp_path: Path) -> Path:
    """A project with data and without a registry."""
    project = duplicate(trained, tmp_path / "project")
    shutil.rmtree(project / "data" / "mlflow")
    shutil.rmtree(project / "data" / "prod" / "ops")
    return project


def begun(project: Path, now: datetime, how: str = "") -> "subprocess.Popen[str]":
    """A process that is about to train."""
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(project), now.isoformat(), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_trainings_at_once_in_a_fresh_registry_make_one_version(
    untrained: Path, load_env: LoadEnv, now: datetime
) -> None:
    both = [begun(untrained, now) for _ in range(2)]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in both:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    registry = Registry(load_env("prod", untrained))
    (version,) = registry.versions()
    (request,) = registry.ledger.pending("Staging", now)
    assert (int(version.version), request.version) == (1, 1)
    (run,) = registry.client.search_runs([registry.experiment()])
    assert (run.info.run_id, run.info.status) == (version.run_id, "FINISHED")


def test_a_killed_training_leaves_no_run_and_no_version_behind(
    untrained: Path, load_env: LoadEnv, now: datetime
) -> None:
    process = begun(untrained, now, "killed")
    process.communicate("\n", timeout=300)
    assert process.returncode == -signal.SIGKILL
    prod = load_env("prod", untrained)
    registry = Registry(prod)
    (left,) = registry.client.search_runs([registry.experiment()])
    assert (left.info.status, registry.versions()) == ("RUNNING", []), "or nothing is tested here"
    train(prod, now)
    (version,) = registry.versions()
    (run,) = registry.client.search_runs([registry.experiment()])
    assert run.info.run_id == version.run_id != left.info.run_id


def test_the_run_of_a_training_that_goes_on_is_left_alone(untrained: Path, load_env: LoadEnv, now: datetime) -> None:
    registry = Registry(load_env("prod", untrained))
    tags = registry.claim("mine")
    run = registry.client.create_run(registry.experiment(), tags=tags)
    registry.claim("another's")
    assert registry.client.get_run(run.info.run_id).info.lifecycle_stage == "active"
