"""Batch inference: every prediction time once, by the champion of its time, and again only where that is asked for."""

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from mlplatform.environment import Environment
from mlplatform.pipelines.infer import infer
from mlplatform.registry import approval
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Decision, Transition
from mlplatform.storage.catalog import Among
from steps import advance, overlay, read

LoadEnv = Callable[..., Environment]
DAY = timedelta(days=1)
PREDICTIONS = "predictions.tiny"


@pytest.fixture
def ready(prod: Environment, now: datetime) -> Environment:
    """prod with two days of items that nobody has scored."""
    advance(prod, now + 2 * DAY)
    return prod


def test_no_prediction_time_is_lost_between_two_batches(
    ready: Environment, now: datetime, load_env: LoadEnv, duplicate: Callable[[Path, Path], Path], tmp_path: Path
) -> None:
    """Half a minute less than the time from one item to the next: items come soon after the edges of batches, too."""
    short = overlay(ready.folder, "short", {"pipelines": {"inference": {"batch_window": "8610s"}}})
    batches = load_env("prod", duplicate(ready.folder, tmp_path / "batches"), short)
    infer(ready, now + 2 * DAY)
    infer(batches, now + 2 * DAY)
    expected, found = (read(env, PREDICTIONS).sort("item_id").drop("scored_at") for env in (ready, batches))
    assert expected.height == 20
    assert_frame_equal(found, expected)


def test_what_is_scored_stays_as_it_is_until_it_is_asked_for_again(ready: Environment, now: datetime) -> None:
    end = now + 2 * DAY
    infer(ready, end)
    first = read(ready, PREDICTIONS).sort("item_id")
    assert not any(infer(ready, end).written.values())
    assert_frame_equal(read(ready, PREDICTIONS).sort("item_id"), first)

    run = infer(ready, end, again=True)
    assert run.written == {PREDICTIONS: first.height}
    second = read(ready, PREDICTIONS).sort("item_id")
    assert second["scored_at"].min() > first["scored_at"].max()  # type: ignore[operator]
    assert_frame_equal(second.drop("scored_at"), first.drop("scored_at"))


def test_the_past_is_scored_again_by_the_champion_of_its_time(ready: Environment, now: datetime) -> None:
    end, registry = now + 2 * DAY, Registry(ready)
    infer(ready, end)
    first = registry.version(1)
    registry.client.create_model_version(registry.model, first.source, first.run_id, {**first.tags, "identity": "new"})
    request = Transition(registry.model, 2, "None", "Production", end, "a test", "a newer one")
    approval.approve(registry, request, Decision(end, "a test", "a newer one"))
    assert registry.ledger.champion() == 2
    infer(ready, end, again=True)
    assert set(read(ready, PREDICTIONS)["model_version"]) == {1}


def test_where_nobody_is_champion_nothing_is_scored(
    trained: Path, load_env: LoadEnv, now: datetime, duplicate: Callable[[Path, Path], Path], tmp_path: Path
) -> None:
    prod = load_env("prod", duplicate(trained, tmp_path / "project"))
    assert any("no champion" in note for note in infer(prod, now).notes)
    assert not prod.catalog.exists(PREDICTIONS)


def test_batches_leave_alone_what_requests_and_streams_have_asked(ready: Environment, now: datetime) -> None:
    """An entity that a server has answered is still scored in batch, and scoring again deletes no answer; a table of
    an earlier release, without the column that tells them apart, holds batches."""
    end = now + 2 * DAY
    infer(ready, end)
    old = ready.catalog.read(PREDICTIONS).drop_columns(["inference"])
    shutil.rmtree(ready.reports / "predictions")
    ready.catalog.append(PREDICTIONS, old)
    assert not any(infer(ready, end).written.values())

    answered = old.slice(0, 3).append_column("inference", pa.array(["online"] * 3))
    ready.catalog.append(PREDICTIONS, answered)
    ready.catalog.delete(PREDICTIONS, Among("item_id", old["item_id"].slice(0, 3).to_pylist()))
    ready.catalog.append(PREDICTIONS, answered)
    assert infer(ready, end).written == {PREDICTIONS: 3}
    infer(ready, end, again=True)
    ways = read(ready, PREDICTIONS).group_by("inference").len().sort("inference")
    assert ways.rows() == [("batch", old.num_rows), ("online", 3)]
