"""The dashboard in a real, headless Chromium without a network: it renders, answers and asks for nothing."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from mlplatform.config.sections import MonitoringSettings, Rule
from mlplatform.contract import Metric
from mlplatform.monitoring import alerts, dashboard, metrics
from mlplatform.storage import ops
from mlplatform.storage.catalog import Catalog, Span
from mlplatform.storage.delta import DeltaCatalog
from tiny.model import Estimate
from tiny.project import PROJECT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

SECTIONS = ["models", "performance", "drift", "quality", "alerts", "pipelines"]
START = datetime(2013, 4, 1)
WEEKS = 20
SETTINGS = MonitoringSettings(rules=(Rule(name="moved", metric="ks", above=0.2, except_columns=("season__level",)),))
METRIC = Metric("roc_auc", lambda labels, scores: 0.5)


class Fixed(Estimate):
    """A model whose performance is always the same."""

    def metrics(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
        return {"roc_auc": 0.7, "brier": 0.2}


JUDGED = replace(PROJECT, slices=("region",), model=Fixed())


def write_tables(tables: Catalog) -> None:
    """Twenty weeks with a season in the temperature, a price that drifts in July, and a second champion in June."""
    rng = np.random.default_rng(5)
    names = ("season__level", "season__price", "score")
    reference = pl.DataFrame({name: rng.normal(size=4_000) for name in names})
    found = []
    for i, window in enumerate(metrics.windows(timedelta(days=7), START, START + timedelta(days=7 * WEEKS))):
        frame = pl.DataFrame({name: rng.normal(size=600) for name in names}).with_columns(
            pl.col("season__level") + i / 4,
            pl.col("season__price") + (2 if 14 <= i < 17 else 0),
            region=pl.Series(rng.choice(["north", "south"], 600)),
            label=pl.Series(rng.uniform(size=600) < 0.3),
        )
        found += [
            metrics.volumes(window, {"silver.outcomes": metrics.Volume(600, window.end - timedelta(hours=1))}),
            metrics.inputs(window, frame, reference, SETTINGS, ("region",), names, metrics.Part(version=1 + (i > 8))),
            metrics.performance(window, frame, np.zeros(600), SETTINGS, JUDGED),
            *(service(window, frame, reference, names, rng) if i > 11 else ()),
        ]
    known = pl.concat(found)
    tables.append(ops.METRICS, known.to_arrow())
    raised = alerts.evaluate(known, SETTINGS.rules, datetime(2014, 1, 1))
    tables.append(ops.ALERTS, raised.to_arrow())
    tables.append("silver.outcomes", pa.table({"item": ["a"] * 600}))
    june = START + timedelta(days=61)
    moves = [
        (1, "Staging", "Production", START),
        (2, "Staging", "Production", june),
        (1, "Production", "Archived", june),
    ]
    common = {
        "model": "due",
        "status": "approved",
        "requested_by": "train",
        "request_reason": "",
        "closed_by": "rule",
    }
    tables.append(
        "ops.transitions",
        pa.Table.from_pylist(
            [
                common
                | {"version": version, "from_stage": source, "to_stage": target, "reason": "won"}
                | {"requested_at": at, "closed_at": at, "recorded_at": at}
                for version, source, target, at in moves
            ]
        ),
    )
    run = {
        "run_id": "1",
        "pipeline": "ingest",
        "seconds": 2.0,
        "rows": 600,
        "status": "finished",
        "error": "",
        "code": "",
    }
    runs = [run | {"as_of": START + timedelta(days=d), "started_at": START + timedelta(days=d)} for d in range(140)]
    tables.append("ops.runs", pa.Table.from_pylist(runs))


def service(
    window: Span, frame: pl.DataFrame, reference: pl.DataFrame, names: tuple[str, ...], rng: np.random.Generator
) -> Iterator[pl.DataFrame]:
    """A server and a stream beside batch; the server is asked for few rows, which are all dear."""
    asked = frame.head(250).with_columns(pl.col("season__price") + 1)
    for way, rows in (("batch", frame), ("online", asked), ("streaming", frame.tail(400))):
        part = f"inference={way}"
        yield metrics.inputs(window, rows, reference, SETTINGS, (), names, metrics.Part(part, 2))
        yield metrics.performance(window, rows, np.zeros(rows.height), SETTINGS, JUDGED, metrics.Part(part, 2))
    share = float(rng.uniform(0, 0.004))
    measured = {
        "serve": {"requests_per_second": 3 + 100 * share, "latency_p50": 0.0011, "latency_p99": 0.004 + share}
        | {"failed_share": share, "refused_share": 0.01, "stale_share": 2 * share, "requests": 250.0},
        "online": {"freshness_seconds": 1800 + 1e5 * share},
        "stream": {"lag_seconds": 20 + 1e3 * share, "rows_per_second": 900.0, "run_seconds": 1.4},
    }
    rows_ = [(name, column, "all", value) for column, values in measured.items() for name, value in values.items()]
    yield metrics.rows_of(window, rows_, None, window.end)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One page made from full tables and one from none."""
    folder = tmp_path_factory.mktemp("dashboard")
    full, empty = (DeltaCatalog(folder / name, owner="prod", reader="prod") for name in ("full", "empty"))
    write_tables(full)
    written = {}
    for name, tables in (("full", full), ("empty", empty)):
        data = dashboard.collect(tables, SETTINGS, title="Worth it?", environment="prod", metric=METRIC)
        written[name] = dashboard.write_dashboard(folder / name / "dashboard.html", data)
    return written


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    names = ("chromium", "chromium-browser", "google-chrome")
    program = os.environ.get("CHROMIUM") or next((name for name in map(shutil.which, names) if name), None)
    assert program, "no Chromium found: install one, or name it in the variable CHROMIUM"
    quiet = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    from playwright.sync_api import sync_playwright  # only where there is one: make test-browser

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*quiet, *as_root])
        yield browser
        browser.close()


class Visit:
    """An open page, what it said on the console, and every address that it asked for."""

    def __init__(self, page: "Page") -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))


def visit(browser: "Browser", path: Path, **context: Any) -> Visit:
    opened = Visit(browser.new_context(offline=True, **context).new_page())
    opened.page.goto(path.as_uri())
    opened.page.wait_for_timeout(300)
    return opened


@pytest.mark.parametrize("name", ["full", "empty"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_whole_without_a_network(
    browser: "Browser", pages: dict[str, Path], name: str, scheme: str
) -> None:
    seen = visit(browser, pages[name], color_scheme=scheme)
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [pages[name].as_uri()]
    for section in SECTIONS:
        box = seen.page.locator(f"#{section}").bounding_box()
        assert box is not None
        assert box["height"] > 50


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_the_page_is_never_wider_than_the_screen(browser: "Browser", pages: dict[str, Path], width: int) -> None:
    seen = visit(browser, pages["full"], viewport={"width": width, "height": 800})
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    chart = seen.page.locator("#performance-chart svg").bounding_box()
    assert chart is not None
    assert chart["width"] <= width


def test_performance_shows_champions_and_values(browser: "Browser", pages: dict[str, Path]) -> None:
    page = visit(browser, pages["full"]).page
    assert page.locator("#performance-chart svg text.strong").all_text_contents() == ["v1", "v2"]
    page.locator("#performance-chart svg").hover()
    assert "roc auc" in page.locator("#tip").inner_text()
    assert "0.700" in page.locator("#tip").inner_text()
    page.locator("[data-pick=performance] button[value=brier]").click()
    page.locator("#performance-chart svg").hover()
    assert "0.200" in page.locator("#tip").inner_text()
    assert page.locator("#slices-charts h4").count() == 2
    page.locator("[data-pick=slice] button[value=inference]").click()
    texts = page.locator("#slices-charts h4").all_inner_texts()
    assert sorted(texts) == ["batch\n0.200", "online\n0.200", "streaming\n0.200"]


def test_drift_is_shown_for_each_way_that_the_model_is_asked(browser: "Browser", pages: dict[str, Path]) -> None:
    page = visit(browser, pages["full"]).page
    page.locator("[data-pick=drift] button[value=ks]").click()
    ways = page.locator("[data-pick=way] button")
    assert ways.all_inner_texts() == ["everything", "batch", "online", "streaming"]
    price = page.locator("#drift-heat tbody tr").filter(has_text="season__price").locator("td.over")
    assert price.count() == 3
    ways.nth(2).click()
    assert price.count() == WEEKS - 12, "what is asked for online is dear in all weeks"


def test_a_server_and_a_stream_have_a_section_where_they_are(browser: "Browser", pages: dict[str, Path]) -> None:
    page = visit(browser, pages["full"]).page
    titles = page.locator("#service-charts .note").all_inner_texts()
    assert len(titles) == page.locator("#service-charts svg").count() == 8
    assert "Rows a second of the stream: 900" in titles
    page.locator("#service-charts svg").nth(1).hover()
    assert "latency p99" in page.locator("#tip").inner_text()
    assert visit(browser, pages["empty"]).page.locator("#service").count() == 0


def test_drift_marks_what_a_rule_watches_and_opens_a_feature(browser: "Browser", pages: dict[str, Path]) -> None:
    page = visit(browser, pages["full"]).page
    page.locator("[data-pick=drift] button[value=ks]").click()
    rows = page.locator("#drift-heat tbody tr")
    assert rows.count() == 3
    assert rows.nth(0).locator("th").inner_text() == "season__price"
    assert rows.nth(0).locator("td.over").count() == 3
    # Names are cut at their beginning, which must not bring the quote at an end to the other.
    assert rows.nth(0).locator("bdi").evaluate("name => getComputedStyle(name).direction") == "ltr"
    season = rows.filter(has_text="season__level")
    assert season.locator("td.over").count() == 0
    assert season.locator("td.unwatched").count() == WEEKS
    season.locator("button").click()
    assert page.locator("#feature-name").inner_text() == "season__level"
    assert page.locator("#feature-charts svg").count() == 4
    rows.nth(0).locator("td.over").first.hover()
    assert "limit" in page.locator("#tip").inner_text()


def test_however_long_the_time_its_ticks_are_few(browser: "Browser", pages: dict[str, Path]) -> None:
    page = visit(browser, pages["full"]).page
    labels = page.evaluate("timeTicks(Date.UTC(1655), Date.UTC(1969), 4).map(([time, label]) => label)")
    assert labels == ["Jan 1700", "Jan 1800", "Jan 1900"]


def test_a_recovered_alert_is_told_from_an_open_one(browser: "Browser", pages: dict[str, Path]) -> None:
    page = visit(browser, pages["full"]).page
    assert "No alert is open" in page.locator("#alerts").inner_text()
    assert page.locator("#alerts .tag.recovered").count() == 1
    assert page.locator("#alerts .strip i.on").count() == 3
