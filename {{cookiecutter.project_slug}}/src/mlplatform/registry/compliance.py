"""The compliance gate: what a version must carry and be able to do before it may enter Staging."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from mlplatform.config.sections import SliceLimit
from mlplatform.features.frames import entities
from mlplatform.registry import scoring
from mlplatform.registry.scoring import Scorer
from mlplatform.registry.store import Registry
from mlplatform.registry.tags import IncompleteVersionError
from mlplatform.revision import can_be_found

CARD_SECTIONS = ("Intended use", "Training data", "Evaluation", "Limits")


def violations(registry: Registry, number: int, as_of: datetime) -> list[str]:
    """Every reason to reject the version; an empty list means that it complies."""
    unreadable = list(_features(registry, number))
    # What the model would be asked here: the rows of the last day.
    last_day = as_of - timedelta(days=1), as_of
    newest = None if unreadable else entities(registry.env, as_of, *last_day).arrow().to_pandas()
    return [
        *_records(registry, number),
        *_card(registry, number),
        *unreadable,
        *_slices(registry, number),
        *_prediction(registry, number, newest),
    ]


def _records(registry: Registry, number: int) -> Iterator[str]:
    version = registry.version(number)
    empty = {"feature_views"} if not registry.env.project.views else set()  # a project may have none
    needed = [tag for tag in registry.settings.compliance.required_tags if tag not in empty]
    missing = [tag for tag in needed if not version.tags.get(tag)]
    yield from (f"the tag {tag!r} is missing" for tag in missing)
    if not (version.tags.get("summary") or "").strip():
        yield "the description is missing"
    if not version.tags.get("data_versions"):
        yield "the data version is missing: nobody could train this again"
    code = version.tags.get("code", "")
    if registry.env.config.pipelines.released_code_only and not can_be_found(code):
        taken = f"{registry.env.name} takes versions of committed code only (pipelines.released_code_only)"
        yield f"it was trained by code that is in no commit ({code}): {taken}; commit, and train anew"
    try:
        registry.tags(number)
    except IncompleteVersionError as error:
        if not missing:
            yield str(error)


def _card(registry: Registry, number: int) -> Iterator[str]:
    if "model_card.md" not in registry.artifact_names(number):
        yield "the model card is missing (model_card.md)"
        return
    text = registry.files(number, "model_card.md").read_text(encoding="utf-8")
    for section in CARD_SECTIONS:
        if f"## {section}" not in text:
            yield f"the model card has no section {section!r}"


def _features(registry: Registry, number: int) -> Iterator[str]:
    env = registry.env
    views = {view.name: view for view in env.project.views}
    for name in filter(None, registry.version(number).tags.get("feature_views", "").split(",")):
        if name not in views:
            yield f"it needs the feature view {name}, which this code does not have"
        elif env.find(views[name].table) is None:
            yield f"it needs features.{name}, which {env.name} cannot read"


def _slices(registry: Registry, number: int) -> Iterator[str]:
    if "slices.json" not in registry.artifact_names(number):
        yield "the metrics per slice are missing (slices.json)"
        return
    rows = json.loads(registry.files(number, "slices.json").read_text(encoding="utf-8"))
    for limit in registry.settings.compliance.slice_limits:
        judged = [r for r in rows if r["column"] == limit.column and r["rows"] >= limit.min_rows]
        if not judged:
            yield f"no slice of {limit.column} has {limit.metric} on at least {limit.min_rows} rows"
        yield from filter(None, (_beyond(limit, row) for row in judged))


def _beyond(limit: SliceLimit, row: dict[str, float]) -> str:
    value = row.get(limit.metric, np.nan)  # one that is not finite is not recorded
    where = f"{limit.metric} of {limit.column}={row['value']} is {value:.3f}"
    if not np.isfinite(value):
        return f"{where} on its {row['rows']:,} rows, so nobody knows (min_rows is {limit.min_rows})"
    if limit.at_least is not None and not value >= limit.at_least:
        return f"{where}, below {limit.at_least:g}"
    if limit.at_most is not None and not value <= limit.at_most:
        return f"{where}, above {limit.at_most:g}"
    return ""


def _prediction(registry: Registry, number: int, newest: pd.DataFrame | None) -> Iterator[str]:
    folder = registry.files(number, "model")  # not inside the try: an outage is no fault of the model
    try:
        scorer = scoring.load(registry.env.project.model, folder)
        example = scoring.input_example(folder)
    except Exception as error:
        yield f"it does not load: {str(error).splitlines()[0]}"
        return
    if scorer.columns is None:
        yield "the signature is missing"
    if example is None:
        yield "the input example is missing"
    else:
        yield from _scoring(registry, scorer, lambda: example[list(scorer.columns or example)], "its own input example")
    if newest is not None and not newest.empty:
        whose = f"the newest rows of {registry.env.name}"
        yield from _scoring(registry, scorer, lambda: scorer.inputs(newest), whose)


def _scoring(registry: Registry, scorer: Scorer, given: Callable[[], pd.DataFrame], whose: str) -> Iterator[str]:
    project = registry.env.project
    try:
        rows = given()
        scores = np.asarray(project.model.predict(scorer.fitted, rows))
    except Exception as error:
        yield f"it cannot score {whose}: {str(error).splitlines()[0]}"
        return
    wanted = (len(rows), len(project.labels.classes)) if project.labels.classes else (len(rows),)
    if scores.shape != wanted or not np.isfinite(scores.astype(float)).all():
        yield f"it gives scores of shape {scores.shape}, not all finite, for the {len(rows)} rows of {whose}"
