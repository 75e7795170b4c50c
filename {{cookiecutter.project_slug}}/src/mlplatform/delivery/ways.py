"""Three ways to ask one model: what batch has scored is streamed and served once more, and the answers are compared.

Both happen in tables of their own, made from the same deliveries; of the environment only its models and who was
champion when are read. The stream takes events as they were delivered, and the server, whose clock is turned to each
prediction time, looks features up as they were published by then.
"""

import http.client
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import Event
from typing import Any, NamedTuple

import polars as pl
import uvicorn

from mlplatform.config.serving import Online, Rollout, ServingSettings
from mlplatform.config.streaming import StreamingSettings
from mlplatform.contract import Deliveries
from mlplatform.delivery.scenario import deliver
from mlplatform.environment import Environment
from mlplatform.errors import UserError
from mlplatform.features.online import plain, publish
from mlplatform.pipelines.collect import collect
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.ingest import ingest
from mlplatform.registry.store import Registry
from mlplatform.serving.app import Service, application
from mlplatform.serving.champion import joined_schema
from mlplatform.serving.schema import fields
from mlplatform.storage import ops
from mlplatform.storage.catalog import Window, quoted
from mlplatform.streaming.delta import feed
from mlplatform.streaming.stream import Stream, replayed, run

FOLDER = "data/ways"
WAYS = ("streaming", "online")
_STEPS = 31  # micro-batches: one a day, where a month lies between two stops
# What tells one way from another, or one time of scoring; all else is compared.
_OTHER = {"inference", "late", "scored_at", "request_id", "request_row", "request", "features", "variant"} | {
    *("features_missing", "features_stale", "seconds")
}
Say = Callable[[str], None]


class WaysError(UserError):
    """The ways of asking do not agree; the message has one line for each that differs from batch."""


class Agreed(NamedTuple):
    """How many predictions each way has made, all of them equal, and the span of their times."""

    rows: int
    start: datetime
    end: datetime


def compare_ways(env: Environment, deliveries: Deliveries, say: Say) -> Agreed:
    """Compare them between the first two stops of the demonstration, or up to its only one. Raises WaysError."""
    *_, start, end = (deliveries.first, *deliveries.stops)[:3]
    if len(deliveries.stops) == 1:  # the first run in batch reaches back no further
        start = max(start, end - env.config.pipelines.inference.first_window)
    table = f"predictions.{env.config.registry.model}"
    batch = pl.DataFrame(env.catalog.read(table, where=Window("prediction_time", start, end)))
    batch = batch.filter(pl.col("inference").fill_null("batch") == "batch") if "inference" in batch.columns else batch
    if batch.is_empty():
        raise WaysError(f"{env.name} has scored nothing in batch from {start} to {end}: there is nothing to compare")
    other = beside(env)
    streams(other, deliveries, start, end)
    say(f"streamed what was delivered from {start:%Y-%m-%d} to {end:%Y-%m-%d}")
    requests = serves(other, start, end)
    say(f"served {requests:,} requests, each at its prediction time")
    made = pl.DataFrame(other.catalog.read(table, where=Window("prediction_time", start, end)))
    found = {way: made.filter(inference=way) for way in WAYS}
    if different := list(differences(batch, found, env.project.entity.keys)):
        raise WaysError("\n".join([f"the ways of asking {env.name}'s model do not agree:", *different]))
    return Agreed(batch.filter(~pl.col("late")).height, start, end)


def differences(batch: pl.DataFrame, ways: dict[str, pl.DataFrame], keys: tuple[str, ...]) -> Iterator[str]:
    """One line for each column of a way that is not batch's to the last bit, and for rows that one of them lacks.

    What landed so late that batch scored it afterwards is left out.
    """
    late, batch = batch.filter("late"), batch.filter(~pl.col("late")).sort(keys)
    names = [name for name in batch.columns if name not in _OTHER]
    for way, rows in ways.items():
        theirs = rows.join(late, on=keys, how="anti").sort(keys)
        lacking = batch.join(theirs, on=keys, how="anti").height
        added = theirs.join(batch, on=keys, how="anti").height
        if lacking or added or theirs.height != batch.height:
            yield f"{way}: {theirs.height:,} rows where batch has {batch.height:,}: {lacking:,} lacking, {added:,} more"
            continue
        for name in names:
            same = batch[name].eq_missing(theirs[name])
            if not same.all():
                place = same.arg_min() or 0
                what = f"{theirs[name][place]!r} where batch has {batch[name][place]!r}"
                yield f"{way}: {name} differs in {(~same).sum():,} of {batch.height:,} rows: {what}, for one"


def beside(env: Environment) -> Environment:
    """The same environment with no data in it, its model's stages known: all it writes is below `FOLDER`."""
    shutil.rmtree(env.folder / FOLDER, ignore_errors=True)
    tables = {"root": f"{FOLDER}/{env.name}", "landing": f"{FOLDER}/landing"}
    server, stream = env.config.of(ServingSettings), env.config.of(StreamingSettings)
    log = server.log.model_copy(update={"folder": f"{FOLDER}/requests"})
    limits = server.limits.model_copy(update={"per_second": float("inf")})
    served = {"online": Online(folder=f"{FOLDER}/online"), "log": log, "limits": limits, "rollout": Rollout()}
    alone = {"keys": "none", "poll": timedelta(days=1)}
    streamed = {"source": "delta", "sinks": (), "events": f"{FOLDER}/events"}
    config = env.config.model_copy(
        update={
            "lakehouse": env.config.lakehouse.model_copy(update=tables),
            "serving": server.model_copy(update=served | alone),
            "streaming": stream.model_copy(update=streamed),
        }
    )
    other = Environment(env.name, env.project, env.folder, config)
    other.catalog.append(ops.TRANSITIONS, env.catalog.read(ops.TRANSITIONS))
    return other


def streams(env: Environment, deliveries: Deliveries, start: datetime, end: datetime) -> None:
    """What was known at `start` is ingested; from then on a stream takes what is delivered, as it comes."""
    deliver(env, deliveries, start).act()
    ingest(env, start)
    featurize(env, start)
    for step in range(1, _STEPS + 1):
        deliver(env, deliveries, start + (end - start) * step / _STEPS).act()
    feed(env, start, end)
    stream = Stream(env, start, end)
    run(stream, replayed(start, end, (end - start) / _STEPS, None, Event()), Event(), lambda _: None, live=False)
    stream.close()


def serves(env: Environment, start: datetime, end: datetime) -> int:
    """Ask a server for each entity alone, at its prediction time, and take its log in; returns the requests."""
    names, window = fields(env.project, joined_schema(env, end)), Window("prediction_time", start, end)
    rows = env.engine.query(
        f"SELECT prediction_time AS asked_at, {', '.join(map(quoted, names))} "
        f"FROM ({env.project.sql('entities.sql')}\n) "
        f"WHERE {window.predicate('TIMESTAMP ')} AND available_at <= prediction_time ORDER BY prediction_time",
        as_of=end,
    ).arrow()
    changes = iter([*_changes(env, start, end), datetime.max])
    change, clock = next(changes), [start]
    publish(env, start)
    service = Service(env, lambda: clock[0])
    with listening(service) as client:
        for row in rows.to_pylist():
            asked_at = row.pop("asked_at")
            if change <= asked_at:
                while change <= asked_at:
                    reached, change = change, next(changes)
                publish(env, reached)
                clock[0] = asked_at - timedelta.resolution  # who takes over at this moment answers from then on
                service.champion.look()
            clock[0] = asked_at
            values = {n: v.isoformat() if isinstance(v, datetime) else plain(v) for n, v in row.items()}
            client.request("POST", "/predict", json.dumps({"rows": [values]}), {"Content-Type": "application/json"})
            answer = client.getresponse()
            told = answer.read().decode()
            if answer.status != 200:
                raise WaysError(f"the server answers {answer.status} at {clock[0]}: {told}")
    collect(env, end)
    return int(rows.num_rows)


def _changes(env: Environment, start: datetime, end: datetime) -> list[datetime]:
    """When a feature became available, or somebody else champion: in between the server's answers stay the same."""
    times = {begin + timedelta.resolution for begin, _, _ in Registry(env).ledger.champions(start, end)}
    for view in env.project.views:
        found = env.engine.query(f"SELECT DISTINCT available_at FROM {view.table}", as_of=end, since=start).arrow()
        times |= set(found["available_at"].to_pylist())
    return sorted(times)


@contextmanager
def listening(service: Service) -> Iterator[http.client.HTTPConnection]:
    """A connection to a server on a free port of this machine."""
    config: Any = uvicorn.Config(application(service), host="127.0.0.1", port=0, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise WaysError("the server does not start")
            time.sleep(0.01)
        client = http.client.HTTPConnection("127.0.0.1", server.servers[0].sockets[0].getsockname()[1], timeout=60)
        try:
            yield client
        finally:
            client.close()
    finally:
        server.should_exit = True
        thread.join()
