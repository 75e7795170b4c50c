"""What a version is given and what it answers, also when this code's columns are no longer those it was trained on."""

from typing import Any

import numpy as np
import pandas as pd

from ..usecase import model
from .store import Registry


class MissingColumnsError(Exception):
    """The joined rows lack columns that a version needs; the message names them and says what to do."""


def scores(registry: Registry, number: int, frame: pd.DataFrame) -> np.ndarray:
    """The version's scores of joined rows, shape (len(frame),). Raises MissingColumnsError."""
    if frame.empty:
        return np.empty(0)
    loaded = registry.load(number)
    try:
        return model.score(loaded.predict(inputs(loaded, frame)))
    except MissingColumnsError as error:
        raise MissingColumnsError(f"{registry.model} version {number} {error}") from error


def inputs(loaded: Any, frame: pd.DataFrame) -> pd.DataFrame:
    """The input of a loaded version, from joined rows.

    A column that `usecase/columns.py` has dropped since is taken from the rows as they are, so that a version
    trained without it can be compared with one that needs it. Raises MissingColumnsError where they lack it.
    """
    given = model.features(frame)
    needed = [column for column in loaded.metadata.get_input_schema().inputs if column.name not in given.columns]
    missing = [column.name for column in needed if column.name not in frame.columns]
    if missing:
        raise MissingColumnsError(
            f"needs {', '.join(missing)}, which neither entities.sql nor a feature view gives any more: "
            "keep the column in the SQL until a version without it is in Production"
        )
    for column in needed:
        values = frame[column.name]
        text = column.type.name == "string"
        given[column.name] = values.astype("object").fillna("missing").astype(str) if text else values.astype("float64")
    return given
