"""Monitoring of a server: what it was asked, what it answered, how well and how quickly, beside batch."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from copies import make
from mlplatform.environment import Environment
from mlplatform.features.online import publish
from mlplatform.pipelines.collect import collect
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.materialize import materialize
from mlplatform.pipelines.monitor import monitor
from mlplatform.serving.monitored import measured
from mlplatform.serving.requests import folder
from mlplatform.storage import ops
from mlplatform.storage.catalog import Span
from server import Start
from steps import advance, overlay, read
from tiny.project import PROJECT

LoadEnv = Callable[..., Environment]
DAY = timedelta(days=1)
END = datetime(2025, 3, 24)  # of a whole week, and so of a window
pytestmark = pytest.mark.serving


def figures(env: Environment, end: datetime = END) -> dict[tuple[str, str, str], float]:
    """What was measured of a window, by metric, column and slice."""
    rows = read(env, ops.METRICS).filter(pl.col("window_end") == end)
    return {(m, c, s): v for m, c, s, v in rows.select("metric", "column", "slice", "value").iter_rows()}


def test_batch_and_online_are_measured_together_and_each_for_itself(
    start: Start, prod: Environment, load_env: LoadEnv
) -> None:
    """Each item of a week is scored in batch and asked for once, as are five that no table knows."""
    advance(prod, END + 3 * DAY)
    infer(prod, END)
    items = read(prod, "silver.items").filter(pl.col("available_at") > END - 7 * DAY, pl.col("available_at") <= END)
    publish(prod, END - 7 * DAY)
    running = start(folder=prod.folder, published=False, log={"segment": "1s"})
    stale = 0
    for day, due in sorted(items.partition_by("available_at", as_dict=True).items()):
        publish(prod, day[0])
        running.times[0] = day[0]
        answer = running.predict(*due.select("item_id", "kind", "amount").to_dicts()).raise_for_status().json()
        stale += sum(bool(row["features_stale"]) for row in answer["predictions"])
    strangers = [{"item_id": f"item-9{n:05d}", "kind": "a", "amount": None} for n in range(5)]
    running.predict(*strangers).raise_for_status()
    values = sum(materialize(prod, END, backfill=True).written.values())
    for _ in range(3):
        assert running.predict({"item_id": "item-000001"}).status_code == 422
    deadline = time.monotonic() + 30
    while b'"status":422' not in b"".join(path.read_bytes() for path in folder(prod).glob("*.jsonl")):
        assert time.monotonic() < deadline, "no tally is written"
        time.sleep(0.1)
    running.service.log.close()
    collect(prod, END)
    assert not collect(prod, END).written
    overlay(prod.folder, "few", {"monitoring": {"min_rows": 15, "psi_bins": 4, "label_delay": "2d"}})
    prod = load_env("prod", prod.folder, "few")
    monitor(prod, END + 3 * DAY)

    found, asked = figures(prod), len(items)
    assert asked == 70
    assert found["rows", "", "all"] == asked + 5, "who is scored by both ways counts once"
    assert (found["rows", "", "inference=batch"], found["rows", "", "inference=online"]) == (asked, asked + 5)
    for metric in ("roc_auc", "average_precision", "baseline_roc_auc"):
        assert found[metric, "", "inference=online"] == found[metric, "", "inference=batch"] == found[metric, "", "all"]
    coverage = found["label_coverage", "", "inference=batch"]
    assert found["label_coverage", "", "inference=online"] == pytest.approx(coverage * asked / (asked + 5))
    assert found["missing_rate", "amount", "inference=batch"] == 0
    assert found["missing_rate", "amount", "inference=online"] == pytest.approx(5 / (asked + 5))
    outcomes = "kind_history__outcome_7d"
    for metric in ("psi", "ks"):
        assert (metric, outcomes, "inference=online") in found
    assert {found["missing_rate", outcomes, f"inference={way}"] for way in ("batch", "online")} == {0}
    assert found["requests", "serve", "all"] == asked + 1 + 3
    assert found["requests_per_second", "serve", "all"] == pytest.approx(74 / (7 * 86_400))
    assert found["refused_share", "serve", "all"] == pytest.approx(3 / 74)
    assert found["failed_share", "serve", "all"] == 0
    assert found["stale_share", "serve", "all"] == pytest.approx(stale / (asked + 5))
    assert stale > 0
    assert 0 < found["latency_p50", "serve", "all"] <= found["latency_p99", "serve", "all"] < 30
    assert found["freshness_seconds", "online", "all"] == 0
    assert found["rows", "online", "all"] == values > 0


def test_drift_is_that_of_the_values_which_the_server_used(start: Start, prod: Environment, load_env: LoadEnv) -> None:
    """Features that were published once and never again are those of the answers, whatever the tables hold by now."""
    advance(prod, END)
    infer(prod, END)
    publish(prod, END - 7 * DAY)
    running = start(folder=prod.folder, published=False)
    items = read(prod, "silver.items").filter(pl.col("available_at") > END - 7 * DAY, pl.col("available_at") <= END)
    running.times[0] = END
    running.predict(*items.select("item_id", "kind", "amount").to_dicts()).raise_for_status()
    running.service.log.close()
    collect(prod, END)
    overlay(prod.folder, "few", {"monitoring": {"min_rows": 15, "psi_bins": 4}})
    monitor(load_env("prod", prod.folder, "few"), END)
    found = figures(prod)
    assert found["missing_rate", "kind_arrivals__items_1d", "inference=batch"] < 0.1
    assert found["missing_rate", "kind_arrivals__items_1d", "inference=online"] == 1, "its time to live is over"


def test_latency_is_that_of_a_request_however_many_rows_it_has(prod: Environment) -> None:
    prod.catalog.append(ops.REQUESTS, ops.rows(ops.REQUESTS, []))
    asked = [("a", 3.0, 1), ("a", 3.0, 1), ("a", 3.0, 1), ("b", 1.0, 1), ("c", 2.0, 7), ("of the week before", 9.0, 0)]
    rows = pl.DataFrame(
        {
            "request_id": [name for name, _, _ in asked],
            "seconds": [seconds for _, seconds, _ in asked],
            "prediction_time": [END - 7 * DAY + day * DAY for _, _, day in asked],
            "features_stale": 0,
            "inference": "online",
        }
    )
    found = pl.concat(measured(prod, Span(END - 7 * DAY, END), rows))
    shown = {name: value for name, value in found.select("metric", "value").iter_rows() if "latency" in name}
    assert shown == {"latency_p50": 2.0, "latency_p99": 3.0}


def test_rules_may_name_the_server_and_a_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path / "src")
    copy = make(tmp_path)
    rules = [
        {"metric": "failed_share", "columns": ["serve"]},
        {"metric": "psi", "columns": ["amount"], "slices": ["inference=online"]},
        {"metric": "roc_auc", "slices": ["kind=*", "variant=challenger"]},
        {"metric": "latency_p99", "columns": ["server"]},
    ]
    named = [{"name": f"rule {number}", "above": 1.0, **rule} for number, rule in enumerate(rules)]
    overlay(copy.folder, "watch", {"monitoring": {"rules": named}})
    where = "conf/watch.yml: monitoring.rules, 'rule 3': columns"
    assert copy.problems() == [f"{where}: latency_p99 is not measured for server (did you mean 'serve'?)"]


def test_what_is_sensitive_is_not_guessed(start: Start, prod: Environment, load_env: LoadEnv, now: datetime) -> None:
    secret = replace(PROJECT, entity=replace(PROJECT.entity, sensitive=("amount",)))
    running = start(folder=prod.folder, owner=secret)
    running.predict({"item_id": "item-000001", "kind": "a", "amount": 40.0}).raise_for_status()
    running.service.log.close()
    (path,) = folder(prod).glob("*.jsonl")
    assert "amount" not in json.loads(json.loads(path.read_bytes().splitlines()[0])["request"])
    collect(prod, now)
    monitor(Environment.load("prod", secret, prod.folder, ("test",)), now + 7 * DAY)
    measured = read(prod, ops.METRICS)
    assert measured.filter(pl.col("metric") == "missing_rate", pl.col("slice") == "inference=online").is_empty()
