"""The sources, the Silver tables and their contracts: what a row must be like to be worth keeping."""

import pandera.polars as pa
import polars as pl

from mlplatform.contract import SilverTable, Source

TIMESTAMP = pl.Datetime("us")
MINUTE = pl.duration(minutes=1)


def rule(name: str, holds: pl.Expr) -> pa.Check:
    """A rule over several columns of a row; the column it is declared on names it in the quarantine's reason."""
    return pa.Check(lambda data: data.lazyframe.select(holds), name=name)


def number(low: float, high: float, nullable: bool = False) -> pa.Column:
    return pa.Column(float, pa.Check.in_range(low, high), nullable=nullable)


def text(pattern: str, nullable: bool = False) -> pa.Column:
    return pa.Column(str, pa.Check.str_matches(pattern), nullable=nullable)


def time(*rules: pa.Check) -> pa.Column:
    return pa.Column(TIMESTAMP, list(rules))


ORIGIN = pa.Column(str, pa.Check.isin(["EWR", "JFK", "LGA"]))
PROVENANCE = {"source_file": pa.Column(str), "source_row": pa.Column(pl.Int64)}
FLIGHT = {
    "flight_id": pa.Column(str),
    "carrier": text("^[A-Z0-9]{2}$"),
    "flight": text("^[0-9]{1,4}$"),
    "origin": ORIGIN,
    "dest": text("^[A-Z]{3}$"),
    "time_hour": time(),
}

SCHEDULE = pa.DataFrameSchema(
    {
        **FLIGHT,
        "tailnum": text("^[A-Z0-9]+$", nullable=True),
        "distance": number(1, 10_000),
        "scheduled_departure": time(
            rule(
                "local time disagrees with time_hour",
                pl.col("scheduled_departure").dt.truncate("1h") == pl.col("time_hour"),
            )
        ),
        "scheduled_arrival_clock": text("^([01][0-9]|2[0-3]):[0-5][0-9]$"),
        "event_timestamp": time(),
        "available_at": time(),
        **PROVENANCE,
    },
    strict=True,
)

DEPARTURES = pa.DataFrameSchema(
    {
        **FLIGHT,
        "dep_delay": number(-120, 2000),
        "event_timestamp": time(
            rule(
                "departure disagrees with time_hour and dep_delay",
                (pl.col("event_timestamp") - pl.col("dep_delay") * MINUTE).dt.truncate("1h") == pl.col("time_hour"),
            )
        ),
        "available_at": time(),
        **PROVENANCE,
    },
    strict=True,
)

ARRIVALS = pa.DataFrameSchema(
    {
        **FLIGHT,
        "arr_delay": number(-180, 2000),
        "air_time": number(10, 1200),
        "event_timestamp": time(
            rule(
                "arrival is earlier than the time in the air allows",
                pl.col("event_timestamp") - pl.col("air_time") * MINUTE > pl.col("time_hour") - 120 * MINUTE,
            )
        ),
        "available_at": time(),
        **PROVENANCE,
    },
    strict=True,
)

# Fahrenheit, per cent, degrees, miles per hour, inches, millibars, miles: wide enough for any real weather.
MEASURED = {
    "temp": number(-60, 140, nullable=True),
    "dewp": number(-80, 100, nullable=True),
    "humid": number(0, 100, nullable=True),
    "wind_dir": number(0, 360, nullable=True),
    "wind_speed": number(0, 150, nullable=True),
    "wind_gust": number(0, 250, nullable=True),
    "precip": number(0, 15, nullable=True),
    "pressure": number(850, 1100, nullable=True),
    "visib": number(0, 100, nullable=True),
}
WEATHER = pa.DataFrameSchema(
    {
        "origin": ORIGIN,
        "event_timestamp": time(),
        "available_at": time(
            rule("known before it was observed", pl.col("available_at") >= pl.col("event_timestamp")),
        ),
        **MEASURED,
        **PROVENANCE,
    },
    strict=True,
)

# The columns of the landing files that sql/silver/ reads; files may have more.
IDENTITY = ("time_hour", "carrier", "flight", "origin", "dest", "published_at")
SOURCES = (
    Source(
        "schedule",
        (*IDENTITY, "year", "month", "day", "sched_dep_time", "sched_arr_time", "tailnum", "distance"),
        "Flights as planned, a day before they leave.",
    ),
    Source(
        "weather",
        ("origin", "time_hour", *MEASURED, "published_at"),
        "Hourly observations at the airports of origin.",
    ),
    Source("departures", (*IDENTITY, "dep_delay"), "Flights that have left."),
    Source("arrivals", (*IDENTITY, "arr_delay", "air_time"), "Flights that have arrived."),
)

TABLES = (
    SilverTable("schedule", "schedule", ("flight_id",), SCHEDULE, "Flights as planned, one row each."),
    SilverTable("weather", "weather", ("origin", "event_timestamp"), WEATHER, "The weather at an airport by the hour."),
    SilverTable("departures", "departures", ("flight_id",), DEPARTURES, "When flights left, and how late."),
    SilverTable("arrivals", "arrivals", ("flight_id",), ARRIVALS, "When flights arrived, and how late."),
)
