"""The dashboard's content: what it makes of the tables, with and without them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from mlplatform.config.sections import MonitoringSettings
from mlplatform.contract import Metric
from mlplatform.monitoring import alerts, dashboard, metrics
from mlplatform.storage.catalog import option
from mlplatform.storage.delta import DeltaCatalog

WEEK = timedelta(days=7)
START = datetime(2013, 4, 1)
SETTINGS = MonitoringSettings.model_validate(
    {
        "rules": [
            {"name": "moved", "metric": "ks", "above": 0.2, "except_columns": ["season__*"]},
            {"name": "nobody", "metric": "ks", "above": 0.2, "columns": ["typo"]},
        ]
    },
    strict=False,
)
METRIC = Metric("roc_auc", lambda labels, scores: 0.5)
Collect = Callable[[], dashboard.DashboardData]


@pytest.fixture
def tables(tmp_path: Path) -> DeltaCatalog:
    return DeltaCatalog(tmp_path / "prod", owner="prod", reader="prod")


@pytest.fixture
def collect(tables: DeltaCatalog) -> Collect:
    return lambda: dashboard.collect(tables, SETTINGS, title="Worth it?", environment="prod", metric=METRIC)


def day(number: int) -> datetime:
    return START + timedelta(days=number)


def transition(version: int, move: str, status: str, at: datetime, **more: Any) -> dict[str, Any]:
    source, target = move.split(">")
    return {
        "model": "due",
        "version": version,
        "from_stage": source,
        "to_stage": target,
        "status": status,
        "requested_at": at,
        "requested_by": "train",
        "request_reason": "new data",
        "closed_at": None if status == "pending" else at,
        "closed_by": "",
        "reason": "",
        "recorded_at": at,
    } | more


def comparison(challenger: int, champion: str, difference: float, at: datetime, **more: Any) -> dict[str, Any]:
    return {
        "model": "due",
        "challenger": challenger,
        "champion": champion,
        "window_start": at - WEEK,
        "window_end": at,
        "metric": "roc_auc",
        "challenger_score": 0.7 + difference,
        "champion_score": 0.7,
        "difference": difference,
        "low": difference - 0.01,
        "high": difference + 0.01,
        "margin": 0.0,
        "accepted": difference > 0.01,
        "as_of": at,
        "reason": "",
    } | more


def run(pipeline: str, at: datetime, status: str = "finished", **more: Any) -> dict[str, Any]:
    return {
        "run_id": "1",
        "pipeline": pipeline,
        "as_of": at,
        "started_at": at,
        "seconds": 2.0,
        "rows": 10,
        "status": status,
        "error": "" if status == "finished" else "the disk is full",
        "code": "v1.0.0",
    } | more


def measured(rows: list[tuple[int, str, str, float]]) -> pa.Table:
    """Metrics of the weeks with the given numbers: (week, metric, column, value)."""
    records = [
        (day(7 * week - 7), day(7 * week), metric, column, "all", value, 1, day(7 * week))
        for week, metric, column, value in rows
    ]
    return pl.DataFrame(records, metrics.SCHEMA, orient="row").to_arrow()


def test_without_any_table_every_part_says_so(collect: Collect) -> None:
    page = dashboard.render(collect())
    assert "<code>train</code> makes the first one" in page
    for text in ("No model version", "no window has enough labels", "no table has been written", "No pipeline has run"):
        assert text in page


@pytest.mark.parametrize(
    ("moves", "fate", "stage"),
    [
        ([("None>Staging", "pending")], "waiting", "None"),
        ([("None>Staging", "approved"), ("Staging>Production", "pending")], "waiting", "Staging"),
        ([("None>Staging", "rejected"), ("None>Archived", "approved")], "rejected", "Archived"),
        ([("None>Staging", "approved"), ("Staging>Production", "approved")], "champion", "Production"),
        ([("Staging>Production", "approved"), ("Production>Archived", "approved")], "replaced", "Archived"),
    ],
    ids=["new", "waits for approval", "does not comply", "in production", "replaced"],
)
def test_the_fate_of_a_version_follows_from_its_transitions(
    tables: DeltaCatalog, collect: Collect, moves: list[tuple[str, str]], fate: str, stage: str
) -> None:
    rows = [transition(1, move, status, day(i)) for i, (move, status) in enumerate(moves)]
    tables.append("ops.transitions", pa.Table.from_pylist(rows))
    (version,) = collect().versions
    assert (version["fate"], version["stage"]) == (fate, stage)
    assert version["trained"] == START


def test_champions_reign_one_after_the_other_and_a_rollback_brings_one_back(
    tables: DeltaCatalog, collect: Collect
) -> None:
    rows = [
        transition(1, "Staging>Production", "approved", day(0)),
        transition(2, "Staging>Production", "approved", day(30)),
        transition(1, "Production>Archived", "approved", day(30)),
        transition(1, "Archived>Production", "approved", day(40)),
        transition(2, "Production>Archived", "approved", day(40)),
    ]
    tables.append("ops.transitions", pa.Table.from_pylist(rows))
    tables.append("ops.comparisons", pa.Table.from_pylist([comparison(1, "baseline", 0.05, day(0))]))
    data = collect()
    reigns = [(reign["version"], reign["since"], reign["until"]) for reign in data.reigns]
    assert reigns == [(1, day(0), day(30)), (2, day(30), day(40)), (1, day(40), None)]
    assert [reign["level"] for reign in data.reigns] == [0.75, None, 0.75]
    assert {version["version"]: version["fate"] for version in data.versions} == {1: "champion", 2: "replaced"}
    assert data.baseline == 0.7


def test_a_comparison_that_could_not_decide_is_shown_as_such(tables: DeltaCatalog, collect: Collect) -> None:
    undecided = comparison(1, "baseline", float("nan"), day(0), challenger_score=float("nan"), reason="too few rows")
    tables.append("ops.transitions", pa.Table.from_pylist([transition(1, "None>Staging", "rejected", day(0))]))
    tables.append("ops.comparisons", pa.Table.from_pylist([undecided]))
    page = dashboard.render(collect())
    assert "cannot be told" in page
    assert "NaN" not in page


def test_alerts_become_incidents_that_are_open_or_recovered(tables: DeltaCatalog, collect: Collect) -> None:
    rows = [(week, "ks", "price", value) for week, value in enumerate([0.3, 0.3, 0.1, 0.1], 1)]
    rows += [(week, "ks", "kind", value) for week, value in enumerate([0.1, 0.1, 0.3, 0.3], 1)]
    known = measured(rows)
    tables.append("monitoring.metrics", known)
    found = alerts.evaluate(pl.DataFrame(known), SETTINGS.rules, day(28))
    tables.append("ops.alerts", found.to_arrow())
    data = collect()
    assert [(i["column"], i["open"], len(i["ends"])) for i in data.incidents] == [
        ("kind", True, 2),
        ("price", False, 2),
    ]
    assert len(data.silent) == 1
    assert "'nobody' watches nothing" in data.silent[0]


def test_series_have_a_value_or_a_gap_per_window_and_know_their_limits(tables: DeltaCatalog, collect: Collect) -> None:
    rows = [(1, "ks", "price", 0.1), (3, "ks", "price", 0.3), (2, "ks", "season__level", 0.9), (2, "roc_auc", "", 0.7)]
    tables.append("monitoring.metrics", measured(rows))
    data = collect()
    assert [end for _, end in data.windows] == [day(7), day(14), day(21)]
    assert data.series["ks"]["price"]["all"] == [0.1, None, 0.3]
    assert data.limits["ks"] == {"price": [0.2]}
    assert data.performance == ["roc_auc"]


def test_the_newer_version_speaks_for_a_window_that_two_shared(tables: DeltaCatalog, collect: Collect) -> None:
    older = pl.DataFrame(measured([(1, "ks", "price", 0.1)]))
    newer = older.with_columns(value=pl.lit(0.4), model_version=pl.lit(2, pl.Int64))
    tables.append("monitoring.metrics", pl.concat([newer, older]).to_arrow())
    assert collect().series["ks"]["price"]["all"] == [0.4]


def test_rows_are_counted_and_quarantined_ones_have_reasons(tables: DeltaCatalog, collect: Collect) -> None:
    tables.append("silver.outcomes", pa.table({"item": ["a", "b", "c"]}))
    bad = {"source_file": ["x.csv", "x.csv"], "source_row": [1, 2], "reason": ["not a number"] * 2, "raw": ["", ""]}
    tables.append("quarantine.outcomes", pa.table(bad))
    tables.append("monitoring.metrics", measured([(1, "freshness_seconds", "silver.outcomes", 7200.0)]))
    data = collect()
    assert data.tables == [{"name": "silver.outcomes", "rows": 3, "quarantined": 2, "freshness": 7200.0}]
    (reason,) = data.quarantined
    assert (reason["table"], reason["reason"], reason["rows"]) == ("quarantine.outcomes", "not a number", 2)
    assert "40 %" in dashboard.render(data)


def test_a_failure_is_resolved_when_the_pipeline_finished_later(tables: DeltaCatalog, collect: Collect) -> None:
    rows = [
        run("ingest", day(1), "failed", seconds=9.0, rows=0),
        run("ingest", day(1), started_at=day(2)),
        run("train", day(3), "failed"),
    ]
    tables.append("ops.runs", pa.Table.from_pylist(rows))
    data = collect()
    assert data.as_of == day(3)
    assert [(f["pipeline"], f["resolved"]) for f in data.failures] == [("train", False), ("ingest", True)]
    ingest = data.pipelines[0]
    assert (ingest["runs"], ingest["failed"], ingest["seconds"], ingest["throughput"]) == (2, 1, 2.0, 5.0)


def test_text_from_tables_cannot_become_markup(tables: DeltaCatalog, collect: Collect) -> None:
    attack = "</script><script>alert(1)</script>"
    rows = [transition(1, "None>Staging", "rejected", day(0), reason=attack)]
    tables.append("ops.transitions", pa.Table.from_pylist(rows))
    tables.append("ops.runs", pa.Table.from_pylist([run("ingest", day(0), "failed", error=attack)]))
    tables.append("monitoring.metrics", measured([(1, "ks", attack, 0.1)]))
    assert attack not in dashboard.render(replace(collect(), title=attack))


@pytest.mark.skipif(option("mlplatform.monitoring.service:charts") is None, reason="no server, no stream")
def test_each_value_of_a_server_and_a_stream_is_drawn_once(tables: DeltaCatalog, collect: Collect) -> None:
    serve = ("latency_p50", "latency_p99", "requests_per_second", "failed_share", "refused_share", "stale_share")
    known = [*((name, "serve") for name in serve), ("freshness_seconds", "online")]
    known += [(name, "stream") for name in ("lag_seconds", "rows_per_second", "run_seconds")]
    tables.append("monitoring.metrics", measured([(1, *line, 2.0) for line in known]))
    charts = collect().service
    assert sorted(line for chart in charts for line in chart["lines"]) == sorted(known)
    (lag,) = (chart["lines"] for chart in charts if "Lag" in chart["title"])
    assert lag == [("lag_seconds", "stream")]


def test_the_same_tables_give_the_same_page(tables: DeltaCatalog, collect: Collect, tmp_path: Path) -> None:
    tables.append("monitoring.metrics", measured([(1, "ks", "price", 0.1), (1, "ks", "volume", float("inf"))]))
    target = dashboard.write_dashboard(tmp_path / "site" / "index.html", collect())
    page = target.read_text(encoding="utf-8")
    assert page == dashboard.render(collect())
    assert "[[1364774400000, 1365379200000]]" in page, "the week from 1 April 2013, midnight in UTC, in milliseconds"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.5, "0.500"), (12.345, "12.3"), (0.0, "0"), (1234567.0, "1,234,567"), (float("inf"), "∞")],
    ids=str,
)
def test_numbers_are_readable(value: float | None, text: str) -> None:
    assert dashboard._number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (45.0, "45 s"), (3600.0, "60 min"), (7200.0, "2 h"), (86400.0 * 1.5, "1.5 d")],
    ids=str,
)
def test_lengths_of_time_are_readable(value: float | None, text: str) -> None:
    assert dashboard._seconds(value) == text
