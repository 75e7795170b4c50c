"""Train: fit a model on what was known at a time, evaluate it, register it, and ask for Staging."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mlplatform.environment import Environment, Run
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Transition
from mlplatform.training import data, evaluation, tuning
from mlplatform.training.record import Trained, record


def train(
    env: Environment, as_of: datetime, *, reason: str = "asked for", progress: tuning.Progress | None = None
) -> Run:
    """Train the model of `env` as of `as_of` and request its move to Staging.

    The same data, code and settings make the same version: it is looked for before it is made.
    """
    registry = Registry(env)
    with env.run("train", as_of) as run:
        rows = data.load(env, as_of)
        run.notes.extend(rows.notes)
        tunes = env.config.training.tuning.enabled
        parameters = None if tunes else inherited_parameters(env, as_of)
        identity = _identity(env, as_of, rows, parameters)
        version = registry.find(identity)
        if version is None:
            number = record(registry, _fitted(env, as_of, rows, identity, parameters, progress))
            run.wrote(registry.model, 1)
        else:
            number = int(version.version)
        request_staging(registry, number, as_of, reason)
        run.note(f"{registry.model} version {number}: {registry.tags(number).summary}")
        return run


def _fitted(
    env: Environment,
    as_of: datetime,
    rows: data.TrainingData,
    identity: str,
    parameters: Mapping[str, Any] | None,
    progress: tuning.Progress | None,
) -> Trained:
    model, settings, classes = env.project.model, env.config.training, env.project.labels.kind != "number"
    trials = None
    if parameters is None:
        share = settings.tuning.fraction
        some = rows.train.sample(frac=share, random_state=0).sort_index() if share < 1 else rows.train
        parts = tuning.folds(model, some, settings, classes)
        parameters, trials = tuning.search(model, some, parts, settings.tuning, progress)
    fitted = tuning.fit(model, parameters, rows.train)
    threshold = None
    if model.decision is not None:
        parts = tuning.folds(model, rows.train, settings, classes)
        threshold = tuning.threshold(model, parameters, rows.train, parts)
    measured = evaluation.evaluate(env.project, fitted, rows.train, rows.holdout, threshold)
    return Trained(as_of, identity, fitted, parameters, trials, rows, measured, threshold)


def inherited_parameters(env: Environment, as_of: datetime) -> Mapping[str, Any]:
    """The hyperparameters of the newest model tuned by `as_of` where searches run, or else the model's own."""
    tuned = Registry(env, env.config.training.tuned_in).newest_tuned(as_of)
    return json.loads(tuned.tags["parameters"]) if tuned else env.project.model.defaults


def request_staging(registry: Registry, number: int, as_of: datetime, reason: str, by: str = "train") -> None:
    """Ask for the version's move to Staging, once, and let MLflow say so."""
    if not any(t.version == number and t.to_stage == "Staging" for t in registry.ledger.all()):
        registry.ledger.record(Transition(registry.model, number, "None", "Staging", as_of, by, reason))
    registry.reconcile()


def _identity(env: Environment, as_of: datetime, rows: data.TrainingData, parameters: Mapping[str, Any] | None) -> str:
    """What makes two trainings the same; a search (no parameters yet) is determined by the data and settings."""
    given = json.dumps(dict(parameters), sort_keys=True) if parameters else "search"
    parts = [as_of.isoformat(), rows.digest, env.code, env.config.digest, given]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
