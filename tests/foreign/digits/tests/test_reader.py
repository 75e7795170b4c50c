"""What must hold of the reader: typed pixels, and probabilities of ten digits."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from mlplatform.testing import sql

from early_warning.model import DIGITS
from early_warning.project import PROJECT
from early_warning.tables import PIXELS

SCAN = {"image_id": "7", "digit": "3", **dict.fromkeys(PIXELS, "4.0")}


def test_a_scan_keeps_its_contract_and_another_sign_does_not() -> None:
    good, refused = sql.judged(PROJECT, "scans", SCAN, SCAN | {"image_id": "8", "digit": "x"})
    assert (good.height, refused.height) == (1, 1)
    assert refused["reason"][0].startswith("digit")


def test_it_reads_sheets_that_it_has_not_seen(
    known: pd.DataFrame, held_out: pd.DataFrame, score: Callable[[pd.DataFrame], np.ndarray]
) -> None:
    assert not set(known["sheet"]) & set(held_out["sheet"])
    scores = score(held_out)
    assert scores.shape == (len(held_out), len(DIGITS))
    assert np.allclose(scores.sum(axis=1), 1)
    assert PROJECT.model.metrics(held_out["label"].to_numpy(), scores)["accuracy"] > 0.85
