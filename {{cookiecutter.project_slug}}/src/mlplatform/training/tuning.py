"""Fits, the search for hyperparameters (Optuna) and for a threshold, over folds of the training rows."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit
from sklearn.pipeline import Pipeline

from mlplatform.config.sections import TrainingSettings, Tuning
from mlplatform.contract import Model
from mlplatform.errors import UserError

Progress = Callable[[int, int, float], None]
Fold = tuple[np.ndarray, np.ndarray]  # positions of rows to train on and to judge on

_THRESHOLDS = 200  # candidates


class ModelError(UserError):
    """The model of model.py cannot be fitted, tuned or judged; the message says which member does not do."""


def folds(model: Model, rows: pd.DataFrame, settings: TrainingSettings, classes: bool) -> list[Fold]:
    """Parts of training rows, in the order of time, split as held-out rows are: each is judged by what is not in it.

    A fold that lacks a class or all values of an input where it trains, or that has only one class where it judges,
    says nothing and is left out. Raises ModelError where none is left.
    """
    label, count, seed = rows["label"], settings.tuning.folds, settings.seed
    if settings.split == "time":
        found = TimeSeriesSplit(count).split(rows)
    elif settings.split == "group":
        found = GroupKFold(count).split(rows, label, rows[settings.group])
    elif classes:
        found = StratifiedKFold(count, shuffle=True, random_state=seed).split(rows, label)
    else:
        found = KFold(count, shuffle=True, random_state=seed).split(rows)
    present, given = label.nunique(), model.inputs(rows).notna()
    given = given.loc[:, given.any()]
    whole = [
        (train, test)
        for train, test in found
        if not classes or (label.iloc[train].nunique() == present and label.iloc[test].nunique() > 1)
    ]
    if kept := [(train, test) for train, test in whole if given.iloc[train].any().all()]:
        return kept
    lacked = sorted(
        {name for train, _ in whole for name, any_value in given.iloc[train].any().items() if not any_value}
    )
    what = f"a value of {', '.join(lacked)} where it trains" if lacked else "all classes"
    raise ModelError(f"none of training.tuning.folds ({count}) holds {what}: fewer folds hold more rows each")


def search(
    model: Model, rows: pd.DataFrame, folds: Sequence[Fold], settings: Tuning, progress: Progress | None = None
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The best hyperparameters for joined rows with the column `label`, and a table of all trials.

    The score of a trial is the mean of the primary metric over the folds. Where that is no finite number in one of
    them, the trial has failed. Raises ModelError where all have.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tried: dict[int, dict[str, Any]] = {}

    def objective(trial: Any) -> float:
        tried[trial.number] = model.suggest(trial) or dict(model.defaults)
        scores = []
        for train, test in folds:
            fitted = fit(model, tried[trial.number], rows.iloc[train])
            scores.append(_measure(model, fitted, rows.iloc[test]))
        if not np.isfinite(scores).all():
            raise optuna.TrialPruned(f"{model.primary.name} by fold: {scores}")
        return float(np.mean(scores))

    def report(study: Any, trial: Any) -> None:
        if not trial.params:
            study.stop()  # there is nothing to search for
        elif progress and any(known.value is not None for known in study.trials):
            progress(trial.number + 1, settings.trials, study.best_value)

    direction = "maximize" if model.primary.greater_is_better else "minimize"
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.TPESampler(seed=0))
    study.enqueue_trial(dict(model.defaults))  # the search never ends below where it began
    study.optimize(objective, settings.trials, timeout=settings.timeout.total_seconds(), callbacks=[report])
    trials = study.trials_dataframe(("number", "value", "params", "duration", "state"))
    if trials["value"].isna().all():
        raise ModelError(f"{model.primary.name} is no finite number in any of {len(trials)} trials: see model.py")
    return tried[study.best_trial.number], trials


def threshold(model: Model, parameters: Mapping[str, Any], rows: pd.DataFrame, folds: Sequence[Fold]) -> float | None:
    """The threshold by which decisions on rows that were not trained on are best, if the model judges decisions.

    A decision is 1 where the score is at least the threshold. Raises ModelError where no decision can be judged.
    """
    if model.decision is None:
        return None
    scores, labels = [], []
    for train, test in folds:
        fitted = fit(model, parameters, rows.iloc[train])
        scores.append(np.asarray(model.predict(fitted, model.inputs(rows.iloc[test]))))
        labels.append(rows["label"].iloc[test].to_numpy())
    score, known = np.concatenate(scores), np.concatenate(labels)
    candidates = np.unique(np.quantile(score, np.linspace(0, 1, _THRESHOLDS), method="lower"))
    sign = 1 if model.decision.greater_is_better else -1
    gains = np.array([sign * model.decision.measure(known, (score >= at).astype(float)) for at in candidates])
    if not np.isfinite(gains).any():
        raise ModelError(f"{model.decision.name} (Model.decision) is no finite number for any threshold")
    return float(candidates[np.nanargmax(gains)])


def fit(model: Model, parameters: Mapping[str, Any], train: pd.DataFrame) -> Any:
    """An estimator with these hyperparameters, fitted on joined rows with the column `label`. Raises ModelError."""
    estimator, weights = model.build(parameters), model.weights(train)
    given = {}
    if weights is not None:
        weights = np.asarray(weights, dtype="float64")
        if weights.shape != (len(train),) or not (np.isfinite(weights) & (weights >= 0)).all() or not weights.any():
            raise ModelError(f"Model.weights gives no weight of zero or more for each of {len(train):,} rows")
        given[_weight_argument(estimator)] = weights
    inputs = model.inputs(train)
    try:
        estimator.fit(inputs, train["label"].to_numpy(), **given)
    except ValueError as error:
        if empty := list(inputs.columns[inputs.isna().all()]):
            raise ModelError(f"no training row has a value of {', '.join(empty)}, and fit says: {error}") from error
        raise
    return estimator


def _weight_argument(estimator: Any) -> str:
    """What `fit` calls the weights: in a pipeline they are its last step's."""
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        return f"{name}__{_weight_argument(last)}"
    takes = inspect.signature(estimator.fit).parameters.values()
    if not any(p.name == "sample_weight" or p.kind is p.VAR_KEYWORD for p in takes):
        raise ModelError(f"Model.weights gives weights, and {type(estimator).__name__}.fit takes no sample_weight")
    return "sample_weight"


def _measure(model: Model, fitted: Any, rows: pd.DataFrame) -> float:
    scores = np.asarray(model.predict(fitted, model.inputs(rows)))
    return float(model.primary.measure(rows["label"].to_numpy(), scores)) if np.isfinite(scores).all() else np.nan
