"""What makes two trainings the same: the rows they learned from and are judged on, and their hyperparameters."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import polars.selectors as cs
import pytest

from mlplatform.environment import Environment
from mlplatform.pipelines.train import inherited_parameters, train
from mlplatform.registry.store import Registry
from mlplatform.storage.catalog import Window
from mlplatform.training import data
from steps import overlay, read
from tiny.project import PROJECT

LoadEnv = Callable[..., Environment]
DAY = timedelta(days=1)


def change(env: Environment, item: str) -> None:
    """Turn the outcome of one item round."""
    mine = pl.when(pl.col("item_id") == item).then(-pl.col("outcome")).otherwise("outcome")
    rows = read(env, "silver.outcomes").with_columns(mine.alias("outcome"))
    env.catalog.replace("silver.outcomes", rows.to_arrow(), Window("available_at"))


@pytest.mark.parametrize("part", ["train", "holdout"])
def test_a_training_with_another_label_is_another_training(prod: Environment, now: datetime, part: str) -> None:
    before = data.load(prod, now)
    assert data.load(prod, now).digest == before.digest
    change(prod, getattr(before, part)["item_id"].iloc[-1])
    assert data.load(prod, now).digest != before.digest


def test_rows_that_come_later_change_no_training_of_before(prod: Environment, now: datetime) -> None:
    before = data.load(prod, now)
    later = (
        read(prod, "silver.outcomes")
        .tail(1)
        .with_columns(
            pl.lit("item-900000").alias("item_id"), pl.lit(now + DAY).dt.cast_time_unit("us").alias("available_at")
        )
    )
    prod.catalog.append("silver.outcomes", later.to_arrow())
    after = data.load(prod, now)
    assert after.digest == before.digest
    assert after.table_versions != before.table_versions


def test_the_last_bits_of_a_feature_make_no_other_training(prod: Environment, now: datetime) -> None:
    """Two engines add up in an order of their own."""
    before = data.load(prod, now)
    for view in PROJECT.views:
        rows = read(prod, view.table).with_columns(cs.float() * (1 + 2**-50))
        prod.catalog.replace(view.table, rows.to_arrow(), Window("available_at"))
    after = data.load(prod, now)
    assert not after.train.equals(before.train)
    assert after.digest == before.digest


@pytest.mark.parametrize("what", ["code", "settings"])
def test_a_training_by_other_code_or_settings_is_another_training(
    project: Path, load_env: LoadEnv, now: datetime, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def versions(*overlays: str) -> int:
        train(load_env("prod", project, *overlays), now)
        return len(Registry(load_env("prod", project)).versions())

    before = versions()
    assert versions() == before
    if what == "code":
        monkeypatch.setattr("mlplatform.environment.code_version", lambda folder: "v9.0.0")
        assert versions() == versions() == before + 1
    else:
        seeded = overlay(project, "seeded", {"training": {"seed": 1}})
        assert versions(seeded) == versions(seeded) == before + 1


def test_hyperparameters_come_from_the_newest_search_up_to_then(
    project: Path, load_env: LoadEnv, now: datetime
) -> None:
    prod = load_env("prod", project, overlay(project, "tuned", {"training": {"tuned_in": "prod"}}))
    registry = Registry(prod)
    first, record = registry.version(1), registry.tags(1)
    assert inherited_parameters(prod, now) == PROJECT.model.defaults
    for days, rounds in ((1, 7), (3, 9)):
        found = {**PROJECT.model.defaults, "max_iter": rounds}
        tuned = replace(record, identity=str(days), tuned=True, as_of=now + days * DAY, parameters=found)
        registry.register(first.run_id, first.source, tuned)
    rounds_by = [inherited_parameters(prod, now + days * DAY)["max_iter"] for days in range(5)]
    assert rounds_by == [PROJECT.model.defaults["max_iter"], 7, 7, 9, 9]
