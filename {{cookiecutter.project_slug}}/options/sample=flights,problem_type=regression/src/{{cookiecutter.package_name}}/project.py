"""The project in one object: everything that the platform asks of you.

mlplatform/contract.py says what each member means, and which more there are; `make check` compares them with sql/ and
conf/.
"""

from mlplatform.contract import Baseline, Card, Labels, Project

from .features import ENTITY, VIEWS
from .model import Estimate
from .tables import SOURCES, TABLES

PROJECT = Project(
    package=__package__,
    entity=ENTITY,
    labels=Labels("number"),
    sources=SOURCES,
    tables=TABLES,
    views=VIEWS,
    model=Estimate(),
    # A model has to beat the mean or median label of each of these groups, and is judged in each slice by itself.
    baseline=Baseline(groups=("carrier",)),
    slices=("origin", "carrier"),
    card=Card(
        description="Two hours before scheduled departure: how many minutes late the flight will arrive.",
        intended_use="""\
Estimate delays while there is still time to act: two hours before departure.
Not for decisions about single passengers or crews.""",
        limits="""\
It knows New York's three airports in the data's span only. Cancelled and diverted flights have no label, so it
says nothing of them. Long delays are rare and are underestimated: it predicts a mean, not a worst case.""",
    ),
)
