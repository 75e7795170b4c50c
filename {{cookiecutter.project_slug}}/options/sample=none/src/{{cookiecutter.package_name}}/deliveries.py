"""The example's clock: makes up ten items a day and puts them into the landing zone as they became known.

It stands in for your sources, so that every pipeline and check has something to work on. Put here something that copies
a few weeks of your own files into `<landing>/<source>/`, each by the time that it was published: the demonstration, the
integration test and tests/test_project.py run on that.
"""

import csv
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

from mlplatform.contract import Deliveries
from mlplatform.storage.landing import NAME_FORMAT

START = datetime(2025, 1, 1)
# From here on amounts count the other way round, as the world may: what was learned before goes wrong.
TURN = datetime(2025, 5, 12)

ISO = "%Y-%m-%dT%H:%M:%SZ"
EVERY = timedelta(minutes=144)
KINDS = {"a": -25.0, "b": 0.0, "c": 25.0}
HEADERS = {
    "items": ("item_id", "kind", "amount", "published_at"),
    "outcomes": ("item_id", "kind", "outcome", "published_at"),
}
Row = tuple[datetime, tuple[str, ...]]


def land(landing: Path, until: datetime) -> dict[str, int]:
    """Write what was published after each source's newest landed file and up to `until` (naive UTC).

    Each source gets one file, `<landing>/<source>/<until>.csv`: a header only where nothing was published, so that
    the clock moves on, and no file where `until` has landed already. Returns the rows written, by source.
    """
    until = until.replace(microsecond=0)
    items, outcomes = zip(*_facts(until), strict=True) if until >= START else ((), ())
    return {"items": _land(landing, "items", items, until), "outcomes": _land(landing, "outcomes", outcomes, until)}


def _facts(until: datetime) -> Iterator[tuple[Row, Row]]:
    """Each item published by `until`, and its outcome, which is known a day or two later. A number always gives the
    same item."""
    for number in range(int((until - START) / EVERY) + 1):
        chance, known = Random(number), START + number * EVERY
        kind, amount = chance.choice(list(KINDS)), round(chance.uniform(0, 100), 1)
        direction = 1 if known < TURN else -1
        outcome = direction * (amount - 50) + KINDS[kind] + chance.gauss(0, 15)
        later = (known + timedelta(hours=24 + chance.randrange(24))).replace(microsecond=0)
        name = f"item-{number:06d}"
        yield (known, (name, kind, f"{amount}")), (later, (name, kind, f"{outcome:.2f}"))


def _land(landing: Path, source: str, facts: tuple[Row, ...], until: datetime) -> int:
    folder, name = landing / source, f"{until.strftime(NAME_FORMAT)}.csv"
    newest = max((file.name for file in folder.glob("????????T??????Z.csv")), default=None)
    if newest and name <= newest:
        return 0
    since = datetime.strptime(newest, f"{NAME_FORMAT}.csv") if newest else datetime.min
    news = sorted(fact for fact in facts if since < fact[0] <= until)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{name}.unfinished"
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADERS[source])
        writer.writerows((*values, published.strftime(ISO)) for published, values in news)
    unfinished.replace(folder / name)
    return len(news)


DELIVERIES = Deliveries(
    deliver=land,
    begin=START,
    first=datetime(2025, 4, 1),
    stops=tuple(datetime(2025, month, 1) for month in (5, 6, 7, 8)),
    integration=(START + timedelta(days=45), START + timedelta(days=59)),
)
