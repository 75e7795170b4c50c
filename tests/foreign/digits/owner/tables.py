"""The source, the Silver table and its contract: scanned digits of eight by eight pixels."""

import pandera.polars as pa
import polars as pl

from mlplatform.contract import SilverTable, Source

PIXELS = tuple(f"p{number:02d}" for number in range(64))
SOURCES = (Source("scans", ("image_id", "digit", *PIXELS), "Digits that people wrote, with what they meant to write."),)

SCANS = pa.DataFrameSchema(
    {
        "image_id": pa.Column(pl.Int64, pa.Check.ge(0)),
        "digit": pa.Column(str, pa.Check.isin([str(digit) for digit in range(10)])),
        **{pixel: pa.Column(float, pa.Check.in_range(0, 16)) for pixel in PIXELS},
        "event_timestamp": pa.Column(pl.Datetime("us")),
        "available_at": pa.Column(pl.Datetime("us")),
        "source_file": pa.Column(str),
        "source_row": pa.Column(pl.Int64),
    },
    strict=True,
)

TABLES = (SilverTable("scans", "scans", keys=("image_id",), contract=SCANS, description="One row per image."),)
