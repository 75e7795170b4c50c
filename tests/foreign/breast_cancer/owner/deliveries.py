"""scikit-learn's table of breast cancer findings, delivered once, as a snapshot."""

import csv
from datetime import datetime
from pathlib import Path

from mlplatform.contract import Deliveries

from .tables import MEASURED

SNAPSHOT = datetime(2024, 3, 1)
TRAINED = datetime(2024, 3, 2)


def deliver(landing: Path, until: datetime) -> dict[str, int]:
    """Write the snapshot, once; return its rows."""
    from sklearn.datasets import load_breast_cancer

    target = landing / "samples" / f"{SNAPSHOT:%Y%m%dT%H%M%SZ}.csv"
    if until < SNAPSHOT or target.exists():
        return {"samples": 0}
    found = load_breast_cancer(as_frame=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(".unfinished")
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample_id", "benign", *MEASURED])
        measured = found.data[[f"mean {name}" for name in MEASURED]]
        for number, (benign, values) in enumerate(zip(found.target, measured.to_numpy(), strict=True)):
            writer.writerow([f"sample-{number:03d}", benign, *values])
    unfinished.replace(target)
    return {"samples": len(found.target)}


DELIVERIES = Deliveries(
    deliver=deliver,
    begin=datetime(2024, 2, 1),
    first=TRAINED,
    stops=(datetime(2024, 3, 15),),
    integration=(TRAINED, datetime(2024, 3, 15)),
)
