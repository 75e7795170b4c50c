"""The search for hyperparameters: Optuna over expanding time-series folds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import TimeSeriesSplit

from ..usecase import model
from .settings import Tuning

Progress = Callable[[int, int, float], None]


def search(
    train: pd.DataFrame, settings: Tuning, progress: Progress | None = None
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The best hyperparameters for the rows of `train`, which are in the order of time, and a table of all trials.

    Each fold trains on what came before it. The score is the mean of the primary metric over the folds.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = train.sample(frac=settings.fraction, random_state=0).sort_index() if settings.fraction < 1 else train
    inputs, labels = model.features(rows), rows["label"].to_numpy()
    folds = list(TimeSeriesSplit(settings.folds).split(inputs))

    def objective(trial: Any) -> float:
        pipeline = model.build(model.suggest(trial))
        scores = [_fold(pipeline, inputs, labels, *fold) for fold in folds]
        return float(np.mean(scores))

    def report(study: Any, trial: Any) -> None:
        if progress:
            progress(trial.number + 1, settings.trials, study.best_value)

    direction = "maximize" if model.GREATER_IS_BETTER else "minimize"
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.TPESampler(seed=0))
    study.enqueue_trial(dict(model.DEFAULTS))  # the search never ends below where it began
    study.optimize(objective, settings.trials, timeout=settings.timeout.total_seconds(), callbacks=[report])
    return dict(study.best_params), study.trials_dataframe(("number", "value", "params", "duration"))


def _fold(pipeline: Any, inputs: pd.DataFrame, labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    fitted = clone(pipeline).fit(inputs.iloc[train], labels[train])
    scores = model.score(getattr(fitted, model.PREDICT)(inputs.iloc[test]))
    return float(model.metrics(labels[test], scores)[model.PRIMARY_METRIC])
