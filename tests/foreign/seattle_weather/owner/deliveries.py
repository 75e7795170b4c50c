"""The days of `seattle-weather.csv` (package vega_datasets), each published the next morning at six."""

import csv
from datetime import datetime, timedelta
from pathlib import Path

import vega_datasets

from mlplatform.contract import Deliveries

NAME = "%Y%m%dT%H%M%SZ"
BEGIN = datetime(2012, 1, 2, 6)


def deliver(landing: Path, until: datetime) -> dict[str, int]:
    """Write the days published after the newest file and up to `until` as one file; return the rows."""
    folder = landing / "observations"
    folder.mkdir(parents=True, exist_ok=True)
    newest = max((file.stem for file in folder.glob("*.csv")), default=None)
    since = datetime.strptime(newest, NAME) if newest else datetime.min
    if until <= since:
        return {"observations": 0}
    header, *days = _days()
    news = [day for day in days if since < _published(day[0]) <= until]
    unfinished = folder / ".unfinished"
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *news])
    unfinished.replace(folder / f"{until.strftime(NAME)}.csv")
    return {"observations": len(news)}


def _days() -> list[list[str]]:
    path = Path(str(vega_datasets.__file__)).with_name("_data") / "seattle-weather.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def _published(date: str) -> datetime:
    return datetime.fromisoformat(date.replace("/", "-")) + timedelta(days=1, hours=6)


DELIVERIES = Deliveries(
    deliver=deliver,
    begin=BEGIN,
    first=datetime(2014, 1, 1, 12),
    stops=(datetime(2014, 7, 1, 12), datetime(2015, 1, 1, 12), datetime(2015, 7, 1, 12)),
    integration=(datetime(2013, 6, 1, 12), datetime(2013, 9, 1, 12)),
)
