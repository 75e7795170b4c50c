"""The record of a training in MLflow: the run, the logged model, and the registered version."""

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata, resources
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
import pandas as pd

from mlplatform.contract import Model, Project
from mlplatform.registry.scoring import WHOLE
from mlplatform.registry.store import Registry, told
from mlplatform.registry.tags import VersionTags
from mlplatform.training.data import TrainingData
from mlplatform.training.evaluation import Evaluation
from mlplatform.training.tuning import ModelError

_ALWAYS = ("mlflow", "scikit-learn", "pandas", "numpy", "skops")


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
    threshold: float | None = None


def record(registry: Registry, trained: Trained) -> int:
    """Log `trained` and register it as a version in stage None. Returns the version's number.

    Where another training has registered the same version meanwhile, that one's number, and this one is removed.
    """
    import mlflow

    client, tags = registry.client, _tags(registry, trained)
    marks = {**registry.claim(trained.identity), "mlflow.note.content": tags.summary}
    name = f"{trained.as_of:%Y-%m-%d %H:%M}"
    experiment, uri = registry.experiment(), client.tracking_uri
    with told(uri), mlflow.start_run(experiment_id=experiment, run_name=name, tags=marks) as run:
        mlflow.log_params(_parameters(trained))
        mlflow.log_metrics(trained.evaluation.metrics)
        mlflow.log_metrics({f"baseline_{metric}": value for metric, value in trained.evaluation.baseline.items()})
        mlflow.set_tags({"env": registry.owner, "as_of": trained.as_of.isoformat(), "code": registry.env.code})
        mlflow.log_dict(registry.env.config.as_dict(), "config.yml")
        _log_inputs(trained.data)
        with tempfile.TemporaryDirectory() as folder:
            _write_files(Path(folder), registry, trained)
            client.log_artifacts(run.info.run_id, folder)
        logged = _log_model(registry.env.project, trained)
        _log_trials(registry, run.info.run_id, trained)
    return registry.register(run.info.run_id, logged.model_uri, tags)


def _tags(registry: Registry, trained: Trained) -> VersionTags:
    data = trained.data
    return VersionTags(
        env=registry.owner,
        as_of=trained.as_of,
        identity=trained.identity,
        code=registry.env.code,
        config=registry.env.config.digest,
        data_digest=data.digest,
        data_versions=data.table_versions,
        feature_views=tuple(view.name for view in registry.env.project.views),
        parameters=trained.parameters,
        tuned=trained.trials is not None,
        trained_on=data.trained_on,
        held_out=data.held_out,
        sampled=data.sampled,
        summary=_summary(registry.env.project, trained),
        metrics=trained.evaluation.metrics,
        baseline=trained.evaluation.baseline,
        threshold=trained.threshold,
    )


def _summary(project: Project, trained: Trained) -> str:
    metric = project.model.primary.name
    ours, baseline = trained.evaluation.metrics[metric], trained.evaluation.baseline.get(metric, float("nan"))
    return (
        f"{project.card.description} Trained as of {trained.as_of:%Y-%m-%d} on {len(trained.data.train):,} rows; "
        f"held-out {metric} {ours:.4f}, baseline {baseline:.4f}. "
        f"It looks most at {', '.join(trained.evaluation.importance.index[:3])}."
    )


def _parameters(trained: Trained) -> dict[str, str]:
    """Every parameter of the fitted estimator and its parts, and those that were chosen, as short text."""
    parts: dict[str, Any] = getattr(trained.fitted, "get_params", dict)()
    plain = {name: value for name, value in parts.items() if not hasattr(value, "get_params")}
    return {name: str(value)[:500] for name, value in (plain | dict(trained.parameters)).items()}


def _log_trials(registry: Registry, parent: str, trained: Trained) -> None:
    """Each trial of the search as a run below the training's."""
    from mlflow.entities import Metric, Param

    if trained.trials is None:
        return
    client, metric = registry.client, registry.env.project.model.primary.name
    for trial in trained.trials.to_dict("records"):
        tags = {"mlflow.parentRunId": parent}
        run = client.create_run(registry.experiment(), tags=tags, run_name=f"trial {trial['number']}")
        given = {str(name): value for name, value in trial.items()}
        names = [name for name in given if name.startswith("params_")]
        parameters = [Param(name.removeprefix("params_"), str(given[name])) for name in names]
        failed = pd.isna(trial["value"])
        metrics = [] if failed else [Metric(f"folds_{metric}", trial["value"], run.info.start_time, 0)]
        client.log_batch(run.info.run_id, metrics, parameters)
        client.set_terminated(run.info.run_id, "FAILED" if failed else "FINISHED")


def _log_model(project: Project, trained: Trained) -> Any:
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    model, numeric = project.model, pd.api.types.is_numeric_dtype
    example = model.inputs(trained.data.holdout.head(5)).reset_index(drop=True)
    predict = "predict_proba" if project.labels.kind != "number" else "predict"
    answer = getattr(trained.fitted, predict, None) or trained.fitted.predict
    output = mlflow.models.infer_signature(example, answer(example)).outputs
    # Any number may be missing at prediction time; no category may: gaps have a name of their own.
    columns = [
        ColSpec("double" if numeric(kind) else "string", name, required=not numeric(kind))
        for name, kind in example.dtypes.items()
    ]
    found = _types(trained.fitted)
    if model.trusted_types and (missing := set(found) - set(model.trusted_types)):
        raise ModelError(f"Model.trusted_types lacks what the fitted model is made of: {', '.join(sorted(missing))}")
    return mlflow.sklearn.log_model(
        trained.fitted,
        name="model",
        signature=ModelSignature(Schema(columns), output),
        input_example=example,
        pip_requirements=_requirements(model, found),
        pyfunc_predict_fn=answer.__name__,
        serialization_format="skops",
        skops_trusted_types=found,
        metadata={WHOLE: [n for n, kind in trained.data.train.dtypes.items() if pd.api.types.is_integer_dtype(kind)]},
    )


def _types(fitted: Any) -> list[str]:
    """The types that the estimator is made of, by dotted name, besides those that skops always loads."""
    import skops.io

    try:
        return list(skops.io.get_untrusted_types(data=skops.io.dumps(fitted)))
    except Exception as error:
        raise ModelError(f"{type(fitted).__name__} cannot be saved (skops): {error}") from error


def _requirements(model: Model, types: Iterable[str]) -> list[str]:
    """What has to be installed where the model is loaded: what its types come from, or their modules import."""
    roots = {name for dotted in types for name in _imports(dotted.rpartition(".")[0], model)}
    installed = metadata.packages_distributions() if roots - {"sklearn", "numpy"} else {}
    found = {distribution for root in roots for distribution in installed.get(root, ())}
    names = dict.fromkeys((*_ALWAYS, *model.requirements, *sorted(found)))
    return [f"{name}=={metadata.version(name)}" for name in names]


def _imports(module: str, model: Model) -> Iterator[str]:
    """The top-level package of a module; of the owner's own, of what it imports."""
    owner = type(model).__module__.partition(".")[0]
    root = module.partition(".")[0]
    yield root
    for value in vars(sys.modules[module]).values() if root == owner and module in sys.modules else ():
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None) or ""
        yield name.partition(".")[0]


def _log_inputs(data: TrainingData) -> None:
    import mlflow
    from mlflow.data.delta_dataset_source import DeltaDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    for name, table in data.tables.items():
        kept = table.uri.removeprefix("uc://")  # a name in Unity Catalog, which shows what a model was made of
        where = {"path": table.uri} if kept == table.uri else {"delta_table_name": kept}
        source = DeltaDatasetSource(**where, delta_table_version=table.version)
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
        project=project,
        trained=trained,
        code=registry.env.code,
        split=registry.env.config.training.split,
        primary=project.model.primary.name,
    )
