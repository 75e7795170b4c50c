"""Entities that land after the run of their prediction time: scored, with what was known then, and marked late."""

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mlplatform.environment import Environment
from mlplatform.errors import MissingTableError
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.infer import infer, score
from mlplatform.pipelines.ingest import ingest
from mlplatform.pipelines.monitor import monitor
from mlplatform.registry.store import Registry
from mlplatform.storage.landing import NAME_FORMAT
from steps import Edited, read
from tiny.deliveries import land
from tiny.project import PROJECT

LoadEnv = Callable[..., Environment]
Duplicate = Callable[[Path, Path], Path]
HOUR = timedelta(hours=1)
TABLE = "predictions.tiny"


def deliver(env: Environment, since: datetime, until: datetime, every: timedelta, lag: timedelta) -> list[datetime]:
    """Let rows land in one file each step; every third item comes `lag` after it was published. Returns the steps."""
    land(env.landing, until)
    steps = [since + number * every for number in range(1, int((until - since) / every) + 1)]
    for source, late in (("items", lag), ("outcomes", timedelta())):
        whole = env.landing / source / f"{until:{NAME_FORMAT}}.csv"
        header, *rows = whole.read_text(encoding="utf-8").splitlines(keepends=True)
        whole.unlink()
        files: dict[datetime, list[str]] = {step: [header] for step in steps}
        for number, row in enumerate(rows):
            published = datetime.fromisoformat(row.strip().rsplit(",", 1)[1]).replace(tzinfo=None)
            lands = published + (late if number % 3 == 0 else timedelta())
            if arrives := [step for step in steps if step >= lands]:
                files[arrives[0]].append(row)
        for step, lines in files.items():
            (whole.parent / f"{step:{NAME_FORMAT}}.csv").write_text("".join(lines), encoding="utf-8")
    return steps


def run(env: Environment, as_of: datetime) -> None:
    for pipeline in (ingest, featurize, infer):
        pipeline(env, as_of)


def test_hourly_runs_score_what_one_run_at_the_end_scores_and_mark_what_was_late(
    project: Path, tmp_path: Path, duplicate: Duplicate, load_env: LoadEnv, now: datetime
) -> None:
    # Features of outcomes alone, which come in time: what late rows do to features is another matter.
    path = "features/kind_arrivals.sql"
    punctual = Edited(**vars(PROJECT), edits={path: PROJECT.sql(path).replace("silver.items", "silver.outcomes")})
    often, once = (
        Environment("prod", punctual, env.folder, env.config)
        for env in (load_env("prod", project), load_env("prod", duplicate(project, tmp_path / "once")))
    )
    steps = deliver(often, now, now + 48 * HOUR, 4 * HOUR, lag=9 * HOUR)
    deliver(once, now, now + 48 * HOUR, 4 * HOUR, lag=9 * HOUR)
    for step in steps:
        run(often, step)
    run(once, steps[-1])

    stepwise, whole = read(often, TABLE), read(once, TABLE)
    assert whole.height > 15
    aside = ["scored_at", "late"]
    assert_frame_equal(stepwise.drop(aside).sort("item_id"), whole.drop(aside).sort("item_id"))
    assert not whole["late"].any()
    late = stepwise.filter(pl.col("late"))["item_id"].str.slice(-6).cast(pl.Int64).sort()
    assert len(late) in range(5, 8)
    assert late.diff().drop_nulls().to_list() == [3] * (len(late) - 1)
    assert "nothing to score" in infer(often, steps[-1]).notes[0]

    monitor(often, now + timedelta(days=21))
    shares = read(often, "monitoring.metrics").filter(metric="late_share").sort("window_end")
    assert shares["value"].to_list() == [pytest.approx(len(late) / whole.height)]


def test_what_lands_between_two_runs_of_one_time_is_scored_and_marked_late(prod: Environment, now: datetime) -> None:
    (step,) = deliver(prod, now, now + 48 * HOUR, 48 * HOUR, timedelta())
    run(prod, step)
    before = read(prod, TABLE)
    assert before.height == 20
    header, row = (prod.landing / "items" / f"{step:{NAME_FORMAT}}.csv").read_text().splitlines(keepends=True)[:2]
    again = row.replace("item-000", "item-900")  # a twin of the first item
    (prod.landing / "items" / f"{step - HOUR:{NAME_FORMAT}}.csv").write_text(header + again, encoding="utf-8")
    run(prod, step)
    (late,) = read(prod, TABLE).filter(pl.col("late")).to_dicts()
    assert read(prod, TABLE).height == 21
    assert late["item_id"] == again.split(",")[0]
    (twin,) = before.filter(item_id=row.split(",")[0]).to_dicts()
    assert {**late, "item_id": "", "scored_at": "", "late": ""} == {**twin, "item_id": "", "scored_at": "", "late": ""}


def test_scoring_before_the_features_are_there_is_refused(prod: Environment, now: datetime) -> None:
    (step,) = deliver(prod, now, now + 48 * HOUR, 48 * HOUR, timedelta())
    ingest(prod, step)
    shutil.rmtree(prod.reports / "features")
    with pytest.raises(MissingTableError, match=r"prod has no features\.kind_history yet: run `featurize --env prod`"):
        infer(prod, step)
    assert not prod.catalog.exists(TABLE)


def test_a_table_of_predictions_without_any_does_not_stop_monitoring(prod: Environment, now: datetime) -> None:
    """Earlier releases made one where there was nothing to score."""
    nothing = score(Registry(prod), 1, now - timedelta(days=3650), now - timedelta(days=3649)).arrow()
    prod.catalog.append(TABLE, nothing)
    assert nothing.num_rows == 0
    for as_of in (now, now + timedelta(days=7)):
        assert monitor(prod, as_of).written["monitoring.metrics"] > 0
    (step,) = deliver(prod, now, now + 480 * HOUR, 480 * HOUR, timedelta())
    run(prod, step)
    monitor(prod, step)
    assert "roc_auc" in set(read(prod, "monitoring.metrics")["metric"])
