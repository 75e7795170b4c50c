"""Deploy: carry the versions that wait through compliance, comparison and approval."""

from datetime import datetime

from mlplatform.environment import Environment, Run
from mlplatform.monitoring.notify import notify
from mlplatform.registry import approval, compliance
from mlplatform.registry.comparison import BASELINE, Verdict, compare_versions
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Decision, Transition
from mlplatform.storage import ops


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
                run.note(f"version {request.version} still waits for a person's approval")
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
    _record(registry, request.version, champion, verdict, run)
    against = f"version {champion}" if champion else BASELINE
    reason = f"against {against}: {verdict.reason}"
    if not verdict.accepted:
        approval.reject(registry, request, Decision(run.as_of, "comparison", reason))
        run.note(f"version {request.version} rejected {reason}")
    elif registry.settings.approval == "automatic":
        approval.approve(registry, request, Decision(run.as_of, "automatic approval", reason))
        run.note(f"version {request.version} promoted over {against}: {verdict.reason}")
    else:
        pack = approval.review_pack(registry, request.version, reason)
        title = f"{registry.model} version {request.version} waits for approval"
        if services := registry.env.config.monitoring.notify:  # else the note says it
            notify(title, [verdict.reason, f"{pack}/review.md"], services)
        run.note(f"version {request.version} waits for approval: {pack}/review.md")


def _record(registry: Registry, challenger: int, champion: int | None, verdict: Verdict, run: Run) -> None:
    span = registry.tags(challenger).held_out.span
    row = {
        "model": registry.model,
        "challenger": challenger,
        "champion": str(champion) if champion else BASELINE,
        "window_start": span.start,
        "window_end": span.end,
        "metric": verdict.metric,
        "challenger_score": verdict.challenger,
        "champion_score": verdict.champion,
        "difference": verdict.difference,
        "low": verdict.low,
        "high": verdict.high,
        "margin": verdict.margin,
        "accepted": verdict.accepted,
        "reason": verdict.reason,
        "as_of": run.as_of,
    }
    registry.env.catalog.upsert(ops.COMPARISONS, ops.rows(ops.COMPARISONS, [row]), ops.KEYS[ops.COMPARISONS])
    run.wrote(ops.COMPARISONS, 1)
