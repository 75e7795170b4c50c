"""The load test measures a real server, and fails beyond its limits."""

import asyncio
import os
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import polars as pl
import pytest

from mlplatform.config.serving import Load
from mlplatform.environment import Environment
from mlplatform.pipelines.materialize import materialize
from mlplatform.pipelines.monitor import monitor
from mlplatform.serving.access import new_key
from mlplatform.serving.load import LoadTestError, bodies_of, load_test, measure, started, too_much
from server import Start
from steps import overlay, read

pytestmark = pytest.mark.serving


def test_the_load_test_passes_and_is_seen_to_fail(start: Start, prod: Environment, now: datetime) -> None:
    running = start(folder=prod.folder, limits={"per_second": 1e6})
    url, bodies = str(running.client.base_url), bodies_of(prod, now)
    key = {"X-API-Key": running.client.headers["X-API-Key"]}
    found = asyncio.run(measure(url, bodies, key, 3, 0.5))
    assert found.failed == 0
    assert too_much(found, Load(per_second=1e-3, p50=30, p99=30)) == []
    slow = too_much(found, Load(per_second=1e9, p50=1e-9, p99=1e-9))
    assert [line.partition(":")[0] for line in slow] == ["per_second", "p50", "p99"]
    strangers = asyncio.run(measure(url, bodies, {"X-API-Key": "guessed"}, 1, 0.2))
    assert "failed" in too_much(strangers, Load(per_second=1e-3, p50=30, p99=30))[0]


def test_a_server_in_a_process_of_its_own_says_where_it_is(
    prod: Environment, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    materialize(prod, now)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    key, entry = new_key("load test")
    with started(prod, now, entry, ("-m", "tiny", "--conf", "test")) as url:
        assert httpx.get(f"{url}/health", timeout=30).json() == {"status": "alive"}
        asked = {"rows": [{"item_id": "item-000001", "kind": "a", "amount": 40.0}]}
        answer = httpx.post(f"{url}/predict", json=asked, headers={"X-API-Key": key}, timeout=30).json()
    assert datetime.fromisoformat(answer["prediction_time"]).replace(tzinfo=None) == now


def test_without_a_champion_it_passes_only_where_models_come_from_elsewhere(
    blank: Path, load_env: Callable[..., Environment], now: datetime
) -> None:
    with pytest.raises(LoadTestError, match="staging has no champion"):
        load_test(load_env("staging", blank), now)
    promoted = overlay(blank, "promoted", {"pipelines": {"refused": ["train"]}})
    assert load_test(load_env("staging", blank, promoted), now) is None


def test_the_age_of_online_features_is_measured_and_can_raise_an_alert(prod: Environment, now: datetime) -> None:
    materialize(prod, now)
    monitor(prod, now)
    rows = read(prod, "monitoring.metrics").filter(
        pl.col("metric") == "freshness_seconds", pl.col("column") == "online"
    )
    assert rows.is_empty(), "published after the window had ended"
    monitor(prod, now + timedelta(days=7))
    rows = read(prod, "monitoring.metrics").filter(
        pl.col("metric") == "freshness_seconds", pl.col("column") == "online"
    )
    (row,) = rows.to_dicts()
    assert row["value"] == (row["window_end"] - now).total_seconds()
