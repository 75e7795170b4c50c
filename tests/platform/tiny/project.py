"""The project in one object: what the platform is handed."""

from mlplatform.contract import Baseline, Card, Labels, Project

from .features import ENTITY, VIEWS
from .model import Estimate
from .tables import SOURCES, TABLES

PROJECT = Project(
    package=__package__,
    entity=ENTITY,
    labels=Labels("binary"),
    sources=SOURCES,
    tables=TABLES,
    views=VIEWS,
    model=Estimate(),
    baseline=Baseline(groups=("kind",)),
    slices=("kind",),
    card=Card(
        description="For each item, once it is known: the probability that its outcome is positive.",
        intended_use="""\
Show how the pipelines fit together, on rows that are made up. Not for any decision.""",
        limits="""\
It knows nothing but the example: three kinds of items whose outcomes follow a simple rule, and chance.""",
    ),
)
