"""The source, the Silver table and its contract: measurements of cell nuclei."""

import pandera.polars as pa
import polars as pl

from mlplatform.contract import SilverTable, Source

MEASURED = ("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "symmetry")
SOURCES = (Source("samples", ("sample_id", "benign", *MEASURED), "Tissue samples, with what the pathologist found."),)

SAMPLES = pa.DataFrameSchema(
    {
        "sample_id": pa.Column(str),
        "benign": pa.Column(float, pa.Check.isin([0.0, 1.0])),
        **{name: pa.Column(float, pa.Check.ge(0)) for name in MEASURED},
        "event_timestamp": pa.Column(pl.Datetime("us")),
        "available_at": pa.Column(pl.Datetime("us")),
        "source_file": pa.Column(str),
        "source_row": pa.Column(pl.Int64),
    },
    strict=True,
)

TABLES = (SilverTable("samples", "samples", keys=("sample_id",), contract=SAMPLES, description="One row per sample."),)
