"""What the tests of the model's behaviour ask of it."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

Score = Callable[[pd.DataFrame], np.ndarray]


@pytest.fixture(scope="session")
def lateness(score: Score) -> Score:
    """One number per flight, which is larger the later it is expected to be."""
    return score
