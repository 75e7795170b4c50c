"""What versions keep of rows that are forgotten, which is taken from them, and what becomes of the versions."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from mlplatform.preparation.forgotten import Subject
from mlplatform.registry.approval import archive
from mlplatform.registry.scoring import input_example
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Decision

SAMPLES = ("reference.parquet", "baseline.parquet")
_EXAMPLES = ("input_example.json", "serving_input_example.json")


def clean_artifacts(
    registry: Registry, number: int, subject: Subject, inputs: pd.DataFrame, *, write: bool
) -> list[str]:
    """The files of a version that hold the subject; with `write` they are stored without it.

    `inputs` are the model's inputs of the rows that the version has seen of it: rows like them go from samples.
    """
    names, found = registry.artifact_names(number), []
    for name in [name for name in names if name in SAMPLES]:
        path = registry.files(number, name)
        rows = pd.read_parquet(path)
        if (goes := _alike(rows, subject, inputs)).any():
            found.append(name)
            if write:
                _store(registry, number, name, rows[~goes].to_parquet(index=False))
    for name in sorted(name for name in names if name.endswith((".md", ".json", ".csv"))):
        text = registry.files(number, name).read_text(encoding="utf-8")
        if (clean := subject.redacted(text)) != text:
            found.append(name)
            if write:
                _store(registry, number, name, clean.encode())
    return sorted(found) + _clean_example(registry, number, subject, inputs, write=write)


def _clean_example(
    registry: Registry, number: int, subject: Subject, inputs: pd.DataFrame, *, write: bool
) -> list[str]:
    """The same for the input example of the logged model. Where no row of it stays, rows of the sample stand in."""
    folder = registry.files(number, "model")
    example = input_example(folder)
    if example is None or not (goes := _alike(example, subject, inputs)).any():
        return []
    kept = example[~goes]
    if kept.empty:
        sample = pd.read_parquet(registry.files(number, "reference.parquet"))
        kept = sample.loc[~_alike(sample, subject, inputs), list(example.columns)].head(len(example))
    found = [name for name in _EXAMPLES if (folder / name).is_file()]
    for name in found if write else ():
        stored = json.loads((folder / name).read_text(encoding="utf-8"))
        split = stored.get("dataframe_split", stored)
        split |= {key: value for key, value in json.loads(kept.to_json(orient="split")).items() if key in split}
        _store(registry, number, name, json.dumps(stored).encode(), of_model=True)
    return [f"model/{name}" for name in found]


def archive_versions(registry: Registry, numbers: list[int], decision: Decision) -> Iterator[str]:
    """Move versions to Archived that are not there yet, the champion included; says what it did."""
    for number in numbers:
        stage = registry.ledger.stage(number)
        if stage != "Archived":
            archive(registry, number, decision)
            yield f"version {number} is archived" + (
                ": it was the champion, nothing is scored until another is approved (see the runbook)"
                if stage == "Production"
                else ""
            )


def _alike(rows: pd.DataFrame, subject: Subject, inputs: pd.DataFrame) -> pd.Series:
    """Which rows are about the subject: by its columns, or since they are the same as one of `inputs`."""
    same = pd.Series(False, index=rows.index)
    if subject.named_in(list(rows.columns)):
        same |= pd.Series(
            [all(str(row[n]) == v for n, v in subject.values.items()) for row in rows.to_dict("records")], rows.index
        )
    common = [name for name in inputs.columns if name in rows.columns]
    if len(inputs) and len(common) == len(inputs.columns):
        same |= _texts(rows[common]).isin(set(_texts(inputs[common])))
    return same


def _texts(rows: pd.DataFrame) -> pd.Series:
    """Each row as one text; sums may differ in their last bits."""
    columns = [
        rows[name].map(lambda value: f"{value:.9g}" if isinstance(value, float) else str(value)) for name in rows
    ]
    return pd.Series(["|".join(values) for values in zip(*columns, strict=True)], rows.index, dtype=str)


def _store(registry: Registry, number: int, name: str, content: bytes, *, of_model: bool = False) -> None:
    """Put a file in the place of one of the version's."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    here = registry.folder(number, of_model=of_model)
    store = here.as_uri() if here else registry.address(number, of_model=of_model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        get_artifact_repository(store).log_artifact(str(path))  # the client's own way keeps to the store it first saw
