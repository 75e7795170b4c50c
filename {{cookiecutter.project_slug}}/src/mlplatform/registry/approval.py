"""The approval gate: promotion, refusal and rollback, by a rule or by a named person."""

from datetime import datetime
from pathlib import Path

from mlplatform.errors import UserError
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Stage, Transition
from mlplatform.storage import ops


class ApprovalError(UserError):
    """The transition cannot be made; the message says why and what can be done."""


def promote(registry: Registry, request: Transition, as_of: datetime, by: str, reason: str) -> None:
    """Put the requested version into Production and archive the champion before it, in one transaction."""
    moves = [request.closed("approved", as_of, by, reason)]
    champion = registry.ledger.champion(as_of)
    if champion is not None and champion != request.version:
        replaced = f"replaced by version {request.version}"
        moves.append(_move(registry, champion, "Production", "Archived", as_of, by, replaced))
    registry.ledger.record(*moves)
    registry.reconcile()


def admit(registry: Registry, request: Transition, as_of: datetime, by: str, reason: str) -> None:
    """Let the version into Staging and request Production, in one transaction."""
    follow = Transition(registry.model, request.version, "Staging", "Production", as_of, by, reason)
    registry.ledger.record(request.closed("approved", as_of, by, reason), follow)
    registry.reconcile()


def supersede(registry: Registry, as_of: datetime) -> None:
    """Of the winners that wait for Production keep the newest: a person decides about one."""
    waiting = registry.ledger.pending("Production", as_of)
    for request in waiting[:-1]:
        refuse(registry, request, as_of, "deploy", f"superseded by version {waiting[-1].version}")


def refuse(registry: Registry, request: Transition, as_of: datetime, by: str, reason: str) -> None:
    """Close the request as rejected and archive the version."""
    archived = _move(registry, request.version, request.from_stage, "Archived", as_of, by, reason)
    registry.ledger.record(request.closed("rejected", as_of, by, reason), archived)
    registry.reconcile()


def decide(registry: Registry, number: int, *, approve: bool, by: str, reason: str, as_of: datetime) -> None:
    """A person's answer to a waiting request for Production.

    Raises ApprovalError where nothing waits, where the comparison has not accepted the version, or where the
    answer lacks a name or a reason.
    """
    if not by.strip() or not reason.strip():
        raise ApprovalError("an approval or rejection needs a name (--by) and a reason (--reason)")
    _refuse_backdating(registry, as_of)
    waiting = [t for t in registry.ledger.pending("Production", as_of) if t.version == number]
    if not waiting:
        raise ApprovalError(f"{registry.model} version {number} waits for no approval (see `registry show`)")
    if not approve:
        refuse(registry, waiting[0], as_of, by, reason)
        return
    if not won_comparison(registry, number):
        raise ApprovalError(f"{registry.model} version {number} has not won its comparison yet: run `deploy` first")
    promote(registry, waiting[0], as_of, by, reason)


def rollback(registry: Registry, as_of: datetime, by: str, reason: str) -> int:
    """Put the champion before the present one back into Production. Returns its number; raises ApprovalError."""
    if not by.strip() or not reason.strip():
        raise ApprovalError("a rollback needs a name (--by) and a reason (--reason)")
    _refuse_backdating(registry, as_of)
    previous = registry.ledger.previous_champion()
    if previous is None:
        raise ApprovalError(f"{registry.model} has no earlier champion to go back to")
    stage = registry.ledger.stage(previous)
    request = Transition(registry.model, previous, stage, "Production", as_of, by, reason)
    promote(registry, request, as_of, by, f"rollback: {reason}")
    return previous


def won_comparison(registry: Registry, number: int) -> bool:
    """Whether a comparison has accepted the version."""
    compared = registry.env.catalog.read(ops.COMPARISONS, ["model", "challenger", "accepted"]).to_pylist()
    return {"model": registry.model, "challenger": number, "accepted": True} in compared


def waits_for_a_person(registry: Registry, number: int) -> bool:
    """Whether all is done that a person needs to decide: the comparison is won and the review pack is there."""
    pack = review_pack_of(registry, number) / "review.md"
    return registry.settings.approval == "manual" and won_comparison(registry, number) and pack.exists()


def review_pack(registry: Registry, number: int, comparison: str) -> Path:
    """Gather what a person needs to decide: the comparison, the model card, slices and plots. Returns its folder."""
    folder = review_pack_of(registry, number)
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(name for name in registry.artifact_names(number) if Path(name).suffix in {".md", ".png", ".json"})
    for name in names:
        (folder / name).write_bytes(registry.files(number, name).read_bytes())
    command = f".venv/bin/python -m {registry.env.project.package} registry"
    pictures = "\n\n".join(f"![{name}]({name})" for name in names if name.endswith(".png"))
    (folder / "review.md").write_text(
        f"# {registry.model} version {number} asks for Production\n\n{registry.version(number).tags['summary']}\n\n"
        f"Comparison: {comparison}\n\n"
        "Read the [model card](model_card.md) and [the slices](slices.json), then answer:\n\n"
        f"    {command} approve {number} --env {registry.owner} --by NAME --reason WHY\n"
        f"    {command} reject {number} --env {registry.owner} --by NAME --reason WHY\n\n{pictures}\n",
        encoding="utf-8",
    )
    return folder


def review_pack_of(registry: Registry, number: int) -> Path:
    """The folder of the version's review pack, which exists once it has won its comparison."""
    return registry.env.reports / "review" / f"{registry.model}-v{number}"


def _refuse_backdating(registry: Registry, as_of: datetime) -> None:
    """Raise ApprovalError for a decision dated before one that has been made: it would rewrite what happened."""
    newest = max((t.closed_at for t in registry.ledger.all() if t.closed_at), default=None)
    if newest and as_of < newest:
        raise ApprovalError(f"{registry.model} was last decided on as of {newest}: a decision cannot be dated {as_of}")


def _move(
    registry: Registry, number: int, source: Stage, target: Stage, as_of: datetime, by: str, reason: str
) -> Transition:
    return Transition(registry.model, number, source, target, as_of, by, reason).closed("approved", as_of, by, reason)
