"""The project in one object: what the platform is handed."""

from mlplatform.contract import Card, Labels, Project

from .features import ENTITY, VIEWS
from .model import Finding
from .tables import SOURCES, TABLES

PROJECT = Project(
    package=__package__,
    entity=ENTITY,
    labels=Labels("binary", description="1 if the sample is benign."),
    sources=SOURCES,
    tables=TABLES,
    views=VIEWS,
    model=Finding(),
    card=Card(
        description="For each tissue sample: the probability that it is benign.",
        intended_use="Show how a table without time is trained on. Not for any diagnosis.",
        limits="569 samples of one clinic, delivered once; it cannot say how findings change over time.",
    ),
)
