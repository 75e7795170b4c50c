"""Pipelines that run at the same time, in processes of their own, end as one after the other."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from polars.testing import assert_frame_equal

from mlplatform.environment import Environment
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.ingest import ingest
from steps import read
from tiny.deliveries import START, land

LoadEnv = Callable[..., Environment]
RUN = """
import sys
from datetime import datetime
from importlib import import_module
from pathlib import Path
from mlplatform.environment import Environment
from tiny.project import PROJECT

env = Environment.load("prod", PROJECT, Path(sys.argv[1]), ("test",))
pipeline = getattr(import_module(f"mlplatform.pipelines.{sys.argv[2]}"), sys.argv[2])
env.config, env.engine, open(f"{sys.argv[1]}/{sys.argv[4]}.ready", "w").close()
while not Path(sys.argv[1], "go").exists():
    pass
pipeline(env, datetime.fromisoformat(sys.argv[3]))
"""


def together(folder: Path, as_of: datetime, *pipelines: str) -> list[str]:
    """Run pipelines at once; returns what each said on stderr."""
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, str(folder), name, as_of.isoformat(), str(number)],
            env=path,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, name in enumerate(pipelines)
    ]
    while not all((folder / f"{number}.ready").exists() for number in range(len(runs))):
        assert not any(run.poll() for run in runs)
    (folder / "go").touch()
    said = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * len(runs), said
    return said


def test_three_ingests_at_once_end_as_one(blank: Path, load_env: LoadEnv) -> None:
    env, until = load_env("prod", blank), START + timedelta(days=30)
    land(env.landing, until)
    said = together(blank, until, "ingest", "ingest", "ingest")
    assert "has the tables of prod" in "".join(said)
    for table in ("bronze.items", "silver.items"):
        rows = read(env, table)
        assert (rows.height, rows["item_id"].n_unique()) == (301, 301)
    assert not env.catalog.exists("quarantine.items")
    assert read(env, "ops.files").height == 2


def test_pipelines_beside_each_other_end_as_one_after_the_other(
    project: Path, tmp_path: Path, duplicate: Callable[[Path, Path], Path], load_env: LoadEnv, now: datetime
) -> None:
    """Whichever came first: run once more in their order, the tables are the same."""
    beside, after = load_env("prod", project), load_env("prod", duplicate(project, tmp_path / "after"))
    later = now + timedelta(days=3)
    for env in (beside, after):
        land(env.landing, later)
    together(project, later, "infer", "ingest", "infer", "featurize")
    for env in (beside, after):
        ingest(env, later)
        featurize(env, later, backfill=True)
        infer(env, later)
    for table in ("silver.items", "silver.outcomes", "features.kind_history"):
        ours, theirs = (read(env, table).drop("ingested_at", strict=False) for env in (beside, after))
        assert_frame_equal(ours, theirs, check_row_order=False)
    predicted = read(beside, "predictions.tiny")
    assert predicted["item_id"].n_unique() == predicted.height == read(after, "predictions.tiny").height == 30


def test_the_lease_of_a_process_that_was_killed_is_free(blank: Path, load_env: LoadEnv) -> None:
    env = load_env("prod", blank)
    hold = "import time\nwith env.catalog.lease('killed'):\n    print('held', flush=True)\n    time.sleep(600)"
    made = RUN[: RUN.index("pipeline = ")] + hold
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", made, str(blank)], env=path, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
    with env.run("ingest", START):
        pass
    assert read(env, "ops.runs")["status"].to_list() == ["finished"]
