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
    labels=Labels("binary"),
    sources=SOURCES,
    tables=TABLES,
    views=VIEWS,
    model=Estimate(),
    # A model has to beat the mean label of each of these groups, and is judged in each slice by itself.
    baseline=Baseline(groups=("carrier", "local_hour")),
    slices=("origin", "carrier"),
    card=Card(
        description="Two hours before scheduled departure: the probability of arriving more than 15 minutes late.",
        intended_use="""\
Rank and flag flights that are likely to be late, two hours before departure, while there is time to act.
Not for decisions about single passengers or crews.""",
        limits="""\
It knows New York's three airports in the data's span only. Cancelled and diverted flights have no label, so it
says nothing of them. Its probabilities follow the season; watch their calibration after a change of season.""",
    ),
)
