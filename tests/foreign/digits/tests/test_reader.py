"""What must hold of the reader: typed pixels, and probabilities of ten digits."""

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from mlplatform.testing import sql

from early_warning.model import DIGITS
from early_warning.project import PROJECT
from early_warning.tables import PIXELS

SCAN = {"image_id": "7", "digit": "3", **dict.fromkeys(PIXELS, "4.0")}


def test_a_scan_keeps_its_contract_and_another_sign_does_not() -> None:
    good, refused = sql.judged(PROJECT, "scans", SCAN, SCAN | {"image_id": "8", "digit": "x"})
    assert (good.height, refused.height) == (1, 1)
    assert refused["reason"][0].startswith("digit")


def test_it_reads_digits_that_it_has_not_seen() -> None:
    digits = load_digits()
    rows = pd.DataFrame(digits.data, columns=list(PIXELS))
    labels, model = digits.target.astype(str), PROJECT.model
    fitted = model.build(model.defaults).fit(model.inputs(rows[:1200]), labels[:1200])
    scores = model.predict(fitted, model.inputs(rows[1200:]))
    assert scores.shape == (len(rows) - 1200, len(DIGITS))
    assert np.allclose(scores.sum(axis=1), 1)
    assert model.metrics(labels[1200:], scores)["accuracy"] > 0.85
