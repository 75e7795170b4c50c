"""Items, of which something is to be predicted, and their outcomes, which are known a day or two later."""

import pandera.polars as pa
import polars as pl

from mlplatform.contract import Csv, SilverTable, Source

TIMESTAMP = pl.Datetime("us")
# Every table has these: when it happened, when it became known, and where it came from.
COMMON = {
    "event_timestamp": pa.Column(TIMESTAMP),
    "available_at": pa.Column(TIMESTAMP),
    "source_file": pa.Column(str),
    "source_row": pa.Column(pl.Int64),
}
ITEM = {
    "item_id": pa.Column(str, pa.Check.str_matches("^item-[0-9]{6}$")),
    "kind": pa.Column(str, pa.Check.isin(["a", "b", "c"])),
}

ITEMS = pa.DataFrameSchema({**ITEM, "amount": pa.Column(float, pa.Check.in_range(0, 100)), **COMMON}, strict=True)
OUTCOMES = pa.DataFrameSchema(
    {**ITEM, "outcome": pa.Column(float, pa.Check.in_range(-1000, 1000)), **COMMON}, strict=True
)

SOURCES = (
    Source("items", ("item_id", "kind", "amount", "published_at"), "Items, when they become known."),
    Source(
        "outcomes", ("item_id", "kind", "outcome", "published_at"), "What became of them, a day or two later.", Csv()
    ),
)

TABLES = (
    SilverTable("items", "items", keys=("item_id",), contract=ITEMS),
    SilverTable("outcomes", "outcomes", keys=("item_id",), contract=OUTCOMES),
)
