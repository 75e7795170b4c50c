"""One self-contained HTML page from the lakehouse's own tables: no server, no network, nothing to install."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from math import isfinite
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import Any

import jinja2
import polars as pl

from mlplatform.config.sections import MonitoringSettings
from mlplatform.contract import Metric
from mlplatform.environment import Environment
from mlplatform.monitoring import alerts, metrics
from mlplatform.storage.address import put
from mlplatform.storage.catalog import Catalog, option

LAST = 60  # windows and runs that the page looks back
LAYERS = ("bronze", "silver", "features", "predictions")

Row = dict[str, Any]
Series = dict[str, dict[str, dict[str, list[float | None]]]]  # metric -> column -> slice -> a value per window


@dataclass(frozen=True)
class DashboardData:
    """What the page shows. Times are naive UTC; series have one value or None per window."""

    title: str
    environment: str
    maker: str  # the pipeline that makes model versions here
    metric: str
    higher_is_better: bool
    as_of: datetime | None
    windows: list[tuple[datetime, datetime]]
    series: Series
    limits: dict[str, dict[str, list[float]]]  # metric -> column -> limits of the rules that watch it
    performance: list[str]  # the metrics that the use case computes, the primary one first
    service: list[Row]  # charts of a server and a stream: a title, and metric and column of each line
    confusion: Row | None  # of the newest window with labels: end, classes, and one row of counts per label
    versions: list[Row]
    reigns: list[Row]
    baseline: float | None
    incidents: list[Row]
    silent: list[str]
    tables: list[Row]
    quarantined: list[Row]
    pipelines: list[Row]
    failures: list[Row]


def publish(env: Environment, target: Path | None = None) -> Path:
    """Write the dashboard of `env`, by default beside its tables. Returns the file."""
    data = collect(
        env.catalog,
        env.config.monitoring,
        title=env.title,
        environment=env.name,
        maker="promote" if "train" in env.config.pipelines.refused else "train",
        metric=env.project.model.primary,
        classes=env.project.labels.classes,
    )
    return write_dashboard(target or env.reports / "dashboard.html", data)


def write_dashboard(target: Path, data: DashboardData) -> Path:
    """Write the page to `target`, a file, and return it."""
    put(target, render(data).encode())
    return target


def render(data: DashboardData) -> str:
    """Return the page as HTML. The same data give the same page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "day": _day, "change": _change, "seconds": _seconds, "plain": _plain}
    return environment.get_template("dashboard.html.j2").render(vars(data))


def collect(
    tables: Catalog,
    settings: MonitoringSettings,
    *,
    title: str,
    environment: str,
    metric: Metric,
    classes: Sequence[str] = (),
    maker: str = "train",
) -> DashboardData:
    """Read what the page shows. A table that does not exist yet gives an empty part, not an error.

    `metric` is the primary performance metric, as the use case and `ops.comparisons` name it; `classes` are those of
    multi-class labels.
    """
    existing = set(tables.names())

    def read(name: str) -> list[Row]:
        return pl.DataFrame(tables.read(name)).fill_nan(None).to_dicts() if name in existing else []

    known = pl.DataFrame(read("monitoring.metrics"), metrics.SCHEMA).sort("window_end", "available_at", "model_version")
    windows = known.select("window_start", "window_end").unique("window_end").sort("window_end").tail(LAST).rows()
    series = _series(known, [end for _, end in windows])
    transitions = sorted(read("ops.transitions"), key=lambda t: (t["closed_at"] or datetime.max, t["recorded_at"]))
    comparisons = sorted(read("ops.comparisons"), key=itemgetter("as_of"))
    runs = sorted(read("ops.runs"), key=itemgetter("as_of", "started_at"))
    reigns, charts = _reigns(transitions, comparisons), option("mlplatform.monitoring.service:charts")
    return DashboardData(
        title=title,
        environment=environment,
        maker=maker,
        metric=metric.name,
        higher_is_better=metric.greater_is_better,
        as_of=max((run["as_of"] for run in runs), default=None),
        windows=windows,
        series=series,
        limits=_limits(series, settings),
        performance=_performance(series, metric.name),
        service=charts(series) if charts else [],
        confusion=_confusion(known, classes),
        versions=_versions(transitions, comparisons, reigns),
        reigns=reigns,
        baseline=next((c["champion_score"] for c in comparisons if c["champion"] == "baseline"), None),
        incidents=_incidents(read("ops.alerts"), known, settings),
        silent=alerts.silent(known, settings.rules) if known.height else [],
        tables=_tables(tables, existing, series),
        quarantined=_quarantined(tables, existing),
        pipelines=_pipelines(runs),
        failures=_failures(runs),
    )


def _series(known: pl.DataFrame, ends: Sequence[datetime]) -> Series:
    """Arrange the values by metric, column and slice. Where two versions shared a window, the newer one's are shown."""
    position = {end: index for index, end in enumerate(ends)}
    series: Series = defaultdict(lambda: defaultdict(dict))
    rows = known.filter(pl.col("window_end") >= min(ends, default=datetime.max))
    for metric, column, slice_, end, value in rows["metric", "column", "slice", "window_end", "value"].iter_rows():
        series[metric][column].setdefault(slice_, [None] * len(ends))[position[end]] = value
    return series


def _limits(series: dict[str, dict[str, Any]], settings: MonitoringSettings) -> dict[str, dict[str, list[float]]]:
    limits: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for rule in settings.rules:
        for column in series.get(rule.metric, ()):
            if alerts.watches(rule, column):
                limits[rule.metric][column] += [x for x in (rule.above, rule.below) if x is not None]
    return limits


def _performance(series: Iterable[str], primary: str) -> list[str]:
    measured_here = {*metrics.DRIFT, *metrics.OTHER}
    found = [m for m in series if m not in measured_here and not m.startswith("baseline_")]
    return sorted(found, key=lambda m: (m != primary, m))


def _confusion(known: pl.DataFrame, classes: Sequence[str]) -> Row | None:
    """Return the confusion matrix of the newest window that has one; versions that shared it are added up."""
    rows = known.filter(pl.col("metric") == "confusion")
    if rows.is_empty():
        return None
    end = rows["window_end"].max()
    newest = rows.filter(pl.col("window_end") == end).group_by("column").agg(pl.col("value").sum())
    count = dict(newest.iter_rows())
    counts = [[int(count.get(metrics.cell(label, guess), 0)) for guess in classes] for label in classes]
    return {"end": end, "classes": list(classes), "rows": list(zip(classes, counts, strict=True))}


def _reigns(transitions: Sequence[Row], comparisons: Iterable[Row]) -> list[Row]:
    """Return who was champion from when to when, and the score on fresh data that the version won by."""
    level = {c["challenger"]: c["challenger_score"] for c in comparisons if c["accepted"]}
    reigns: list[Row] = []
    for t in transitions:
        present = reigns[-1] if reigns and reigns[-1]["until"] is None else None
        if t["status"] != "approved" or "Production" not in (t["from_stage"], t["to_stage"]):
            continue
        if present and (t["to_stage"] == "Production" or t["version"] == present["version"]):
            present["until"] = t["closed_at"]
        if t["to_stage"] == "Production":
            version = t["version"]
            reigns.append({"version": version, "since": t["closed_at"], "until": None, "level": level.get(version)})
    return reigns


def _versions(transitions: Iterable[Row], comparisons: Iterable[Row], reigns: Sequence[Row]) -> list[Row]:
    compared = {c["challenger"]: c for c in comparisons}
    champion = reigns[-1]["version"] if reigns and reigns[-1]["until"] is None else None
    reigned = {reign["version"] for reign in reigns}
    versions = []
    for version, path in groupby(sorted(transitions, key=lambda t: -t["version"]), key=lambda t: t["version"]):
        steps = list(path)
        stages = [t["to_stage"] for t in steps if t["status"] == "approved"]
        last = {t["status"]: t for t in steps if t["to_stage"] != "Archived"}
        if version == champion:
            fate, status = "champion", "approved"
        elif "pending" in last:
            fate, status = "waiting", "pending"
        elif version in reigned:
            fate, status = "replaced", "approved"
        else:
            fate, status = ("rejected", "rejected") if "rejected" in last else ("waiting", "pending")
        versions.append(
            {
                "version": version,
                "trained": min(t["requested_at"] for t in steps),
                "stage": stages[-1] if stages else "None",
                "fate": fate,
                "decision": last.get(status),
                "comparison": compared.get(version),
            }
        )
    return versions


def _incidents(raised: Iterable[Row], known: pl.DataFrame, settings: MonitoringSettings) -> list[Row]:
    """Join the alerts of one rule, column and slice; an incident is open while the newest window still alarms."""
    newest = dict(known.group_by("metric").agg(pl.col("window_end").max()).iter_rows())
    newest_of_rule = {rule.name: newest.get(rule.metric) for rule in settings.rules}
    key = itemgetter("rule", "column", "slice")
    incidents = []
    for _, group in groupby(sorted(raised, key=lambda a: (*key(a), a["window_end"])), key=key):
        alarms = list(group)
        ends = [alarm["window_end"] for alarm in alarms]
        is_open = ends[-1] == newest_of_rule.get(alarms[-1]["rule"])
        incidents.append({**alarms[-1], "open": is_open, "ends": ends})
    return sorted(incidents, key=lambda i: (i["open"], i["raised_at"]), reverse=True)


def _tables(tables: Catalog, names: Iterable[str], series: Mapping[str, Any]) -> list[Row]:
    count = {name: tables.count(name) for name in names}
    rows = []
    for layer in LAYERS:
        for name in sorted(name for name in count if name.startswith(f"{layer}.")):
            freshness = series.get("freshness_seconds", {}).get(name, {}).get("all", [])
            quarantined = count.get(name.replace("silver.", "quarantine."), 0) if layer == "silver" else None
            known = [seconds for seconds in freshness if seconds is not None]
            newest = known[-1] if known else None
            rows.append({"name": name, "rows": count[name], "quarantined": quarantined, "freshness": newest})
    return rows


def _quarantined(tables: Catalog, names: Iterable[str]) -> list[Row]:
    parts = [
        pl.DataFrame(tables.read(name, columns=["source_file", "reason"]))
        .group_by("reason")
        .agg(rows=pl.len(), files=pl.col("source_file").n_unique(), example=pl.col("source_file").max())
        .with_columns(table=pl.lit(name))
        for name in names
        if name.startswith("quarantine.")
    ]
    return pl.concat(parts).sort("rows", "table", "reason", descending=[True, False, False]).to_dicts() if parts else []


def _pipelines(runs: Sequence[Row]) -> list[Row]:
    pipelines = []
    for name, group in groupby(sorted(runs, key=itemgetter("pipeline")), key=itemgetter("pipeline")):
        history = list(group)
        finished = [run for run in history if run["status"] == "finished"]
        seconds = sum(run["seconds"] for run in finished)
        pipelines.append(
            {
                "name": name,
                "runs": len(history),
                "failed": len(history) - len(finished),
                "last": history[-1],
                "seconds": median(run["seconds"] for run in finished) if finished else None,
                "throughput": sum(run["rows"] or 0 for run in finished) / seconds if seconds else None,
                "recent": [(run["as_of"], run["seconds"], run["status"]) for run in history[-LAST:]],
            }
        )
    return pipelines


def _failures(runs: Sequence[Row]) -> list[Row]:
    """Return the newest failed runs; one is resolved when the pipeline finished later for the same as_of."""
    finished = {(run["pipeline"], run["as_of"]) for run in runs if run["status"] == "finished"}
    failed = [run for run in reversed(runs) if run["status"] != "finished"]
    return [{**run, "resolved": (run["pipeline"], run["as_of"]) in finished} for run in failed[:10]]


def _number(value: float | None, digits: int = 3) -> str:
    """Format with `digits` significant digits, whole from 100 on; nothing known is a dash."""
    if value is None:
        return "-"
    if not isfinite(value):
        return "∞"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:#.{digits}g}".rstrip(".")


def _change(value: float) -> str:
    """Format a difference with its sign."""
    return f"{round(value, 3) + 0.0:+.3f}" if abs(value) < 10 else f"{value:+,.1f}"


def _day(value: datetime | None) -> str:
    """Format a time as `8 Jul 2013`, with hours and minutes unless it is midnight."""
    if value is None:
        return "-"
    return f"{value.day} {value:%b %Y}" + (f"{value: %H:%M}" if value.time() != value.min.time() else "")


def _seconds(value: float | None) -> str:
    """Format a length of time in the largest unit of which there are one and a half."""
    if value is None:
        return "-"
    unit = next((u for u in (("d", 86400), ("h", 3600), ("min", 60)) if value >= 1.5 * u[1]), ("s", 1))
    return f"{_number(value / unit[1], 2)} {unit[0]}"


def _plain(value: Any) -> Any:
    """Make it fit for JSON: times become milliseconds since 1970, infinite and undefined numbers null."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return int(value.replace(tzinfo=UTC).timestamp() * 1000)
    if isinstance(value, float):
        return float(f"{value:.6g}") if isfinite(value) else None
    return value
