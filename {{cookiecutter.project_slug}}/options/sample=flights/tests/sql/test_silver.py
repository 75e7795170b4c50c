"""Cleaning SQL and contracts on rows written by hand: local time, gaps, and what must be refused."""

from datetime import datetime
from functools import partial

import pytest

from mlplatform.testing import sql

from {{ cookiecutter.package_name }}.project import PROJECT

cleaned = partial(sql.cleaned, PROJECT)
judged = partial(sql.judged, PROJECT)

Raw = dict[str, str | None]
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
        "dep_delay": "65",
        "published_at": "2013-07-01T10:20:00Z",
    },
    "arrivals": {
        "time_hour": "2013-07-01T09:00:00Z",
        "carrier": "UA",
        "flight": "1545",
        "origin": "EWR",
        "dest": "IAH",
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


def scheduled(month: str, day: str, clock: str, time_hour: str) -> dict[str, str | None]:
    return {"year": "2013", "month": month, "day": day, "sched_dep_time": clock, "time_hour": time_hour}


@pytest.mark.parametrize("name", RAW)
def test_a_good_row_keeps_its_contract(name: str) -> None:
    good, refused = judged(name, RAW[name])
    assert (good.height, refused.height) == (1, 0)


def test_a_flight_has_one_id_in_its_three_tables() -> None:
    ids = {cleaned(name, RAW[name])["flight_id"].item() for name in ("schedule", "departures", "arrivals")}
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
    good, refused = judged("schedule", RAW["schedule"] | local)
    assert refused.is_empty()
    assert good["scheduled_departure"].to_list() == [utc]
    assert good["event_timestamp"].to_list() == [utc]


def test_an_overnight_flight_is_normal() -> None:
    overnight = scheduled("7", "1", "2359", "2013-07-02T03:00:00Z") | {"sched_arr_time": "344"}
    good, _ = judged("schedule", RAW["schedule"] | overnight)
    assert good["scheduled_arrival_clock"].to_list() == ["03:44"]


def test_a_missing_reference_stays_null() -> None:
    good, _ = judged("schedule", RAW["schedule"] | {"tailnum": None, "dest": "BQN"})
    assert good["tailnum"].to_list() == [None]


def test_a_missing_measurement_stays_null() -> None:
    good, _ = judged("weather", RAW["weather"] | {"pressure": None, "wind_gust": ""})
    assert good.select("pressure", "wind_gust").rows() == [(None, None)]


@pytest.mark.parametrize("name", RAW)
def test_cleaning_keeps_every_row(name: str) -> None:
    garbage, nothing = (dict.fromkeys(RAW[name], value) for value in ("?", None))
    assert cleaned(name, RAW[name], garbage, nothing).height == 3


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
    good, refused = judged(name, RAW[name], RAW[name] | change)
    assert good["source_row"].to_list() == [2]
    assert refused["source_row"].to_list() == [3]
    assert reason in refused["reason"][0]


# Of each measured column the values that are just too small and just too large.
LIMITS: dict[str, dict[str, tuple[float, float]]] = {
    "schedule": {"distance": (0.5, 10001)},
    "departures": {"dep_delay": (-121, 2001)},
    "arrivals": {"arr_delay": (-181, 2001), "air_time": (9, 1201)},
    "weather": {
        "temp": (-61, 141),
        "dewp": (-81, 101),
        "humid": (-1, 101),
        "wind_dir": (-1, 361),
        "wind_speed": (-1, 151),
        "wind_gust": (-1, 251),
        "precip": (-0.1, 15.1),
        "pressure": (849, 1101),
        "visib": (-1, 101),
    },
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_value_just_beyond_a_limit_is_refused(name: str) -> None:
    beyond = [(column, str(value)) for column, values in LIMITS[name].items() for value in values]
    good, refused = judged(name, *(RAW[name] | {column: value} for column, value in beyond))
    assert good.is_empty()
    for (column, _), reason in zip(beyond, refused.sort("source_row")["reason"], strict=True):
        assert f"{column}: in_range" in reason


def test_both_hours_of_the_night_the_clocks_go_back_are_kept() -> None:
    twice: list[Raw] = [
        {"time_hour": f"2013-11-03T0{h}:00:00Z", "published_at": f"2013-11-03T0{h + 1}:00:00Z"} for h in (5, 6)
    ]
    good, _ = judged("weather", *(RAW["weather"] | hour for hour in twice))
    assert good.height == 2
