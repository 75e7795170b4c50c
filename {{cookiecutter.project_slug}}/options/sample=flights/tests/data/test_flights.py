"""The flights as they are in Silver: clocks that agree, and facts known when they can be known."""

from collections.abc import Callable
from datetime import datetime, timedelta

import polars as pl
import pytest

from mlplatform.environment import Environment

from {{ cookiecutter.package_name }}.tables import TABLES

NEW_YORK = "America/New_York"
Read = Callable[[str], pl.DataFrame]


@pytest.fixture(scope="module")
def read(env: Environment) -> Read:
    """A table as a frame; without rows where it is not there."""
    return lambda name: pl.DataFrame(env.catalog.read(name)) if env.catalog.exists(name) else pl.DataFrame()


def local(column: str) -> pl.Expr:
    """What clocks in New York show at a time in UTC."""
    return pl.col(column).dt.replace_time_zone("UTC").dt.convert_time_zone(NEW_YORK).dt.replace_time_zone(None)


@pytest.mark.parametrize("table", [table.name for table in TABLES])
def test_next_to_nothing_is_quarantined(read: Read, table: str) -> None:
    """One gust of a thousand miles an hour, in February 2013, is all that is wrong with the sample."""
    assert read(f"quarantine.{table}").height <= 1


def test_a_missing_aircraft_is_null_and_no_reason_to_refuse(read: Read) -> None:
    tails = read("silver.schedule")["tailnum"]
    assert 0 < tails.null_count() < 0.02 * len(tails)
    assert "" not in tails
    assert read("quarantine.schedule").is_empty()


def test_destinations_that_no_list_of_airports_has_are_kept(read: Read) -> None:
    """San Juan, Aguadilla and Saint Thomas are missing from the sample's airports; people fly there all the same."""
    assert {"SJU", "BQN", "STT"} <= set(read("silver.schedule")["dest"])


def test_missing_weather_is_null_and_rarely_missing(read: Read) -> None:
    weather = read("silver.weather")
    missing = {name: weather[name].null_count() / weather.height for name in ("temp", "wind_speed", "precip", "visib")}
    assert max(missing.values()) < 0.02
    assert 0.5 < weather["wind_gust"].null_count() / weather.height < 0.95
    assert not weather.select(pl.any_horizontal(pl.selectors.float().is_nan().any())).item()


def test_there_is_weather_for_nearly_every_hour_at_every_airport(read: Read) -> None:
    weather = read("silver.weather")
    hours = (weather["event_timestamp"].max() - weather["event_timestamp"].min()) / timedelta(hours=1)  # type: ignore[operator]
    assert set(weather["origin"]) == {"EWR", "JFK", "LGA"}
    assert weather.group_by("origin").len()["len"].min() > 0.97 * hours  # type: ignore[operator]
    assert (weather["available_at"] - weather["event_timestamp"]).unique().to_list() == [timedelta(hours=1)]


def test_scheduled_departures_agree_with_the_hour_in_utc_and_with_the_local_clock(read: Read) -> None:
    """The two statements of one moment, on both sides of the night of 10 March 2013, when the clocks went forward."""
    clock = read("bronze.schedule").select(
        "source_file", "source_row", pl.format("{}-{}-{}", "year", "month", "day").alias("date"), "sched_dep_time"
    )
    rows = (
        read("silver.schedule")
        .join(clock, on=["source_file", "source_row"])
        .with_columns(local("scheduled_departure").alias("local"))
    )
    assert (rows["scheduled_departure"].dt.truncate("1h") == rows["time_hour"]).all()
    shown = rows["local"].dt.hour().cast(pl.Int64) * 100 + rows["local"].dt.minute()
    assert (shown == rows["sched_dep_time"].cast(pl.Int64)).all()
    assert (rows["local"].dt.strftime("%Y-%-m-%-d") == rows["date"]).all()
    ahead = (rows["scheduled_departure"] - rows["local"]).dt.total_hours()
    forward = datetime(2013, 3, 10, 2)
    assert set(ahead.filter(rows["local"] < forward)) == {5}
    assert set(ahead.filter(rows["local"] > forward)) == {4}


def test_overnight_flights_are_normal(read: Read) -> None:
    schedule = read("silver.schedule").with_columns(local("scheduled_departure").dt.strftime("%H:%M").alias("leaves"))
    overnight = schedule.filter(pl.col("scheduled_arrival_clock") < pl.col("leaves"))
    assert 0.005 < overnight.height / schedule.height < 0.1


def test_a_flight_is_planned_then_leaves_then_arrives(read: Read) -> None:
    planned, left, arrived = (
        read(f"silver.{name}").select("flight_id", pl.col("available_at").alias(name))
        for name in ("schedule", "departures", "arrivals")
    )
    flights = planned.join(left, on="flight_id", how="full", coalesce=True).join(
        arrived, on="flight_id", how="full", coalesce=True
    )
    assert flights.filter(pl.col("arrivals").is_not_null() & pl.col("departures").is_null()).is_empty()
    assert flights.filter(pl.col("departures").is_not_null() & pl.col("schedule").is_null()).is_empty()
    assert (flights["departures"] < flights["arrivals"]).all()
    assert (flights["schedule"] < flights["departures"]).all()


def test_plans_are_known_a_day_ahead(read: Read) -> None:
    schedule = read("silver.schedule")
    assert (schedule["scheduled_departure"] - schedule["available_at"]).unique().to_list() == [timedelta(days=1)]


def test_some_flights_never_leave_and_some_never_arrive(read: Read) -> None:
    """Cancelled and diverted flights: a few in a hundred. Those of the last day may still be on their way."""
    end = read("silver.departures")["available_at"].max()
    due = read("silver.schedule").filter(pl.col("scheduled_departure") < end - timedelta(days=2))  # type: ignore[operator]
    for name, most in (("departures", 0.06), ("arrivals", 0.07)):
        missing = due.join(read(f"silver.{name}"), on="flight_id", how="anti")
        assert 0.005 < missing.height / due.height < most


def test_about_a_quarter_of_flights_are_late(read: Read) -> None:
    delays = read("silver.arrivals")["arr_delay"]
    assert 0.1 < (delays > 15).mean() < 0.4  # type: ignore[operator]
    assert -20 < delays.median() < 20  # type: ignore[operator]
