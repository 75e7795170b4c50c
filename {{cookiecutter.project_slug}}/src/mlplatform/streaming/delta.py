"""Events that somebody appends to Delta tables: `<streaming.events>/<source>`, one table per source of the project.

Columns of other types than text become text. A column `landed_at` (a timestamp) says when an event arrived; without it
the commit does. Commits that rewrite or delete rows are passed over: what was there had been read. Of what was cleaned
away before it was read quarantine tells.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pyarrow as pa

from mlplatform.config.streaming import StreamingSettings
from mlplatform.environment import Environment
from mlplatform.errors import GoneError, UserError
from mlplatform.storage import formats, landing, ops
from mlplatform.storage.catalog import Catalog, open_catalog
from mlplatform.streaming.events import Event

ARRIVED = "landed_at"
ROWS = 1_000_000_000  # an offset is the version of a commit times this, and the number of the row in it


class DeltaSource:
    """See `EventSource`. There is one partition, the table."""

    def __init__(self, env: Environment) -> None:
        self._env = env

    def take(
        self, source: str, offset: Callable[[str], int | None], limit: int, waits: Callable[[datetime], bool]
    ) -> list[Event]:
        catalog, name = tables_of(self._env, source, self._env.name)
        events: list[Event] = []
        if not catalog.exists(name):
            return events
        start = offset(name) or 0
        refuse_new_table(catalog, name, start)
        for event in _events(catalog, name, start):
            if event.values is not None and waits(event.arrived):
                break
            events.append(event)
            if len(events) == limit:
                break
        return events

    def close(self) -> None:
        """Nothing is open."""


def feed(env: Environment, since: datetime, until: datetime) -> dict[str, int]:
    """Send the files that landed in (`since`, `until`] as events, each once; returns the number of events by source.

    To try a stream, and to replay files as one.
    """
    sent: dict[str, int] = {}
    landed = landing.look(env.landing, env.project.sources, until).files
    for source in env.project.sources:
        catalog, name = tables_of(env, source.name, "events")
        known = catalog.mark(name, "feed") or 0
        for file in landed.get(source.name, ()):
            mark = int((file.landed_at - datetime(1970, 1, 1)).total_seconds() * 1_000_000)
            if file.landed_at <= since or mark <= known:
                continue
            delivery = landing.inspect(file, source, env.config.lakehouse.settle)
            if delivery is None or delivery.error or not delivery.rows:
                continue
            rows = pa.Table.from_batches(delivery.batches()).drop_columns(["source_file", "source_row", "ingested_at"])
            sent[source.name] = sent.get(source.name, 0) + catalog.append(name, rows, {"feed": mark})
    return sent


def tables_of(env: Environment, source: str, reader: str) -> tuple[Catalog, str]:
    """The tables of events, and the name of the source's. They are nobody's here: only `feed` opens them to write."""
    *root, schema = env.config.of(StreamingSettings).events.rstrip("/").split("/")
    return open_catalog(env.folder, "/".join(root) or ".", owner="events", reader=reader), f"{schema}.{source}"


def refuse_new_table(catalog: Catalog, name: str, start: int) -> int:
    """Return the version of a table of events; raise UserError where less than what has been read of it is there."""
    version = catalog.snapshot(name).version
    if start > (version + 1) * ROWS:
        raise UserError(
            f"{name} is at version {version}, and {start // ROWS} has been read of it: it was made anew. Give the "
            "new one another place (streaming.events), so that it is read from its beginning"
        )
    return version


def lost(catalog: Catalog, name: str, version: int) -> Event:
    """What stands for the commits from `version` on that were cleaned away, up to the next one that is kept."""
    kept = [int(str(commit["version"])) for commit in catalog.history(name)]
    then = min((number for number in kept if number > version), default=catalog.snapshot(name).version + 1)
    reason = f"deleted before they were read: versions {version} to {then - 1} of {name}"
    return Event(name, then * ROWS - 1, datetime.now(UTC).replace(tzinfo=None), None, reason)


def _events(catalog: Catalog, name: str, start: int) -> Iterator[Event]:
    version, row = divmod(start, ROWS)
    try:
        for change in catalog.changes(name, version - 1):
            version, row, number = change.version, row if change.version == version else 0, 0
            for batch in () if change.rewrites else change.batches:
                skipped = min(max(row - number, 0), batch.num_rows)
                for at, (values, arrived) in enumerate(texts(batch.slice(skipped)), number + skipped):
                    yield Event(name, version * ROWS + at, arrived or change.time, values)
                number += batch.num_rows
            version, row = version + 1, 0
    except GoneError:
        gone = lost(catalog, name, version)
        yield gone
        yield from _events(catalog, name, gone.offset + 1)


def texts(batch: pa.RecordBatch) -> Iterator[tuple[dict[str, str | None], datetime | None]]:
    arrived: list[datetime | None] = [None] * batch.num_rows
    names = batch.schema.names
    if ARRIVED in names and pa.types.is_timestamp(batch.schema.field(ARRIVED).type):
        arrived = batch[ARRIVED].cast(ops.TIME).to_pylist()
        names = [name for name in names if name != ARRIVED]
    columns = [formats.as_text(batch[name]).to_pylist() for name in names]
    for values, time in zip(zip(*columns, strict=True), arrived, strict=True):
        yield dict(zip(names, values, strict=True)), time
