"""The record of a training in MLflow: the run, the logged model, and the registered version."""

import json
import tempfile
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from mlplatform.contract import Model, Project
from mlplatform.registry.store import Registry
from mlplatform.training.data import TrainingData
from mlplatform.training.evaluation import Evaluation


@dataclass(frozen=True)
class Trained:
    """Everything about one fitted model that is worth keeping."""

    as_of: datetime
    identity: str
    fitted: Any
    parameters: Mapping[str, Any]
    trials: pd.DataFrame | None
    data: TrainingData
    evaluation: Evaluation


def record(registry: Registry, trained: Trained) -> int:
    """Log `trained` and register it as a version in stage None. Returns the version's number."""
    import mlflow

    client = registry.client
    name = f"{trained.as_of:%Y-%m-%d %H:%M}"
    with mlflow.start_run(experiment_id=registry.experiment(), run_name=name) as run:
        mlflow.log_params(dict(trained.parameters))
        mlflow.log_metrics(trained.evaluation.metrics)
        mlflow.log_metrics({f"baseline_{metric}": value for metric, value in trained.evaluation.baseline.items()})
        mlflow.set_tags({"env": registry.owner, "as_of": trained.as_of.isoformat(), "code": registry.env.code})
        mlflow.log_dict(registry.env.config.as_dict(), "config.yml")
        _log_inputs(trained.data)
        with _folder() as folder:
            _write_files(folder, registry, trained)
            client.log_artifacts(run.info.run_id, str(folder))
        logged = _log_model(registry.env.project, trained)
    tags = _tags(registry, trained)
    return registry.register(run.info.run_id, logged.model_uri, tags, tags["summary"])


def _tags(registry: Registry, trained: Trained) -> dict[str, str]:
    data = trained.data
    return {
        "env": registry.owner,
        "as_of": trained.as_of.isoformat(),
        "identity": trained.identity,
        "code": registry.env.code,
        "config": registry.env.config.digest,
        "data_digest": data.digest,
        "data_versions": json.dumps(data.table_versions),
        "feature_views": ",".join(view.name for view in registry.env.project.views),
        "parameters": json.dumps(dict(trained.parameters)),
        "tuned": str(trained.trials is not None).lower(),
        "train_start": data.windows.start.isoformat(),
        "train_end": data.windows.split.isoformat(),
        "holdout_end": data.windows.end.isoformat(),
        "summary": _summary(registry.env.project, trained),
        **{f"metric.{name}": f"{value:.6f}" for name, value in trained.evaluation.metrics.items()},
        **{f"baseline.{name}": f"{value:.6f}" for name, value in trained.evaluation.baseline.items()},
    }


def _summary(project: Project, trained: Trained) -> str:
    metric = project.model.primary.name
    ours, baseline = (measured[metric] for measured in (trained.evaluation.metrics, trained.evaluation.baseline))
    return (
        f"{project.card.description} Trained as of {trained.as_of:%Y-%m-%d} on {len(trained.data.train):,} rows; "
        f"held-out {metric} {ours:.4f}, baseline {baseline:.4f}. "
        f"It looks most at {', '.join(trained.evaluation.importance.index[:3])}."
    )


def _log_model(project: Project, trained: Trained) -> Any:
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    model, numeric = project.model, pd.api.types.is_numeric_dtype
    example = model.inputs(trained.data.holdout.head(5)).reset_index(drop=True)
    predict = "predict_proba" if project.labels.kind != "number" else "predict"
    answer = getattr(trained.fitted, predict, trained.fitted.predict)
    output = mlflow.models.infer_signature(example, answer(example)).outputs
    # Any number may be missing at prediction time; no category may: gaps have a name of their own.
    columns = [
        ColSpec("double" if numeric(kind) else "string", name, required=not numeric(kind))
        for name, kind in example.dtypes.items()
    ]
    return mlflow.sklearn.log_model(
        trained.fitted,
        name="model",
        signature=ModelSignature(Schema(columns), output),
        input_example=example,
        pip_requirements=_requirements(model),
        pyfunc_predict_fn=answer.__name__,
        serialization_format="skops",
        skops_trusted_types=list(model.trusted_types),
    )


def _requirements(model: Model) -> list[str]:
    from importlib.metadata import version

    names = ("mlflow", "scikit-learn", "pandas", "numpy", "skops", *model.requirements)
    return [f"{name}=={version(name)}" for name in names]


def _log_inputs(data: TrainingData) -> None:
    import mlflow
    from mlflow.data.delta_dataset_source import DeltaDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    for name, table in data.tables.items():
        source = DeltaDatasetSource(path=table.uri, delta_table_version=table.version)
        # In the name as well: MLflow leaves version 0 out of the source.
        mlflow.log_input(MetaDataset(source, name=f"{name}, version {table.version}"), context="training")


def _write_files(folder: Path, registry: Registry, trained: Trained) -> None:
    import matplotlib.pyplot as plt

    (folder / "slices.json").write_text(json.dumps(trained.evaluation.slices, indent=1), encoding="utf-8")
    (folder / "model_card.md").write_text(_card(registry, trained), encoding="utf-8")
    trained.evaluation.reference.to_parquet(folder / "reference.parquet", index=False)
    trained.evaluation.baseline_table.to_parquet(folder / "baseline.parquet", index=False)
    if trained.trials is not None:
        trained.trials.to_csv(folder / "trials.csv", index=False)
    for name, figure in trained.evaluation.figures.items():
        figure.savefig(folder / name, dpi=90)
        plt.close(figure)


def _card(registry: Registry, trained: Trained) -> str:
    text = resources.files(__package__).joinpath("model_card.md.j2").read_text(encoding="utf-8")
    project = registry.env.project
    template = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False).from_string(text)
    return template.render(
        name=registry.model,
        description=project.card.description,
        intended_use=project.card.intended_use,
        limits=project.card.limits,
        as_of=trained.as_of,
        code=registry.env.code,
        train_rows=len(trained.data.train),
        holdout_rows=len(trained.data.holdout),
        windows=trained.data.windows,
        table_versions=trained.data.table_versions,
        feature_views=[view.name for view in registry.env.project.views],
        evaluation=trained.evaluation,
        baseline=project.baseline.groups,
        primary=project.model.primary.name,
        parameters=trained.parameters,
        tuned=trained.trials is not None,
    )


@contextmanager
def _folder() -> Any:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
