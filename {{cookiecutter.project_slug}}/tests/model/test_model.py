"""The champion's behaviour on rows that it was not fitted on. Put here what a good model of yours must and must not do:
beat the best guess so far, ignore what does not matter, follow what does, and score what is new or missing.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from {{ cookiecutter.package_name }}.environment import Environment
from {{ cookiecutter.package_name }}.lakehouse.frames import labelled
from {{ cookiecutter.package_name }}.registry.store import Registry
from {{ cookiecutter.package_name }}.usecase import model
from {{ cookiecutter.package_name }}.usecase.baseline import baseline_scores
from {{ cookiecutter.package_name }}.usecase.columns import CATEGORICAL, NUMERIC

pytestmark = pytest.mark.xdist_group("gates")

Array = np.ndarray[Any, Any]
Score = Callable[[pd.DataFrame], Array]


@pytest.fixture(scope="module")
def registry(world: Path, load_env: Callable[..., Environment]) -> Registry:
    return Registry(load_env("prod", world))


@pytest.fixture(scope="module")
def held_out(registry: Registry, now: datetime) -> pd.DataFrame:
    """Every item of the champion's held-out window that has a label."""
    tags = registry.version(1).tags
    start, end = (datetime.fromisoformat(tags[name]) for name in ("train_end", "holdout_end"))
    rows: pd.DataFrame = labelled(registry.env, now, start, end).to_pandas()
    return rows


@pytest.fixture(scope="module")
def score(registry: Registry) -> Score:
    """The champion, as it is served: what the registry holds, behind its signature."""
    champion = registry.load(1)
    return lambda frame: model.score(champion.predict(model.features(frame)))


def test_the_model_beats_the_baseline(registry: Registry, score: Score, held_out: pd.DataFrame) -> None:
    labels = held_out["label"].to_numpy()
    heuristic = baseline_scores(pd.read_parquet(registry.files(1, "baseline.parquet")), held_out)
    ours, theirs = model.primary(labels, score(held_out)), model.primary(labels, heuristic)
    assert ours > theirs if model.GREATER_IS_BETTER else ours < theirs


def test_a_larger_amount_raises_scores_on_average(score: Score, held_out: pd.DataFrame) -> None:
    assert score(held_out.assign(amount=90.0)).mean() > score(held_out.assign(amount=10.0)).mean()


def test_the_name_of_an_item_does_not_matter(score: Score, held_out: pd.DataFrame) -> None:
    assert np.array_equal(score(held_out.assign(item_id="item-999999")), score(held_out))


def test_an_item_scores_the_same_alone_in_a_batch_and_in_any_order(score: Score, held_out: pd.DataFrame) -> None:
    together = score(held_out)
    assert score(held_out.iloc[[7]]) == pytest.approx(together[[7]])
    assert score(held_out.iloc[::-1])[::-1] == pytest.approx(together)


def test_an_item_of_which_nothing_is_known_is_scored(score: Score, held_out: pd.DataFrame) -> None:
    unknown = held_out.assign(**dict.fromkeys(NUMERIC, np.nan), **dict.fromkeys(CATEGORICAL))
    assert np.isfinite(score(unknown)).all()


def test_a_new_kind_is_scored(score: Score, held_out: pd.DataFrame) -> None:
    assert np.isfinite(score(held_out.assign(kind="new"))).all()
