"""Deploy: carry the versions that wait through compliance, comparison and approval."""

from datetime import datetime
from typing import Any

from mlplatform.environment import Environment, Run
from mlplatform.monitoring.notify import notify
from mlplatform.registry import approval, compliance
from mlplatform.registry.comparison import BASELINE, Verdict, compare_versions
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Decision, Transition
from mlplatform.storage import ops
from mlplatform.storage.catalog import Span, load


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
                _look_at_rollout(registry, request.version, run)
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
    held_out = registry.tags(request.version).held_out.span
    _record(registry, request.version, str(champion or BASELINE), verdict, held_out, run)
    against = f"version {champion}" if champion else BASELINE
    reason = f"against {against}: {verdict.reason}"
    if not verdict.accepted:
        approval.reject(registry, request, Decision(run.as_of, "comparison", reason))
        run.note(f"version {request.version} rejected {reason}")
        return
    if champion and registry.env.config.serving.rollout.decides:
        shown = _rollout_won(registry, request, run)
        if not shown:
            return
        reason = f"{reason}; in its rollout: {shown}"
    if registry.settings.approval == "automatic":
        approval.approve(registry, request, Decision(run.as_of, "automatic approval", reason))
        run.note(f"version {request.version} promoted over {against}: {verdict.reason}")
    else:
        pack = approval.review_pack(registry, request.version, reason)
        title = f"{registry.model} version {request.version} waits for approval"
        if services := registry.env.config.monitoring.notify:  # else the note says it
            notify(title, [verdict.reason, f"{pack}/review.md"], services)
        run.note(f"version {request.version} waits for approval: {pack}/review.md")


def _rollout_won(registry: Registry, request: Transition, run: Run) -> str:
    """By what the version has won its rollout. Nothing while that lasts, or where it has lost and is rejected."""
    shown, fallen = _look_at_rollout(registry, request.version, run)
    over = shown is not None and shown.over
    if fallen or (over and not shown.verdict.accepted):
        reason = f"in its rollout: {fallen or shown.verdict.reason}"
        approval.reject(registry, request, Decision(run.as_of, "rollout", reason))
        run.note(f"version {request.version} rejected {reason}")
        return ""
    if not over:
        so_far = shown.verdict.reason if shown else "it has answered nothing yet"
        run.note(f"version {request.version} waits for its rollout: {so_far}")
        return ""
    return str(shown.verdict.reason)


def _look_at_rollout(registry: Registry, challenger: int, run: Run) -> tuple[Any, str]:
    """What the rollout has shown (`registry.rollout.Shown`), which is recorded; and why it has ended early."""
    mode, champion = registry.env.config.serving.rollout.mode, registry.ledger.champion(run.as_of)
    if mode == "none" or champion is None:
        return None, ""
    # Only where the prompt `inference` asked for it.
    compare_rollout, fallen = (
        load({mode: f"mlplatform.registry.rollout:{name}"}, mode, "serving.rollout.mode")
        for name in ("compare_rollout", "fallen")
    )
    shown = compare_rollout(registry, challenger, champion, run.as_of)
    if shown:
        _record(registry, challenger, f"{champion} ({mode})", shown.verdict, shown.span, run)
    return shown, fallen(registry, challenger)


def _record(registry: Registry, challenger: int, champion: str, verdict: Verdict, span: Span, run: Run) -> None:
    row = {
        "model": registry.model,
        "challenger": challenger,
        "champion": champion,
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
