"""A key names one row, and a feature is no older than what became known of it: what breaks that is refused."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mlplatform.environment import Environment
from mlplatform.errors import ContractError
from mlplatform.features.frames import entities, labelled, with_labels
from mlplatform.pipelines.featurize import featurize
from steps import Edited
from tiny.project import PROJECT

DAY = timedelta(days=1)


def edited(env: Environment, path: str, sql: str) -> Environment:
    """The environment of a project with another SQL file."""
    project = Edited(**vars(PROJECT), edits={path: sql.format(f"({PROJECT.sql(path)})")})
    return Environment(env.name, project, env.folder, env.config)


def doubled(env: Environment, path: str) -> Environment:
    return edited(env, path, "SELECT * FROM {0} UNION ALL SELECT * FROM {0} WHERE item_id = 'item-000500'")


def test_entities_with_a_doubled_key_are_refused_with_the_key(prod: Environment, now: datetime) -> None:
    env = doubled(prod, "entities.sql")
    refused = r"sql/entities\.sql gives more than one row \(2\) for item_id item-000500: a key names one"
    for frame in (entities, labelled):
        with pytest.raises(ContractError, match=refused):
            frame(env, now, now - 60 * DAY, now)
    assert entities(env, now, now - DAY, now).count() == 10  # it is not among these


def test_labels_with_a_doubled_key_are_refused_with_the_key(prod: Environment, now: datetime) -> None:
    env = doubled(prod, "labels.sql")
    refused = r"sql/labels\.sql gives more than one row \(2\) for item_id item-000500: a key names one"
    with pytest.raises(ContractError, match=refused):
        labelled(env, now, now - 60 * DAY, now)
    known = entities(prod, now, now - 60 * DAY, now)
    with pytest.raises(ContractError, match=refused):
        with_labels(env, known, now)
    assert with_labels(prod, known, now).count() == known.count()


def test_a_feature_row_that_is_known_before_it_happens_is_refused(
    prod: Environment, now: datetime, load_env: Callable[..., Environment], project: Path
) -> None:
    path, view = "features/kind_history.sql", prod.project.views[0]
    before = prod.catalog.snapshot(view.table).version
    ahead = "SELECT * REPLACE (event_timestamp + INTERVAL {1} SECONDS AS event_timestamp) FROM {0}"
    env = edited(prod, path, ahead.replace("{1}", "3601"))
    with pytest.raises(ContractError, match=rf"sql/{path} gives a row with the event_timestamp .* later than its"):
        featurize(env, now, backfill=True)
    assert prod.catalog.snapshot(view.table).version == before
    featurize(edited(prod, path, ahead.replace("{1}", "3600")), now, backfill=True)


def test_a_value_counts_for_as_long_as_its_own_view_says(prod: Environment, now: datetime) -> None:
    """However short the time to live of another view is: one lives a week, the other a day."""
    sparse = edited(prod, "features/kind_history.sql", f"SELECT * FROM {{0}} WHERE available_at < '{now - 4 * DAY}'")
    featurize(sparse, now, backfill=True)
    values = entities(sparse, now, now - DAY, now).arrow()["kind_history__outcomes_7d"]
    assert (len(values), values.null_count) == (10, 0)


def test_a_project_without_feature_views_joins_nothing(prod: Environment, now: datetime) -> None:
    env = Environment(prod.name, replace(PROJECT, views=()), prod.folder, prod.config)
    assert entities(env, now, now - DAY, now).count() == 10
