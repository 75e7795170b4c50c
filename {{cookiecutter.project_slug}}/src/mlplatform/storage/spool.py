"""Rows in a temporary file: what several readers need is computed once, however large, and in no reader's thread."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from mlplatform.storage.address import told

_BATCH = 100_000  # rows


class Spool:
    """The file goes when this object does."""

    def __init__(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        self.schema = schema
        self._folder = tempfile.TemporaryDirectory(prefix="mlplatform-")
        self.path = Path(self._folder.name, "rows.parquet")
        self.rows = 0
        with told(str(self.path)), pq.ParquetWriter(self.path, schema) as file:
            for batch in batches:
                file.write_batch(batch)
                self.rows += batch.num_rows

    def batches(self) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(self.path) as file:
            yield from file.iter_batches(_BATCH)

    def reader(self) -> pa.RecordBatchReader:
        """The rows for code that reads them in threads of its own, which must not run any Python."""
        rows = ds.dataset(self.path, schema=self.schema, format="parquet")
        return rows.scanner(batch_size=_BATCH, batch_readahead=1, fragment_readahead=1, use_threads=False).to_reader()
