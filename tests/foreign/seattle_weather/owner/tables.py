"""The source, the Silver table and its contract: one observation a day."""

import pandera.polars as pa
import polars as pl

from mlplatform.contract import SilverTable, Source

SOURCES = (
    Source(
        "observations",
        ("date", "precipitation", "temp_max", "temp_min", "wind", "weather"),
        "The weather of one day in Seattle, published the next morning at six.",
    ),
)

OBSERVATIONS = pa.DataFrameSchema(
    {
        "day": pa.Column(pl.Date),
        "temp_max": pa.Column(float, pa.Check.in_range(-30, 50)),
        "temp_min": pa.Column(float, pa.Check.in_range(-30, 50)),
        "precipitation": pa.Column(float, pa.Check.in_range(0, 300)),
        "wind": pa.Column(float, pa.Check.in_range(0, 60)),
        "weather": pa.Column(str, pa.Check.isin(["drizzle", "fog", "rain", "snow", "sun"])),
        "event_timestamp": pa.Column(pl.Datetime("us")),
        "available_at": pa.Column(pl.Datetime("us")),
        "source_file": pa.Column(str),
        "source_row": pa.Column(pl.Int64),
    },
    strict=True,
)

TABLES = (
    SilverTable("observations", "observations", keys=("day",), contract=OBSERVATIONS, description="One row per day."),
)
