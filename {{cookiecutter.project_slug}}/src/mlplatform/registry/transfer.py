"""A model version's way from one environment to another: copied inside a store, or through a folder between two."""

import hashlib
import io
import json
import shutil
from contextlib import redirect_stderr
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from mlplatform.errors import UserError
from mlplatform.registry.store import Registry
from mlplatform.registry.tags import VersionTags

MANIFEST = "version.json"


class PromotionError(UserError):
    """The version cannot be promoted; the message says why and what can be done."""


def copy_version(origin: Registry, number: int, target: Registry, as_of: datetime) -> int:
    """Make the version one of `target` in the same MLflow store, or find it there. Returns its number."""
    target.reconcile()
    version = origin.version(number)
    record = _promoted(origin.tags(number), origin.owner, number, version.run_id, as_of)
    copied = target.find(record.identity)
    if copied is None:
        with redirect_stderr(io.StringIO()):  # MLflow tells what it does; so does the run
            copied = target.client.copy_model_version(f"models:/{origin.model}/{number}", target.model)
    if copied.tags.get("promoted_from") != origin.owner:
        for name, value in (tag for tag in record.as_tags().items() if tag not in copied.tags.items()):
            target.client.set_model_version_tag(target.model, str(copied.version), name, value)
    return int(copied.version)


def export_version(origin: Registry, number: int, folder: Path) -> None:
    """Write the version into a new folder: its model, its tags, and what its run holds."""
    version = origin.version(number)
    run = origin.client.get_run(version.run_id)
    folder.mkdir(parents=True)
    shutil.copytree(origin.files(number, "model"), folder / "model")
    shutil.copytree(origin.files(number), folder / "artifacts")
    manifest = {
        "env": origin.owner,
        "version": number,
        "run_id": version.run_id,
        "tags": dict(version.tags),
        "params": dict(run.data.params),
        "metrics": dict(run.data.metrics),
        "files": _digests(folder),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def import_version(folder: Path, source: str, target: Registry, as_of: datetime) -> int:
    """Make the exported version one of `target`, whose store is another, or find it there. Returns its number.

    Raises PromotionError where it comes from another environment than `source`, or is not what was exported.
    """
    if not (folder / MANIFEST).is_file():
        raise PromotionError(f"{folder} holds no exported version (no {MANIFEST})")
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if manifest["env"] != source:
        raise PromotionError(f"{folder} comes from {manifest['env']}: {target.owner} takes versions from {source} only")
    if manifest["files"] != _digests(folder):
        raise PromotionError(f"{folder} is not what {source} exported: its files have changed")
    target.reconcile()
    made = VersionTags.of(manifest["tags"])
    record = _promoted(made, manifest["env"], manifest["version"], manifest["run_id"], as_of)
    found = target.find(record.identity)
    return int(found.version) if found else _register(folder, manifest, target, record)


def _register(folder: Path, manifest: dict[str, Any], target: Registry, record: VersionTags) -> int:
    client = target.client
    run = client.create_run(target.experiment(), run_name=f"{record.as_of.isoformat()} from {manifest['env']}")
    for name, value in manifest["params"].items():
        client.log_param(run.info.run_id, name, value)
    for name, value in manifest["metrics"].items():
        client.log_metric(run.info.run_id, name, value)
    client.log_artifacts(run.info.run_id, str(folder / "artifacts"))
    client.log_artifacts(run.info.run_id, str(folder / "model"), "model")
    client.set_terminated(run.info.run_id)
    return target.register(run.info.run_id, f"{run.info.artifact_uri}/model", record)


def _promoted(made: VersionTags, source: str, version: int, run_id: str, as_of: datetime) -> VersionTags:
    """The record of a promoted version: it is judged on all that has come since its training rows."""
    held_out = replace(made.held_out, span=made.held_out.span._replace(end=as_of))
    return replace(made, held_out=held_out, promoted_from=source, promoted_version=version, promoted_run=run_id)


def _digests(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
