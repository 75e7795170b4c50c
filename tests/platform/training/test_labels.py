"""Labels that no model could be fitted to or judged by are refused before the fit, with what is wrong and where."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from mlplatform.contract import Labels
from mlplatform.features.frames import LabelError
from mlplatform.training.labels import check

BINARY, NUMBER, CLASSES = Labels("binary"), Labels("number"), Labels("multiclass", ("early", "late", "on time"))


def refusal(labels: Labels, train: Sequence[object], holdout: Sequence[object], min_class_rows: int = 2) -> str:
    with pytest.raises(LabelError) as refused:
        check(labels, pd.Series(train), pd.Series(holdout), min_class_rows)
    return str(refused.value)


@pytest.mark.parametrize(
    ("labels", "values"),
    [(BINARY, [0.0, 1.0]), (NUMBER, [0.5, 3.0, -1.0]), (CLASSES, ["early", "late", "on time"])],
    ids=["binary", "number", "multiclass"],
)
def test_labels_as_they_should_be_pass(labels: Labels, values: list[object]) -> None:
    check(labels, pd.Series(values * 5), pd.Series(values * 2), 5)


def test_numbers_are_no_binary_labels() -> None:
    said = refusal(BINARY, [0.0, 1.0, 2.0, 7.5], [0.0, 1.0])
    assert "binary labels are 0 or 1; 2 of 6 are not: 2.0 (1 rows), 7.5 (1 rows)" in said
    assert "Labels('number')" in said


def test_of_many_wrong_values_a_few_are_shown() -> None:
    said = refusal(BINARY, list(np.arange(40.0)), [0.0])
    assert said.count("rows)") == 5
    assert "and 33 more" in said


def test_a_class_that_project_py_does_not_name_is_told() -> None:
    said = refusal(CLASSES, ["early", "late", "on time", "diverted"], ["early", "Late"])
    assert "2 of 6 labels are none of the 3 classes in project.py: diverted (1 rows), Late (1 rows)" in said
    assert "Never seen" not in said
    assert refusal(CLASSES, ["early", "on time", "Late"], ["early"]).endswith("Never seen: late")


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("labels", [BINARY, NUMBER], ids=["binary", "number"])
def test_a_label_that_is_not_finite_is_refused(labels: Labels, broken: float) -> None:
    assert "1 of 5 labels are not finite numbers" in refusal(labels, [0.0, 1.0, broken], [0.0, 1.0])


def test_training_rows_of_one_class_are_refused() -> None:
    said = refusal(BINARY, [0.0] * 20, [0.0, 1.0], min_class_rows=5)
    assert said.startswith("0 of 20 training labels are 1.0, and training.min_class_rows is 5")


def test_a_class_with_hardly_any_training_rows_is_refused() -> None:
    said = refusal(CLASSES, ["early"] * 9 + ["late"] * 9 + ["on time"] * 4, ["early", "late"], min_class_rows=5)
    assert said.startswith("4 of 22 training labels are on time, and training.min_class_rows is 5")


@pytest.mark.parametrize(("labels", "one"), [(BINARY, 1.0), (CLASSES, "late")], ids=["binary", "multiclass"])
def test_held_out_rows_of_one_class_are_refused(labels: Labels, one: object) -> None:
    train = [0.0, 1.0] * 5 if labels is BINARY else ["early", "late", "on time"] * 5
    assert refusal(labels, train, [one] * 30).startswith(f"each of the 30 held-out labels is {one}")


def test_a_number_that_never_changes_is_refused() -> None:
    assert refusal(NUMBER, [3.0] * 30, [3.0, 4.0]).endswith("each of the 30 training labels is 3")
