"""What a feature table marks when it is written lets the join be plain, and changes no answer."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlplatform import features
from mlplatform.contract import FeatureView
from mlplatform.engine import View
from mlplatform.environment import Environment
from mlplatform.errors import ContractError
from mlplatform.storage.catalog import Window
from steps import Edited, read
from tiny.deliveries import START
from tiny.project import PROJECT

LoadEnv = Callable[..., Environment]
HOUR = timedelta(hours=1)
SQL = "SELECT kind, event_timestamp, available_at, value FROM silver.made"
# A row of a view is (kind, event, available, value), in hours after START; the value names the row.
Row = tuple[str, int, int, float]


@pytest.fixture
def env(blank: Path, load_env: LoadEnv) -> Environment:
    """prod of an empty project whose view is what silver.made holds."""
    edited = Edited(**vars(PROJECT), edits={"features/made.sql": SQL})
    return Environment("prod", edited, blank, load_env("prod", blank).config)


def made(keys: tuple[str, ...] = ("kind",)) -> FeatureView:
    return FeatureView("made", keys, ttl=HOUR, lookback=timedelta(days=9))


def refreshed(env: Environment, rows: list[Row], hours: list[int], keys: tuple[str, ...] = ("kind",)) -> None:
    """Bring a new table of the view up to each of the hours in turn."""
    table = pa.table(
        {
            "kind": pa.array([row[0] for row in rows], pa.string()),
            "event_timestamp": _times([row[1] for row in rows]),
            "available_at": _times([row[2] for row in rows]),
            "value": pa.array([row[3] for row in rows], pa.float64()),
        }
    )
    env.catalog.replace("silver.made", table, Window("available_at"))
    since = None
    for hour in hours:
        if since is None and env.catalog.exists("features.made"):
            env.catalog.delete("features.made", Window("available_at"))
        features.refresh(env, made(keys), START + hour * HOUR, since)
        since = START + hour * HOUR


def joined(env: Environment, ttl: int, keys: tuple[str, ...] = ("kind",)) -> list[float | None]:
    """The values that the join gives to kinds a and b at each hour, by what the stored table marks."""
    entities = pa.table({"kind": ["a"] * 30 + ["b"] * 30, "prediction_time": _times([*range(30)] * 2)})
    view = View("made", keys, ttl * 3600, ["value"], marked=True)
    joined = env.engine.point_in_time(entities, [view], as_of=datetime.max, order=("kind", "prediction_time"))
    return list(joined.arrow()["made__value"].to_pylist())


def expected(rows: list[Row], ttl: int, keys: tuple[str, ...] = ("kind",)) -> list[float | None]:
    """The same, said plainly: of the rows available by then the latest event, as last reported, if not too old."""
    answers = []
    for kind, hour in [(kind, hour) for kind in "ab" for hour in range(30)]:
        there = [row for row in rows if row[2] <= hour and (kind == row[0] or not keys)]
        newest = max(there, key=lambda row: row[1:], default=None)
        answers.append(newest[3] if newest and hour - newest[1] <= ttl else None)
    return answers


def _times(hours: list[int]) -> pa.Array:
    return pa.array([START + hour * HOUR for hour in hours], pa.timestamp("us"))


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    drawn=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 12), st.integers(0, 12)), max_size=14),
    hours=st.lists(st.integers(1, 28), max_size=2, unique=True).map(lambda hours: [*sorted(hours), 29]),
    ttl=st.integers(0, 20),
    keys=st.sampled_from([("kind",), ()]),
)
def test_ties_late_rows_and_corrections_are_joined_as_by_a_plain_search(
    env: Environment, drawn: list[tuple[str, int, int]], hours: list[int], ttl: int, keys: tuple[str, ...]
) -> None:
    # An event is reported once in a refresh, and may be corrected in a later one.
    once = {}
    for name, (kind, event, delay) in enumerate(drawn):
        refresh = next(number for number, hour in enumerate(hours) if event + delay <= hour)
        once[kind if keys else "", event, refresh] = (kind, event, event + delay, float(name))
    rows = list(once.values())
    refreshed(env, rows, hours, keys)
    assert joined(env, ttl, keys) == expected(rows, ttl, keys)


LATE = [("a", 5, 6, 1.0), ("a", 3, 8, 2.0), ("b", 3, 8, 3.0), ("a", 6, 9, 4.0), ("a", 7, 9, 5.0)]


@pytest.mark.parametrize("hours", [[29], [6, 29], [7, 8, 29]], ids=str)
def test_a_row_is_marked_by_what_was_known_when_it_came_in_whatever_refresh(env: Environment, hours: list[int]) -> None:
    refreshed(env, LATE, hours)
    stored = read(env, "features.made").sort("value")
    assert stored["superseded"].to_list() == [False, True, False, True, False]


def test_a_table_that_an_earlier_release_wrote_is_marked_at_its_next_refresh(env: Environment) -> None:
    refreshed(env, LATE, [8])
    unmarked = read(env, "features.made").drop("superseded").to_arrow()
    env.catalog.delete("features.made", Window("available_at"))
    (folder,) = env.reports.rglob("features/made")
    folder.rename(folder.parent / "gone")
    env.catalog.append("features.made", unmarked)
    features.refresh(env, made(), START + 29 * HOUR, START + 8 * HOUR)
    assert read(env, "features.made").sort("value")["superseded"].to_list() == [False, True, False, True, False]


@pytest.mark.parametrize("hours", [[29], [6, 29], [7, 8, 29]], ids=str)
def test_what_is_superseded_is_never_published(env: Environment, hours: list[int]) -> None:
    online = pytest.importorskip("mlplatform.features.online")
    refreshed(env, LATE, hours)
    view = FeatureView("made", ("kind",), ttl=9 * HOUR, lookback=timedelta(days=9))
    edited = Edited(**vars(PROJECT) | {"views": (view,)}, edits={"features/made.sql": SQL})
    serves, found = Environment("prod", edited, env.folder, env.config), []
    for hour in range(30):
        online.publish(serves, START + hour * HOUR)
        looked = [online.OnlineFeatures(serves).at({"kind": kind}, START + hour * HOUR) for kind in "ab"]
        found.append([one.values["made__value"] for one in looked])
    answers = expected(LATE, 9)
    assert found == [list(pair) for pair in zip(answers[:30], answers[30:], strict=True)]


def test_the_name_of_the_mark_is_the_platform_s(env: Environment) -> None:
    edited = Edited(**vars(PROJECT), edits={"features/made.sql": f"SELECT *, true AS superseded FROM ({SQL})"})
    with pytest.raises(ContractError, match=r"sql/features/made\.sql gives superseded"):
        refreshed(Environment("prod", edited, env.folder, env.config), LATE, [29])


def test_the_mark_is_no_feature(env: Environment) -> None:
    refreshed(env, LATE, [29])
    assert features.columns(made(), pl.DataFrame(env.catalog.read("features.made")).to_arrow().schema) == ["value"]
