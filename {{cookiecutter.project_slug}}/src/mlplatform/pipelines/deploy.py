"""Deploy: carry the versions that wait through compliance, comparison and approval."""

from datetime import datetime, timedelta

from mlplatform.environment import Environment, Run
from mlplatform.monitoring.notify import notify
from mlplatform.registry import approval, compliance
from mlplatform.registry.comparison import BASELINE, compare_versions, record
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Decision, Transition
from mlplatform.storage.catalog import option


def deploy(env: Environment, as_of: datetime) -> Run:
    """Decide on every request that waits at `as_of`. A rejection is a result, with its reasons, not an error.

    Raises ApprovalError where a decision would be dated before one that has been made.
    """
    registry = Registry(env)
    with env.run("deploy", as_of) as run:
        registry.reconcile()
        for request in registry.ledger.pending("Staging", as_of):
            check_compliance(registry, request, run)
        for request in registry.ledger.pending("Production", as_of):
            if approval.waits_for_a_person(registry, request.version):
                if _rollout(registry, request, run) is not None:
                    ask(registry, request, run, since=approval.won_at(registry, request.version))
            else:
                check_comparison(registry, request, run)
        approval.reject_older(registry, as_of)
        return run


def check_compliance(registry: Registry, request: Transition, run: Run) -> None:
    reasons = "; ".join(compliance.violations(registry, request.version, run.as_of))
    if reasons:
        approval.reject(registry, request, Decision(run.as_of, "compliance", reasons))
        run.note(f"version {request.version} rejected by compliance: {reasons}")
    else:
        approval.approve(registry, request, Decision(run.as_of, "compliance", "all checks passed"))
        run.note(f"version {request.version} complies: Staging")


def check_comparison(registry: Registry, request: Transition, run: Run) -> None:
    """Compare with the champion, or with the baseline where there is none; then ask for approval."""
    champion = registry.ledger.champion(run.as_of)
    verdict = compare_versions(registry, request.version, champion, run.as_of)
    held_out = registry.tags(request.version).held_out.span
    record(registry, request.version, str(champion or BASELINE), verdict, held_out, run)
    against = f"version {champion}" if champion else BASELINE
    reason = f"against {against}: {verdict.reason}"
    if not verdict.accepted:
        approval.reject(registry, request, Decision(run.as_of, "comparison", reason))
        run.note(f"version {request.version} rejected {reason}")
        return
    shown = _rollout(registry, request, run) if champion else ""
    if shown is None:
        return
    reason += shown
    if registry.settings.approval == "automatic":
        approval.approve(registry, request, Decision(run.as_of, "automatic approval", reason))
        run.note(f"version {request.version} promoted over {against}: {verdict.reason}")
    else:
        ask(registry, request, run)


def ask(registry: Registry, request: Transition, run: Run, since: datetime | None = None) -> None:
    """Gather the review pack, and tell people, unless a run that reached its end has done so `since` it was won."""
    number, env = request.version, registry.env
    pack, last = approval.review_pack(registry, number), env.last_finished("deploy", run.as_of + timedelta.resolution)
    if since and last and last >= since:
        run.note(f"version {number} still waits for a person's approval")
        return
    if services := env.config.monitoring.notify:  # else the note says it
        title, told = f"{registry.model} version {number} waits for approval", approval.shown(registry, number)
        failures = notify(title, [told, f"{pack}/review.md"], services)
        run.notes.extend(f"not delivered: {failure}" for failure in failures)
    run.note(f"version {number} waits for approval: {pack}/review.md")


def _rollout(registry: Registry, request: Transition, run: Run) -> str | None:
    """What a rollout adds to the reason; None where it is not won, or not yet: see `registry.rollout.look`."""
    look = option("mlplatform.registry.rollout:look")
    told: str | None = look(registry, request, run) if look else ""
    return told
