"""What must hold of the finding: typed measurements, and a model that ranks better than chance."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from mlplatform.testing import sql

from early_warning.project import PROJECT
from early_warning.tables import MEASURED

SAMPLE = {"sample_id": "sample-001", "benign": "1", **dict.fromkeys(MEASURED, "0.5")}


def test_a_sample_keeps_its_contract_and_a_negative_measurement_does_not() -> None:
    good, refused = sql.judged(PROJECT, "samples", SAMPLE, SAMPLE | {"sample_id": "sample-002", "area": "-1"})
    assert (good.height, refused.height) == (1, 1)
    assert refused["reason"][0].startswith("area")


def test_a_sample_is_an_entity_with_its_label_from_the_time_it_landed() -> None:
    good, _ = sql.judged(PROJECT, "samples", SAMPLE)
    tables = {"silver.samples": good}
    entity = sql.query(PROJECT, "entities.sql", tables).row(0, named=True)
    label = sql.query(PROJECT, "labels.sql", tables).row(0, named=True)
    assert entity["prediction_time"] == label["available_at"]
    assert label["label"] == 1.0


def test_it_ranks_samples_that_it_has_not_seen(
    held_out: pd.DataFrame, score: Callable[[pd.DataFrame], np.ndarray]
) -> None:
    assert PROJECT.model.metrics(held_out["label"].to_numpy(), score(held_out))["roc_auc"] > 0.95
