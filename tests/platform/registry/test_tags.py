"""What a version carries: one record, the same after it went through MLflow's tags, whatever release wrote them."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from mlplatform.registry.tags import HeldOut, IncompleteVersionError, Sampled, VersionTags
from mlplatform.storage.catalog import Span

SPAN = Span(datetime(2025, 3, 1), datetime(2025, 4, 1))
RECORD = VersionTags(
    env="dev",
    as_of=datetime(2025, 4, 1),
    identity="4f1c",
    code="v0.3.0",
    config="a1",
    data_digest="d2",
    data_versions={"silver.items": 3},
    feature_views=("kind_history",),
    parameters={"max_iter": 20, "loss": "log"},
    tuned=True,
    trained_on=Span(datetime(2025, 1, 1), datetime(2025, 3, 1)),
    held_out=HeldOut(SPAN),
    summary="It says something.",
    metrics={"auc": 0.75},
    baseline={"auc": 0.5},
)
# As release 0.2.0 wrote them.
OLD = {
    "env": "prod",
    "as_of": "2025-04-01T00:00:00",
    "identity": "1234",
    "code": "v0.1.0",
    "config": "abcd",
    "data_digest": "ef01",
    "data_versions": '{"silver.items": 3}',
    "feature_views": "kind_history",
    "parameters": '{"max_iter": 20}',
    "tuned": "false",
    "train_start": "2025-01-01T00:00:00",
    "train_end": "2025-03-02T00:00:00",
    "holdout_end": "2025-04-01T00:00:00",
    "summary": "For each item ...",
    "metric.auc": "0.750000",
    "stage": "Production",
    "requested": "None",
}


def test_a_record_is_the_same_after_its_way_through_tags() -> None:
    assert VersionTags.of(RECORD.as_tags()) == RECORD


def test_so_is_one_with_everything() -> None:
    by_shop = HeldOut(SPAN, ("shop", "region"), 0.25, 7)
    more = {**vars(RECORD), "held_out": by_shop, "threshold": 0.1 + 0.2, "feature_views": ()}
    more["sampled"] = Sampled(26_000 / 65_536, 1.0, 500_000)
    more |= {"promoted_from": "staging", "promoted_version": 4, "promoted_run": "ab"}
    record = VersionTags(**more)
    assert VersionTags.of(record.as_tags()) == record
    assert list(record.as_tags())[-1] == "promoted_from", "what carries the last one written carries all"


def test_a_version_of_an_older_release_was_judged_on_what_came_after_its_training_rows() -> None:
    record = VersionTags.of(OLD)
    assert record.held_out == HeldOut(Span(datetime(2025, 3, 2), datetime(2025, 4, 1)))
    assert (record.threshold, record.promoted_from, record.metrics) == (None, "", {"auc": 0.75})
    assert record.sampled is None


def test_what_is_missing_is_named() -> None:
    with pytest.raises(IncompleteVersionError, match="the tag 'identity' is missing"):
        VersionTags.of({name: value for name, value in OLD.items() if name != "identity"})


def rows(numbers: range) -> pa.Table:
    return pa.table(
        {
            "item": pa.array(numbers, pa.int64()),
            "shop": [f"shop {number % 40}" for number in numbers],
            "prediction_time": pa.array([SPAN.start + timedelta(hours=n) for n in numbers], pa.timestamp("us")),
        }
    )


def test_held_out_rows_are_a_share_and_stay_the_same_when_others_come() -> None:
    held_out = HeldOut(SPAN, ("item",), 0.2)
    few, many = held_out.chosen(rows(range(1000))), held_out.chosen(rows(range(5000)))
    assert many.mean() == pytest.approx(0.2, abs=0.02)
    assert (few == many[:1000]).all()
    other = HeldOut(SPAN, ("item",), 0.2, seed=1).chosen(rows(range(5000)))
    assert (other & many).mean() == pytest.approx(0.04, abs=0.02)


def test_a_missing_value_beside_a_number_does_not_change_who_is_held_out() -> None:
    """A column of whole numbers with a gap is a column of floats to pandas: 1 would be 1.0."""
    held_out, whole = HeldOut(SPAN, ("item",), 0.5), rows(range(100))
    gap = whole.set_column(0, "item", pa.array([*range(99), None], pa.int64()))
    assert (held_out.chosen(gap)[:99] == held_out.chosen(whole)[:99]).all()


def test_a_group_is_held_out_whole_and_is_a_block() -> None:
    held_out, table = HeldOut(SPAN, ("shop",), 0.3), rows(range(400))
    shops = np.array(table["shop"].to_pylist())
    chosen = held_out.chosen(table)
    assert set(shops[chosen]).isdisjoint(shops[~chosen])
    assert 0 < chosen.mean() < 1
    assert len(set(held_out.blocks(table, timedelta(days=1)))) == 40


def test_by_time_all_of_the_span_is_held_out_in_blocks_of_time() -> None:
    held_out, table = HeldOut(SPAN), rows(range(48))
    assert held_out.chosen(table).all()
    assert len(set(held_out.blocks(table, timedelta(days=1)))) == 2
    assert len(set(held_out.blocks(table, timedelta(hours=6)))) == 8
