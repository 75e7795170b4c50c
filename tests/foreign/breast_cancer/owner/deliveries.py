"""scikit-learn's table of breast cancer findings: a snapshot without times, and what came in after it."""

import csv
from datetime import datetime
from pathlib import Path

from mlplatform.contract import Deliveries

from .tables import MEASURED

SNAPSHOT, LATER = datetime(2024, 3, 1), datetime(2024, 3, 10)
BOUNDS = {SNAPSHOT: (0, 450), LATER: (450, 569)}


def deliver(landing: Path, until: datetime) -> dict[str, int]:
    """Write each file that has come by `until` and is not there yet; return the rows."""
    from sklearn.datasets import load_breast_cancer

    found, rows = load_breast_cancer(as_frame=True), 0
    measured = found.data[[f"mean {name}" for name in MEASURED]].to_numpy()
    for landed, bounds in BOUNDS.items():
        target = landing / "samples" / f"{landed:%Y%m%dT%H%M%SZ}.csv"
        if landed > until or target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(".unfinished")
        with unfinished.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["sample_id", "benign", *MEASURED])
            for number in range(*bounds):
                writer.writerow([f"sample-{number:03d}", found.target[number], *measured[number]])
                rows += 1
        unfinished.replace(target)
    return {"samples": rows}


DELIVERIES = Deliveries(
    deliver=deliver,
    begin=datetime(2024, 2, 1),
    first=datetime(2024, 3, 2),
    stops=(datetime(2024, 3, 15),),
    integration=(datetime(2024, 3, 2), datetime(2024, 3, 15)),
)
