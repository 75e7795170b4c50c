"""A version at work: what it is given and what it answers, also when this code's columns are no longer its own."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlplatform.contract import Labels, Model
from mlplatform.errors import UserError
from mlplatform.features import changes
from mlplatform.registry.store import Registry

WHOLE = "whole"  # in what MLflow keeps of a model: the joined columns that were whole numbers in training
# By the names of MLflow's types: a batch must not decide on them, or its neighbours change a row's score.
_DTYPES = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool"}


class MissingColumnsError(UserError):
    """The joined rows lack columns that a version needs; the message names them and says what to do."""


@dataclass(frozen=True)
class Scorer:
    """A loaded version: the fitted estimator, and the names and MLflow types of its inputs (None: not recorded).

    `whole`: see `as_trained`.
    """

    model: Model
    fitted: Any
    columns: dict[str, str] | None
    whole: Collection[str] | None = None

    def inputs(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The version's input, from joined rows.

        A column that the model no longer asks for is taken from the rows as they are, so that a version trained
        without it can be compared with one that needs it. Raises MissingColumnsError where they lack it.
        """
        return as_trained(self._inputs, frame, self.whole)

    def _inputs(self, frame: pd.DataFrame) -> pd.DataFrame:
        given = self.model.inputs(frame)
        if self.columns is None:
            return given
        missing = [name for name in self.columns if name not in given.columns and name not in frame.columns]
        if missing:
            raise MissingColumnsError(
                f"needs {', '.join(missing)}, which neither sql/entities.sql nor a feature view gives any more: "
                "keep the column in the SQL until a version without it is in Production"
            )
        dropped = {name: _as_input(frame[name], kind) for name, kind in self.columns.items() if name not in given}
        if dropped or list(given.columns) != list(self.columns):  # to copy a million rows costs as much as to read them
            given = given.assign(**dropped)[list(self.columns)]
        wanted = {name: _DTYPES[kind] for name, kind in self.columns.items() if kind in _DTYPES}
        other = {name: dtype for name, dtype in wanted.items() if given[name].dtype != dtype}
        return given.astype(other) if other else given.copy(deep=False)  # nor does one model change what another sees

    def scores(self, frame: pd.DataFrame) -> np.ndarray:
        """The scores of joined rows, shape (len(frame),) or (len(frame), classes). Raises MissingColumnsError."""
        return np.asarray(self.model.predict(self.fitted, self.inputs(frame)), dtype="float64")


def load(model: Model, folder: Path) -> Scorer:
    """The version whose logged model is in `folder`."""
    import mlflow

    schema = mlflow.models.Model.load(str(folder)).get_input_schema()
    columns = {column.name: column.type.name for column in schema.inputs} if schema else None
    return Scorer(model, mlflow.sklearn.load_model(str(folder)), columns, whole_columns(folder))


def new_features(registry: Registry, as_of: datetime) -> dict[str, list[str]]:
    """The features that are new in the SQL of each view, by table, so that earlier rows have none.

    Raises MissingColumnsError where the SQL no longer gives one that the version in Production or in Staging needs: its
    table goes on having the column, so that nulls would be scored, and nobody told.
    """
    import mlflow

    external = {view.view for view in registry.env.config.lakehouse.external_views}
    views = [view for view in registry.env.project.views if view.name not in external]
    found = {view: changes(registry.env, view) for view in views}
    gone = {f"{view.name}__{name}" for view, (names, _) in found.items() for name in names}
    versions = (registry.ledger.champion(as_of), registry.ledger.challenger(as_of)) if gone else ()
    for number in filter(None, versions):
        schema = mlflow.models.Model.load(str(registry.files(number, "model"))).get_input_schema()
        if needed := sorted({column.name for column in schema.inputs} & gone) if schema else []:
            raise MissingColumnsError(
                f"{registry.model} version {number} needs {', '.join(needed)}, which sql/features/ no longer gives: "
                "keep the column in the SQL until a version without it is in Production"
            )
    return {view.table: new for view, (_, new) in found.items() if new}


def whole_columns(folder: Path) -> list[str] | None:
    """What the logged model in `folder` says of `whole` in `as_trained`."""
    import mlflow

    return (mlflow.models.Model.load(str(folder)).metadata or {}).get(WHOLE)


def as_trained(
    inputs: Callable[[pd.DataFrame], pd.DataFrame], frame: pd.DataFrame, whole: Collection[str] | None
) -> pd.DataFrame:
    """The model's `inputs` of joined rows, each read as in training, in whatever company.

    Pandas makes floats of whole numbers where one is missing, and a category 1 is then called 1.0. `whole` names the
    columns that were whole numbers in training; None, of versions that did not record it: the batch decides.
    """
    asked, inputs = inputs, lambda rows: _given(asked, rows)
    if whole is None:
        return inputs(frame)
    floats = [n for n, kind in frame.dtypes.items() if pd.api.types.is_integer_dtype(kind) and n not in whole]
    frame = frame.astype(dict.fromkeys(floats, "float64")) if floats else frame
    gaps = [name for name in whole if name in frame and pd.api.types.is_float_dtype(frame[name])]
    if not gaps:
        return inputs(frame)
    missing, parts = frame[gaps].isna(), []
    for places in missing.groupby(gaps).indices.values():  # rows that miss the same
        there = [name for name in gaps if not missing[name].iloc[places[0]]]
        parts.append(inputs(frame.iloc[places].astype(dict.fromkeys(there, "int64"))).set_axis(places))
    return pd.concat(parts).sort_index().set_axis(frame.index)


def _given(inputs: Callable[[pd.DataFrame], pd.DataFrame], rows: pd.DataFrame) -> pd.DataFrame:
    try:
        return inputs(rows)
    except KeyError as error:
        if "__" not in str(error):
            raise
        what = f"model.py asks for features that their tables do not have yet ({error.args[0]})"
        raise UserError(f"{what}: run `featurize`, with --backfill for earlier rows, too") from error


def input_example(folder: Path) -> pd.DataFrame | None:
    """The input example of the logged model in `folder`."""
    import mlflow

    if not (folder / "input_example.json").is_file():
        return None
    example: pd.DataFrame = mlflow.models.Model.load(str(folder)).load_input_example(str(folder))
    return example


class VersionScorer:
    """Gives a version's scores of joined rows, and loads it once; sent to another process, it is loaded already."""

    def __init__(self, registry: Registry, number: int) -> None:
        self._project = registry.env.project
        self._name = f"{registry.model} version {number}"
        self._files: Callable[[str], Path] = partial(registry.files, number)

    @cached_property
    def _loaded(self) -> Scorer:
        return load(self._project.model, self._files("model"))

    def __call__(self, frame: pd.DataFrame) -> np.ndarray:
        """The scores, shape (len(frame),) or (len(frame), classes). Raises MissingColumnsError."""
        classes = self._project.labels.classes
        if frame.empty:
            return np.empty((0, len(classes)) if classes else 0)
        try:
            return self._loaded.scores(frame)
        except MissingColumnsError as error:
            raise MissingColumnsError(f"{self._name} {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {"_project": self._project, "_name": self._name, "_loaded": self._loaded}


def score_columns(labels: Labels, scores: np.ndarray, threshold: float | None = None) -> dict[str, np.ndarray]:
    """Scores as columns: `score`; or one per class and `prediction`, the class with the highest.

    With a version's `threshold`, that and `prediction` as well: 1 where the score is at least the threshold.
    """
    if threshold is not None:
        return {"score": scores, "threshold": np.full(len(scores), threshold), "prediction": (scores >= threshold) * 1}
    if not labels.classes:
        return {"score": scores}
    best = np.array(labels.classes, dtype=object)[scores.argmax(axis=1)]
    return {**dict(zip(labels.score_columns, scores.T, strict=True)), "prediction": best}


def _as_input(values: pd.Series, kind: str) -> pd.Series:
    return values.astype("object").fillna("missing").astype(str) if kind == "string" else values
