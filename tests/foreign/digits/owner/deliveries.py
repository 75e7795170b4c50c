"""scikit-learn's digits, sixty a day from the first of January 2024 on, each labelled as it is scanned."""

import csv
from datetime import datetime, timedelta
from pathlib import Path

from mlplatform.contract import Deliveries

from .tables import PIXELS

NAME = "%Y%m%dT%H%M%SZ"
BEGIN = datetime(2024, 1, 1)
A_DAY = 60


def deliver(landing: Path, until: datetime) -> dict[str, int]:
    """Write one file for each day that is over by `until` and not there yet; return the rows."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    folder, rows = landing / "scans", 0
    folder.mkdir(parents=True, exist_ok=True)
    for day in range(len(digits.target) // A_DAY):
        landed = BEGIN + timedelta(days=day)
        target = folder / f"{landed.strftime(NAME)}.csv"
        if landed > until or target.exists():
            continue
        unfinished = folder / ".unfinished"
        with unfinished.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image_id", "digit", *PIXELS])
            for number in range(day * A_DAY, (day + 1) * A_DAY):
                writer.writerow([number, digits.target[number], *digits.data[number]])
                rows += 1
        unfinished.replace(target)
    return {"scans": rows}


DELIVERIES = Deliveries(
    deliver=deliver,
    begin=BEGIN,
    first=datetime(2024, 1, 15),
    stops=(datetime(2024, 1, 22), datetime(2024, 1, 29)),
    integration=(datetime(2024, 1, 12), datetime(2024, 1, 20)),
)
