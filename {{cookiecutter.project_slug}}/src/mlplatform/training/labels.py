"""Labels are checked before anything is fitted: a model of wrong labels would be fitted without a word."""

from datetime import datetime

import numpy as np
import pandas as pd

from mlplatform.contract import Labels
from mlplatform.environment import Environment
from mlplatform.features.frames import LabelError

_SHOWN = 5  # values in a message


def refuse_nulls(env: Environment, as_of: datetime) -> None:
    """Raise LabelError where sql/labels.sql gives rows without a label."""
    sql = f"SELECT count(*) AS rows FROM ({env.project.sql('labels.sql')}\n) WHERE label IS NULL"
    nulls = env.engine.query(sql, as_of=as_of).arrow()["rows"][0].as_py()
    if nulls:
        raise LabelError(f"sql/labels.sql: {nulls:,} labels are null: leave rows without a label out")


def check(labels: Labels, train: pd.Series, holdout: pd.Series, min_class_rows: int) -> None:
    """Raise LabelError where a model could not be trained or judged on these labels.

    They have the type of their kind already: numbers, or text for classes.
    """
    both = pd.concat([train, holdout])
    if labels.kind != "multiclass" and (broken := int((~np.isfinite(both)).sum())):
        raise LabelError(f"sql/labels.sql: {broken:,} of {len(both):,} labels are not finite numbers")
    if labels.kind == "number":
        if train.nunique() == 1:
            raise LabelError(f"sql/labels.sql: each of the {len(train):,} training labels is {train.iloc[0]:g}")
        return
    classes = [0.0, 1.0] if labels.kind == "binary" else list(labels.classes)
    _refuse_unknown(labels, both, classes)
    counts = train.value_counts().reindex(classes, fill_value=0)
    if counts.min() < min_class_rows:
        raise LabelError(
            f"{counts.min():,} of {len(train):,} training labels are {counts.idxmin()}, and training.min_class_rows is "
            f"{min_class_rows:,}: a model cannot learn a class that it hardly sees (sql/labels.sql; {_list(counts)})"
        )
    if holdout.nunique() == 1:
        raise LabelError(
            f"each of the {len(holdout):,} held-out labels is {holdout.iloc[0]}: a model cannot be judged on one class "
            "(sql/labels.sql, training.split and what it holds out)"
        )


def _refuse_unknown(labels: Labels, both: pd.Series, classes: list[float] | list[str]) -> None:
    unknown = both[~both.isin(classes)].value_counts()
    if unknown.empty:
        return
    if labels.kind == "binary":
        raise LabelError(
            f"sql/labels.sql: binary labels are 0 or 1; {unknown.sum():,} of {len(both):,} are not: {_list(unknown)}. "
            "Say which of them are 1 (CASE WHEN ...), or that they are Labels('number') or Labels('multiclass', (...))"
        )
    unseen = ", ".join(str(name) for name in classes if name not in set(both))
    raise LabelError(
        f"sql/labels.sql: {unknown.sum():,} of {len(both):,} labels are none of the {len(classes)} classes in "
        f"project.py: {_list(unknown)}" + (f". Never seen: {unseen}" if unseen else "")
    )


def _list(counts: "pd.Series[int]") -> str:
    more = f" and {len(counts) - _SHOWN:,} more" if len(counts) > _SHOWN else ""
    return ", ".join(f"{value} ({rows:,} rows)" for value, rows in counts.head(_SHOWN).items()) + more
