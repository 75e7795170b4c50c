"""Swaps, quick scorers and rollout: who answers, and what happens when that changes."""

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from mlplatform.config.serving import Rollout
from mlplatform.environment import Environment
from mlplatform.pipelines.collect import collect
from mlplatform.registry.store import Registry
from mlplatform.serving import champion
from mlplatform.serving.requests import folder
from mlplatform.serving.rollout import Challenger
from server import Running, Start
from steps import Edited, another, read
from tiny.model import Estimate
from tiny.project import PROJECT

ITEM = {"item_id": "item-000001", "kind": "a", "amount": 40.0}
pytestmark = pytest.mark.serving


def test_no_request_is_lost_or_answered_twice_while_the_champion_changes(
    start: Start, prod: Environment, now: datetime
) -> None:
    """Four clients ask without a pause while five versions take over."""
    running = start(folder=prod.folder, poll="3600s")
    stop, answers = threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            answer = running.predict(ITEM, ITEM, ITEM)
            versions = {one["model_version"] for one in answer.json().get("predictions", [])}
            answers.append((answer.status_code, versions))

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    for number in range(2, 7):
        another(prod, number, "Production", now)
        running.service.champion.look()
        assert running.service.champion.current is not None
        assert running.service.champion.current.version == number
    stop.set()
    for client in clients:
        client.join()
    assert {status for status, _ in answers} == {200}
    assert all(len(versions) == 1 for _, versions in answers)
    assert {1, 6} <= set().union(*(versions for _, versions in answers))


def test_where_rows_are_rare_older_ones_prove_the_quick_scorer(prod: Environment, now: datetime) -> None:
    sql = (
        f"SELECT * FROM ({PROJECT.sql('entities.sql')}) WHERE prediction_time < TIMESTAMP '{now - timedelta(days=10)}'"
    )
    rare = Environment("prod", Edited(**vars(PROJECT), edits={"entities.sql": sql}), prod.folder, prod.config)
    served = champion.open_version(Registry(rare), 1, champion.joined_schema(rare, now))
    assert served.quick is not None


def test_the_server_finds_a_new_champion_by_itself(start: Start, prod: Environment, now: datetime) -> None:
    running = start(folder=prod.folder, poll="1s")
    another(prod, 2, "Production", now)
    for _ in range(100):
        if running.client.get("/ready").json()["model_version"] == 2:
            return
        time.sleep(0.1)
    pytest.fail("version 1 still serves")


@pytest.mark.parametrize("fault", ["does not load", "scores nothing"])
def test_a_broken_version_leaves_the_old_one_serving_and_raises_an_alert(
    start: Start, prod: Environment, now: datetime, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    running = start(folder=prod.folder, poll="3600s")
    another(prod, 2, "Production", now)
    if fault == "does not load":
        monkeypatch.setattr(champion, "load", lambda *_: (_ for _ in ()).throw(RuntimeError("no such class")))
    else:
        monkeypatch.setattr(Estimate, "predict", lambda self, fitted, inputs: np.full(len(inputs), np.nan))
    running.service.champion.look()
    running.service.champion.look()
    monkeypatch.undo()
    assert running.client.get("/ready").json()["model_version"] == 1
    (alert,) = read(prod, "ops.alerts").filter(pl.col("rule") == "serving").to_dicts()
    assert "version 2 cannot serve" in alert["message"]
    assert "version 1 goes on serving" in alert["message"]


def test_a_version_whose_files_were_away_takes_over_when_they_are_back_and_has_warmed_up_before(
    start: Start, prod: Environment, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, warm = start(folder=prod.folder, poll="3600s"), list[tuple[int, int]]()
    another(prod, 2, "Production", now)
    monkeypatch.setattr(champion, "_PAUSE", 0)
    with monkeypatch.context() as away:
        away.setattr(champion, "load", lambda *_: (_ for _ in ()).throw(ConnectionError("no route to host")))
        running.service.champion.look()
        running.service.champion.look()
    real = champion.Served.scores

    def scores(self: champion.Served, rows: Any) -> Any:
        warm.append((self.version, running.client.get("/ready").json()["model_version"]))
        return real(self, rows)

    monkeypatch.setattr(champion.Served, "scores", scores)
    running.service.champion.look()
    assert warm == [(2, 1)] * 20
    assert running.client.get("/ready").json()["model_version"] == 2
    assert read(prod, "ops.alerts").filter(pl.col("rule") == "serving").height == 1


@pytest.mark.parametrize("fault", ["another last digit", "another shape", "an error"])
def test_a_quick_scorer_that_is_not_exact_is_left_aside(
    start: Start, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fault: str
) -> None:
    exact = start().predict(ITEM).json()["predictions"][0]["probabilities"]

    def row_scorer(self: Estimate, fitted: Any) -> Callable[[Any], Any]:
        def score(row: Any) -> Any:
            if fault == "an error":
                raise KeyError("amount")
            value = self.predict(fitted, self.inputs(pd.DataFrame([row])))[0]
            return [value, value] if fault == "another shape" else np.nextafter(value, 1)

        return score

    monkeypatch.setattr(Estimate, "row_scorer", row_scorer)
    running = start()
    assert running.service.champion.current is not None
    assert running.service.champion.current.quick is None
    assert "left aside" in capfd.readouterr().err
    assert running.predict(ITEM).json()["predictions"][0]["probabilities"] == exact


def items(number: int) -> list[dict[str, Any]]:
    return [ITEM | {"item_id": f"item-{n:06d}"} for n in range(number)]


def test_a_canary_answers_for_its_share_always_the_same_entities(
    start: Start, prod: Environment, now: datetime
) -> None:
    another(prod, 2, "Staging", now)
    running = start(folder=prod.folder, rollout={"mode": "canary", "share": 0.25})
    first, second = (running.predict(*items(200)).json()["predictions"] for _ in range(2))
    who = {one["item_id"]: (one["variant"], one["model_version"]) for one in first}
    assert who == {one["item_id"]: (one["variant"], one["model_version"]) for one in second}
    assert set(who.values()) == {("champion", 1), ("challenger", 2)}
    assert 25 < sum(variant == "challenger" for variant, _ in who.values()) < 75
    running.service.log.close()
    collect(prod, now)
    written = read(prod, "predictions.tiny").filter(pl.col("inference") == "online")
    assert dict(written.group_by("variant").len().iter_rows())["challenger"] > 50


@pytest.mark.parametrize("fault", ["errors", "latency"])
def test_the_rollback_rule_takes_a_bad_challenger_out_of_the_way_by_itself(
    start: Start, prod: Environment, now: datetime, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    another(prod, 2, "Staging", now)
    running: Running = start(
        folder=prod.folder, rollout={"mode": "ab", "share": 0.5, "window": 5, "max_errors": 2, "max_seconds": 0.02}
    )
    challenger = running.service.challenger.current
    assert challenger is not None
    real = champion.Served.scores

    def bad(self: champion.Served, rows: Any) -> Any:
        if self.version == 2:
            if fault == "errors":
                raise RuntimeError("out of range")
            time.sleep(0.05)
        return real(self, rows)

    monkeypatch.setattr(champion.Served, "scores", bad)
    answers = [running.predict(item) for item in items(40)]
    assert {answer.status_code for answer in answers} == {200}
    variants = [one["variant"] for answer in answers for one in answer.json()["predictions"]]
    assert set(variants[-10:]) == {"champion"}
    assert running.service.challenger.current is None
    (alert,) = read(prod, "ops.alerts").to_dicts()
    assert "version 2 is out of the way (ab)" in alert["message"]


def test_what_went_wrong_with_one_challenger_does_not_count_against_the_next() -> None:
    told: list[str] = []
    settings = Rollout(mode="ab", window=5, max_errors=2)
    stage: Any = SimpleNamespace(current=None)
    rule = Challenger(stage, settings, ["item_id"], lambda reason, errors, which: told.append(which))
    for version in (2, 2, 3, 3, 3):
        assert told == []
        failed: Any = SimpleNamespace(version=version)
        rule.saw(failed, True, 0.1)
    assert told == ["version=3"]


def test_a_shadow_is_logged_and_never_returned(start: Start, prod: Environment, now: datetime) -> None:
    another(prod, 2, "Staging", now)
    running = start(folder=prod.folder, rollout={"mode": "shadow"})
    told = [one for item in items(10) for one in running.predict(item).json()["predictions"]]
    assert {(one["variant"], one["model_version"]) for one in told} == {("champion", 1)}
    deadline = time.monotonic() + 30  # what is scored in the shadow is scored after the answer
    while sum(path.read_bytes().count(b'"variant":"shadow"') for path in folder(prod).glob("*.jsonl")) < 10:
        assert time.monotonic() < deadline, "not every request was scored in the shadow"
        time.sleep(0.05)
    running.service.log.close()
    collect(prod, now + timedelta(hours=1))
    assert set(read(prod, "predictions.tiny")["model_version"]) == {1}
    shadows = read(prod, "predictions.tiny_shadow")
    assert (shadows.height, set(shadows["model_version"]), set(shadows["variant"])) == (10, {2}, {"shadow"})
