"""Every layer of conf/ against what the project has: metrics, columns and slices that rules and limits name."""

import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mlplatform import pipelines
from mlplatform.config.loading import ENVIRONMENTS, Config, checked, origin, read_layers, suggestion
from mlplatform.config.sections import Rule
from mlplatform.contract import Project
from mlplatform.errors import ConfigError
from mlplatform.monitoring import drift
from mlplatform.storage.address import place
from mlplatform.storage.catalog import option
from mlplatform.testing.dry_run import DryRun

Layers = tuple[Mapping[str, Any], Config]


class Measured(NamedTuple):
    """Where a metric is measured: for which columns (none where it is of all of them), and by slices of what."""

    columns: Sequence[str] = ("",)
    slices: Sequence[str] = ()


def read(folder: Path) -> tuple[list[Layers], list[str]]:
    """The settings of each environment, alone and under each overlay, and what is wrong with them."""
    found: list[Layers] = []
    wrong: list[str] = []
    overlays = sorted({path.stem for path in (folder / "conf").glob("*.yml")} - {"base", *ENVIRONMENTS})
    for names in [(name, *overlay) for name in ENVIRONMENTS for overlay in ((), *((name,) for name in overlays))]:
        try:
            layers = read_layers(folder, names[0], names[1:])
            found.append((layers, checked(layers)))
        except ConfigError as error:
            wrong += str(error).splitlines()
    return found, wrong


def external_views(configs: Sequence[Layers]) -> frozenset[str]:
    """The views that are other teams' in all environments: they need no SQL here."""
    declared = [{view.view for view in config.lakehouse.external_views} for _, config in configs]
    return frozenset(set.intersection(*declared) if declared else ())


def problems(configs: Sequence[Layers], project: Project, run: DryRun) -> Iterator[str]:
    measured = _measured(project, run)
    for layers, config in configs:
        where = origin(layers, ("lakehouse", "external_views"))
        for view in config.lakehouse.external_views:
            known = [declared.name for declared in project.views]
            yield from _unknown(f"{where}: lakehouse.external_views: there is no view", [view.view], known)
        where = f"{origin(layers, ('training', 'group'))}: training.group: there is no column"
        if run.joined is not None and config.training.group:
            yield from _unknown(where, [config.training.group], list(run.joined.columns))
        where = f"{origin(layers, ('registry', 'compliance', 'slice_limits'))}: registry.compliance.slice_limits"
        for limit in config.registry.compliance.slice_limits:
            yield from _unknown(f"{where}: PROJECT.slices has no", [limit.column], project.slices)
            if run.measured is not None:
                yield from _unknown(f"{where}: the model has no metric", [limit.metric], run.measured)
        for sink in config.pipelines.inference.sinks:
            where = f"{origin(layers, ('pipelines', 'inference', 'sinks'))}: pipelines.inference.sinks"
            try:
                place(Path(), sink.to if sink.kind != "database" else "", where)
            except ConfigError as error:
                yield str(error)
        where = origin(layers, ("monitoring", "rules"))
        for rule in config.monitoring.rules if run.measured is not None and run.inputs is not None else ():
            yield from _rule(rule, f"{where}: monitoring.rules, {rule.name!r}", measured)


def _rule(rule: Rule, where: str, measured: Mapping[str, Measured]) -> Iterator[str]:
    if rule.metric not in measured:
        yield f"{where}: nothing measures {rule.metric}{suggestion(rule.metric, list(measured))}"
        return
    columns, slices = measured[rule.metric]
    for key, patterns in (("columns", rule.columns), ("except_columns", rule.except_columns)):
        for pattern in [p for p in patterns if not any(fnmatchcase(column, p) for column in columns)]:
            yield f"{where}: {key}: {rule.metric} is not measured for {pattern}{_meant(pattern, columns)}"
    for pattern in [p for p in rule.slices if not fnmatchcase("all", p)]:
        column = pattern.partition("=")[0]
        if not any(fnmatchcase(name, column) for name in slices):
            yield f"{where}: slices: {rule.metric} is not measured for {pattern}{_meant(column, slices)}"


def _measured(project: Project, run: DryRun) -> dict[str, Measured]:
    """Every metric that monitoring can have."""
    scores = project.labels.score_columns
    is_number = pd.api.types.is_numeric_dtype
    inputs = {} if run.inputs is None else {str(name): is_number(kind) for name, kind in run.inputs.dtypes.items()}
    tables = [table.table for table in project.tables]
    stream = ["stream"] if find_spec("mlplatform.streaming") else []
    online, server, variant = [["online"], ["serve"], ["variant"]] if find_spec("mlplatform.serving") else [[], [], []]
    of_server: Sequence[str] = option("mlplatform.monitoring.service:MEASURED") or ()
    ways = [*(["inference"] if stream or online else []), *variant]
    numbers = Measured((*(name for name, number in inputs.items() if number), *scores), ways)
    texts = Measured([name for name, number in inputs.items() if not number], ways)
    both, judged = Measured((*inputs, *scores), ways), Measured(slices=(*project.slices, *ways))
    jobs = Measured([*(module.name for module in pkgutil.iter_modules(pipelines.__path__)), *stream])
    return {
        **dict.fromkeys(drift.NUMERIC, numbers),
        **dict.fromkeys(drift.CATEGORICAL, texts),
        **dict.fromkeys(("psi", "missing_rate"), both),
        **dict.fromkeys(("runs", "failed_runs", "run_seconds", "rows_per_second"), jobs),
        "lag_seconds": Measured(stream),
        **dict.fromkeys(of_server if server else (), Measured(server)),
        "freshness_seconds": Measured([*tables, *online]),
        "rows": Measured((*tables, *online, ""), judged.slices),
        "label_coverage": judged,
        "late_share": Measured(slices=ways),
        **{f"{prefix}{name}": judged for prefix in ("", "baseline_") for name in run.measured or ()},
        **dict.fromkeys(project.metrics, Measured(slices=ways)),
    }


def _unknown(what: str, names: Iterable[str], known: Sequence[str]) -> Iterator[str]:
    yield from (f"{what} {name}{suggestion(name, list(known))}" for name in names if name not in known)


def _meant(pattern: str, known: Sequence[str]) -> str:
    return suggestion(pattern, list(known)) if any(known) else " but for all rows together"
