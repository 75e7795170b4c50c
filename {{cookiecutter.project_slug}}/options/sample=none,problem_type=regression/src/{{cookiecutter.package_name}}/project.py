"""The project in one object: everything that the platform asks of you.

mlplatform/contract.py says what each member means, and which more there are; `make check` compares them with sql/ and
conf/. Put here the kind of your labels, what a model has to beat, and what the reader of its card must know.
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
    baseline=Baseline(groups=("kind",)),
    slices=("kind",),
    card=Card(
        description="For each item, once it is known: what its outcome will be.",
        intended_use="""\
Show how the pipelines fit together, on rows that are made up. Not for any decision.""",
        limits="""\
It knows nothing but the example: three kinds of items whose outcomes follow a simple rule, and chance.""",
    ),
)
