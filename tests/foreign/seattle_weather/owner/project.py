"""The project in one object: what the platform is handed."""

import pandas as pd

from mlplatform.contract import Baseline, Card, Labels, Project

from .features import ENTITY, VIEWS
from .model import Forecast
from .tables import SOURCES, TABLES


def badly_wrong(predictions: pd.DataFrame) -> float:
    """The share of days on which the forecast was off by more than five degrees."""
    return float(((predictions["score"] - predictions["label"]).abs() > 5).mean())


PROJECT = Project(
    package=__package__,
    entity=ENTITY,
    labels=Labels("number", description="The highest temperature of the day, in degrees Celsius."),
    sources=SOURCES,
    tables=TABLES,
    views=VIEWS,
    model=Forecast(),
    baseline=Baseline(groups=("month",)),
    slices=("season",),
    card=Card(
        description="At six in the morning: the highest temperature of the day in Seattle.",
        intended_use="Plan the day's energy. Not for warnings of heat or frost.",
        limits="It knows four years of one place, and nothing of forecasts by weather services.",
    ),
    metrics={"share_badly_wrong": badly_wrong},
)
