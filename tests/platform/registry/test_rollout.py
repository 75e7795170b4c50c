"""Rollouts end in a comparison of what was answered: a better challenger wins it, an equal one does not."""

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from mlplatform.environment import Environment
from mlplatform.pipelines import deploy as pipeline
from mlplatform.pipelines.deploy import deploy
from mlplatform.registry import approval
from mlplatform.registry.comparison import Verdict
from mlplatform.registry.rollout import Shown, compare_rollout
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Transition
from mlplatform.storage import ops
from steps import overlay, read

LoadEnv = Callable[..., Environment]
DAY = timedelta(days=1)
MODES = ("shadow", "canary", "ab")


def rolled_out(
    prod: Environment, load_env: LoadEnv, now: datetime, mode: str, noise: float, **rollout: Any
) -> Environment:
    """Version 2 has been in Staging for 40 days, and has answered for 35. Its scores have `noise`, the champion's 0.6.

    In the shadow it has scored all requests; otherwise it has answered for each second item.
    """
    registry = Registry(prod)
    first = registry.version(1)
    registry.client.create_model_version(
        registry.model, first.source, first.run_id, {**first.tags, "identity": "another"}
    )
    since = now - 40 * DAY
    move = Transition(registry.model, 2, "None", "Staging", since, "a test", "a newer one")
    registry.ledger.record(
        move.closed("approved", since, "a test", ""),
        Transition(registry.model, 2, "Staging", "Production", since, "a test", "a newer one"),
    )
    items = read(prod, "silver.items").filter(pl.col("available_at").is_between(since + DAY, now - 4 * DAY))
    asked = items.join(read(prod, "silver.outcomes").select("item_id", "outcome"), on="item_id").sort("item_id")
    rng = np.random.default_rng(1)
    positive = (asked["outcome"] > 0).cast(pl.Float64).to_numpy()
    table = asked.select(
        *("item_id", "kind", pl.col("available_at").alias("prediction_time")),
        request_id=pl.col("item_id"),
        request_row=pl.lit(0, pl.Int64),
        inference=pl.lit("online"),
        score=pl.Series(positive + rng.normal(scale=0.6, size=len(asked))),
        theirs=pl.Series(positive + rng.normal(scale=noise, size=len(asked))),
    ).with_row_index("number")
    mine = pl.col("number") % 2 == 0
    champion = table.with_columns(variant=pl.lit("champion"), model_version=pl.lit(1, pl.Int64))
    challenger = table.with_columns(
        variant=pl.lit("shadow" if mode == "shadow" else "challenger"),
        model_version=pl.lit(2, pl.Int64),
        score="theirs",
    )
    if mode == "shadow":
        prod.catalog.append("predictions.tiny_shadow", challenger.drop("number", "theirs").to_arrow())
    else:
        champion = pl.concat([champion.filter(~mine), challenger.filter(mine)])
    prod.catalog.append("predictions.tiny", champion.drop("number", "theirs").to_arrow())
    return load_env(
        "prod", prod.folder, overlay(prod.folder, "rollout", {"serving": {"rollout": {"mode": mode, **rollout}}})
    )


def shown(env: Environment, as_of: datetime) -> Shown:
    found = compare_rollout(Registry(env), 2, 1, as_of)
    assert found is not None
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("noise", "better"), [(0.25, True), (0.6, False), (1.5, False)])
def test_a_better_challenger_wins_and_an_equal_or_worse_one_does_not(
    prod: Environment, load_env: LoadEnv, now: datetime, mode: str, noise: float, better: bool
) -> None:
    env = rolled_out(prod, load_env, now, mode, noise)
    verdict, span, over = shown(env, now)
    assert verdict.accepted == better, verdict.reason
    assert verdict.low < verdict.difference < verdict.high
    assert (verdict.high < 0) == (noise > 1)
    assert over
    assert now - 40 * DAY < span.start < span.end < now


@pytest.fixture
def accepted_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 2 is a copy of version 1: on held-out rows it could not win."""
    won = Verdict("average_precision", 0.9, 0.8, 0.1, 0.05, 0.15, 0.0, True, "better on held-out rows")
    monkeypatch.setattr(pipeline, "compare_versions", lambda *_: won)


@pytest.mark.usefixtures("accepted_offline")
@pytest.mark.parametrize(("noise", "champion"), [(0.25, 2), (0.6, 1)])
def test_the_gate_waits_for_the_rollout_and_decides_by_it(
    prod: Environment, load_env: LoadEnv, now: datetime, noise: float, champion: int
) -> None:
    env = rolled_out(prod, load_env, now, "shadow", noise, decides_after="40d")
    registry = Registry(env)
    (note,) = deploy(env, now).notes
    assert note.startswith("version 2 waits for its rollout: so far, average_precision")
    assert registry.ledger.champion(now) == 1
    assert approval.won_at(registry, 2) is None, "a person, too, waits for it"
    rows = read(env, ops.COMPARISONS).filter(pl.col("challenger") == 2).select("champion", "rollout", "accepted").rows()
    assert sorted(rows) == [("1", "", True), ("1", "shadow", False)]
    end = shown(env, now).span.start + 40 * DAY + env.config.monitoring.label_delay
    assert [shown(env, end - early).over for early in (timedelta.resolution, timedelta())] == [False, True]
    later = now + 4 * DAY
    deploy(env, later)
    assert registry.ledger.champion(later) == champion
    (row,) = read(env, ops.COMPARISONS).filter(pl.col("as_of") == later, pl.col("rollout") == "shadow").to_dicts()
    assert row["accepted"] == (champion == 2)
    assert row["low"] < row["difference"] < row["high"]
    if champion == 1:
        last = registry.ledger.all()[-1]
        assert (last.status, registry.ledger.stage(2)) == ("approved", "Archived")
        rejected = next(t for t in registry.ledger.all() if t.status == "rejected")
        assert (rejected.closed_by, "in its rollout" in rejected.reason) == ("rollout", True)


@pytest.mark.usefixtures("accepted_offline")
def test_comparisons_that_an_earlier_release_wrote_still_count(
    prod: Environment, load_env: LoadEnv, now: datetime
) -> None:
    """It wrote of a rollout beside the champion's number; the table is written again with the first new row."""
    env = rolled_out(prod, load_env, now, "shadow", 0.25, decides_after="40d")
    registry, early = Registry(env), now - DAY
    deploy(env, now)
    written = read(env, ops.COMPARISONS).drop("rollout").filter(pl.col("challenger") == 2)
    earlier = written.head(1).with_columns(champion=pl.lit("1 (shadow)"), as_of=pl.lit(early), accepted=pl.lit(True))
    shutil.rmtree(prod.folder / "data" / "prod" / "ops" / "comparisons")
    env.catalog.append(ops.COMPARISONS, earlier.to_arrow())
    assert approval.won_at(registry, 2)
    deploy(env, now)
    rows = read(env, ops.COMPARISONS).select("champion", "rollout", "as_of").rows()
    assert sorted(rows) == [("1", "", now), ("1", "shadow", early), ("1", "shadow", now)]


@pytest.mark.usefixtures("accepted_offline")
def test_a_challenger_that_the_rollback_rule_has_taken_out_is_rejected(
    prod: Environment, load_env: LoadEnv, now: datetime
) -> None:
    env = rolled_out(prod, load_env, now, "canary", 0.25, decides_after="40d")
    alert = {"rule": "serving", "column": "prod.tiny", "slice": "version=2", "window_end": now, "value": 1.0}
    more = {"threshold": 0.0, "raised_at": now, "action": "notify", "message": "3 of its last 100 requests failed"}
    env.catalog.append(ops.ALERTS, ops.rows(ops.ALERTS, [alert | more]))
    (note,) = deploy(env, now).notes
    assert note == "version 2 rejected in its rollout: 3 of its last 100 requests failed"
    assert Registry(env).ledger.stage(2) == "Archived"


@pytest.mark.usefixtures("accepted_offline")
def test_without_an_answer_or_a_rollout_nothing_is_compared(
    prod: Environment, load_env: LoadEnv, now: datetime
) -> None:
    env = rolled_out(prod, load_env, now, "shadow", 0.25)
    deploy(env, now)
    assert Registry(env).ledger.champion(now) == 2, "the settings do not let the rollout decide"
    assert compare_rollout(Registry(env), 2, 7, now) is None, "version 7 has answered nothing"
