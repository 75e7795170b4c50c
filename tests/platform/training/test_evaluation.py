"""A model is judged by scores that are numbers, one for each row, or not at all."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlplatform.errors import UserError
from mlplatform.training.evaluation import evaluate
from tiny.model import Estimate
from tiny.project import PROJECT


class Careless(Estimate):
    def inputs(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame

    def predict(self, fitted: Any, inputs: pd.DataFrame) -> np.ndarray:
        return np.array(fitted)


@pytest.mark.parametrize("scores", [[0.5, np.nan], [0.5, np.inf], [0.5], [[0.5, 0.5], [0.1, 0.9]]])
def test_scores_that_are_no_numbers_or_not_one_a_row_are_refused(scores: Any) -> None:
    rows = pd.DataFrame({"label": [0.0, 1.0]})
    with pytest.raises(UserError, match=r"Model.predict gives scores of shape .*: wanted are finite ones, \(2,\)"):
        evaluate(replace(PROJECT, model=Careless()), scores, rows, rows)
