"""What the tests of data and model share: what was delivered in the first ten weeks, and a model fitted on it."""

import os
from collections.abc import Callable, Iterator
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from mlplatform.contract import Model
from mlplatform.environment import Environment
from mlplatform.features.frames import labelled
from mlplatform.registry.baseline import baseline_scores, fit_baseline
from mlplatform.testing.conformance import World
from mlplatform.training.tuning import fit

from {{ cookiecutter.package_name }}.deliveries import DELIVERIES
from {{ cookiecutter.package_name }}.project import PROJECT

# Threads that spin while they wait fight over the cores of a small machine; figures need no screen.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MPLBACKEND", "agg")

UNTIL = DELIVERIES.begin + timedelta(days=73)  # what came later is unknown here
NEWEST = timedelta(days=14)
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
def known(env: Environment) -> pd.DataFrame:
    """Joined rows with their labels, but for the two newest weeks."""
    return some(labelled(env, UNTIL, DELIVERIES.begin, UNTIL - NEWEST).arrow().to_pandas())


@pytest.fixture(scope="session")
def held_out(env: Environment) -> pd.DataFrame:
    """Joined rows with their labels, of the two newest weeks."""
    return some(labelled(env, UNTIL, UNTIL - NEWEST, UNTIL).arrow().to_pandas())


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
