"""The audit of stages: what was asked for, what was decided, and which model was in Production at any time."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from conftest import CONF
from mlplatform.environment import Environment
from mlplatform.errors import ForbiddenError
from mlplatform.registry.store import Registry
from mlplatform.registry.tags import VersionTags
from mlplatform.registry.transitions import Ledger, Stage, Transition
from mlplatform.storage.ops import TRANSITIONS
from registry.test_tags import OLD
from tiny.project import PROJECT

MODEL = "prod.outcomes"


def day(number: int) -> datetime:
    return datetime(2013, 4, number)


def asked(version: int, to_stage: Stage, at: datetime, from_stage: Stage = "None") -> Transition:
    return Transition(MODEL, version, from_stage, to_stage, at, "train", "asked for")


def moved(version: int, from_stage: Stage, to_stage: Stage, at: datetime) -> Transition:
    return asked(version, to_stage, at, from_stage).closed("approved", at, "test", "because")


def promoted(version: int, at: datetime, over: int | None = None) -> list[Transition]:
    """What a promotion writes: the new champion and, in the same transaction, the old one's leaving."""
    leaving = [moved(over, "Production", "Archived", at)] if over else []
    return [moved(version, "Staging", "Production", at), *leaving]


@pytest.fixture
def prod(tmp_path: Path) -> Environment:
    shutil.copytree(CONF, tmp_path / "conf")
    return Environment.load("prod", PROJECT, tmp_path)


@pytest.fixture
def ledger(prod: Environment) -> Ledger:
    return Ledger(prod, MODEL, "prod")


def test_an_empty_audit_knows_no_champion(ledger: Ledger) -> None:
    assert ledger.all() == []
    assert ledger.champion() is None
    assert ledger.previous_champion() is None
    assert ledger.stage(1) == "None"
    assert list(ledger.champions(day(1), day(9))) == [(day(1), day(9), None)]


def test_a_request_waits_from_its_time_on_and_no_longer_than_its_answer(ledger: Ledger) -> None:
    request = asked(1, "Staging", day(3))
    ledger.record(request)
    assert ledger.pending("Staging", day(2)) == []
    assert [t.version for t in ledger.pending("Staging", day(3))] == [1]
    assert ledger.pending("Production", day(3)) == []
    assert ledger.stage(1) == "None"
    ledger.record(request.closed("approved", day(4), "compliance", "all checks passed"))
    assert ledger.pending("Staging", day(9)) == []
    assert (ledger.stage(1, day(3)), ledger.stage(1, day(4))) == ("None", "Staging")


def test_stages_go_by_logical_time_whenever_a_decision_was_recorded(ledger: Ledger) -> None:
    for version, at in ((2, day(5)), (1, day(3))):
        ledger.record(*promoted(version, at))
    assert [ledger.champion(at) for at in (day(3), day(5))] == [1, 2]


def test_a_rejected_request_moves_nothing(ledger: Ledger) -> None:
    request = asked(1, "Production", day(3), "Staging")
    ledger.record(request.closed("rejected", day(4), "comparison", "it is worse"))
    assert ledger.champion() is None
    assert ledger.pending("Production", day(9)) == []


def test_requests_are_answered_oldest_first(ledger: Ledger) -> None:
    ledger.record(asked(3, "Staging", day(2)), asked(2, "Staging", day(2)), asked(1, "Staging", day(5)))
    assert [t.version for t in ledger.pending("Staging", day(9))] == [2, 3, 1]


def test_who_when_and_why_are_kept(ledger: Ledger, prod: Environment) -> None:
    request = asked(1, "Production", day(3), "Staging")
    ledger.record(request)
    ledger.record(request.closed("approved", day(4), "Ada", "better on every slice"))
    (row,) = prod.catalog.read(TRANSITIONS).to_pylist()
    assert (row["requested_by"], row["request_reason"], row["requested_at"]) == ("train", "asked for", day(3))
    assert (row["status"], row["closed_by"], row["reason"]) == ("approved", "Ada", "better on every slice")
    assert (row["closed_at"], row["recorded_at"] > day(4)) == (day(4), True)


def test_recording_twice_is_the_same_as_once(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.record(*promoted(1, day(3)))
    assert len(ledger.all()) == 1


def test_a_promotion_is_one_transaction(ledger: Ledger, prod: Environment) -> None:
    ledger.record(*promoted(1, day(3)))
    version = prod.catalog.snapshot(TRANSITIONS).version
    ledger.record(*promoted(2, day(5), over=1))
    assert prod.catalog.snapshot(TRANSITIONS).version == version + 1


def test_the_champion_of_a_past_time_is_the_one_of_that_time(ledger: Ledger) -> None:
    ledger.record(*promoted(1, day(3)))
    ledger.record(*promoted(2, day(5), over=1))
    just_before = day(5) - timedelta(microseconds=1)
    assert [ledger.champion(at) for at in (day(2), day(3), just_before, day(5))] == [None, 1, 1, 2]
    assert ledger.champion() == 2
    assert (ledger.stage(1, just_before), ledger.stage(1)) == ("Production", "Archived")


def test_a_span_is_cut_where_the_champion_changes(ledger: Ledger) -> None:
    ledger.record(*promoted(1, day(3)))
    ledger.record(*promoted(2, day(5), over=1))
    assert list(ledger.champions(day(1), day(9))) == [
        (day(1), day(3), None),
        (day(3), day(5), 1),
        (day(5), day(9), 2),
    ]
    assert list(ledger.champions(day(5), day(9))) == [(day(5), day(9), 2)]
    assert list(ledger.champions(day(3), day(5))) == [(day(3), day(5), 1)]


def test_a_champion_that_leaves_without_a_successor_leaves_none(ledger: Ledger) -> None:
    ledger.record(*promoted(1, day(3)))
    ledger.record(moved(1, "Production", "Archived", day(5)))
    assert [ledger.champion(at) for at in (day(4), day(5))] == [1, None]


def test_a_rollback_returns_to_the_champion_before(ledger: Ledger) -> None:
    ledger.record(*promoted(1, day(3)))
    assert ledger.previous_champion() is None
    ledger.record(*promoted(2, day(5), over=1))
    assert ledger.previous_champion() == 1
    ledger.record(moved(1, "Archived", "Production", day(7)), moved(2, "Production", "Archived", day(7)))
    assert [ledger.champion(at) for at in (day(4), day(6), day(7))] == [1, 2, 1]
    assert (ledger.stage(1), ledger.stage(2)) == ("Production", "Archived")
    assert ledger.previous_champion() is None  # and not the version that was rolled back from


def test_models_do_not_see_one_another(ledger: Ledger, prod: Environment) -> None:
    ledger.record(*promoted(1, day(3)))
    other = Ledger(prod, "prod.other", "prod")
    assert other.all() == []
    assert other.champion() is None


def test_dev_cannot_change_the_model_of_prod(prod: Environment) -> None:
    registry = Registry(Environment.load("dev", PROJECT, prod.folder), owner="prod")
    with pytest.raises(ForbiddenError, match=r"dev may read the model prod\.\w+, not change it"):
        registry.register("run", "source", VersionTags.of(OLD))
    with pytest.raises(ForbiddenError, match=r"dev may read the model prod\.\w+, not change it"):
        registry.reconcile()
    assert not (prod.folder / "data").exists()
