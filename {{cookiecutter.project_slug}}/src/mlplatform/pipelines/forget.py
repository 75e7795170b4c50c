"""Forget: delete what is known of a person or thing, wherever rows carry it, and name the models trained on it."""

import hashlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.util import find_spec
from typing import Any

import pandas as pd
import yaml

from mlplatform.environment import Environment, Run
from mlplatform.errors import UserError
from mlplatform.preparation.forgotten import (
    Doomed,
    Subject,
    count,
    doomed_rows,
    entities_of,
    forget_lines,
    in_other_columns,
    not_searched,
    redact,
    refuse_unknown,
)
from mlplatform.registry.forgotten import archive_versions, clean_artifacts
from mlplatform.registry.scoring import as_trained, whole_columns
from mlplatform.registry.store import Registry
from mlplatform.registry.tags import Sampled
from mlplatform.registry.transitions import Decision
from mlplatform.storage import ops
from mlplatform.storage.catalog import before, option, quoted
from mlplatform.training.data import parts


@dataclass(frozen=True)
class Affected:
    """A version: how many rows it was trained and judged on, whether features of other rows may have been computed from
    the subject's, and which of its files hold rows of it."""

    number: int
    stage: str
    trained: int
    judged: int
    through_features: bool
    files: list[str]
    inputs: pd.DataFrame = field(repr=False)

    def __str__(self) -> str:
        through = "; features of other rows may rest on it" * self.through_features
        kept = f"; kept in {', '.join(self.files)}" if self.files else ""
        seen = f"trained on {self.trained} rows, judged on {self.judged}"
        return f"version {self.number} ({self.stage}): {seen}{through}{kept}"


@dataclass(frozen=True)
class Found:
    """Where a subject is: rows by table (or page that quotes it), lines by landing file, versions; what will stay."""

    tables: dict[str, int]
    files: dict[str, int]
    versions: list[Affected]
    stays: list[str]

    def __bool__(self) -> bool:
        return bool(self.tables or self.files or any(version.files for version in self.versions))


def look(env: Environment, subject: Subject) -> Found:
    """What `forget` would delete; changes nothing. Raises GrowingError while a landing file is being written."""
    refuse_unknown(env, subject)
    doomed = doomed_rows(env, subject)
    tables = {name: rows for name, keys in doomed.items() if (rows := count(env, name, keys))}
    for name, rows in redact(env, subject, write=False).items():
        tables[name] = tables.get(name, 0) + rows
    files = forget_lines(env, subject, doomed, write=False)
    stays = [*in_other_columns(env, subject), *not_searched(env, subject), *_elsewhere(env)]
    return Found(tables, files, list(_versions(env, subject, doomed)), stays)


def forget(env: Environment, subject: Subject, as_of: datetime, *, by: str, reason: str, now: bool = False) -> Run:
    """Delete the subject, and leave an entry in `ops.forgotten` that does not hold it.

    Earlier versions of the tables hold it for `lakehouse.keep_versions`, until `maintain` deletes them; with `now` they
    are gone at once. Raises UserError without a name and a reason, and GrowingError.
    """
    if not by.strip() or not reason.strip():
        raise UserError("to forget needs a name (--by) and a reason (--reason)")
    refuse_unknown(env, subject)
    with env.run("forget", as_of) as run:
        request = _begun(env, subject) or _begin(env, subject, as_of, by, reason)
        if request:
            _forget(env, subject, request, run)
        _drop_history(env, run, now)
        if not run.written and not run.notes:
            run.note(f"nothing here is about this {subject.columns}")
        return run


def _drop_history(env: Environment, run: Run, now: bool) -> None:
    """Delete, with `now`, earlier versions of the tables from which something was forgotten; else say when they go."""
    if not env.catalog.exists(ops.FORGOTTEN):
        return
    for row in [row for row in env.catalog.read(ops.FORGOTTEN).to_pylist() if row["history_until"]]:
        if not now:
            run.note(f"request {row['request']}: `maintain` deletes files that hold it from {row['history_until']} on")
            continue
        for name in {*json.loads(row["tables"]), ops.RUNS, ops.ALERTS} & set(env.catalog.names()):
            env.catalog.compact(name, timedelta(0))
        _write(env, row | {"status": "history deleted", "history_until": None})
        run.note(f"request {row['request']}: old files are gone")
    # While a request is under way its entry bears a mark of the values.
    env.catalog.compact(ops.FORGOTTEN, timedelta(0))


def _forget(env: Environment, subject: Subject, request: dict[str, Any], run: Run) -> None:
    """Every step can be repeated; what a step needs to find its rows is deleted after it."""
    registry, doomed = Registry(env), doomed_rows(env, subject)
    for version in _versions(env, subject, doomed):
        clean_artifacts(registry, version.number, subject, version.inputs, write=True)
        run.note(f"{registry.model} {version}")
    _answer(env, registry, request, run)
    for name, lines in forget_lines(env, subject, doomed, write=True).items():
        run.wrote(f"landing {name}", lines)
    for name, keys in doomed.items():
        if rows := count(env, name, keys):
            env.catalog.remove(name, keys)
            run.wrote(name, rows)
    for name, rows in redact(env, subject, write=True).items():
        run.wrote(name, rows)
    registry.reconcile()
    until = ops.now() + env.config.lakehouse.keep_versions
    _write(env, request | {"status": "rows deleted", "mark": "", "history_until": until})
    run.notes.extend([*in_other_columns(env, subject), *not_searched(env, subject), *_elsewhere(env)])


def _answer(env: Environment, registry: Registry, request: dict[str, Any], run: Run) -> None:
    """Mark the versions that were trained on the rows, archive them if the settings say so, and ask for a training."""
    trained = {int(number): rows for number, rows in json.loads(request["versions"]).items()}
    if not trained:
        return
    for number, rows in trained.items():
        registry.client.set_model_version_tag(
            registry.model, str(number), "forgotten", f"{rows} rows it was trained on"
        )
    if registry.settings.forget == "archive":
        decision = Decision(
            run.as_of, request["requested_by"], f"trained on rows that are forgotten: {request['reason']}"
        )
        run.notes.extend(archive_versions(registry, list(trained), decision))
    numbers = ", ".join(map(str, trained))
    alert = {
        "rule": "forget",
        "column": request["columns"],
        "slice": request["request"],
        "window_end": request["as_of"],
        "value": float(sum(trained.values())),
        "threshold": 0.0,
        "raised_at": request["as_of"],
        "action": "retrain",
        "message": f"rows that versions {numbers} were trained on are forgotten",
    }
    env.catalog.upsert(ops.ALERTS, ops.rows(ops.ALERTS, [alert]), ops.KEYS[ops.ALERTS])
    mode = env.config.pipelines.retraining.mode
    how = "`retrain` will train" if mode == "triggered" else f"pipelines.retraining.mode is {mode}: run `train`"
    run.note(f"a training without them is asked for: {how}")


def _versions(env: Environment, subject: Subject, doomed: Doomed) -> Iterator[Affected]:
    """The versions that have seen the subject: its rows are among their labelled rows, or in their files."""
    registry, project = Registry(env), env.project
    about, known = entities_of(env, subject), list(_known_between(env, doomed))
    reach = max((view.ttl + view.lookback for view in project.views), default=timedelta())
    for version in registry.versions():
        number, tags = int(version.version), registry.tags(int(version.version))
        frames = [pd.DataFrame(), pd.DataFrame()]
        if about is not None and about.num_rows:
            sampled = tags.sampled or _sampled(registry, number)
            found = parts(env, tags.as_of, tags.trained_on, tags.held_out, sampled, about)
            frames = [rows.to_pandas() for rows in found]
        seen = pd.concat(frames)
        whole = whole_columns(registry.files(number, "model")) if len(seen) else None
        inputs = as_trained(project.model.inputs, seen, whole) if len(seen) else pd.DataFrame()
        rests = any(first <= tags.as_of and last >= before(tags.trained_on.start, reach) for first, last in known)
        files = clean_artifacts(registry, number, subject, inputs, write=False)
        if len(seen) or rests or files:
            yield Affected(number, registry.ledger.stage(number), len(frames[0]), len(frames[1]), rests, files, inputs)


def _sampled(registry: Registry, number: int) -> Sampled:
    """What an earlier release has sampled, whose versions say so in their settings alone."""
    settings = yaml.safe_load(registry.files(number, "config.yml").read_text(encoding="utf-8"))
    share = float(settings["training"].get("fraction", 1.0))
    return Sampled(share, share, 0)


def _known_between(env: Environment, doomed: Doomed) -> Iterator[tuple[datetime, datetime]]:
    """For each Silver table, when its rows about the subject first were known, and when the last of them happened."""
    for name, keys in doomed.items():
        if name.startswith("silver."):
            sql = (
                f"SELECT min(available_at) AS first, max(event_timestamp) AS last FROM {name} "
                f"SEMI JOIN given.keys USING ({', '.join(map(quoted, keys.column_names))})"
            )
            row = env.engine.query(sql, given={"given.keys": keys}).arrow().to_pylist()[0]
            if row["first"] is not None:
                yield row["first"], row["last"]


def _begin(env: Environment, subject: Subject, as_of: datetime, by: str, reason: str) -> dict[str, Any] | None:
    """The entry of a new request; None where there is nothing to forget."""
    found = look(env, subject)
    if not found:
        return None
    salt = uuid.uuid4().hex
    request = {
        "request": uuid.uuid4().hex[:12],
        "as_of": as_of,
        "columns": subject.columns,
        "tables": json.dumps(found.tables),
        "files": len(found.files),
        "versions": json.dumps({version.number: version.trained for version in found.versions if version.trained}),
        "requested_by": by,
        "reason": reason,
        "status": "begun",
        "mark": f"{salt}:{_mark(salt, subject)}",
        "history_until": None,
    }
    _write(env, request)
    return request


def _begun(env: Environment, subject: Subject) -> dict[str, Any] | None:
    """The entry of a request for this subject that was begun and not ended."""
    for row in env.catalog.read(ops.FORGOTTEN).to_pylist():
        salt, _, mark = row["mark"].partition(":")
        if row["status"] == "begun" and mark == _mark(salt, subject):
            return dict(row)
    return None


def _mark(salt: str, subject: Subject) -> str:
    text = json.dumps([salt, sorted(subject.values.items())])
    return hashlib.sha256(text.encode()).hexdigest()


def _write(env: Environment, request: dict[str, Any]) -> None:
    rows = ops.rows(ops.FORGOTTEN, [request | {"recorded_at": ops.now()}])
    env.catalog.upsert(ops.FORGOTTEN, rows, ops.KEYS[ops.FORGOTTEN])


def _elsewhere(env: Environment) -> Iterator[str]:
    """Where else it may be: beside the tables, and in environments that read them and have versions of their own."""
    if find_spec("mlplatform.serving"):
        yield "online features are not searched: run `materialize --backfill`, which publishes them anew"
    if unsearched := option("mlplatform.serving.requests:unsearched"):
        yield from unsearched(env)
    if find_spec("mlplatform.streaming"):
        yield "events are deleted here, not where the stream reads them from"
    for sink in env.config.pipelines.inference.sinks:
        yield f"predictions that went to {sink.to} (pipelines.inference.sinks) are deleted there by whoever keeps it"
    for name in ("dev", "staging", "prod"):
        if name != env.name and env.config_of(name).lakehouse.features_from == env.name:
            yield f"{name} reads these tables: forget there, too, and first, while its versions can be told by them"
