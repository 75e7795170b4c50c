"""Take several times the flights through the pipelines, and print the time and the memory of each.

As a script, with the packages of a render of the sample, in its folder: python growth.py [--days N]
[--memory-limit 1GB] [--spark JARS] [FACTOR ...]. The sample's first days are replayed as often as the factor
says, each time with other minutes of delay and other numbers of flights. Every step is a process of its own,
which tells its processor time and its largest memory. On Spark, driver and executors are one Java process,
which is told beside it, with the Python processes in which contracts and scoring run.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

FIT = 20_000  # rows that the model is fitted on, whatever the factor: what is measured is not the fit
STEPS = ("ingest", "featurize", "training set", "infer", "monitor")
SETTINGS: dict[str, Any] = {
    "lakehouse": {"root": "data/prod", "landing": "data/landing", "features_from": None},
    "pipelines": {"released_code_only": False, "inference": {"first_window": "28d", "batch_window": "7d"}},
    "registry": {
        "approval": "automatic",
        "compliance": {"slice_limits": []},
        "comparison": {"confidence": 0.8},
    },
    "training": {"holdout": "21d", "min_rows": 100, "tuning": {"enabled": False}},
}


def deliver(folder: Path, package: str, factor: int, end: datetime) -> int:
    """Write what was known by `end`, so many times; return the flights that were planned."""
    import polars as pl

    deliveries = import_module(f"{package}.deliveries")
    read, planned = deliveries._read, 0
    flights = read("flights.csv.zip")
    flights = flights.with_columns(place=pl.int_range(pl.len()).over("time_hour", "carrier"))
    for copy in range(factor):
        minutes = pl.int_range(pl.len()).hash(seed=copy).mod(7).cast(pl.Int64) - 3 if copy else pl.lit(0)
        number = (pl.col("place") * factor + copy).cast(pl.String)
        delays = [
            (pl.col(name).cast(pl.Int64) + minutes).cast(pl.String) for name in ("dep_delay", "arr_delay")
        ]
        again = flights.with_columns(number.alias("flight"), *delays).drop("place")
        deliveries._read = lambda file, again=again: again if "flights" in file else read(file)
        # Each time has files of its own, which land a second after those of the time before.
        part, until = folder / "part", end - timedelta(seconds=factor - 1 - copy)
        planned += deliveries.land(part, until)["schedule"]
        for file in part.glob("*/*.csv"):
            if copy == 0 or file.parent.name != "weather":
                target = folder / "data" / "landing" / file.parent.name / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                file.rename(target)
        shutil.rmtree(part)
    return planned


def champion(env: Any, start: datetime) -> None:
    pipeline("train")(env, start)
    notes = pipeline("deploy")(env, start).notes
    assert import_module("mlplatform.registry.store").Registry(env).ledger.champion(start), notes


def training_set(env: Any, start: datetime) -> None:
    import_module("mlplatform.training.data").load(env, start)


def pipeline(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(import_module(f"mlplatform.pipelines.{name}"), name)
    return found


def on_spark(jars: str) -> dict[str, Any]:
    """Settings of an environment that runs on Spark on this machine."""
    session = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    session |= {"spark.ui.enabled": "false", "spark.driver.memory": "2g"}
    return {"engine": "spark", "spark": {"master": "local[2]", "jars": jars, "session": session}}


def below(process: int) -> list[int]:
    """The processes that a process has started, and theirs."""
    children = [int(found) for found in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return [each for child in children for each in (child, *below(child))]


def used(processes: list[int]) -> tuple[float, float]:
    """Processor seconds of processes until now, and the sum of the most memory that each has had (MB)."""
    seconds = memory = 0.0
    for process in processes:
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            status = Path(f"/proc/{process}/status").read_text()
        except OSError:  # it has just ended
            continue
        seconds += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # children that have ended, too
        memory += int((status.partition("VmHWM:")[2].split() or [0])[0]) / 1024  # no more of one that ends
    return seconds, memory


def step(
    name: str, folder: Path, package: str, factor: int, days: int, limit: str | None, jars: str | None
) -> None:
    """Run one step here, and print what it took."""
    project = import_module(f"{package}.project").PROJECT
    environment = import_module("mlplatform.environment").Environment
    begin = import_module(f"{package}.deliveries").DELIVERIES.begin
    start, end = begin + timedelta(days=days - 14), begin + timedelta(days=days)
    fraction = min(1.0, FIT / (1000 * days * factor))
    settings = SETTINGS | {
        "training": SETTINGS["training"] | {"fraction": fraction if name == "champion" else 1.0}
    }
    settings["lakehouse"] = SETTINGS["lakehouse"] | (on_spark(jars) if jars else {})
    settings["lakehouse"] |= {"memory_limit": limit} if limit else {}
    (folder / "conf" / "growth.yml").write_text(json.dumps(settings), encoding="utf-8")
    env, told = environment.load("prod", project, folder, ("growth",)), 0
    wall, processor = time.perf_counter(), time.process_time()
    if name == "deliver":
        told = deliver(folder, package, factor, end)
    elif name == "champion":
        champion(env, start)
    elif name == "training set":
        training_set(env, end)
    else:
        pipeline(name)(env, end)
    took = {"cpu": time.process_time() - processor, "wall": time.perf_counter() - wall, "told": told}
    seconds, memory = used(below(os.getpid()))
    took |= {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "executors": memory}
    print(json.dumps(took | {"cpu": took["cpu"] + seconds}))


def measured(
    name: str, folder: Path, package: str, factor: int, days: int, limit: str | None, jars: str | None
) -> dict[str, float]:
    given = [str(factor), "--days", str(days), "--step", name, "--folder", str(folder), "--package", package]
    given += ["--memory-limit", limit] if limit else []
    given += ["--spark", jars] if jars else []
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [sys.executable, __file__, *given], env=environment, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"{name}, {factor} times: ended with {done.returncode}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("factors", nargs="*", type=int, default=[1, 10])
    parser.add_argument("--days", type=int, default=75)
    parser.add_argument("--memory-limit", help="of DuckDB, in place of that of conf/")
    parser.add_argument("--spark", metavar="JARS", help="run on Spark, with Delta's jars of this folder")
    parser.add_argument("--package", default="early_warning")
    parser.add_argument("--step")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.step:
        rest = (given.days, given.memory_limit, given.spark)
        step(given.step, given.folder, given.package, given.factors[0], *rest)
        return
    print(f"| flights | | {' | '.join(STEPS)} |\n| ---: | --- |{' ---: |' * len(STEPS)}")
    for factor in given.factors:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            shutil.copytree("conf", folder / "conf")
            shutil.copy("pyproject.toml", folder)
            arguments = (folder, given.package, factor, given.days, given.memory_limit, given.spark)
            flights = measured("deliver", *arguments)["told"]
            took = {}
            for what in (*STEPS[:2], "champion", *STEPS[2:]):
                took[what] = measured(what, *arguments)
        told = [("CPU s", "cpu", ".1f"), ("s", "wall", ".1f"), ("peak MB", "memory", ".0f")]
        told += [("of Spark", "executors", ".0f")] if given.spark else []
        for unit, key, form in told:
            cells = " | ".join(f"{took[what][key]:{form}}" for what in STEPS)
            print(
                f"| {flights if key == 'cpu' else '':{',' if key == 'cpu' else ''}} | {unit} | {cells} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
