"""Decisions keep their order, and what cannot be measured passes no gate."""

import json
from datetime import datetime, timedelta

import pytest

from mlplatform.environment import Environment
from mlplatform.pipelines.deploy import deploy
from mlplatform.registry import approval, compliance
from mlplatform.registry.approval import ApprovalError
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Decision, Transition

WEEK = timedelta(days=7)


@pytest.fixture
def decided_later(prod: Environment, now: datetime) -> Registry:
    """Version 1 asked for Production again at `now`; a week later somebody rolled it back to itself."""
    registry = Registry(prod)
    later = Decision(now + WEEK, "Ada", "to be sure")
    seat = Transition(registry.model, 1, "Production", "Production", *later)
    registry.ledger.record(seat.closed("approved", *later))
    return registry


@pytest.mark.parametrize("stage", ["Staging", "Production"])
def test_the_machine_does_not_date_a_decision_before_one_that_was_made(
    decided_later: Registry, now: datetime, stage: str
) -> None:
    waiting = Transition(decided_later.model, 1, "None", stage, now, "train", "asked for")  # type: ignore[arg-type]
    decided_later.ledger.record(waiting)
    before = decided_later.ledger.all()
    with pytest.raises(
        ApprovalError, match=rf"was last decided on as of {now + WEEK}: a decision cannot be dated {now}"
    ):
        deploy(decided_later.env, now)
    assert decided_later.ledger.all() == before
    deploy(decided_later.env, now + WEEK)  # at the same time or later it may


def test_nobody_else_does_either(decided_later: Registry, now: datetime) -> None:
    request = Transition(decided_later.model, 1, "Staging", "Production", now, "train", "asked for")
    early = Decision(now, "Ada", "I was there first")
    for act in (approval.approve, approval.reject):
        with pytest.raises(ApprovalError, match="cannot be dated"):
            act(decided_later, request, early)
    with pytest.raises(ApprovalError, match="cannot be dated"):
        approval.rollback(decided_later, early)


def test_a_slice_whose_metric_cannot_be_computed_does_not_comply(prod: Environment, now: datetime) -> None:
    registry = Registry(prod)
    assert compliance.violations(registry, 1, now) == []
    file = registry.files(1, "slices.json")
    rows = json.loads(file.read_text(encoding="utf-8"))
    (judged,) = (row for row in rows if row["value"] == "a")
    del judged["roc_auc"]  # as it is recorded where it is no finite number
    file.write_text(json.dumps(rows), encoding="utf-8")
    (reason,) = compliance.violations(registry, 1, now)
    assert reason.startswith(f"roc_auc of kind=a is nan on its {judged['rows']} rows")
