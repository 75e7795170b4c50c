"""Checks of the stream that any project passes on its own data: tests/test_stream.py runs them."""

from threading import Event

import polars as pl

from mlplatform.config.streaming import StreamingSettings
from mlplatform.environment import Environment
from mlplatform.streaming.delta import feed
from mlplatform.streaming.stream import Stream, replayed, run
from mlplatform.testing import conformance
from mlplatform.testing.conformance import World

_DELIVERIES, _STEPS = 12, 8
# What tells a stream from a batch: how it was asked, and in how many steps.
_OTHER = ("source_file", "source_row", "inference", "late")


def a_stream_equals_batch(world: World) -> None:
    """What a stream makes of deliveries as they come, tables, features and predictions, is what batch makes of them."""
    batch, streamed = world.uninterrupted[0], _streamed(world)
    project, predictions = world.project, f"predictions.{batch.config.registry.model}"
    for name in (*(table.table for table in project.tables), *(view.table for view in project.views), predictions):
        ours, theirs = (conformance._tidy(pl.DataFrame(env.catalog.read(name)), _OTHER) for env in (streamed, batch))
        assert theirs.height, f"{name} has no row to compare"
        conformance._assert_equal(ours, theirs, name)


def _streamed(world: World) -> Environment:
    """The model of `start`, and a stream from then on, whose events are the deliveries' files."""
    made = world.environment("streamed", registry=True)
    world.first_model(made, conformance._run)
    update = {"source": "delta", "sinks": (), "events": "data/events"}
    settings = made.config.of(StreamingSettings).model_copy(update=update)
    env = Environment(made.name, made.project, made.folder, made.config.model_copy(update={"streaming": settings}))
    for time in sorted({*world.times(_DELIVERIES), *world.times(2), world.end}):
        world.deliver(env, time)
    feed(env, world.start, world.end)
    stream = Stream(env, world.start, world.end)
    times = replayed(world.start, world.end, (world.end - world.start) / _STEPS, None, Event())
    run(stream, times, Event(), print, live=False)
    stream.close()
    return env


CHECKS = (a_stream_equals_batch,)
