"""What is trained on and what is held out: by time, by group, or at random; what was known, and what is too little."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from conftest import Duplicate
from mlplatform.contract import Entity, Labels
from mlplatform.environment import Environment
from mlplatform.features.frames import LabelError, labelled, sample
from mlplatform.pipelines.deploy import deploy
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.train import train
from mlplatform.registry.comparison import compare_versions
from mlplatform.registry.store import Registry
from mlplatform.training import data
from steps import Edited, overlay, twice
from tiny.project import PROJECT

SNAPSHOT = datetime(2025, 3, 15)


def edited(**edits: str) -> Edited:
    files = {f"{name}.sql": text for name, text in edits.items()}
    return Edited(**{**vars(PROJECT), "edits": files})


def labels(expression: str, known: str = "available_at") -> Edited:
    """The tiny project with another label."""
    columns = f"item_id, {expression} AS label, event_timestamp, {known} AS available_at"
    return edited(labels=f"SELECT {columns} FROM silver.outcomes")


@pytest.fixture(scope="module")
def folder(trained: Path, duplicate: Duplicate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which these tests may write settings; none writes a table."""
    return duplicate(trained, tmp_path_factory.mktemp("data") / "project")


def env(folder: Path, project: Any = PROJECT, **training: Any) -> Environment:
    name = overlay(folder, "other", {"training": training}) if training else "test"
    return Environment.load("prod", project, folder, ("test", name))


def test_a_label_that_came_to_be_known_in_the_held_out_period_is_not_trained_on(folder: Path, now: datetime) -> None:
    prod = env(folder)
    split = now - prod.config.training.holdout
    found = data.load(prod, now)
    known = prod.engine.query("SELECT item_id FROM silver.outcomes", as_of=split).arrow()["item_id"].to_pylist()
    assert set(found.train["item_id"]) <= set(known)
    late = labelled(prod, now, *found.trained_on).count() - len(found.train)
    assert late > 5, "labels are a day or two late here, so some were unknown"
    assert found.train["prediction_time"].max() <= split < found.holdout["prediction_time"].min()


def test_a_held_out_period_for_which_most_labels_are_still_to_come_is_told(folder: Path, now: datetime) -> None:
    late = labels("CASE WHEN outcome > 0 THEN 1 ELSE 0 END", known="available_at + INTERVAL 8 DAYS")
    (note,) = (found := data.load(env(folder, late), now)).notes
    assert found.holdout["prediction_time"].max() < now - timedelta(days=9), "a day or two, and eight more"
    assert "of newer ones no label is known yet. Make training.holdout longer than labels take" in note
    assert data.load(env(folder), now).notes == ()


def test_a_feature_that_no_training_row_has_is_told(folder: Path, now: datetime) -> None:
    history, arrivals = PROJECT.views
    short = Edited(**{**vars(PROJECT), "views": (history, replace(arrivals, ttl=timedelta(seconds=1)))})
    (note,) = data.load(env(folder, short), now).notes
    assert note == "no training row has a value of kind_arrivals__items_1d: is the view's ttl too short?"


def test_a_random_share_is_held_out_from_all_times(folder: Path, now: datetime) -> None:
    found = data.load(env(folder, split="random", holdout_share=0.3), now)
    assert set(found.train["item_id"]).isdisjoint(found.holdout["item_id"])
    assert len(found.holdout) / (len(found.train) + len(found.holdout)) == pytest.approx(0.3, abs=0.05)
    assert found.holdout["prediction_time"].min() < found.train["prediction_time"].median()
    again = data.load(env(folder, split="random", holdout_share=0.3, seed=1), now)
    assert set(again.holdout["item_id"]) != set(found.holdout["item_id"])


def test_what_is_held_out_at_random_stays_held_out_in_later_trainings(folder: Path, now: datetime) -> None:
    """Else a champion would be judged on its own training rows."""
    prod = env(folder, split="random")
    before, later = data.load(prod, now - timedelta(days=10)), data.load(prod, now)
    assert set(before.train["item_id"]).isdisjoint(later.holdout["item_id"])


def test_rows_of_a_time_before_computers_are_trained_on(folder: Path, now: datetime) -> None:
    at = "available_at - INTERVAL 200000 DAYS"
    old = edited(entities=f"SELECT * REPLACE ({at} AS available_at), {at} AS prediction_time FROM silver.items")
    found, of_old = (data.load(env(folder, of, split="random", history=None), now) for of in (PROJECT, old))
    assert of_old.train["prediction_time"].max().year < 1500
    assert set(of_old.train["item_id"]) == set(found.train["item_id"])


def test_groups_stay_together(folder: Path, now: datetime) -> None:
    found = data.load(env(folder, split="group", group="amount"), now)
    assert set(found.train["amount"]).isdisjoint(found.holdout["amount"])
    with pytest.raises(data.NotEnoughDataError, match=r"training.group: the joined rows have no column shop"):
        data.load(env(folder, split="group", group="shop"), now)


@pytest.mark.parametrize("split", ["time", "random"])
def test_of_too_many_rows_those_of_a_share_of_the_entities_are_taken(folder: Path, now: datetime, split: str) -> None:
    whole = data.load(env(folder, split=split), now)
    prod = env(folder, split=split, max_rows=100, min_rows=10)
    found = data.load(prod, now)
    for part in ("train", "holdout"):
        some, all_ = (getattr(rows, part).set_index("item_id") for rows in (found, whole))
        assert 10 < len(some) <= 100 < len(all_) or split == "random"
        pd.testing.assert_frame_equal(some, all_.loc[some.index])
    assert len(found.train) + len(found.holdout) <= (100 if split == "random" else 200)
    assert len(found.notes) == (1 if split == "random" else 2)
    assert "rows are taken, those of " in found.notes[0]
    assert found.sampled.max_rows == 100
    assert found.sampled.trained < 0.3 <= whole.sampled.trained == 1
    # From what the version records, without the setting: the same rows.
    keys = pa.table({"item_id": pd.concat([whole.train, whole.holdout])["item_id"].tolist()})
    again = data.parts(env(folder), now, found.trained_on, found.held_out, found.sampled, keys)
    for rows, expected in zip(again, (found.train, found.holdout), strict=True):
        pd.testing.assert_frame_equal(rows.to_pandas(), expected)


def test_as_many_rows_as_there_may_be_are_all_taken(folder: Path, now: datetime) -> None:
    whole = data.load(env(folder), now)
    prod = env(folder, max_rows=max(len(whole.train), len(whole.holdout)))
    found = data.load(prod, now)
    assert (found.digest, found.notes) == (whole.digest, ())
    assert data.load(env(folder, max_rows=len(whole.train) - 1), now).digest != whole.digest
    with pytest.raises(Exception, match="'max_rows' is 29, less than 'min_rows' of 30"):
        env(folder, max_rows=29, min_rows=30)


def test_a_version_records_its_sample_and_is_compared_on_one(
    trained: Path, duplicate: Duplicate, tmp_path: Path, now: datetime
) -> None:
    settings = {"training": {"max_rows": 60}, "registry": {"comparison": {"min_rows": 61}}}
    name = overlay(duplicate(trained, tmp_path / "project"), "few", settings)
    prod = Environment.load("prod", PROJECT, tmp_path / "project", ("test", name))
    run = train(prod, now)
    assert sum("(training.max_rows)" in note for note in run.notes) == 2
    registry = Registry(prod)
    number = max(int(version.version) for version in registry.versions())
    sampled, held_out = registry.tags(number).sampled, data.load(prod, now).holdout
    assert sampled == data.load(prod, now).sampled
    verdict = compare_versions(registry, number, 1, now)
    assert verdict.reason.startswith(f"{len(held_out)} labelled rows cannot decide")


@pytest.mark.parametrize("keys", [("name",), ("number",), ("day",), ("name", "number", "day")])
def test_rows_of_an_entity_are_sampled_together(folder: Path, keys: tuple[str, ...]) -> None:
    project = Edited(**{**vars(PROJECT), "entity": Entity(keys)})
    prod, rows = env(folder, project), twice(400)
    given = prod.engine.query("SELECT * FROM given.rows", given={"given.rows": rows})
    found = sample(prod, given, 200)
    assert found.total == 800
    assert 150 < found.taken == found.rows.count() <= 200
    assert set(pd.DataFrame(found.rows.arrow().to_pylist()).groupby(list(keys)).size()) == {2}
    assert sample(prod, given, 800).rows.count() == 800
    assert sample(prod, given, 1).rows.count() == 2  # nobody's rows are parted


def test_a_group_without_a_split_by_group_is_a_mistake(folder: Path) -> None:
    for wrong in ({"split": "group"}, {"group": "kind"}):
        with pytest.raises(Exception, match="'group' names the column of split: group"):
            env(folder, **wrong)


def test_a_holdout_longer_than_the_data_is_told(folder: Path, now: datetime) -> None:
    with pytest.raises(data.NotEnoughDataError) as refused:
        data.load(env(folder, holdout="200d", history=None), now)
    said = str(refused.value)
    assert said.startswith("0 labelled rows to train on and ")
    assert "training.min_rows is 30" in said
    assert "so it is longer than the data" in said
    assert "--as-of" not in said


def test_too_few_held_out_rows_are_told(folder: Path, now: datetime) -> None:
    with pytest.raises(
        data.NotEnoughDataError, match=r"those up to .* are trained on .*, those after it held out \(training.holdout"
    ):
        data.load(env(folder, holdout="1d"), now)
    with pytest.raises(data.NotEnoughDataError, match=r"training.holdout_share of 0.01 parts them"):
        data.load(env(folder, split="random", holdout_share=0.01), now)


def test_a_time_before_the_data_is_told(folder: Path) -> None:
    with pytest.raises(
        data.NotEnoughDataError, match=r"no labelled rows as of 2024-01-01 .* gives no rows known by then \(the first"
    ):
        data.load(env(folder), datetime(2024, 1, 1))


def test_null_labels_are_refused(folder: Path, now: datetime) -> None:
    project = labels("CASE WHEN outcome > 0 THEN 1 WHEN outcome < -20 THEN 0 END")
    with pytest.raises(LabelError, match=r"sql/labels.sql: \d+ labels are null: leave rows without a label out"):
        data.load(env(folder, project), now)


def test_text_is_no_binary_label(folder: Path, now: datetime) -> None:
    with pytest.raises(LabelError, match=r"the labels are of type string, and Labels\('binary'\) are numbers"):
        data.load(env(folder, labels("CASE WHEN outcome > 0 THEN 'late' ELSE 'in time' END")), now)


@pytest.mark.parametrize(
    "expression", ["outcome > 0", "CAST(outcome > 0 AS INT)", "CAST(outcome > 0 AS DECIMAL(3, 1))"]
)
def test_binary_labels_of_any_type_of_number_are_the_same(folder: Path, now: datetime, expression: str) -> None:
    found, expected = data.load(env(folder, labels(expression)), now), data.load(env(folder), now)
    assert found.train["label"].dtype == "float64"
    assert found.train["label"].tolist() == expected.train["label"].tolist()


def test_classes_may_be_whole_numbers(folder: Path, now: datetime) -> None:
    project = labels("CAST(least(2, greatest(0, floor((outcome + 60) / 40))) AS INT)")
    project = Edited(**{**vars(project), "labels": Labels("multiclass", ("0", "1", "2"))})
    assert set(data.load(env(folder, project), now).train["label"]) == {"0", "1", "2"}


def test_a_snapshot_delivered_once_is_trained_on_promoted_and_scored(
    trained: Path, duplicate: Duplicate, tmp_path: Path, now: datetime
) -> None:
    """A table without time: everything happened, and became known, at once. Some of it is asked for a day later."""
    at = f"TIMESTAMP '{SNAPSHOT}'"
    when = f"{at} + CASE WHEN item_id < 'item-000700' THEN INTERVAL 0 SECONDS ELSE INTERVAL 86400 SECONDS END"
    project = edited(
        entities=f"SELECT item_id, {when} AS prediction_time, kind, amount, {at} AS available_at FROM silver.items",
        labels=f"SELECT item_id, CAST(outcome > 0 AS INT) AS label, {at} AS event_timestamp, {at} AS available_at "
        "FROM silver.outcomes",
    )
    prod = env(duplicate(trained, tmp_path / "project"), project, split="random", tuning={"enabled": True})
    registry = Registry(prod)
    (first,) = registry.ledger.pending("Staging", now)
    train(prod, now)
    deploy(prod, now)
    assert first.version == 1, "it was trained by time, and is rejected for what it lacks here"
    assert registry.ledger.champion() == 2
    assert "nothing scored (version 2 scores what becomes due after that)" in infer(prod, now).notes[0]
    infer(prod, now + timedelta(days=1))
    assert prod.catalog.count("predictions.tiny") == 31
