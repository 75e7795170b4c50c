"""What the tests of data and model share: what is known when the demonstration begins, and a model fitted on it."""

import os
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

from mlplatform.contract import Model
from mlplatform.environment import Environment
from mlplatform.registry.baseline import baseline_scores, fit_baseline
from mlplatform.testing.conformance import World
from mlplatform.training import data
from mlplatform.training.tuning import fit

from {{ cookiecutter.package_name }}.deliveries import DELIVERIES
from {{ cookiecutter.package_name }}.project import PROJECT

# Threads that spin while they wait fight over the cores of a small machine; figures need no screen.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MPLBACKEND", "agg")

UNTIL = DELIVERIES.first  # what came later is unknown here
ROWS = 15_000  # enough for a model that behaves
Score = Callable[[pd.DataFrame], np.ndarray]


def some(rows: pd.DataFrame) -> pd.DataFrame:
    """These rows, or as many of them as suffice, in their order."""
    return rows.sample(min(ROWS, len(rows)), random_state=0).sort_index()


@pytest.fixture(scope="session")
def env() -> Iterator[Environment]:
    """An environment with Silver and feature tables, and no model. Not to be changed."""
    world = World(PROJECT, DELIVERIES)
    env = world.environment("tests")
    world.advance(env, UNTIL)
    yield env


@pytest.fixture(scope="session")
def model() -> Model:
    return PROJECT.model


@pytest.fixture(scope="session")
def parted(env: Environment) -> data.TrainingData:
    """Joined rows with their labels, parted as the settings of training say (conf/base.yml, staging.yml)."""
    return data.load(env, UNTIL)


@pytest.fixture(scope="session")
def known(parted: data.TrainingData) -> pd.DataFrame:
    """Those that are trained on."""
    return some(parted.train)


@pytest.fixture(scope="session")
def held_out(parted: data.TrainingData) -> pd.DataFrame:
    """Those that are held out."""
    return some(parted.holdout)


@pytest.fixture(scope="session")
def score(model: Model, known: pd.DataFrame) -> Score:
    """The scores that the model gives to joined rows after it was fitted on the known ones."""
    fitted = fit(model, model.defaults, known)
    return lambda rows: model.predict(fitted, model.inputs(rows))


@pytest.fixture(scope="session")
def baseline(model: Model, known: pd.DataFrame) -> Score:
    """The scores of the heuristic that the model has to beat."""
    heuristic = fit_baseline(known, PROJECT.baseline, PROJECT.labels, model.primary)
    return lambda rows: baseline_scores(heuristic, rows, PROJECT.labels)
