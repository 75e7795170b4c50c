"""Versions are scored on the columns they were trained on, whatever the project names by now."""

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlplatform.contract import Labels
from mlplatform.environment import Environment
from mlplatform.errors import StorageError, UserError
from mlplatform.features.frames import entities
from mlplatform.registry.scoring import MissingColumnsError, Scorer, VersionScorer, as_trained, score_columns
from mlplatform.registry.store import Registry
from tiny import model
from tiny.features import NUMERIC


@pytest.fixture
def champion(world: Path, load_env: Callable[..., Environment]) -> Registry:
    return Registry(load_env("prod", world))


@pytest.fixture
def rows(champion: Registry, now: datetime) -> pd.DataFrame:
    frame: pd.DataFrame = entities(champion.env, now, now - timedelta(days=7), now).arrow().to_pandas()
    return frame


@pytest.mark.parametrize("kind", ["NUMERIC", "CATEGORICAL"])
def test_a_version_still_gets_a_column_that_the_project_has_dropped(
    champion: Registry, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    expected = VersionScorer(champion, 1)(rows)
    monkeypatch.setattr(model, kind, getattr(model, kind)[:-1])
    assert len(expected) == len(rows) > 0
    assert np.array_equal(VersionScorer(champion, 1)(rows), expected)


def test_a_column_that_is_gone_for_good_is_named_with_the_version_that_needs_it(
    champion: Registry, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    *others, last = NUMERIC
    monkeypatch.setattr(model, "NUMERIC", tuple(others))
    with pytest.raises(MissingColumnsError, match=rf"version 1 needs {last}, .* keep the column"):
        VersionScorer(champion, 1)(rows.drop(columns=last))


class Careless(model.Estimate):
    """Takes the rows as they are, answers with the first column, and writes into it."""

    def inputs(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame

    def predict(self, fitted: None, inputs: pd.DataFrame) -> np.ndarray:
        first = inputs.iloc[:, 0].to_numpy(copy=True)
        inputs.iloc[:, 0] = 0.0
        return first


def test_features_that_their_tables_lack_yet_are_named() -> None:
    frame = pd.DataFrame({"amount": [1.0], "kind": ["a"]})
    with pytest.raises(
        UserError, match=r"that their tables do not have yet \(.*kind_history__outcome_7d.*run `featurize`"
    ):
        as_trained(model.Estimate().inputs, frame, None)
    with pytest.raises(KeyError, match="kind"):
        as_trained(lambda rows: rows[["kind"]], frame[["amount"]], None)


def test_a_version_gets_the_columns_in_its_order_and_cannot_change_those_of_another() -> None:
    rows = pd.DataFrame({"b": [1.0, 2.0], "a": [3, 4]})
    for columns, expected in (("ba", [1, 2]), ("ab", [3, 4])):
        scorer = Scorer(Careless(), None, dict.fromkeys(columns, "double"))
        assert {*scorer.inputs(rows).dtypes} == {np.dtype("float64")}, "as in training, whatever the rows have"
        assert scorer.scores(rows).tolist() == expected
    assert rows.to_dict("list") == {"b": [1, 2], "a": [3, 4]}


def test_a_score_at_the_threshold_is_a_hit() -> None:
    decided = score_columns(Labels("binary"), np.array([0.2, 0.3, 0.4]), 0.3)
    assert decided["prediction"].tolist() == [0, 1, 1]


def test_the_versions_of_a_project_that_was_moved_are_found(
    project: Path, rows: pd.DataFrame, load_env: Callable[..., Environment], tmp_path: Path
) -> None:
    """MLflow records whole paths; a container sees the project at another one, a copy lies beside it."""
    expected = VersionScorer(Registry(load_env("prod", project)), 1)(rows)
    moved = Path(shutil.copytree(project, tmp_path / "elsewhere"))
    registry = Registry(load_env("prod", moved))
    assert registry.files(1, "model_card.md").is_relative_to(moved), "a copy does not look where it came from"
    shutil.rmtree(project)
    assert np.array_equal(VersionScorer(registry, 1)(rows), expected)
    assert "model_card.md" in registry.artifact_names(1)

    shutil.rmtree(moved / registry.settings.artifacts)
    with pytest.raises(StorageError, match="version 1: its files are neither in"):
        registry.files(1, "model")
