"""The SQL and the contracts on rows written by hand. Put here what your own SQL must do, row by row."""

from datetime import datetime, timedelta
from functools import partial

import polars as pl
import pytest

from mlplatform.testing import sql

from {{ cookiecutter.package_name }}.project import PROJECT

Raw = dict[str, str | None]
VIEWS = {view.name: view for view in PROJECT.views}
RAW: dict[str, Raw] = {
    "items": {"item_id": "item-000001", "kind": "a", "amount": "12.5", "published_at": "2025-03-01T10:00:00Z"},
    "outcomes": {"item_id": "item-000001", "kind": "a", "outcome": "-3.5", "published_at": "2025-03-02T11:30:00Z"},
}
MARCH = datetime(2025, 3, 1)

cleaned = partial(sql.cleaned, PROJECT)
judged = partial(sql.judged, PROJECT)
query = partial(sql.query, PROJECT)


def outcomes(*facts: tuple[str, datetime, float]) -> dict[str, pl.DataFrame]:
    """The table silver.outcomes with facts (kind, known at, outcome)."""
    rows = [
        {"item_id": f"item-{n:06d}", "kind": kind, "outcome": value, "event_timestamp": at, "available_at": at}
        for n, (kind, at, value) in enumerate(facts)
    ]
    return {"silver.outcomes": pl.DataFrame(rows)}


def rows_of(view: str, tables: dict[str, pl.DataFrame], **limits: datetime) -> pl.DataFrame:
    return query(f"features/{view}.sql", tables, **limits).sort(*VIEWS[view].keys, "event_timestamp")


@pytest.mark.parametrize("name", RAW)
def test_a_good_row_keeps_its_contract(name: str) -> None:
    good, refused = judged(name, RAW[name])
    assert (good.height, refused.height) == (1, 0)


@pytest.mark.parametrize("name", RAW)
def test_cleaning_keeps_every_row(name: str) -> None:
    garbage, nothing = (dict.fromkeys(RAW[name], value) for value in ("?", None))
    assert cleaned(name, RAW[name], garbage, nothing).height == 3


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("items", {"item_id": "1"}, "item_id: str_matches"),
        ("items", {"kind": "z"}, "kind: isin"),
        ("items", {"amount": "much"}, "amount: not_nullable"),
        ("items", {"amount": "101"}, "amount: in_range(0, 100)"),
        ("items", {"published_at": "soon"}, "available_at: not_nullable"),
        ("outcomes", {"outcome": None}, "outcome: not_nullable"),
        ("outcomes", {"outcome": "1001"}, "outcome: in_range(-1000, 1000)"),
    ],
)
def test_a_bad_row_is_refused_with_its_reason(name: str, change: Raw, reason: str) -> None:
    good, refused = judged(name, RAW[name], RAW[name] | change)
    assert good["source_row"].to_list() == [2]
    assert refused["source_row"].to_list() == [3]
    assert reason in refused["reason"][0]


def test_an_item_is_predicted_for_when_it_becomes_known() -> None:
    (entity,) = query("entities.sql", {"silver.items": cleaned("items", RAW["items"])}).to_dicts()
    assert entity["prediction_time"] == entity["available_at"] == datetime(2025, 3, 1, 10)
    assert (entity["kind"], entity["amount"]) == ("a", 12.5)


def test_history_rolls_over_a_week_of_the_same_kind() -> None:
    week = timedelta(days=7)
    facts = [
        ("a", MARCH - timedelta(hours=1), 99.0),
        ("a", MARCH, 1.0),
        ("a", MARCH + week - timedelta(minutes=1), 3.0),
    ]
    rows = rows_of("kind_history", outcomes(*facts, ("b", MARCH, 7.0)))
    last = rows.filter(pl.col("kind") == "a").row(-1, named=True)
    assert last["available_at"] == MARCH + week
    assert (last["outcome_7d"], last["outcomes_7d"]) == (2.0, 2.0)
    assert rows.filter(pl.col("kind") == "b")["outcome_7d"].to_list() == [7.0]


def tangled() -> dict[str, pl.DataFrame]:
    """Twelve days with outcomes of two kinds in every hour, some on the full hour."""
    times = [MARCH + timedelta(minutes=20 * step) for step in range(864)]
    return outcomes(*(("ab"[n % 2], time, float(n * 7 % 83 - 20)) for n, time in enumerate(times)))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("as_of", [MARCH + timedelta(days=9), MARCH + timedelta(days=8, minutes=637)], ids=str)
def test_a_row_never_changes_once_it_is_available(view: str, as_of: datetime) -> None:
    tables, known = tangled(), pl.col("available_at") <= as_of
    backfill = rows_of(view, tables).filter(known)
    assert backfill.height > 20
    assert rows_of(view, tables, as_of=as_of).filter(known).equals(backfill)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("since", [MARCH + timedelta(days=9), MARCH + timedelta(days=8, minutes=637)], ids=str)
def test_the_window_that_changed_is_computed_from_the_lookback_alone(view: str, since: datetime) -> None:
    tables, fresh = tangled(), pl.col("available_at") > since
    backfill = rows_of(view, tables).filter(fresh)
    assert backfill.height
    assert rows_of(view, tables, since=since - VIEWS[view].lookback).filter(fresh).equals(backfill)


@pytest.mark.parametrize("view", VIEWS)
def test_a_row_is_unique_and_available_after_its_event(view: str) -> None:
    rows = rows_of(view, tangled())
    assert rows.select(*VIEWS[view].keys, "event_timestamp").is_unique().all()
    assert (rows["available_at"] > rows["event_timestamp"]).all()
