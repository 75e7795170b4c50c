"""Data larger than the configured memory: each pipeline takes them part by part."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from steps import overlay

pytestmark = pytest.mark.nightly

# In a process of its own, whose peak is that of its pipelines. Items of 58 days, their outcomes a day later.
STORY = """
import resource, sys
from datetime import datetime, timedelta
from pathlib import Path

from mlplatform.environment import Environment
from mlplatform.features.frames import entities
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.ingest import ingest
from tiny.project import PROJECT

start, now, rows = datetime(2025, 1, 1), datetime(2025, 3, 1), int(sys.argv[2])
env = Environment.load("prod", PROJECT, Path(sys.argv[1]), ("test", "small"))
for source, value, later in (("items", "amount", timedelta()), ("outcomes", "outcome", timedelta(hours=20))):
    (env.landing / source).mkdir(parents=True)
    with (env.landing / source / "20250301T000000Z.csv").open("w") as file:
        file.write(f"item_id,kind,{value},published_at\\n")
        for n in range(rows):
            time = start + later + timedelta(days=58) * n / rows
            file.write(f"item-{n:06d},{'abc'[n % 3]},{n % 100},{time.isoformat(timespec='seconds')}Z\\n")
ingest(env, now)
featurize(env, now)
joined = entities(env, now, start, now)
again = joined.map(lambda batch: batch, joined.schema)
assert rows - 1 <= env.catalog.append("predictions.tiny", again) <= rows
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak(folder: Path, rows: int) -> int:
    """Megabytes that ingest, featurize and a join of all entities need at most."""
    found = subprocess.run(
        [sys.executable, "-c", STORY, str(folder), str(rows)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return int(found.stdout.split()[-1])


def test_three_times_the_data_need_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for rows in (300_000, 900_000):
        folder = tmp_path / str(rows)
        conf = Path(__file__).parents[1] / "conf"
        (folder / "conf").mkdir(parents=True)
        for file in conf.glob("*.yml"):
            (folder / "conf" / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
        overlay(folder, "small", yaml.safe_load("lakehouse: {memory_limit: 150MB}"))
        peaks.append(peak(folder, rows))
    # All rows of one table are 100 MB, and more as Python sees them.
    assert peaks[1] - peaks[0] < 150, peaks
