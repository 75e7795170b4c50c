"""Refresh a small project hour by hour, and print what a refresh costs and what it leaves on the disk.

As a script, with the packages of a render, in a folder with conf/ and pyproject.toml:
python growth_of_refreshes.py PACKAGE [DAYS]. Each hour brings new files, which are ingested, featurized and
scored by a champion; every day ends with monitoring and maintenance. Hours are simulated by `as_of`.
"""

import sys
import time
from datetime import timedelta
from importlib import import_module, util
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HOUR = timedelta(hours=1)
MARKS = (24, 24 * 7, 24 * 30, 24 * 90)
# An hour of the simulation takes about a second: earlier versions are kept in proportion.
SETTINGS = """\
pipelines: {released_code_only: false}
registry: {approval: automatic}
lakehouse: {keep_versions: 30s}
"""


def pipeline(name: str) -> Any:
    """The function of a pipeline."""
    return getattr(import_module(f"mlplatform.pipelines.{name}"), name)


def measure(env: Any, deliveries: Any, hours: int) -> None:
    """Print a line at each mark: the mean CPU seconds of the 24 refreshes before it, files and logs."""
    start = deliveries.begin + timedelta(days=73)
    deliveries.deliver(env.landing, start)
    for name in ("ingest", "featurize", "train", "deploy"):
        pipeline(name)(env, start)
    nightly = [name for name in ("monitor", "maintain") if util.find_spec(f"mlplatform.pipelines.{name}")]
    print(f"{'hour':>6} {'CPU s':>7} {'files':>7} {'MB':>7} {'log MB':>7} {'ops files':>9}")
    taken: list[float] = []
    for hour in range(1, hours + 1):
        as_of = start + hour * HOUR
        deliveries.deliver(env.landing, as_of)
        started = time.process_time()
        for name in ("ingest", "featurize", "infer"):
            pipeline(name)(env, as_of)
        taken.append(time.process_time() - started)
        if hour in MARKS or hour == hours:
            tables = [path for path in env.reports.rglob("*") if path.is_file()]
            sizes = {path: path.stat().st_size for path in tables}
            logs = sum(size for path, size in sizes.items() if path.parent.name == "_delta_log") / 1e6
            runs = sum("runs" in path.parts for path in tables)
            cost, all_ = sum(taken[-24:]) / len(taken[-24:]), sum(sizes.values()) / 1e6
            print(f"{hour:>6} {cost:>7.3f} {len(tables):>7} {all_:>7.1f} {logs:>7.2f} {runs:>9}", flush=True)
        for name in nightly if hour % 24 == 0 else ():
            pipeline(name)(env, as_of)


def main(package: str, days: int) -> None:
    """Measure in a temporary copy of the settings; the repository stays as it is."""
    project = import_module(f"{package}.project").PROJECT
    deliveries = import_module(f"{package}.deliveries").DELIVERIES
    environment = import_module("mlplatform.environment").Environment
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "conf").mkdir()
        for path in Path("conf").glob("*.yml"):
            (folder / "conf" / path.name).write_text(path.read_text())
        (folder / "conf" / "growth.yml").write_text(SETTINGS)
        (folder / "pyproject.toml").write_text(Path("pyproject.toml").read_text())
        measure(environment.load("prod", project, folder, ("growth",)), deliveries, days * 24)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 90)
