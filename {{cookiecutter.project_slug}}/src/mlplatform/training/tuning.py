"""The search for hyperparameters: Optuna over expanding time-series folds."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import TimeSeriesSplit

from mlplatform.config.training import Tuning
from mlplatform.contract import Model

Progress = Callable[[int, int, float], None]


def search(
    model: Model, train: pd.DataFrame, settings: Tuning, progress: Progress | None = None
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The best hyperparameters for the rows of `train`, which are in the order of time, and a table of all trials.

    Each fold trains on what came before it. The score is the mean of the primary metric over the folds.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = train.sample(frac=settings.fraction, random_state=0).sort_index() if settings.fraction < 1 else train
    inputs, labels = model.inputs(rows), rows["label"].to_numpy()
    folds = list(TimeSeriesSplit(settings.folds).split(inputs))

    def objective(trial: Any) -> float:
        estimator = model.build(model.suggest(trial))
        scores = [_fold(model, estimator, inputs, labels, *fold) for fold in folds]
        return float(np.mean(scores))

    def report(study: Any, trial: Any) -> None:
        if progress:
            progress(trial.number + 1, settings.trials, study.best_value)

    direction = "maximize" if model.primary.greater_is_better else "minimize"
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.TPESampler(seed=0))
    study.enqueue_trial(dict(model.defaults))  # the search never ends below where it began
    study.optimize(objective, settings.trials, timeout=settings.timeout.total_seconds(), callbacks=[report])
    return dict(study.best_params), study.trials_dataframe(("number", "value", "params", "duration"))


def fit(model: Model, parameters: Mapping[str, Any], train: pd.DataFrame) -> Any:
    """An estimator with these hyperparameters, fitted on joined rows with the column `label`."""
    weights = model.weights(train)
    given = {} if weights is None else {"sample_weight": weights}
    return model.build(parameters).fit(model.inputs(train), train["label"].to_numpy(), **given)


def _fold(
    model: Model, estimator: Any, inputs: pd.DataFrame, labels: np.ndarray, train: np.ndarray, test: np.ndarray
) -> float:
    fitted = clone(estimator).fit(inputs.iloc[train], labels[train])
    return float(model.primary.measure(labels[test], model.predict(fitted, inputs.iloc[test])))
