"""Deploy: carry the versions that wait through compliance, comparison and approval."""

from datetime import datetime

import pandas as pd

from mlplatform.environment import Environment, Run
from mlplatform.features.frames import labelled
from mlplatform.monitoring.notify import notify
from mlplatform.registry import approval, compliance
from mlplatform.registry.baseline import baseline_scores
from mlplatform.registry.comparison import Verdict, compare
from mlplatform.registry.scoring import scorer
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Transition
from mlplatform.storage import ops

BASELINE = "baseline"


def deploy(env: Environment, as_of: datetime) -> Run:
    """Decide on every request that waits at `as_of`. A refusal is a result, with its reasons, not an error."""
    registry = Registry(env)
    with env.run("deploy", as_of) as run:
        registry.reconcile()
        for request in registry.ledger.pending("Staging", as_of):
            check_compliance(env, registry, request, run)
        for request in registry.ledger.pending("Production", as_of):
            if approval.waits_for_a_person(registry, request.version):
                run.note(f"version {request.version} still waits for a person's approval")
            else:
                check_comparison(env, registry, request, run)
        approval.supersede(registry, as_of)
        return run


def check_compliance(env: Environment, registry: Registry, request: Transition, run: Run) -> None:
    reasons = compliance.violations(env, registry, request.version, run.as_of)
    if reasons:
        approval.refuse(registry, request, run.as_of, "compliance", "; ".join(reasons))
        run.note(f"version {request.version} refused by compliance: {'; '.join(reasons)}")
    else:
        approval.admit(registry, request, run.as_of, "compliance", "all checks passed")
        run.note(f"version {request.version} complies: Staging")


def check_comparison(env: Environment, registry: Registry, request: Transition, run: Run) -> None:
    """Compare with the champion, or with the baseline where there is none; then ask for approval."""
    champion = registry.ledger.champion(run.as_of)
    verdict = compare_versions(env, registry, request.version, champion, run.as_of)
    _record(env, registry, request, champion, verdict, run)
    against = f"version {champion}" if champion else BASELINE
    if not verdict.accepted:
        approval.refuse(registry, request, run.as_of, "comparison", f"against {against}: {verdict.reason}")
        run.note(f"version {request.version} refused against {against}: {verdict.reason}")
    elif registry.settings.approval == "automatic":
        approval.promote(registry, request, run.as_of, "automatic approval", f"against {against}: {verdict.reason}")
        run.note(f"version {request.version} promoted over {against}: {verdict.reason}")
    else:
        pack = approval.review_pack(registry, request.version, f"against {against}: {verdict.reason}")
        title = f"{registry.model} version {request.version} waits for approval"
        notify(title, [verdict.reason, f"{pack}/review.md"], env.config.monitoring.notify)
        run.note(f"version {request.version} waits for approval: {pack}/review.md")


def compare_versions(
    env: Environment, registry: Registry, challenger: int, champion: int | None, as_of: datetime
) -> Verdict:
    """Score the challenger's held-out window with both, on the same rows."""
    tags = registry.version(challenger).tags
    start, end = datetime.fromisoformat(tags["train_end"]), datetime.fromisoformat(tags["holdout_end"])
    window = labelled(env, as_of, start, end, env.config.training.fraction).arrow().to_pandas()
    if champion is None:
        fitted = pd.read_parquet(registry.files(challenger, "baseline.parquet"))
        theirs = baseline_scores(fitted, window, env.project.labels)
    else:
        theirs = scorer(registry, champion)(window)
    block = registry.settings.comparison.block
    return compare(
        window["label"].to_numpy(),
        scorer(registry, challenger)(window),
        theirs,
        ((window["prediction_time"] - pd.Timestamp(0)) // block).to_numpy(),
        metric=env.project.model.primary,
        settings=registry.settings.comparison,
    )


def _record(
    env: Environment, registry: Registry, request: Transition, champion: int | None, verdict: Verdict, run: Run
) -> None:
    tags = registry.version(request.version).tags
    row = {
        "model": registry.model,
        "challenger": request.version,
        "champion": str(champion) if champion else BASELINE,
        "window_start": datetime.fromisoformat(tags["train_end"]),
        "window_end": datetime.fromisoformat(tags["holdout_end"]),
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
    env.catalog.upsert(ops.COMPARISONS, ops.rows(ops.COMPARISONS, [row]), ops.KEYS[ops.COMPARISONS])
    run.wrote(ops.COMPARISONS, 1)
