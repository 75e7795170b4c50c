"""Requests to a real server: what is answered, what is refused and how."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from mlplatform.environment import Environment
from mlplatform.errors import ContractError, UserError
from mlplatform.features.online import publish
from mlplatform.pipelines.collect import collect
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.infer import infer
from mlplatform.revision import NotReleasedError
from mlplatform.serving.access import Rate
from mlplatform.serving.schema import Asked
from mlplatform.serving.server import serve
from server import Start
from steps import Edited, advance, read
from tiny.model import Estimate
from tiny.project import PROJECT

LoadEnv = Callable[..., Environment]
DAY = timedelta(days=1)
pytestmark = pytest.mark.serving
ITEM: dict[str, Any] = {"item_id": "item-000001", "kind": "a", "amount": 40.0}


def test_a_request_gets_what_batch_gives_to_the_last_digit(
    start: Start, project: Path, load_env: LoadEnv, now: datetime
) -> None:
    """Every entity of two days, each asked for at its own time by an operator who turns the clock."""
    prod = load_env("prod", project)
    advance(prod, now + 2 * DAY)
    infer(prod, now + 2 * DAY)
    batch = read(prod, "predictions.tiny").sort("prediction_time")
    assert batch.height == 20
    items = {row["item_id"]: row for row in read(prod, "silver.items").iter_rows(named=True)}
    running = start()
    for row in batch.iter_rows(named=True):
        publish(prod, row["prediction_time"])
        running.times[0] = row["prediction_time"]
        item = {name: items[row["item_id"]][name] for name in ("item_id", "kind", "amount")}
        (found,) = running.predict(item).raise_for_status().json()["predictions"]
        assert found["probabilities"]["1"] == row["score"]
        assert found["feature_time"] == f"{row['feature_time'].isoformat()}Z"
        assert running.service.champion.current is not None
        assert running.service.champion.current.quick is not None
        frame = running.predict(item, item).json()["predictions"]  # several rows take the way of a batch
        assert [one["probabilities"]["1"] for one in frame] == [row["score"]] * 2


class Computing(Estimate):
    """One of its inputs is computed from a field of the request and a feature."""

    def inputs(self, frame: pd.DataFrame) -> pd.DataFrame:
        given = super().inputs(frame)
        return given.assign(amount=given["amount"] / (1 + given["kind_arrivals__items_1d"]))


def test_an_input_that_is_computed_is_the_same_in_batch_and_online(
    start: Start, project: Path, load_env: LoadEnv, now: datetime
) -> None:
    """What the platform does with it is Model.inputs, which is written once."""
    owner = replace(PROJECT, model=Computing())
    plain, later = load_env("prod", project), now + DAY
    prod = Environment("prod", owner, project, plain.config)
    advance(prod, later)
    infer(prod, later)
    batch = read(prod, "predictions.tiny").sort("prediction_time")
    items = {row["item_id"]: row for row in read(prod, "silver.items").iter_rows(named=True)}
    running = start(owner=owner)
    for row in batch.iter_rows(named=True):
        publish(prod, row["prediction_time"])
        running.times[0] = row["prediction_time"]
        (found,) = running.predict({name: items[row["item_id"]][name] for name in ITEM}).json()["predictions"]
        assert found["probabilities"]["1"] == row["score"]
    infer(plain, later, again=True)
    assert (read(plain, "predictions.tiny").sort("prediction_time")["score"] != batch["score"]).any()


def test_an_answer_says_who_answered_and_what_was_missing_or_stale(start: Start, now: datetime) -> None:
    running = start()
    told = running.predict(ITEM, ITEM | {"kind": "unheard of"}).raise_for_status().json()
    assert told["model"] == "prod.tiny"
    assert told["prediction_time"] == f"{now.isoformat()}Z"
    known, unknown = told["predictions"]
    assert (known["model_version"], known["variant"], known["item_id"]) == (1, "champion", "item-000001")
    assert known["features_missing"] == known["features_stale"] == []
    assert sum(known["probabilities"].values()) == 1
    assert set(unknown["features_missing"]) == {
        *("kind_history__outcome_7d", "kind_history__outcomes_7d", "kind_arrivals__items_1d"),
    }
    assert unknown["feature_time"] is None
    running.times[0] = now + 2 * DAY
    (later,) = running.predict(ITEM).json()["predictions"]
    assert later["features_stale"] == ["kind_arrivals__items_1d"]


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({"rows": []}, "rows", "at least 1"),
        ({"rows": [ITEM] * 3}, "rows", "at most 2"),
        ({"rows": [{"item_id": "item-000001", "kind": "a"}]}, "rows.0.amount", "required"),
        ({"rows": [ITEM | {"amount": "much"}]}, "rows.0.amount", "valid number"),
        ({"rows": [ITEM | {"prediction_time": "2030-01-01T00:00:00Z"}]}, "rows.0.prediction_time", "not permitted"),
        ({"rows": [ITEM | {"item_id": None}]}, "rows.0.item_id", "valid string"),
        ({"entities": [ITEM]}, "rows", "required"),
        (None, "body", "Invalid JSON"),
    ],
    ids=["no row", "too many", "a gap", "a text", "a client's clock", "no key", "other names", "nothing"],
)
def test_a_body_that_does_not_fit_is_refused_with_field_and_reason(
    start: Start, body: Any, field: str, reason: str
) -> None:
    answer = start(limits={"rows": 2}).client.post("/predict", json=body)
    assert answer.status_code == 422
    told = {problem["field"]: problem["reason"] for problem in answer.json()["problems"]}
    assert reason in told[field]


def test_a_field_may_be_null_and_says_so(start: Start) -> None:
    assert start().predict(ITEM | {"amount": None}).status_code == 200


def test_keys_are_needed_and_can_be_revoked_while_the_server_runs(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlplatform.serving.access import new_key

    (ada, entry), (_, other), file = new_key("ada"), new_key("bob"), tmp_path / "keys"
    file.write_text(f"{entry}\n{other}\n")
    monkeypatch.setenv("SERVING_KEYS_FILE", str(file))
    client = start().client
    body = {"rows": [ITEM]}
    assert client.post("/predict", json=body, headers={"X-API-Key": ada}).status_code == 200
    file.write_text(f"{other}\n")
    assert client.post("/predict", json=body, headers={"X-API-Key": ada}).status_code == 401
    file.write_bytes(b"half an \xff entry\n" + entry.encode())
    assert client.post("/predict", json=body, headers={"X-API-Key": ada}).status_code == 200
    file.unlink()
    assert client.post("/predict", json=body, headers={"X-API-Key": ada}).status_code == 401
    for wrong in ("", "x" * 5000, entry):
        refused = client.post("/predict", json=body, headers={"X-API-Key": wrong})
        assert (refused.status_code, "API key" in refused.json()["error"]) == (401, True)
    assert client.get("/health").status_code == 200


def test_who_has_long_asked_nothing_has_not_saved_it_up() -> None:
    now = [0.0]
    rate = Rate(2.0, lambda: now[0])
    for hour in (0, 1):
        now[0] = 3600.0 * hour
        assert [rate.allows("a client") for _ in range(3)] == [True, True, False]


def test_limits_are_kept(start: Start) -> None:
    running = start(limits={"body": 2_000, "per_second": 3, "seconds": 0.3})
    assert running.client.post("/predict", content=b"x" * 3_000).status_code == 413
    assert running.client.post("/predict", content=iter([b"x" * 1_500] * 2)).status_code == 413
    codes = [running.predict(ITEM).status_code for _ in range(6)]
    assert 429 in codes
    refused = next(answer for answer in (running.predict(ITEM) for _ in range(20)) if answer.status_code == 429)
    assert refused.headers["Retry-After"] == "1"


def test_a_body_that_does_not_come_is_not_waited_for(start: Start) -> None:
    def slow() -> Iterator[bytes]:
        yield b'{"rows": ['
        time.sleep(1)
        yield b"]}"

    running = start(limits={"seconds": 0.2})
    assert running.client.post("/predict", content=slow()).status_code == 408
    url, key = running.client.base_url, running.client.headers["X-API-Key"]
    with socket.create_connection((url.host, url.port)) as client:  # it goes before its body has come
        client.sendall(f"POST /predict HTTP/1.1\r\nX-API-Key: {key}\r\nContent-Length: 9\r\n\r\n[".encode())
        time.sleep(0.1)
    deadline = time.monotonic() + 10
    while 'serving_requests_total{status="408"} 2.0' not in running.client.get("/metrics").text:
        assert time.monotonic() < deadline, "it counts as a failure of the server"


def test_more_requests_at_once_than_there_may_be_are_told_to_come_back(start: Start) -> None:
    running = start(limits={"at_once": 1, "seconds": 60})
    url, key, deadline = running.client.base_url, running.client.headers["X-API-Key"], time.monotonic() + 30
    with socket.create_connection((url.host, url.port)) as client:  # whose body is on its way
        client.sendall(f"POST /predict HTTP/1.1\r\nX-API-Key: {key}\r\nContent-Length: 9\r\n\r\n[".encode())
        while (answer := running.predict(ITEM)).status_code != 503:
            assert time.monotonic() < deadline
        assert answer.headers["Retry-After"] == "1"
    while running.predict(ITEM).status_code != 200:
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    "headers",
    [b"X-A: " + b"y" * 4_000_000, b"X-A: b\r\n" * 1_000_000, b"", b"X-A: b"],
    ids=["a long one", "many", "none", "half of one"],
)
def test_who_shows_no_key_costs_neither_memory_nor_connections(
    start: Start, monkeypatch: pytest.MonkeyPatch, headers: bytes
) -> None:
    """Headers without an end, before a body and behind it, and such as do not come: the connection is closed."""
    monkeypatch.setattr("mlplatform.serving.server._IDLE", 0.3)
    url = start().client.base_url
    begin, chunked = b"POST /predict HTTP/1.1\r\nHost: x\r\n", b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
    for opening in (begin, begin + chunked) if len(headers) > 10 else (begin, b""):
        client = socket.create_connection((url.host, url.port), timeout=20)
        with client, suppress(ConnectionError):  # it is closed while we write
            client.sendall(opening + headers)
            while client.recv(65_536):
                pass


def test_a_port_in_use_is_told_before_anything_is_loaded(prod: Environment, now: datetime) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"127\.0\.0\.1, port {port}: Address already in use.*serving\.port"):
            serve(prod, lambda: now, port=port)


def test_without_a_model_or_features_it_is_alive_and_not_ready(
    start: Start, trained: Path, tmp_path: Path, duplicate: Callable[[Path, Path], Path], now: datetime
) -> None:
    running = start(folder=duplicate(trained, tmp_path / "no-champion"))
    assert running.client.get("/health").status_code == 200
    answer = running.client.get("/ready")
    assert (answer.status_code, "no version" in answer.text) == (503, True)
    assert running.predict(ITEM).status_code == 503

    whole = start()
    assert whole.client.get("/ready").json() == {"status": "ready", "model": "prod.tiny", "model_version": 1}
    whole.times[0] = now - DAY
    assert "newer than" in whole.client.get("/ready").text
    assert whole.predict(ITEM).status_code == 503, "features of the future are not used"
    whole.times[0] = now
    assert whole.predict(ITEM).status_code == 200
    (whole.service.env.folder / "data" / "online" / "prod.db").unlink()
    assert whole.predict(ITEM).status_code == 503
    assert "no features are published" in whole.client.get("/ready").text


def test_no_internals_are_told(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = start()

    def broken(*_: Any) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(running.service, "_join", broken)
    answer = running.predict(ITEM)
    assert answer.status_code == 500
    assert answer.json() == {"error": "the request failed", "problems": []}


def test_metrics_and_documentation_are_there(start: Start) -> None:
    running = start()
    running.predict(ITEM)
    running.predict()
    text = running.client.get("/metrics").text
    assert 'serving_requests_total{status="200"} 1.0' in text
    assert 'serving_requests_total{status="422"} 1.0' in text
    assert "serving_model_version 1.0" in text
    assert "process_resident_memory_bytes" in text
    document = running.client.get("/openapi.json").json()
    shown = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]["examples"]
    assert running.client.post("/predict", json=shown[0]).status_code == 200, "the worked example works"
    assert document["paths"]["/predict"]["post"]["security"] == [{"key": []}]
    assert "key" in document["components"]["securitySchemes"]
    assert running.client.get("/docs").status_code == 200


def test_the_worked_example_has_a_value_for_every_field_also_where_the_model_shows_none() -> None:
    kinds = (pa.string(), pa.int16(), pa.float64(), pa.bool_(), pa.timestamp("us"), pa.date32(), pa.decimal128(9, 2))
    schema = pa.schema([("item_id", pa.string()), *((f"of_{kind}", kind) for kind in kinds)])
    asked = Asked(PROJECT, schema, 1, {"of_string": None, "of_timestamp[us]": 1735689600000, "of_double": 0.5})
    examples: Any = asked.openapi["examples"]
    (row,) = asked.rows(orjson.dumps(examples[0]))
    assert None not in row.values()
    assert (row["item_id"], row["of_double"]) == ("an identifier", 0.5)


def test_a_number_in_a_key_is_one_key_however_it_is_written(start: Start, prod: Environment, now: datetime) -> None:
    """A decimal with two places, by which a view is looked up, and which the answer and the predictions repeat."""
    priced = "SELECT *, CAST(5e-1 AS DECIMAL(9, 2)) AS price, CAST(available_at AS DATE) AS day FROM ({0})"
    edits = {path: priced.format(PROJECT.sql(path)) for path in ("entities.sql", "features/kind_history.sql")}
    views = tuple(replace(v, keys=("kind", "price")) if v.name == "kind_history" else v for v in PROJECT.views)
    members = {"entity": replace(PROJECT.entity, keys=("item_id", "price", "day")), "views": views}
    owner = Edited(**{**vars(PROJECT), **members}, edits=edits)
    env = Environment(prod.name, owner, prod.folder, prod.config)
    with pytest.raises(ContractError, match=r"kind_history has no key price yet: run `featurize --backfill`"):
        featurize(env, now + DAY)
    featurize(env, now, backfill=True)
    running = start(folder=prod.folder, owner=owner)
    prices = ("-0", "0.50", 0.5, "5E-1")
    asked = [ITEM | {"price": price, "day": f"{now:%Y-%m-%d}"} for price in prices]
    none, *found = running.predict(*asked).raise_for_status().json()["predictions"]
    assert [(one["price"], one["features_missing"]) for one in found] == [("0.50", [])] * 3
    assert (none["price"], "kind_history__outcome_7d" in none["features_missing"]) == ("0.00", True)
    running.service.log.close()
    collect(env, now)
    rows = read(prod, "predictions.tiny").filter(pl.col("inference") == "online").sort("price").select("price", "day")
    assert rows.rows() == [(Decimal("0.00"), now.date()), *[(Decimal("0.50"), now.date())] * 3]


def test_the_log_becomes_predictions_once(start: Start, project: Path, load_env: LoadEnv, now: datetime) -> None:
    running = start()
    ids = [running.predict(ITEM, ITEM).json()["request_id"] for _ in range(3)]
    prod: Environment = load_env("prod", project)
    assert not collect(prod, now).written, "the server still writes that file"
    running.service.log.close()
    assert not collect(prod, now - DAY).written, "not known yet"
    assert collect(prod, now).written == {"predictions.tiny": 6}
    assert not collect(prod, now).written
    rows = read(prod, "predictions.tiny").filter(pl.col("inference") == "online")
    assert sorted(set(rows["request_id"])) == sorted(ids)
    assert set(rows["request_row"]) == {0, 1}
    assert rows["prediction_time"].unique().to_list() == [now]
    assert rows["kind"].unique().to_list() == ["a"]
    assert not list((project / "data" / "requests").rglob("*.jsonl"))


def test_where_released_code_runs_no_other_code_serves(project: Path, now: datetime) -> None:
    prod = Environment.load("prod", PROJECT, project)
    with pytest.raises(NotReleasedError, match=r"^prod runs released code only \(pipelines.released_code_only\)"):
        serve(prod, lambda: now)
