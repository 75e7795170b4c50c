"""What is wrong with a project and its conf/, found without data and before any training: one line per mistake.

Of every layer of conf/: do rules, limits and other settings name metrics, columns, slices and views that there are?
"""

import hashlib
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from encodings.aliases import aliases
from fnmatch import fnmatchcase
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import pandas as pd

from mlplatform import contract, pipelines
from mlplatform.config.loading import ENVIRONMENTS, Config, checked, origin, read_layers, suggestion
from mlplatform.config.sections import Rule
from mlplatform.contract import Csv, Database, Deliveries, Model, Project
from mlplatform.errors import ConfigError, UserError
from mlplatform.monitoring import drift
from mlplatform.storage.address import place
from mlplatform.storage.catalog import option
from mlplatform.storage.formats import PROVENANCE, REST
from mlplatform.testing.dry_run import DryRun, located, package_folder, unknown

Layers = tuple[Mapping[str, Any], Config]

_MEMBERS = sorted(name for name in dir(Model) if not name.startswith("_"))


class MistakesError(UserError):
    """The project or its settings are wrong; the message has one line per mistake."""


class Measured(NamedTuple):
    """Where a metric is measured: for which columns (none where it is of all of them), and by slices of what."""

    columns: Sequence[str] = ("",)
    slices: Sequence[str] = ()


def problems(load: Callable[[], tuple[Project, Deliveries]], folder: Path) -> list[str]:
    """Every mistake that can be found without data in the project that `load` gives; its conf/ is in `folder`."""
    try:
        project, deliveries = load()
    except Exception as error:
        return [*_unknown_members(folder), located(error, folder) + _meant(error)]
    found = [*_unknown_members(folder), *_wrong_types(project, "PROJECT"), *_wrong_types(deliveries, "DELIVERIES")]
    for name, declared in get_type_hints(Model).items():
        found += _wrong_types(getattr(project.model, name, None), f"PROJECT.model.{name}", declared)
    found += [] if found else _wrong_formats(project)
    if not found:  # what follows needs objects of the right types
        configs, found = _read_settings(folder)
        run = DryRun(project, folder, _external_views(configs))
        found = [*run.problems(), *found, *_wrong_times(deliveries), *_wrong_settings(configs, project, run)]
    return list(dict.fromkeys(found))


def refuse_mistakes(load: Callable[[], tuple[Project, Deliveries]], folder: Path) -> None:
    """Check the project once for each state of its code and settings; raises MistakesError.

    What was found right is remembered where Python, too, keeps what it derives from code.
    """
    try:
        package = package_folder(load()[0])
    except Exception as error:
        raise MistakesError("\n".join(problems(load, folder))) from error
    files = [path for root in (package, Path(__file__).parents[1], folder / "conf") for path in root.rglob("*.*")]
    digest = hashlib.sha256()
    for path in sorted(path for path in files if path.suffix in (".py", ".sql", ".yml")):
        digest.update(str(path).encode() + path.read_bytes())
    marker = package / "__pycache__" / "checked"
    if marker.is_file() and marker.read_text(encoding="utf-8") == digest.hexdigest():
        return
    if found := problems(load, folder):
        raise MistakesError("\n".join(found))
    try:
        marker.parent.mkdir(exist_ok=True)
        marker.write_text(digest.hexdigest(), encoding="utf-8")
    except OSError:  # an installed package of somebody else's: it is checked each time
        pass


def _unknown_members(folder: Path) -> Iterator[str]:
    """Public names of the owner's models that the contract does not know: a misspelt one would never be called."""
    for owned in _subclasses(Model):
        module = sys.modules.get(owned.__module__)
        if not Path(getattr(module, "__file__", None) or "").is_relative_to(folder):
            continue
        for name, value in vars(owned).items():
            where = f"{owned.__module__}.{owned.__qualname__}.{name}"
            if not name.startswith("_") and name not in _MEMBERS:
                meant = suggestion(name, _MEMBERS)
                yield f"{where}: not a member of Model{meant}; the name of a helper starts with an underscore"
            elif callable(getattr(Model, name, None)) and not (callable(value) or isinstance(value, staticmethod)):
                yield f"{where}: {value!r} is no method"


def _subclasses(parent: type[object]) -> Iterator[type[object]]:
    for child in parent.__subclasses__():
        yield child
        yield from _subclasses(child)


def _wrong_types(value: Any, name: str, declared: Any = None) -> Iterator[str]:
    """Where a value is not of the type that the contract declares."""
    declared = declared or type(value)
    kind, arguments = get_origin(declared), get_args(declared)
    if kind is Literal:
        fits = value in arguments
    else:
        wanted = declared if kind in (None, UnionType) else kind
        fits = declared is Any or (isinstance(value, wanted) and (type(value) is not str or declared is str))
    if not fits:
        simple = isinstance(declared, type) and not arguments
        what = declared.__name__ if simple else re.sub(r"\b\w+\.", "", str(declared))  # without modules
        meant = _close(value, arguments) if kind is Literal else ""
        yield f"{name}: {value!r} is {type(value).__name__}, not {what}{meant}"
    elif is_dataclass(value):
        import pandera.polars

        types = get_type_hints(type(value), localns={"pandera": pandera.polars})
        for member in fields(value):
            yield from _wrong_types(getattr(value, member.name), f"{name}.{member.name}", types[member.name])
    elif kind is tuple:
        for number, item in enumerate(value):
            yield from _wrong_types(item, f"{name}[{number}]", arguments[0])


def _wrong_formats(project: Project) -> Iterator[str]:
    """Declarations of sources that no file can be read by."""
    for number, source in enumerate(project.sources):
        where, kind = f"PROJECT.sources[{number}]", source.format
        if taken := [name for name in source.columns if name in (*PROVENANCE, REST)]:
            yield f"{where}.columns: {', '.join(taken)}: ingest gives columns of these names itself"
        if isinstance(kind, Database):
            if not re.fullmatch(r"[A-Za-z_]\w*", kind.address):
                yield f"{where}.format.address: the name of an environment variable, which holds the address"
            if bool(kind.table) == bool(kind.query):
                yield f"{where}.format: give a table or a query, one of them"
            if kind.overlap and not kind.watermark:
                yield f"{where}.format.overlap: nothing overlaps without a watermark: all rows are read each time"
        if not isinstance(kind, Csv):
            continue
        if len(kind.delimiter) != 1 or not kind.delimiter.isascii() or kind.delimiter in "\r\n":
            yield f"{where}.format.delimiter: {kind.delimiter!r} is not one ASCII character"
        if len(kind.quote) > 1 or not kind.quote.isascii() or kind.quote in ("\r", "\n", kind.delimiter):
            yield f"{where}.format.quote: {kind.quote!r} is not one ASCII character besides the delimiter; none: ''"
        try:
            "".encode(kind.encoding)
        except LookupError:
            names = [name for name in aliases.values() if not name.endswith("_codec")]
            yield f"{where}.format.encoding: Python knows no encoding {kind.encoding!r}{_close(kind.encoding, names)}"


def _close(wrong: object, known: Iterable[str]) -> str:
    return "".join(f" (did you mean {name!r}?)" for name in get_close_matches(str(wrong), list(known), n=1))


def _meant(error: Exception) -> str:
    """The name that was probably meant for a parameter that the contract does not have; Python says so from 3.13 on."""
    match = re.fullmatch(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    owner = getattr(contract, match[1], None) if match else None
    return suggestion(match[2], [member.name for member in fields(owner)]) if match and is_dataclass(owner) else ""


def _wrong_times(deliveries: Deliveries) -> Iterator[str]:
    for name, times in (("integration", deliveries.integration), ("stops", (deliveries.first, *deliveries.stops))):
        ordered = [deliveries.begin, *times]
        if any(later <= earlier for earlier, later in pairwise(ordered)):
            yield f"DELIVERIES.{name}: each time is later than the one before it, `begin` and `first` among them"


def _read_settings(folder: Path) -> tuple[list[Layers], list[str]]:
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


def _external_views(configs: Sequence[Layers]) -> frozenset[str]:
    """The views that are other teams' in all environments: they need no SQL here."""
    declared = [{view.view for view in config.lakehouse.external_views} for _, config in configs]
    return frozenset(set.intersection(*declared) if declared else ())


def _wrong_settings(configs: Sequence[Layers], project: Project, run: DryRun) -> Iterator[str]:
    measured = _measured(project, run)
    for layers, config in configs:
        where = f"{origin(layers, ('lakehouse', 'external_views'))}: lakehouse.external_views"
        external = [view.view for view in config.lakehouse.external_views]
        yield from unknown(where, "there is no view", external, [view.name for view in project.views])
        where = f"{origin(layers, ('training', 'group'))}: training.group"
        if run.joined is not None and config.training.group:
            yield from unknown(where, "there is no column", [config.training.group], run.joined.columns)
        where = f"{origin(layers, ('registry', 'compliance', 'slice_limits'))}: registry.compliance.slice_limits"
        for limit in config.registry.compliance.slice_limits:
            yield from unknown(where, "PROJECT.slices has no", [limit.column], project.slices)
            if run.measured is not None:
                yield from unknown(where, "the model has no metric", [limit.metric], run.measured)
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
            yield f"{where}: {key}: {rule.metric} is not measured for {pattern}{_meant_by(pattern, columns)}"
    for pattern in [p for p in rule.slices if not fnmatchcase("all", p)]:
        column = pattern.partition("=")[0]
        if not any(fnmatchcase(name, column) for name in slices):
            yield f"{where}: slices: {rule.metric} is not measured for {pattern}{_meant_by(column, slices)}"


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


def _meant_by(pattern: str, known: Sequence[str]) -> str:
    return suggestion(pattern, list(known)) if any(known) else " but for all rows together"
