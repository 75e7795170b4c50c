"""A stream ends in the tables that batch makes of the same deliveries, whatever comes late, twice or broken."""

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mlplatform.environment import Environment
from mlplatform.errors import ContractError, ForbiddenError, UserError
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.ingest import ingest
from mlplatform.pipelines.monitor import monitor
from mlplatform.storage.catalog import open_catalog
from mlplatform.streaming.delta import feed
from mlplatform.streaming.stream import Stream
from steps import overlay, read
from streams import HOUR, TABLES, assert_equal, facts, interleaved, send, stream, tidy
from tiny.deliveries import EVERY, START, land

LoadEnv = Callable[..., Environment]
Duplicate = Callable[[Path, Path], Path]
pytestmark = pytest.mark.stream


def test_a_stream_ends_in_the_tables_that_batch_makes_of_the_same_deliveries(
    project: Path, tmp_path: Path, duplicate: Duplicate, load_env: LoadEnv, now: datetime
) -> None:
    until = now + 26 * HOUR
    batch, streamed = load_env("prod", duplicate(project, tmp_path / "batch")), load_env("prod", project)
    infer(batch, now)
    land(batch.landing, until)
    for pipeline in (ingest, featurize, infer):
        pipeline(batch, until)
    for hours in range(2, 27, 2):
        land(streamed.landing, now + hours * HOUR)
    for _ in range(2):  # what was sent is not sent again
        feed(streamed, now, until)
    stream(streamed, now, until, 3 * HOUR)
    for name in TABLES:
        assert_equal(tidy(read(streamed, name)), tidy(read(batch, name)))
    scored = read(batch, "predictions.tiny").filter(pl.col("prediction_time") > now)
    predicted = read(streamed, "predictions.tiny")
    assert (scored.height, set(predicted["inference"])) == (10, {"streaming"})
    assert_frame_equal(tidy(predicted, "late"), tidy(scored, "late"), check_exact=True)


@pytest.mark.parametrize("seed", range(3))
def test_features_equal_a_batch_rebuild_after_any_interleaving_also_in_small_bites(
    seed: int, project: Path, load_env: LoadEnv, now: datetime
) -> None:
    overlay(project, "stream", {"streaming": {"max_events": 4}})
    env, until = load_env("prod", project, "stream"), now + 40 * HOUR
    sent = interleaved(env, now, until, seed)
    stream(env, now, until, 5 * HOUR)
    streamed = [tidy(read(env, name)) for name in TABLES]
    featurize(env, until, backfill=True)
    for name, found in zip(TABLES, streamed, strict=True):
        assert_equal(found, tidy(read(env, name)))
    predicted = read(env, "predictions.tiny")
    assert sorted(predicted["item_id"]) == sorted(sent)
    assert predicted["late"].any()
    assert not predicted["late"].all()


def test_events_are_replayed_into_an_empty_lakehouse_by_the_champions_of_their_time(
    project: Path, load_env: LoadEnv, now: datetime
) -> None:
    """As the runbook says. The first outcome comes a day after the first item, which does not wait for it."""
    prod, until = load_env("prod", project), now + 40 * HOUR
    for source, time, values in facts(now, until):
        if source == "items" or int(values["item_id"][-6:]) >= (now - START) / EVERY:
            send(prod, source, [values], time)
    empty = overlay(project, "replay", {"lakehouse": {"root": "data/replay"}})
    shutil.copytree(project / "data/prod/ops/transitions", project / "data/replay/ops/transitions")
    replay = load_env("prod", project, empty)
    stream(replay, now, until, HOUR)
    predicted = read(replay, "predictions.tiny")
    assert predicted["model_version"].unique().to_list() == [1]
    assert predicted.height == sum(source == "items" for source, *_ in facts(now, until))
    assert read(replay, "silver.outcomes").height > 0


def test_a_stream_that_has_nothing_to_do_writes_no_feature_table(
    project: Path, load_env: LoadEnv, now: datetime
) -> None:
    """Also where only the first of the views had news: how far all are is kept with the last of them."""
    env = load_env("prod", project)
    time, outcome = next((time, values) for source, time, values in facts(now, now + 72 * HOUR) if source == "outcomes")
    send(env, "outcomes", [outcome], time)
    stream(env, now, time, 24 * HOUR)
    stream(env, now, time + 2 * HOUR, HOUR / 4)
    written = [env.catalog.snapshot(name).version for name in TABLES]
    assert (read(env, "features.kind_history")["available_at"] > now).any()
    stream(env, now, time + 3 * HOUR, HOUR / 4)
    assert [env.catalog.snapshot(name).version for name in TABLES] == written


def test_what_is_no_event_goes_to_quarantine_with_reason_and_offset_and_a_new_field_is_kept(
    project: Path, load_env: LoadEnv, now: datetime
) -> None:
    env, at = load_env("prod", project), now + HOUR
    (good, *_) = [values for source, _, values in facts(now, now + 3 * HOUR) if source == "items"]
    bad = good | {"item_id": "item-900001", "amount": "much"}
    send(env, "items", [{**good, "colour": "red"}, {**bad, "colour": None}], at)
    send(env, "items", [{name: value for name, value in good.items() if name != "amount"}], at)
    send(env, "items", [{**good, "item_id": "item-900002", "published_at": "0001-01-01T00:00:00Z"}], at + 2 * HOUR)
    stream(env, now, now + 4 * HOUR, 2 * HOUR)
    quarantined = {row["source_row"]: row for row in read(env, "quarantine.items").to_dicts()}
    assert sorted(quarantined) == [1, 1_000_000_000]
    assert quarantined[1_000_000_000]["reason"] == "amount: not_nullable"
    assert good["item_id"] in quarantined[1_000_000_000]["raw"]
    assert quarantined[1]["reason"].startswith("amount: ")
    assert read(env, "bronze.items")["unexpected"].drop_nulls().to_list() == ['{"colour": "red"}']
    assert read(env, "predictions.tiny")["item_id"].to_list() == [good["item_id"]]


def test_events_that_were_cleaned_away_unread_are_said_to_be_lost_and_the_rest_is_read(
    project: Path, load_env: LoadEnv, now: datetime
) -> None:
    env = load_env("prod", project)
    items = [(time, values) for source, time, values in facts(now, now + 12 * HOUR) if source == "items"]
    for time, values in items[:2]:
        send(env, "items", [values], time)
    tables = open_catalog(env.folder, "data", owner="events", reader="events")
    tables.compact("events.items", timedelta(0))
    assert list(tables.history("events.items"))[-1]["version"] != 0, "nothing is lost"
    log = env.folder / "data" / "events" / "items" / "_delta_log"
    compacted = sorted(log.glob("*.json"))
    for time, values in items[2:]:
        send(env, "items", [values], time)
    for entry in compacted:  # what is kept begins with the third event
        entry.unlink()
    stream(env, now, now + 12 * HOUR, 12 * HOUR)
    assert sorted(read(env, "predictions.tiny")["item_id"]) == [values["item_id"] for _, values in items[2:]]
    (lost,) = read(env, "quarantine.items")["reason"].to_list()
    assert lost.startswith("deleted before they were read: versions 0 to ")
    stream(env, now, now + 13 * HOUR)
    assert read(env, "quarantine.items").height == 1


def test_a_table_of_events_that_was_made_anew_is_not_taken_for_the_old_one(
    project: Path, load_env: LoadEnv, now: datetime
) -> None:
    env = load_env("prod", project)
    events = [(time, values) for source, time, values in facts(now, now + 12 * HOUR) if source == "items"]
    for time, values in events:
        send(env, "items", [values], time)
    stream(env, now, now + 12 * HOUR, 12 * HOUR)
    shutil.rmtree(project / "data" / "events" / "items")
    send(env, "items", [events[0][1]], events[0][0])
    with pytest.raises(UserError, match=r"events\.items is at version 0.*it was made anew.*streaming\.events"):
        stream(env, now, now + 13 * HOUR)


def test_where_too_much_is_no_event_nothing_is_taken_until_somebody_has_mended_it(
    project: Path, load_env: LoadEnv, now: datetime
) -> None:
    overlay(project, "strict", {"streaming": {"tolerated_rows": 1}})
    env, before = load_env("prod", project, "strict"), read(load_env("prod", project), "bronze.items").height
    events = [values for source, _, values in facts(now, now + 10 * HOUR) if source == "items"]
    send(env, "items", [{"item": values["item_id"]} for values in events], now + HOUR)
    with pytest.raises(ContractError, match=r"4 of 4 rows would be refused.*the event lacks item_id, kind, amount"):
        stream(env, now, now + 2 * HOUR)
    assert read(env, "bronze.items").height == before
    stream(load_env("prod", project), now, now + 2 * HOUR)
    assert read(env, "quarantine.items").height == len(events)


def test_an_event_that_comes_twice_is_predicted_once(project: Path, load_env: LoadEnv, now: datetime) -> None:
    env = load_env("prod", project)
    events = [values for source, _, values in facts(now, now + 10 * HOUR) if source == "items"]
    for arrived in (HOUR, 2 * HOUR):
        send(env, "items", events, now + arrived + 9 * HOUR)
    stream(env, now, now + 12 * HOUR, 6 * HOUR)
    assert read(env, "predictions.tiny").height == len(events) == 4
    assert set(read(env, "quarantine.items")["reason"]) == {"duplicate item_id"}


def test_the_lag_of_a_stream_is_measured_and_old_events_go_with_their_day(
    project: Path, load_env: LoadEnv, now: datetime
) -> None:
    env = load_env("prod", project)
    for source, time, values in facts(now, now + 10 * HOUR):
        send(env, source, [values], time)
    stream(env, now, now + 12 * HOUR, 6 * HOUR)
    monitor(env, now + 9 * 24 * HOUR)
    measured = read(env, "monitoring.metrics").filter(pl.col("column") == "stream", pl.col("metric") == "lag_seconds")
    second = [time for _, time, _ in facts(now + 6 * HOUR, now + 10 * HOUR)]  # the second micro-batch waited longest
    assert measured["value"].to_list() == [(now + 12 * HOUR - min(second)).total_seconds()]
    days = read(env, "ops.files").filter(pl.col("source_file").str.starts_with("events."))
    assert sorted(days.select("source_file", "landed_at").rows()) == [
        (f"events.{source}@{now:%Y-%m-%d}", now + timedelta(days=1)) for source in ("items", "outcomes")
    ]
    assert set(read(env, "bronze.items")["source_file"]) > {f"events.items@{now:%Y-%m-%d}"}


def test_a_replay_that_would_end_before_it_begins_is_refused(project: Path, load_env: LoadEnv, now: datetime) -> None:
    env = load_env("prod", project)
    with pytest.raises(UserError, match=r"--until .*: the stream of prod would begin at .*: give an earlier --since"):
        Stream(env, until=now)
    assert Stream(env, now, now).last == now  # nothing was recorded before
    with pytest.raises(UserError, match=f"the stream of prod is at {now} already, and does not go back"):
        Stream(env, now - HOUR, now - HOUR / 2)


def test_who_reads_the_features_of_another_environment_streams_none(project: Path, load_env: LoadEnv) -> None:
    overlay(project, "borrows", {"lakehouse": {"features_from": "prod"}})
    with pytest.raises(ForbiddenError, match="reads prod's silver and feature tables"):
        Stream(load_env("staging", project, "borrows"))
