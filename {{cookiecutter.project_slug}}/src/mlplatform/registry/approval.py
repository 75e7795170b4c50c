"""The approval gate: a rule or a named person approves or rejects requests, and rolls a promotion back."""

from datetime import datetime
from pathlib import Path
from typing import Any

from mlplatform.errors import UserError
from mlplatform.registry.comparison import BASELINE, comparisons
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Answer, Decision, Stage, Transition
from mlplatform.storage.catalog import option


class ApprovalError(UserError):
    """The transition cannot be made; the message says why and what can be done."""


def approve(registry: Registry, request: Transition, decision: Decision) -> None:
    """Let the version into the stage that it asks for, in one transaction with what follows from it.

    From Staging on it asks for Production; where it comes into Production, the champion before it is archived.
    Raises ApprovalError where the decision is dated before one that has been made.
    """
    moves = [request.closed("approved", *decision)]
    champion = registry.ledger.champion(decision.as_of)
    if request.to_stage == "Staging":
        moves.append(Transition(registry.model, request.version, "Staging", "Production", *decision))
    elif champion is not None and champion != request.version:
        replaced = decision._replace(reason=f"replaced by version {request.version}")
        moves.append(_archived(registry, champion, "Production", replaced))
    _write(registry, decision.as_of, *moves)


def reject(registry: Registry, request: Transition, decision: Decision) -> None:
    """Close the request as rejected and archive the version. Raises ApprovalError as `approve` does."""
    archived = _archived(registry, request.version, request.from_stage, decision)
    _write(registry, decision.as_of, request.closed("rejected", *decision), archived)


def archive(registry: Registry, number: int, decision: Decision) -> None:
    """Archive a version in whatever stage it is, and close what it asks for. Raises ApprovalError as `approve` does."""
    asked = [
        t.closed("rejected", *decision) for t in registry.ledger.all() if (t.version, t.status) == (number, "pending")
    ]
    archived = _archived(registry, number, registry.ledger.stage(number), decision)
    _write(registry, decision.as_of, *asked, archived)


def reject_older(registry: Registry, as_of: datetime) -> None:
    """Of the winners that wait for Production keep the newest: a person decides about one."""
    waiting = registry.ledger.pending("Production", as_of)
    for request in waiting[:-1]:
        reject(registry, request, Decision(as_of, "deploy", f"superseded by version {waiting[-1].version}"))


def decide(registry: Registry, number: int, answer: Answer, decision: Decision) -> None:
    """A person's answer to a waiting request for Production.

    Raises ApprovalError where nothing waits, where the comparison has not accepted the version, where the answer lacks
    a name or a reason, or where it is dated before another one.
    """
    _require_name(decision, "an approval or rejection")
    _refuse_backdating(registry, decision.as_of)
    waiting = [t for t in registry.ledger.pending("Production", decision.as_of) if t.version == number]
    if not waiting:
        raise ApprovalError(f"{registry.model} version {number} waits for no approval (see `registry show`)")
    if answer == "approved" and won_at(registry, number) is None:
        raise ApprovalError(f"{registry.model} version {number} has not won its comparison yet: run `deploy` first")
    (approve if answer == "approved" else reject)(registry, waiting[0], decision)


def rollback(registry: Registry, decision: Decision) -> int:
    """Put the champion before the present one back into Production. Returns its number; raises ApprovalError."""
    _require_name(decision, "a rollback")
    _refuse_backdating(registry, decision.as_of)
    previous = registry.ledger.previous_champion()
    if previous is None:
        raise ApprovalError(f"{registry.model} has no earlier champion to go back to")
    _refuse_forgotten(registry, previous)
    request = Transition(registry.model, previous, registry.ledger.stage(previous), "Production", *decision)
    approve(registry, request, decision._replace(reason=f"rollback: {decision.reason}"))
    return previous


def won_at(registry: Registry, number: int) -> datetime | None:
    """When a comparison first accepted the version: that of a rollout, where the settings let one decide."""
    decides = option("mlplatform.registry.rollout:decides")
    by_rollout = bool(decides and decides(registry))
    won = [row["as_of"] for row in _of(registry, number) if row["accepted"] and (row["rollout"] or not by_rollout)]
    return min(won, default=None)


def waits_for_a_person(registry: Registry, number: int) -> bool:
    """Whether a person has to decide: the comparison is won, and no rule does."""
    return registry.settings.approval == "manual" and won_at(registry, number) is not None


def review_pack(registry: Registry, number: int) -> Path:
    """Gather, unless that is done, what a person needs to decide: comparison, card, slices and plots. Its folder."""
    folder = registry.env.reports / "review" / f"{registry.model}-v{number}"
    if (folder / "review.md").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(name for name in registry.artifact_names(number) if Path(name).suffix in {".md", ".png", ".json"})
    for name in names:
        (folder / name).write_bytes(registry.files(number, name).read_bytes())
    command = f".venv/bin/python -m {registry.env.project.package} registry"
    pictures = "\n\n".join(f"![{name}]({name})" for name in names if name.endswith(".png"))
    (folder / "review.md").write_text(
        f"# {registry.model} version {number} asks for Production\n\n{registry.tags(number).summary}\n\n"
        f"Comparison: {shown(registry, number)}\n\n"
        "Read the [model card](model_card.md) and [the slices](slices.json), then answer:\n\n"
        f"    {command} approve {number} --env {registry.owner} --by NAME --reason WHY\n"
        f"    {command} reject {number} --env {registry.owner} --by NAME --reason WHY\n\n{pictures}\n",
        encoding="utf-8",
    )
    return folder


def shown(registry: Registry, number: int) -> str:
    """What the comparisons have shown that the version won: with the champion or baseline, and in its rollout."""
    newest = {bool(row["rollout"]): row for row in _of(registry, number)}
    against = newest[False]["champion"]
    told = f"against {against if against == BASELINE else f'version {against}'}: {newest[False]['reason']}"
    return told + (f"; in its rollout: {newest[True]['reason']}" if True in newest else "")


def _of(registry: Registry, number: int) -> list[dict[str, Any]]:
    """The version's comparisons, oldest first."""
    mine = [row for row in comparisons(registry) if (row["model"], row["challenger"]) == (registry.model, number)]
    return sorted(mine, key=lambda row: row["as_of"])


def _write(registry: Registry, as_of: datetime, *moves: Transition) -> None:
    """Record what is decided, in one transaction, and let MLflow say so."""
    _refuse_backdating(registry, as_of)
    registry.ledger.record(*moves)
    registry.reconcile()


def _require_name(decision: Decision, what: str) -> None:
    if not decision.by.strip() or not decision.reason.strip():
        raise ApprovalError(f"{what} needs a name (--by) and a reason (--reason)")


def _refuse_backdating(registry: Registry, as_of: datetime) -> None:
    """Raise ApprovalError for a decision dated before one that has been made: it would rewrite what happened."""
    newest = max((t.closed_at for t in registry.ledger.all() if t.closed_at), default=None)
    if newest and as_of < newest:
        raise ApprovalError(f"{registry.model} was last decided on as of {newest}: a decision cannot be dated {as_of}")


def _refuse_forgotten(registry: Registry, number: int) -> None:
    """Raise ApprovalError for a version whose training rows are forgotten, where such versions are archived."""
    if registry.settings.forget == "archive" and "forgotten" in registry.version(number).tags:
        raise ApprovalError(
            f"{registry.model} version {number} was trained on rows that are forgotten (registry.forget): train anew"
        )


def _archived(registry: Registry, number: int, stage: Stage, decision: Decision) -> Transition:
    return Transition(registry.model, number, stage, "Archived", *decision).closed("approved", *decision)
