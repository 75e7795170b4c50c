"""Refresh a small project hour by hour, and print what a refresh costs and what it leaves on the disk.

As a script, with the packages of a render, in a folder with conf/ and pyproject.toml:
python growth_of_refreshes.py PACKAGE [DAYS]. Each hour brings new files, which are ingested, featurized and
scored by a champion; every day ends with monitoring and maintenance. Hours are simulated by `as_of`. The cost
is compared with that of a young project's first day, measured at the same moment: whatever else the machine
does then counts for both.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module, util
from pathlib import Path
from statistics import mean
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


def refreshes(env: Any, deliveries: Any, hours: int) -> Iterator[float]:
    """Train a champion; then yield the CPU seconds of each refresh. Every day ends with a night's work."""
    start = deliveries.begin + timedelta(days=73)
    deliveries.deliver(env.landing, start)
    for name in ("ingest", "featurize", "train", "deploy"):
        pipeline(name)(env, start)
    nightly = [name for name in ("monitor", "maintain") if util.find_spec(f"mlplatform.pipelines.{name}")]
    for hour in range(1, hours + 1):
        as_of = start + hour * HOUR
        deliveries.deliver(env.landing, as_of)
        started = time.process_time()
        for name in ("ingest", "featurize", "infer"):
            pipeline(name)(env, as_of)
        yield time.process_time() - started
        for name in nightly if hour % 24 == 0 else ():
            pipeline(name)(env, as_of)


@contextmanager
def project(package: str) -> Iterator[tuple[Any, Any]]:
    """The environment of a project without any data, and its deliveries; the repository stays as it is."""
    contents = import_module(f"{package}.project").PROJECT
    environment = import_module("mlplatform.environment").Environment
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "conf").mkdir()
        for path in Path("conf").glob("*.yml"):
            (folder / "conf" / path.name).write_text(path.read_text())
        (folder / "conf" / "growth.yml").write_text(SETTINGS)
        (folder / "pyproject.toml").write_text(Path("pyproject.toml").read_text())
        deliveries = import_module(f"{package}.deliveries").DELIVERIES
        yield environment.load("prod", contents, folder, ("growth",)), deliveries


def main(package: str, days: int) -> None:
    """Print a line at each mark: the mean of the last 24 refreshes, and what all have left."""
    heads = ("hour", "CPU s", "young", "ratio", "files", "MB", "log MB", "ops files")
    print(" ".join(f"{head:>9}" for head in heads))
    taken: list[float] = []
    with project(package) as (env, deliveries):
        for hour, seconds in enumerate(refreshes(env, deliveries, days * 24), 1):
            taken.append(seconds)
            if hour not in MARKS and hour != days * 24:
                continue
            with project(package) as (young, same):
                first = mean(refreshes(young, same, 24))
            tables = [path for path in env.reports.rglob("*") if path.is_file()]
            sizes = {path: path.stat().st_size for path in tables}
            logs = sum(size for path, size in sizes.items() if path.parent.name == "_delta_log") / 1e6
            runs = sum("runs" in path.parts for path in tables)
            cost, all_ = mean(taken[-24:]), sum(sizes.values()) / 1e6
            figures = (f"{number:9.3f}" for number in (cost, first, cost / first))
            print(f"{hour:9}", *figures, f"{len(tables):9} {all_:9.1f} {logs:9.2f} {runs:9}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 90)
