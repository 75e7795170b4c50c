"""The label's SQL on two outcomes."""

from datetime import datetime

import polars as pl

from mlplatform.testing import sql

from {{ cookiecutter.package_name }}.project import PROJECT


def test_a_label_is_known_when_the_outcome_is() -> None:
    times = [datetime(2025, 3, 1), datetime(2025, 3, 1, 1)]
    outcomes = pl.DataFrame(
        {
            "item_id": ["item-000001", "item-000002"],
            "outcome": [-22.0, 24.0],
            "event_timestamp": times,
            "available_at": times,
        }
    )
    labels = sql.query(PROJECT, "labels.sql", {"silver.outcomes": outcomes})
    assert labels["available_at"].to_list() == times
    assert labels["label"].to_list() == ["low", "high"]
