"""Cleaning SQL and contracts on rows written by hand: local time, gaps, and what must be refused."""

from collections.abc import Mapping
from datetime import datetime

import pyarrow as pa
import pytest

from {{ cookiecutter.package_name }}.lakehouse.contracts import Judged, SilverTable, judge
from {{ cookiecutter.package_name }}.lakehouse.duckdb_engine import DuckDb
from {{ cookiecutter.package_name }}.usecase.tables import SILVER

Raw = Mapping[str, str | None]
TABLES = {table.name: table for table in SILVER}
RAW: dict[str, Raw] = {
    "schedule": {
        "year": "2013",
        "month": "7",
        "day": "1",
        "sched_dep_time": "515",
        "sched_arr_time": "819",
        "tailnum": "N14228",
        "distance": "1400",
        "time_hour": "2013-07-01T09:00:00Z",
        "carrier": "UA",
        "flight": "1545",
        "origin": "EWR",
        "dest": "IAH",
        "published_at": "2013-06-30T09:15:00Z",
    },
    "departures": {
        "time_hour": "2013-07-01T09:00:00Z",
        "carrier": "UA",
        "flight": "1545",
        "origin": "EWR",
        "dest": "IAH",
        "dep_time": "620",
        "dep_delay": "65",
        "published_at": "2013-07-01T10:20:00Z",
    },
    "arrivals": {
        "time_hour": "2013-07-01T09:00:00Z",
        "carrier": "UA",
        "flight": "1545",
        "origin": "EWR",
        "dest": "IAH",
        "arr_time": "850",
        "arr_delay": "31",
        "air_time": "200",
        "published_at": "2013-07-01T14:10:00Z",
    },
    "weather": {
        "origin": "EWR",
        "time_hour": "2013-07-01T09:00:00Z",
        "temp": "71.06",
        "dewp": "69.98",
        "humid": "96.41",
        "wind_dir": "180",
        "wind_speed": "5.7539",
        "wind_gust": None,
        "precip": "0.02",
        "pressure": "1014.2",
        "visib": "9",
        "published_at": "2013-07-01T10:00:00Z",
    },
}


def bronze(name: str, *changes: Raw) -> pa.Table:
    rows = [{**RAW[name], **change} for change in changes]
    text = {column: pa.array([row[column] for row in rows], pa.string()) for column in RAW[name]}
    provenance = {
        "source_file": pa.array([f"{name}/20130701T000000Z.csv"] * len(rows)),
        "source_row": pa.array(range(2, len(rows) + 2), pa.int64()),
        "landed_at": pa.array([datetime(2013, 7, 2)] * len(rows), pa.timestamp("us")),
    }
    return pa.table({**text, **provenance})


def clean(name: str, *changes: Raw) -> pa.Table:
    table: SilverTable = TABLES[name]
    return DuckDb().query(table.sql, given={f"bronze.{table.source}": bronze(name, *changes)})


def judged(name: str, *changes: Raw) -> Judged:
    return judge(TABLES[name], clean(name, *changes), known=None)


def scheduled(month: str, day: str, clock: str, time_hour: str) -> dict[str, str | None]:
    return {"year": "2013", "month": month, "day": day, "sched_dep_time": clock, "time_hour": time_hour}


@pytest.mark.parametrize("name", TABLES)
def test_a_good_row_keeps_its_contract(name: str) -> None:
    result = judged(name, {})
    assert (result.good.num_rows, result.refused.height) == (1, 0)


def test_a_flight_has_one_id_in_its_three_tables() -> None:
    ids = {clean(name, {})["flight_id"][0].as_py() for name in ("schedule", "departures", "arrivals")}
    assert ids == {"UA1545-2013070109"}


@pytest.mark.parametrize(
    ("local", "utc"),
    [
        (scheduled("1", "1", "515", "2013-01-01T10:00:00Z"), datetime(2013, 1, 1, 10, 15)),
        (scheduled("7", "1", "515", "2013-07-01T09:00:00Z"), datetime(2013, 7, 1, 9, 15)),
        (scheduled("3", "10", "159", "2013-03-10T06:00:00Z"), datetime(2013, 3, 10, 6, 59)),
        (scheduled("3", "10", "301", "2013-03-10T07:00:00Z"), datetime(2013, 3, 10, 7, 1)),
        (scheduled("11", "3", "130", "2013-11-03T05:00:00Z"), datetime(2013, 11, 3, 5, 30)),
        (scheduled("11", "3", "130", "2013-11-03T06:00:00Z"), datetime(2013, 11, 3, 6, 30)),
        (scheduled("11", "3", "200", "2013-11-03T07:00:00Z"), datetime(2013, 11, 3, 7, 0)),
        (scheduled("1", "1", "5", "2013-01-01T05:00:00Z"), datetime(2013, 1, 1, 5, 5)),
        (scheduled("12", "31", "2359", "2014-01-01T04:00:00Z"), datetime(2014, 1, 1, 4, 59)),
    ],
    ids=[
        "winter",
        "summer",
        "before the clocks go forward",
        "after the clocks went forward",
        "first 01:30 as the clocks go back",
        "second 01:30 as the clocks go back",
        "after the clocks went back",
        "five past midnight",
        "new year",
    ],
)
def test_the_local_schedule_is_converted_with_daylight_saving(local: Raw, utc: datetime) -> None:
    result = judged("schedule", local)
    assert result.refused.is_empty()
    assert result.good["scheduled_departure"].to_pylist() == [utc]
    assert result.good["event_timestamp"].to_pylist() == [utc]


def test_an_overnight_flight_is_normal() -> None:
    overnight = judged("schedule", scheduled("7", "1", "2359", "2013-07-02T03:00:00Z") | {"sched_arr_time": "344"})
    assert overnight.good["scheduled_arrival_clock"].to_pylist() == ["03:44"]


def test_a_missing_reference_stays_null() -> None:
    result = judged("schedule", {"tailnum": None, "dest": "BQN"})
    assert result.good["tailnum"].to_pylist() == [None]


def test_a_missing_measurement_stays_null() -> None:
    result = judged("weather", {"pressure": None, "wind_gust": ""})
    assert result.good.select(["pressure", "wind_gust"]).to_pylist() == [{"pressure": None, "wind_gust": None}]


@pytest.mark.parametrize("name", TABLES)
def test_cleaning_keeps_every_row(name: str) -> None:
    garbage, nothing = (dict.fromkeys(RAW[name], value) for value in ("?", None))
    assert clean(name, {}, garbage, nothing).num_rows == 3


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("schedule", {"sched_dep_time": "615"}, "scheduled_departure: local time disagrees with time_hour"),
        ("schedule", {"day": "32"}, "scheduled_departure: not_nullable"),
        ("schedule", {"sched_arr_time": "2460"}, "scheduled_arrival_clock: str_matches"),
        ("schedule", {"time_hour": "soon"}, "flight_id: not_nullable"),
        ("schedule", {"origin": "BOS"}, "origin: isin"),
        ("schedule", {"distance": "far"}, "distance: not_nullable"),
        ("departures", {"dep_delay": "2001"}, "dep_delay: in_range(-120, 2000)"),
        ("departures", {"dep_delay": "-5"}, "event_timestamp: departure disagrees with time_hour and dep_delay"),
        ("departures", {"published_at": None}, "available_at: not_nullable"),
        ("arrivals", {"arr_delay": "late"}, "arr_delay: not_nullable"),
        ("arrivals", {"air_time": "500"}, "event_timestamp: arrival is earlier than the time in the air allows"),
        ("weather", {"wind_speed": "1048.36058"}, "wind_speed: in_range(0, 150)"),
        ("weather", {"temp": "warm"}, "temp: in_range(-60, 140)"),
        ("weather", {"published_at": "2013-07-01T08:00:00Z"}, "available_at: known before it was observed"),
    ],
)
def test_a_bad_row_is_refused_with_its_reason(name: str, change: Raw, reason: str) -> None:
    result = judged(name, {}, change)
    assert result.good["source_row"].to_pylist() == [2]
    assert result.refused["source_row"].to_list() == [3]
    assert reason in result.refused["reason"][0]


def test_both_hours_of_the_night_the_clocks_go_back_are_kept() -> None:
    twice = [{"time_hour": f"2013-11-03T0{h}:00:00Z", "published_at": f"2013-11-03T0{h + 1}:00:00Z"} for h in (5, 6)]
    assert judged("weather", *twice).good.num_rows == 2
