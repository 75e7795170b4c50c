"""Feature tables: one row per entity and time, and none that belongs to another team is written."""

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from mlplatform import features
from mlplatform.contract import FeatureView
from mlplatform.environment import Environment
from mlplatform.errors import ConfigError, ContractError
from mlplatform.pipelines.featurize import featurize
from mlplatform.registry.scoring import MissingColumnsError
from mlplatform.storage.catalog import Window
from mlplatform.storage.ops import RUNS
from mlplatform.training import data
from steps import Edited, advance, files, overlay, read
from tiny.project import PROJECT

LoadEnv = Callable[..., Environment]
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        (
            "SELECT kind, date_trunc('DAY', event_timestamp) AS event_timestamp, available_at FROM silver.items",
            r"sql/features/made.sql gives more than one row \(5\) for kind a, event_timestamp 2025-01-01 ",
        ),
        ("SELECT kind, event_timestamp, amount FROM silver.items", "features.made lacks available_at"),
        ("SELECT event_timestamp, available_at, amount FROM silver.items", "features.made lacks kind"),
    ],
    ids=["two rows for one key", "no time of availability", "no key"],
)
def test_a_feature_table_that_cannot_be_joined_is_refused(
    prod: Environment, now: datetime, sql: str, says: str
) -> None:
    made = FeatureView("made", ("kind",), DAY, DAY)
    project = Edited(**vars(PROJECT), edits={"features/made.sql": sql})
    env = Environment("prod", project, prod.folder, prod.config)
    with pytest.raises(ContractError, match=says):
        features.refresh(env, made, now, None)
    assert not prod.catalog.exists("features.made")


def test_a_view_that_is_new_is_computed_from_the_start(prod: Environment, now: datetime) -> None:
    """A model would learn from the last days alone what it says, and nobody would be told."""
    made = FeatureView("made", ("kind",), DAY, DAY)
    sql = "SELECT kind, max(event_timestamp) AS event_timestamp, available_at, sum(amount) AS sums FROM silver.items "
    edits = {"features/made.sql": sql + "GROUP BY kind, available_at"}
    project = Edited(**{**vars(PROJECT), "views": (*PROJECT.views, made), "edits": edits})
    env = Environment("prod", project, prod.folder, prod.config)
    featurize(env, now + HOUR)
    late = read(env, made.table)
    assert late.height > 100
    featurize(env, now + HOUR, backfill=True)
    assert_frame_equal(late, read(env, made.table), check_row_order=False)


def renamed(env: Environment, old: str, new: str, more: str = "") -> Environment:
    """The environment after a release in which a feature of kind_history was renamed, or given another name, too."""
    sql = PROJECT.sql("features/kind_history.sql").replace(f"AS {old}", f"AS {new}{more}")
    project = Edited(**vars(PROJECT), edits={"features/kind_history.sql": sql})
    return Environment("prod", project, env.folder, env.config)


def test_a_feature_that_the_champion_needs_stays_in_the_sql(prod: Environment, now: datetime) -> None:
    """Its table keeps the column, so that nulls would be scored."""
    before = files(prod.folder / "data/prod/features")
    for backfill in (False, True):
        with pytest.raises(MissingColumnsError, match="tiny version 1 needs kind_history__outcomes_7d, which sql/feat"):
            featurize(renamed(prod, "outcomes_7d", "count_7d"), now + DAY, backfill=backfill)
    assert files(prod.folder / "data/prod/features") == before
    both = renamed(prod, "outcomes_7d", "outcomes_7d", ", sum(outcomes) OVER week AS count_7d")
    notes = featurize(both, now + DAY).notes
    assert "features.kind_history: earlier rows have no count_7d until `featurize --backfill`" in notes
    assert featurize(both, now + 2 * DAY, backfill=True).notes == []


def test_a_feature_of_whole_numbers_that_becomes_a_fraction_is_not_cut(prod: Environment, now: datetime) -> None:
    made, sql = FeatureView("made", ("kind",), DAY, DAY), "SELECT 'a' AS kind, {} AS n, {} FROM silver.items LIMIT 1"
    times = "CAST('2025-03-15' AS TIMESTAMP) AS event_timestamp, CAST('2025-03-15' AS TIMESTAMP) AS available_at"

    def released(number: str) -> Environment:
        edits = {"features/made.sql": sql.format(number, times)}
        project = Edited(**{**vars(PROJECT), "views": (made,), "edits": edits})
        return Environment("prod", project, prod.folder, prod.config)

    featurize(released("CAST(2 AS BIGINT)"), now + HOUR)
    with pytest.raises(
        ContractError, match=r"features\.made holds whole numbers in n, and sql/features/made\.sql gives"
    ):
        featurize(released("CAST(2.5 AS DOUBLE)"), now + 2 * HOUR, backfill=True)
    assert read(prod, "features.made")["n"].to_list() == [2]


def test_features_that_are_not_available_by_as_of_are_not_built(world: Path, project: Path, load_env: LoadEnv) -> None:
    prod, as_of = load_env("prod", project), datetime(2025, 2, 10, 12)
    for view in PROJECT.views:
        prod.catalog.delete(view.table, Window("available_at"))
    prod.catalog.delete(RUNS, Window("as_of"))
    featurize(prod, as_of)
    for view in PROJECT.views:
        newest = read(prod, view.table)["available_at"].max()
        assert as_of - DAY < newest <= as_of  # type: ignore[operator]


def test_a_view_that_looks_at_all_rows_sees_those_that_were_known(prod: Environment) -> None:
    as_of, made = datetime(2025, 2, 10, 12), FeatureView("made", ("kind",), DAY, DAY)
    sql = """SELECT kind, count(*) AS items, min(available_at) AS event_timestamp, min(available_at) AS available_at
    FROM silver.items GROUP BY kind"""
    project = Edited(**{**vars(PROJECT), "views": (made,), "edits": {"features/made.sql": sql}})
    featurize(Environment("prod", project, prod.folder, prod.config), as_of, backfill=True)
    known = prod.engine.query("SELECT * FROM silver.items", as_of=as_of).count()
    assert read(prod, "features.made")["items"].sum() == known < prod.catalog.count("silver.items")


def test_a_backfill_builds_again_what_earlier_runs_have_built(prod: Environment, now: datetime) -> None:
    table, later = PROJECT.views[0].table, now + DAY
    before = read(prod, table)
    prod.catalog.delete(table, Window("available_at", until=now - 10 * DAY))
    advance(prod, later)
    assert 0 < read(prod, table).height < before.height
    featurize(prod, later, backfill=True)
    found = read(prod, table)
    assert_frame_equal(found.filter(found["available_at"] <= now), before, check_row_order=False)


def test_a_feature_table_of_another_team_is_read_and_never_written(
    project: Path, now: datetime, load_env: LoadEnv
) -> None:
    theirs, ours = project / "data" / "theirs" / "features", project / "data" / "prod" / "features"
    theirs.mkdir(parents=True)
    shutil.move(ours / "kind_history", theirs / "history")
    external = {"view": "kind_history", "path": "data/theirs/features/history"}
    prod = load_env("prod", project, overlay(project, "external", {"lakehouse": {"external_views": [external]}}))
    before = files(theirs)
    run = featurize(prod, now, backfill=True)
    assert any("features.kind_history is external" in note for note in run.notes)
    assert "features.kind_history" not in run.written
    assert not (ours / "kind_history").exists()
    assert files(theirs) == before
    assert "kind_history__outcome_7d" in data.load(prod, now).train.columns


def test_a_view_that_is_declared_external_and_does_not_exist_is_refused(
    project: Path, now: datetime, load_env: LoadEnv
) -> None:
    external = {"view": "kind_histery", "path": "data/theirs/features/history"}
    prod = load_env("prod", project, overlay(project, "external", {"lakehouse": {"external_views": [external]}}))
    with pytest.raises(ConfigError, match="there is no view kind_histery"):
        featurize(prod, now)
