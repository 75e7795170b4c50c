"""Time the platform beside bare tools on the same data: the point-in-time join, batch scoring and drift.

As a script, with the packages of a render: python benchmarks/speed.py [UV], where UV installs Evidently for
the comparison of drift into an environment that goes away. Each round runs both sides in turn, in processes
of their own: what else the machine does meets both. The table gives medians of processor time, which a busy
machine disturbs least, and the largest memory.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

ROUNDS = 3
ENTITIES, FEATURE_ROWS, KEYS, ROWS, COLUMNS = 1_000_000, 5_000_000, 50_000, 1_000_000, 20
BATCH = 100_000
# What is timed, and beside what.
PAIRS = {"point-in-time join": ("join", "bare_join"), "batch scoring": ("score", "bare_score")}


def make(folder: Path) -> None:
    """Write a view with late rows, entities, joined rows, a reference and what drifted from it."""
    import numpy as np
    import polars as pl
    import pyarrow as pa
    from mlplatform.engine import newest_known
    from mlplatform.engine.duckdb import DuckDb
    from mlplatform.storage.delta import DeltaCatalog

    rng, start = np.random.default_rng(0), np.datetime64("2025-01-01", "us")
    catalog = DeltaCatalog(folder / "lake", owner="dev", reader="dev")
    seconds = np.sort(rng.integers(0, 365 * 86_400, FEATURE_ROWS))
    delay = np.where(rng.random(FEATURE_ROWS) < 0.05, 5 * 86_400, 3_600)
    view = pa.table(
        {
            "key": rng.integers(0, KEYS, FEATURE_ROWS),
            "event_timestamp": start + seconds.astype("timedelta64[s]"),
            "available_at": start + (seconds + delay).astype("timedelta64[s]"),
            **{name: rng.normal(size=FEATURE_ROWS) for name in "xyz"},
        }
    )
    mark = f"SELECT *, event_timestamp < {newest_known(['key'])} AS superseded FROM given.rows"
    catalog.append("features.view", DuckDb().query(mark, given={"given.rows": view}))
    times = start + rng.integers(0, 365 * 86_400, ENTITIES).astype("timedelta64[s]")
    entities = {"id": np.arange(ENTITIES), "key": rng.integers(0, KEYS, ENTITIES), "prediction_time": times}
    catalog.append("silver.entities", pa.table(entities))

    features = import_module(f"{package()}.features")
    words = np.array(["EWR", "JFK", "LGA", "BOS", "ATL", None], dtype=object)
    joined = {"id": [f"row-{n:07d}" for n in range(ROWS)], "prediction_time": times[:ROWS]}
    joined |= {name: rng.normal(size=ROWS) for name in features.NUMERIC}
    joined |= {name: rng.choice(words, ROWS) for name in features.CATEGORICAL}
    pl.DataFrame(joined).write_parquet(folder / "joined.parquet")

    for name, shift in (("reference", 0.0), ("current", 0.2)):
        numbers = {f"n{n}": rng.normal(shift if n % 4 == 0 else 0.0, 1, ROWS) for n in range(COLUMNS - 4)}
        texts = {f"c{n}": rng.integers(0, 5 + 5 * n, ROWS).astype(str) for n in range(4)}
        pl.DataFrame(numbers | texts).write_parquet(folder / f"{name}.parquet")


def package() -> str:
    """The owner's package of the render on the path."""
    folders = (init.parent for path in sys.path for init in Path(path).glob("*/project.py"))
    return next(folder.name for folder in folders)


def join(folder: Path) -> Callable[[], int]:
    from mlplatform.engine import View
    from mlplatform.engine.duckdb import DuckDb
    from mlplatform.storage.delta import DeltaCatalog

    catalog = DeltaCatalog(folder / "lake", owner="dev", reader="dev")
    engine = DuckDb(catalog.snapshot)
    view = View("view", ("key",), 400 * 86_400, ("x", "y", "z"), marked=True)

    def run() -> int:
        entities = engine.query("SELECT * FROM silver.entities")
        joined = engine.point_in_time(entities, [view], as_of=datetime(2030, 1, 1))
        return sum(batch.num_rows for batch in joined.batches())

    return run


def bare_join(folder: Path) -> Callable[[], int]:
    import duckdb

    files = {
        name: [str(f) for f in (folder / "lake" / name).glob("*.parquet")]
        for name in ("silver/entities", "features/view")
    }
    sql = (
        f"SELECT e.*, x, y, z FROM read_parquet({files['silver/entities']}) AS e ASOF LEFT JOIN "
        f"read_parquet({files['features/view']}) AS v ON e.key = v.key "
        "AND e.prediction_time >= v.available_at"
    )
    spill = {"memory_limit": "1GB", "temp_directory": str(folder / "spill")}
    database = duckdb.connect(config=spill)
    return lambda: sum(batch.num_rows for batch in database.sql(sql).to_arrow_reader(BATCH))


def score(folder: Path) -> Callable[[], int]:
    import pyarrow.parquet as pq
    from mlflow.models import infer_signature
    from mlplatform.registry.scoring import Scorer

    model, fitted, inputs = fit(folder)
    columns = {column.name: column.type.name for column in infer_signature(inputs.head(1_000)).inputs}
    scorer, batches = (
        Scorer(model, fitted, columns),
        pq.read_table(folder / "joined.parquet").to_batches(BATCH),
    )
    return lambda: sum(len(scorer.scores(batch.to_pandas())) for batch in batches)


def bare_score(folder: Path) -> Callable[[], int]:
    _, fitted, inputs = fit(folder)
    return lambda: sum(len(fitted.predict_proba(inputs[n : n + BATCH])) for n in range(0, ROWS, BATCH))


def fit(folder: Path) -> tuple[Any, Any, Any]:
    """The render's model, fitted on some of the rows, and the inputs that it takes."""
    import numpy as np
    import pandas as pd

    model = import_module(f"{package()}.project").PROJECT.model
    inputs = model.inputs(pd.read_parquet(folder / "joined.parquet"))
    labels = (np.random.default_rng(0).random(50_000) < 0.3).astype(float)
    return model, model.build(model.defaults).fit(inputs[:50_000], labels), inputs


def drift(folder: Path) -> Callable[[], int]:
    import polars as pl
    from mlplatform.config.sections import MonitoringSettings
    from mlplatform.monitoring import metrics
    from mlplatform.storage.catalog import Span

    reference, current = (pl.scan_parquet(folder / f"{name}.parquet") for name in ("reference", "current"))
    columns = reference.collect_schema().names()
    window = Span(datetime(2025, 1, 1), datetime(2025, 1, 8))
    return lambda: metrics.inputs(window, current, reference, MonitoringSettings(), (), columns).height


def evidently(folder: Path) -> Callable[[], int]:
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    def run() -> int:
        reference, current = (
            pd.read_parquet(folder / f"{name}.parquet") for name in ("reference", "current")
        )
        return len(Report([DataDriftPreset()]).run(current, reference).dict()["metrics"])

    return run


def measured(python: str | Path, what: str, folder: Path) -> dict[str, float]:
    """Processor seconds, wall seconds and the largest memory (MB) of one run in a process of its own."""
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    command = [str(python), __file__, "--only", what, "--folder", str(folder)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def only(what: str, folder: Path) -> None:
    """Run one thing here, and print what it took."""
    import resource

    run = globals()[what](folder)
    wall, processor = time.perf_counter(), time.process_time()
    run()
    took = {"cpu": time.process_time() - processor, "wall": time.perf_counter() - wall}
    print(json.dumps(took | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def rows(folder: Path, uv: str) -> Iterator[str]:
    yield "| work | bare, CPU s | here, CPU s | ratio | here, peak MB |\n| --- | ---: | ---: | ---: | ---: |"
    for title, (ours, theirs) in PAIRS.items():
        pairs = [
            (measured(sys.executable, ours, folder), measured(sys.executable, theirs, folder))
            for _ in range(ROUNDS)
        ]
        here, bare = (statistics.median(pair[side]["cpu"] for pair in pairs) for side in (0, 1))
        ratio = statistics.median(one["cpu"] / other["cpu"] for one, other in pairs)
        peak = max(one["memory"] for one, _ in pairs)
        yield f"| {title} | {bare:.2f} | {here:.2f} | {ratio:.2f} | {peak:.0f} |"
    here = statistics.median(measured(sys.executable, "drift", folder)["cpu"] for _ in range(ROUNDS))
    peak = measured(sys.executable, "drift", folder)["memory"]
    if not uv:
        yield f"| drift | | {here:.2f} | | {peak:.0f} |"
        return
    python = folder / "peer" / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", python.parent.parent], check=True)
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", python, "evidently", "pandas<3", "pyarrow"], check=True
    )
    peer = measured(python, "evidently", folder)
    title = f"drift, beside Evidently ({peer['memory']:.0f} MB)"
    yield f"| {title} | {peer['cpu']:.2f} | {here:.2f} | {here / peer['cpu']:.2f} | {peak:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uv", nargs="?", default="")
    parser.add_argument("--only")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.only:
        only(given.only, given.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, __file__, "--only", "make_", "--folder", folder], check=True, capture_output=True
        )
        for line in rows(Path(folder), given.uv):
            print(line, flush=True)


def make_(folder: Path) -> Callable[[], None]:
    return lambda: make(folder)


if __name__ == "__main__":
    main()
