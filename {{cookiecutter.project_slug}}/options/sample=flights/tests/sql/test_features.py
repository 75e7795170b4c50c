"""Feature SQL on tables small enough to do the sums by hand."""

from datetime import datetime, timedelta

import polars as pl
import pytest

from mlplatform.testing import sql

from {{ cookiecutter.package_name }}.project import PROJECT

VIEWS = {view.name: view for view in PROJECT.views}
DAY = datetime(2013, 7, 1)


def at(clock: str, days: int = 0) -> datetime:
    """`clock` (HH:MM, UTC) of the first of July, or of a day after it."""
    hour, minute = clock.split(":")
    return DAY + timedelta(days=days, hours=int(hour), minutes=int(minute))


def departures(*rows: tuple[datetime, float], origin: str = "EWR") -> pl.DataFrame:
    times, delays = zip(*rows, strict=True)
    return pl.DataFrame({"origin": origin, "event_timestamp": times, "available_at": times, "dep_delay": delays})


def schedule(*rows: datetime, origin: str = "EWR") -> pl.DataFrame:
    frame = pl.DataFrame({"scheduled_departure": rows}, schema={"scheduled_departure": pl.Datetime("us")})
    day = pl.duration(days=1)
    return frame.select(
        pl.concat_str(pl.lit(f"{origin}-"), pl.int_range(pl.len())).alias("flight_id"),
        pl.lit(origin).alias("origin"),
        *(pl.lit(value).alias(name) for name, value in (("dest", "IAH"), ("carrier", "UA"), ("tailnum", "N1"))),
        pl.lit(1400.0).alias("distance"),
        "scheduled_departure",
        pl.col("scheduled_departure").alias("event_timestamp"),
        (pl.col("scheduled_departure") - day).alias("available_at"),
    )


def arrivals(*rows: tuple[datetime, float], dest: str = "IAH") -> pl.DataFrame:
    times, delays = zip(*rows, strict=True)
    return pl.DataFrame(
        {
            "flight_id": [f"{dest}-{number}" for number in range(len(rows))],
            "origin": "EWR",
            "dest": dest,
            "carrier": "UA",
            "event_timestamp": times,
            "available_at": times,
            "arr_delay": delays,
        }
    )


def weather(*rows: tuple[datetime, datetime, float]) -> pl.DataFrame:
    columns = ("dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
    times = {"origin": "EWR", "event_timestamp": [row[0] for row in rows], "available_at": [row[1] for row in rows]}
    return pl.DataFrame({**times, "temp": [row[2] for row in rows], **dict.fromkeys(columns, 1.0)})


def given(**silver: pl.DataFrame) -> dict[str, pl.DataFrame]:
    return {f"silver.{name}": frame for name, frame in silver.items()}


def rows_of(view: str, tables: dict[str, pl.DataFrame], **limits: datetime) -> pl.DataFrame:
    rows = sql.query(PROJECT, f"features/{view}.sql", tables, **limits)
    return rows.sort(*VIEWS[view].keys, "event_timestamp")


def row(view: str, tables: dict[str, pl.DataFrame], event_timestamp: datetime) -> dict[str, object]:
    return rows_of(view, tables).row(by_predicate=pl.col("event_timestamp") == event_timestamp, named=True)


def test_congestion_rolls_over_the_hours_of_actual_departures() -> None:
    left = departures((at("10:00"), 0.0), (at("10:59"), 30.0), (at("11:30"), 60.0), (at("12:59"), 15.0))
    planned = schedule(at("10:00"), at("10:29"), at("10:30"), at("12:00"), at("12:44"))
    assert row("origin_congestion", given(departures=left, schedule=planned), at("12:00")) == {
        "origin": "EWR",
        "event_timestamp": at("12:00"),
        "available_at": at("13:00"),
        "departures_1h": 1.0,
        "dep_delay_1h": 15.0,
        "dep_delay_3h": 26.25,
        "dep_delay_24h": 26.25,
        "late_share_3h": 0.5,
        "backlog_3h": 1.0,
    }


def test_a_window_ends_where_it_says() -> None:
    left = departures((at("09:59"), 90.0), (at("10:00"), 10.0), (at("12:00"), 20.0), (at("09:00", days=1), 40.0))
    tables = given(departures=left, schedule=schedule(at("12:00")))
    assert row("origin_congestion", tables, at("12:00"))["dep_delay_3h"] == 15.0
    assert row("origin_congestion", tables, at("09:00", days=1))["dep_delay_24h"] == pytest.approx(70 / 3)


def test_no_row_sees_a_flight_still_at_the_gate() -> None:
    """Due at 10:00, a flight leaves at 13:05: until then it waits, and nobody knows its three hours of delay."""
    left = departures((at("10:10"), 10.0), (at("12:20"), 20.0), (at("13:05"), 185.0))
    tables = given(departures=left, schedule=schedule(at("10:00"), at("10:00"), at("12:00")))
    before, after = (row("origin_congestion", tables, at(hour)) for hour in ("12:00", "13:00"))
    assert (before["dep_delay_3h"], before["backlog_3h"]) == (15.0, 1.0)
    assert after["dep_delay_24h"] == pytest.approx(215 / 3)


def test_an_hour_without_departures_has_no_mean() -> None:
    tables = given(departures=departures((at("23:00"), 5.0)), schedule=schedule(at("10:15")))
    quiet = row("origin_congestion", tables, at("10:00"))
    assert (quiet["departures_1h"], quiet["dep_delay_1h"], quiet["backlog_3h"]) == (0.0, None, 1.0)


def test_origins_do_not_mix() -> None:
    left = pl.concat([departures((at("10:00"), 0.0)), departures((at("10:00"), 60.0), origin="JFK")])
    tables = given(departures=left, schedule=schedule(at("10:00")))
    assert rows_of("origin_congestion", tables)["dep_delay_1h"].to_list() == [0.0, 60.0]


def test_departures_that_tie_are_all_counted_once() -> None:
    left = departures(*[(at("10:30"), delay) for delay in (0.0, 10.0, 50.0)])
    tables = given(departures=left, schedule=schedule(at("10:30")))
    tied = rows_of("origin_congestion", tables)
    assert tied.select("departures_1h", "dep_delay_1h").rows() == [(3.0, 20.0)]


@pytest.mark.parametrize("view", ["carrier_delays", "route_delays"])
def test_delays_roll_over_a_day_and_a_week_of_arrivals(view: str) -> None:
    landed = arrivals(
        (at("12:59"), 999.0), (at("13:00"), 0.0), (at("12:30", days=6), 40.0), (at("12:45", days=7), -10.0)
    )
    now = row(view, given(arrivals=landed), at("12:00", days=7))
    assert (now["available_at"], now["arr_delay_1d"], now["arr_delay_7d"]) == (at("13:00", days=7), -10.0, 10.0)
    assert (now["late_share_1d"], now["late_share_7d"]) == (0.0, pytest.approx(1 / 3))


def test_a_route_is_an_origin_and_a_destination() -> None:
    landed = pl.concat([arrivals((at("10:00"), 5.0)), arrivals((at("10:30"), 25.0), dest="BOS")])
    tables = given(arrivals=landed)
    assert rows_of("route_delays", tables).select("dest", "arr_delay_1d", "arrivals_7d").rows() == [
        ("BOS", 25.0, 1.0),
        ("IAH", 5.0, 1.0),
    ]
    assert rows_of("carrier_delays", tables)["arr_delay_1d"].to_list() == [15.0]


def test_hours_are_counted_in_utc_across_a_change_of_the_clocks() -> None:
    """In New York 2013-03-10 has 23 hours and 2013-11-03 has 25: a day's window is 24 hours on both."""
    for sunday in (datetime(2013, 3, 10), datetime(2013, 11, 3)):
        landed = arrivals(*[(sunday + timedelta(hours=hour), float(hour)) for hour in range(30)])
        last = row("carrier_delays", given(arrivals=landed), sunday + timedelta(hours=29))
        assert last["arr_delay_1d"] == sum(range(6, 30)) / 24


def tangled() -> dict[str, pl.DataFrame]:
    """Ten days with facts in every hour, some on the full hour; every other one becomes known late."""
    times = [DAY + timedelta(minutes=23 * step) for step in range(620)]
    delays = [float(step * 7 % 83 - 20) for step in range(620)]
    hours = [DAY + timedelta(hours=step) for step in range(240)]
    facts = list(zip(times, delays, strict=True))
    step, every_other = pl.int_range(pl.len()), pl.int_range(pl.len()) % 2
    known_late = (pl.col("event_timestamp") + pl.duration(minutes=every_other * (step % 7) * 31)).alias("available_at")
    return given(
        departures=departures(*facts).with_columns(known_late),
        arrivals=arrivals(*facts).with_columns(known_late),
        schedule=schedule(*[time - timedelta(minutes=30) for time in times]).with_columns(
            known_late - pl.duration(days=1 - every_other)
        ),
        weather=weather(*[(hour, hour, float(step)) for step, hour in enumerate(hours)]).with_columns(
            known_late + pl.duration(hours=1)
        ),
    )


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("as_of", [at("00:00", days=9), at("10:37", days=8), at("05:00", days=3)], ids=str)
def test_a_row_never_changes_once_it_is_available(view: str, as_of: datetime) -> None:
    tables, known = tangled(), pl.col("available_at") <= as_of
    backfill = rows_of(view, tables).filter(known)
    assert backfill.height > 20
    assert rows_of(view, tables, as_of=as_of).filter(known).equals(backfill)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("since", [at("00:00", days=8), at("10:37", days=8), at("09:00", days=9)], ids=str)
def test_the_window_that_changed_is_computed_from_the_lookback_alone(view: str, since: datetime) -> None:
    tables, fresh = tangled(), pl.col("available_at") > since
    backfill = rows_of(view, tables).filter(fresh)
    assert backfill.height
    assert rows_of(view, tables, since=since - VIEWS[view].lookback).filter(fresh).equals(backfill)


@pytest.mark.parametrize("view", VIEWS)
def test_a_row_is_unique_and_available_after_its_event(view: str) -> None:
    rows = rows_of(view, tangled())
    assert rows.select(*VIEWS[view].keys, "event_timestamp").is_unique().all()
    assert (rows["available_at"] > rows["event_timestamp"]).all()


@pytest.mark.parametrize(
    ("departure", "hour", "day"),
    [
        (datetime(2013, 3, 10, 6, 59), 1, 1),
        (datetime(2013, 3, 10, 7, 0), 3, 1),
        (datetime(2013, 11, 3, 5, 30), 1, 1),
        (datetime(2013, 11, 3, 6, 30), 1, 1),
        (datetime(2013, 11, 3, 7, 0), 2, 1),
        (datetime(2013, 7, 2, 3, 59), 23, 2),
    ],
)
def test_an_entity_has_the_local_hour_and_weekday(departure: datetime, hour: int, day: int) -> None:
    (entity,) = sql.query(PROJECT, "entities.sql", given(schedule=schedule(departure))).to_dicts()
    assert (entity["local_hour"], entity["day_of_week"]) == (hour, day)
    assert entity["prediction_time"] == departure - timedelta(hours=2)
    assert entity["available_at"] < entity["prediction_time"]
