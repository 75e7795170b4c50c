"""A quicker way to score one row: past pandas and the encoders' frames, which take most of a row's time.

Whatever way, it is used only after it has given the pipeline's scores, to the last bit, on held-out rows.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mlplatform.contract import RowScorer
from mlplatform.registry.scoring import Scorer

_MISSING = "missing"  # what stands for a category that is not given
_Column = tuple[str, dict[str, float] | None, float]  # a name; the table of an encoded category; what unknown ones get


def row_scorer(scorer: Scorer, classes: Sequence[str] = ()) -> RowScorer | None:
    """The model's own, or the one for histogram gradient boosting behind target encoders; None where neither is.

    `classes` are those of multi-class labels, in the order of scores: that of the estimator is another one.
    """
    return scorer.model.row_scorer(scorer.fitted) or _boosted_trees(scorer, classes)


def differs(scorer: Scorer, quick: RowScorer, frame: pd.DataFrame, rows: list[dict[str, Any]]) -> str:
    """How a quick scorer differs from the version on joined rows (`frame` and `rows` hold the same), if it does."""
    try:
        found = np.array([quick(row) for row in rows], dtype="float64")
    except Exception as error:  # an owner's code, on rows that it has not seen
        return f"it fails: {error!r}"
    expected = scorer.scores(frame)
    if found.shape != expected.shape:
        return f"it gives the shape {found.shape} for {expected.shape}"
    unequal = int((found != expected).reshape(len(rows), -1).any(axis=1).sum())
    return f"{unequal} of {len(rows)} rows get another score" if unequal else ""


def _boosted_trees(scorer: Scorer, names: Sequence[str]) -> RowScorer | None:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.pipeline import Pipeline

    fitted = scorer.fitted
    if not isinstance(fitted, Pipeline) or not isinstance(
        fitted[-1], HistGradientBoostingClassifier | HistGradientBoostingRegressor
    ):
        return None
    columns = _columns(fitted[:-1])
    if columns is None:
        return None
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    trees: Any = fitted[-1]
    classes = [str(name) for name in getattr(trees, "classes_", ())]
    order = [classes.index(name) if name in classes else None for name in names]
    predict = trees.predict_proba if len(classes) else trees.predict
    answer = _walk(trees) or (lambda given: predict([given])[0])

    def score(row: Mapping[str, Any]) -> Any:
        given = []
        for name, table, unknown in columns:
            value = row[name]
            if table is None:
                given.append(np.nan if value is None else float(value))
            else:
                given.append(table.get(_MISSING if value is None else str(value), unknown))
        scores = answer(given)
        if order:
            return [0.0 if index is None else scores[index] for index in order]
        return scores[1] if len(classes) == 2 else scores

    return score


def _walk(trees: Any) -> Callable[[list[float]], Any] | None:
    """What the trees say of one row, by a walk from split to split: a twentieth of the time that their arrays take.

    They are no public attributes: None where scikit-learn has moved them, and where a split is of categories.
    """
    try:
        baseline = trees._baseline_prediction.ravel().tolist()
        grown = [[_root(tree.nodes) for tree in of_class] for of_class in zip(*trees._predictors, strict=True)]
        inverse = trees._loss.link.inverse
        told = getattr(trees._loss, "predict_proba", lambda sums: inverse(sums[0]))
    except (AttributeError, ValueError):
        return None

    def walk(given: list[float]) -> Any:
        sums = []
        for total, roots in zip(baseline, grown, strict=True):
            for node in roots:
                while type(node) is tuple:
                    feature, threshold, missing_left, left, right = node
                    value = given[feature]
                    node = left if value <= threshold or (missing_left and value != value) else right
                total += node
            sums.append(total)
        return told(np.array([sums]))[0]

    return walk


def _root(nodes: np.ndarray) -> Any:
    """A tree as nested tuples (feature, threshold, whether the missing go left, left, right), its leaves as numbers.

    Raises ValueError where a split is of categories.
    """
    if nodes["is_categorical"].any():
        raise ValueError("a split is of categories")
    made: dict[int, Any] = {}
    for number in reversed(range(len(nodes))):  # a node stands before those below it
        node = nodes[number]
        split = (int(node["feature_idx"]), float(node["num_threshold"]), bool(node["missing_go_to_left"]))
        leads = (made.get(int(node["left"])), made.get(int(node["right"])))
        made[number] = float(node["value"]) if node["is_leaf"] else (*split, *leads)
    return made[0]


def _columns(encode: Any) -> list[_Column] | None:
    """What a fitted ColumnTransformer of target encoders and columns that pass gives to the next step, in its order."""
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import TargetEncoder

    if len(encode) != 1 or not isinstance(encode[0], ColumnTransformer):
        return None
    found: list[_Column] = []
    for name, transformer, names in encode[0].transformers_:
        if isinstance(transformer, TargetEncoder):
            found += _tables(transformer, list(names))
        elif name == "remainder" and encode[0].remainder == "passthrough":
            found += [(column, None, np.nan) for column in names]
        else:
            return None
    return found if all(isinstance(name, str) for name, _, _ in found) else None


def _tables(encoder: Any, names: list[str]) -> list[_Column]:
    """One table per category, or per category and class, as the encoder's public attributes order them."""
    each = len(encoder.encodings_) // len(names)
    means = np.atleast_1d(encoder.target_mean_)
    return [
        (
            names[number // each],
            dict(zip(map(str, encoder.categories_[number // each]), encodings.tolist(), strict=True)),
            float(means[number % each]),
        )
        for number, encodings in enumerate(encoder.encodings_)
    ]
