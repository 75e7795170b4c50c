"""Batch, stream and server are compared to the last bit: one that answers otherwise is found and named."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlplatform.contract import Deliveries
from mlplatform.delivery import ways
from mlplatform.delivery.ways import FOLDER, WaysError, compare_ways
from mlplatform.environment import Environment
from mlplatform.pipelines.infer import infer
from mlplatform.serving.app import Service
from mlplatform.serving.champion import Served
from mlplatform.storage.catalog import BatchFunction, Window, open_catalog
from mlplatform.streaming.stream import Stream
from steps import advance, another, files
from tiny.deliveries import DELIVERIES

DAY = timedelta(days=1)
pytestmark = pytest.mark.serving


@pytest.fixture
def deliveries(now: datetime, monkeypatch: pytest.MonkeyPatch) -> Deliveries:
    """What batch scores between the two stops is compared."""
    monkeypatch.setattr(ways, "_STEPS", 4)
    return replace(DELIVERIES, first=now, stops=(now + DAY, now + 3 * DAY))


@pytest.fixture
def scored(prod: Environment, deliveries: Deliveries, now: datetime) -> Environment:
    """prod after both stops, in whose midst version 2 took over; now version 3 is champion."""
    another(prod, 2, "Production", now + 2 * DAY)
    for stop in deliveries.stops:
        advance(prod, stop)
        infer(prod, stop)
    another(prod, 3, "Production", now + 3 * DAY)
    return prod


def of_the_item(row: Mapping[str, Any]) -> bool:
    return str(row["item_id"]).endswith("7")


def last_digit(value: float) -> float:
    return float(np.nextafter(value, 2.0))


def test_batch_stream_and_server_agree_to_the_last_digit(scored: Environment, deliveries: Deliveries) -> None:
    before = files(scored.folder)
    assert compare_ways(scored, deliveries, print).rows == 20
    other = open_catalog(scored.folder, f"{FOLDER}/prod", owner="prod", reader="prod")
    made = other.read("predictions.tiny").to_pylist()
    versions = {(row["inference"], row["model_version"]) for row in made}
    assert versions == {(way, version) for way in ("streaming", "online") for version in (1, 2)}
    assert len(made) == 40
    touched = {path.relative_to(scored.folder) for path, at in files(scored.folder).items() if before.get(path) != at}
    assert {path.parts[:2] for path in touched} <= {("data", "ways"), ("data", "mlflow")}


def test_a_server_that_differs_is_found(
    scored: Environment, deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = Served.scores

    def scores(self: Served, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        found = exact(self, rows)
        return np.array([last_digit(found[0])]) if of_the_item(rows[0]) else found

    monkeypatch.setattr(Served, "scores", scores)
    with pytest.raises(
        WaysError, match=r"online: score differs in 2 of 20 rows: 0\.\d+ where batch has 0\.\d+"
    ) as told:
        compare_ways(scored, deliveries, print)
    assert "streaming" not in str(told.value)


def test_a_stream_that_differs_is_found(
    scored: Environment, deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = Stream._predictor

    def predictor(self: Stream, version: int, late: bool) -> BatchFunction:
        predict = exact(self, version, late)

        def off(batch: pa.RecordBatch) -> pa.RecordBatch:
            rows = predict(batch)
            scores = [last_digit(row["score"]) if of_the_item(row) else row["score"] for row in rows.to_pylist()]
            return rows.set_column(rows.schema.get_field_index("score"), "score", pa.array(scores, pa.float64()))

        return off

    monkeypatch.setattr(Stream, "_predictor", predictor)
    with pytest.raises(WaysError, match="streaming: score differs in 2 of 20 rows") as told:
        compare_ways(scored, deliveries, print)
    assert "online" not in str(told.value)


def test_a_batch_that_differs_or_lacks_a_row_is_found(scored: Environment, deliveries: Deliveries) -> None:
    rows = scored.catalog.read("predictions.tiny")
    scores = [last_digit(row["score"]) if of_the_item(row) else row["score"] for row in rows.to_pylist()]
    off = rows.set_column(rows.schema.get_field_index("score"), "score", pa.array(scores, pa.float64()))
    scored.catalog.replace("predictions.tiny", off, Window("prediction_time"))
    with pytest.raises(WaysError, match=r"(?s)streaming: score differs in 2 of 20.*online: score differs in 2 of 20"):
        compare_ways(scored, deliveries, print)
    fewer = rows.sort_by("prediction_time").slice(0, rows.num_rows - 1)
    scored.catalog.replace("predictions.tiny", fewer, Window("prediction_time"))
    with pytest.raises(WaysError, match="online: 20 rows where batch has 19: 0 lacking, 1 more"):
        compare_ways(scored, deliveries, print)


def test_a_server_with_the_champion_of_now_is_found(
    scored: Environment, deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Service.__init__

    def with_newest(self: Service, env: Environment, clock: Any) -> None:
        start(self, env, lambda: datetime.max)
        self.clock = clock

    monkeypatch.setattr(Service, "__init__", with_newest)
    with pytest.raises(WaysError, match=r"online: model_version differs in 20 of 20 rows: 3 where batch has 1"):
        compare_ways(scored, deliveries, print)


def test_where_batch_has_scored_nothing_there_is_nothing_to_compare(prod: Environment, deliveries: Deliveries) -> None:
    advance(prod, deliveries.stops[0])
    infer(prod, deliveries.stops[0])
    with pytest.raises(WaysError, match="has scored nothing in batch"):
        compare_ways(prod, deliveries, print)
