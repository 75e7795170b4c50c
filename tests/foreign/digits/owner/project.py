"""The project in one object: what the platform is handed."""

from mlplatform.contract import Card, Labels, Project

from .features import ENTITY, VIEWS
from .model import DIGITS, Reader
from .tables import SOURCES, TABLES

PROJECT = Project(
    package=__package__,
    entity=ENTITY,
    labels=Labels("multiclass", classes=DIGITS, description="The digit that was written."),
    sources=SOURCES,
    tables=TABLES,
    views=VIEWS,
    model=Reader(),
    slices=("dark",),
    card=Card(
        description="For each scanned digit: the probability of every digit.",
        intended_use="Sort forms by their numbers; a person reads what is unsure.",
        limits="It knows one way of scanning: eight by eight pixels of sixteen shades.",
    ),
)
