"""The label's SQL on three arrivals: just early, just in time, just late."""

from datetime import datetime

import polars as pl

from mlplatform.testing import sql

from {{ cookiecutter.package_name }}.project import PROJECT


def test_a_label_is_known_when_the_flight_has_arrived() -> None:
    times = [datetime(2013, 7, 1, hour) for hour in (10, 11, 12)]
    landed = pl.DataFrame(
        {
            "flight_id": ["UA1", "UA2", "UA3"],
            "arr_delay": [-16.0, 15.0, 16.0],
            "event_timestamp": times,
            "available_at": times,
        }
    )
    labels = sql.query(PROJECT, "labels.sql", {"silver.arrivals": landed})
    assert labels["available_at"].to_list() == times
    assert labels["label"].to_list() == [-16.0, 15.0, 16.0]
