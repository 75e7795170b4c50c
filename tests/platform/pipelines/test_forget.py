"""The right to be forgotten: no byte of the value is left, every other row is, and it does not come back."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from mlflow import MlflowClient
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from polars.testing import assert_frame_equal

from mlplatform.environment import Environment
from mlplatform.errors import ForbiddenError, StorageError, UserError
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.forget import forget, look
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.ingest import ingest
from mlplatform.pipelines.maintain import maintain
from mlplatform.pipelines.monitor import monitor
from mlplatform.pipelines.retrain import due
from mlplatform.pipelines.train import train
from mlplatform.preparation.forgotten import Subject, subject_of
from mlplatform.registry import approval
from mlplatform.registry.compliance import violations
from mlplatform.registry.scoring import input_example
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Decision, Transition
from mlplatform.storage import landing, ops
from mlplatform.storage.delta import DeltaCatalog
from mlplatform.storage.landing import NAME_FORMAT, GrowingError
from steps import Killed, Mortal, Writer, files, forbidden, overlay, read
from tiny.deliveries import land

LoadEnv = Callable[..., Environment]
Duplicate = Callable[[Path, Path], Path]
DAY = timedelta(days=1)
# Version 1 was trained on the first; the second has been scored.
TRAINED, SCORED = "item-000123", "item-000735"
SUBJECT = Subject({"item_id": TRAINED})
WHO: Any = {"by": "data protection", "reason": "request 4711"}


@pytest.fixture(scope="module")
def later(now: datetime) -> datetime:
    return now + 2 * DAY


@pytest.fixture(scope="module")
def full(
    world: Path,
    tmp_path_factory: pytest.TempPathFactory,
    load_env: LoadEnv,
    duplicate: Duplicate,
    later: datetime,
) -> Path:
    """`world` two days later, with the item in every place where it may be: tables, refused lines, texts, pages."""
    project = duplicate(world, tmp_path_factory.mktemp("full") / "project")
    overlay(project, "lenient", {"lakehouse": {"max_refused_share": 0.5}})
    env = load_env("prod", project, "lenient")
    land(env.landing, later)
    for number, item in enumerate((TRAINED, SCORED)):
        rows = [
            "item_id,kind,amount,published_at",
            f"{item},a,50.0,2025-03-16T06:00:00Z",  # known already
            f"{item},nowhere,50.0,2025-03-16T06:00:00Z",  # against the contract
            f"too,short,{item}",
            f"item-90000{number},a,1.0,2025-03-16T06:00:00Z",
        ]
        name = f"{later - (number + 1) * timedelta(hours=1):{NAME_FORMAT}}.csv"
        (env.landing / "items" / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
        # Without a header: the first line is quoted as the reason why all are refused.
        headless = f"{item},a,50.0,2025-03-16T06:00:00Z\nitem-900002,b,1.0,2025-01-13T06:00:00Z\n"
        (env.landing / "outcomes" / name).write_text(headless, encoding="utf-8")
    ingest(env, later)
    featurize(env, later)
    infer(env, later, again=True)
    monitor(env, later)
    with pytest.raises(ZeroDivisionError), env.run("monitor", later):
        raise ZeroDivisionError(f"more than one row (2) for item_id {TRAINED}, item_id {SCORED}")
    (env.reports / "dashboard.html").write_text(f"<p>{TRAINED} {SCORED}</p>", encoding="utf-8")
    return project


@pytest.fixture
def env(full: Path, tmp_path: Path, load_env: LoadEnv, duplicate: Duplicate) -> Environment:
    return load_env("prod", duplicate(full, tmp_path / "project"), "lenient")


def holding(folder: Path, value: str) -> list[str]:
    """The files below a folder in which the value is, unpacked where they are packed."""
    return [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (value in path.name or value.encode() in _unpacked(path))
    ]


def _unpacked(path: Path) -> bytes:
    raw = path.read_bytes()
    if path.suffix == ".parquet":
        return raw + str(pl.read_parquet(path).to_dicts()).encode()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            return raw + b"".join(packed.read(name) for name in packed.namelist())
    return raw


def frames(env: Environment) -> dict[str, pl.DataFrame]:
    return {name: read(env, name) for name in env.catalog.names() if name != ops.RUNS}


def tags(env: Environment) -> list[dict[str, str]]:
    return [{"description": version.description, **version.tags} for version in Registry(env).versions()]


def without(rows: pl.DataFrame, item: str) -> pl.DataFrame:
    """A table as it should be once the item is forgotten: texts that only quote it stay, and say so."""
    ours = [name for name in ("item_id", "raw") if name in rows.columns]
    rows = rows.filter(~pl.any_horizontal(pl.lit(False), *(pl.col(name).str.contains(item) for name in ours)))
    return rows.with_columns(pl.col(pl.String).str.replace_all(item, "[forgotten]"))


@pytest.mark.parametrize("item", [TRAINED, SCORED])
def test_no_byte_of_the_value_is_left_and_every_other_row_is(env: Environment, later: datetime, item: str) -> None:
    before = frames(env)
    held = holding(env.folder / "data", item)
    places = ("prod/bronze", "prod/quarantine", "prod/silver", "prod/ops", "landing", "prod/dashboard.html")
    for place in (*places, *["prod/predictions"] * (item == SCORED)):
        assert any(name.startswith(place) for name in held), place
    assert any("_delta_log" in name for name in held)

    run = forget(env, Subject({"item_id": item}), later, **WHO, now=True)

    assert holding(env.folder / "data", item) == []
    assert "old files are gone" in run.notes[-1]
    after = frames(env)
    assert after.keys() - before.keys() <= {ops.FORGOTTEN, ops.ALERTS}
    for name, rows in before.items():
        found = after[name].filter(pl.col("rule") != "forget") if name == ops.ALERTS else after[name]
        assert_frame_equal(found, without(rows, item), check_row_order=False)


def test_what_is_forgotten_does_not_come_back(env: Environment, later: datetime) -> None:
    forget(env, SUBJECT, later, **WHO, now=True)
    before = frames(env)

    run = ingest(env, later + DAY)
    featurize(env, later + DAY, backfill=True)
    infer(env, later + DAY, again=True)

    assert run.notes == [f"nothing new in {env.landing}"]
    assert holding(env.folder / "data", TRAINED) == []
    for name in [name for name in before if name.startswith(("bronze.", "silver.", "quarantine."))]:
        assert_frame_equal(read(env, name), before[name])


def test_a_rewritten_file_landed_when_it_did(env: Environment, later: datetime) -> None:
    paths = sorted((env.landing / "items").glob("*.csv"))
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}
    forget(env, SUBJECT, later, **WHO)
    rewritten = [path for path in paths if path.read_bytes() != before[path][1]]
    assert rewritten
    assert [path.stat().st_mtime_ns for path in rewritten] == [before[path][0] for path in rewritten]


def test_rows_that_a_source_adds_to_a_rewritten_file_are_read(env: Environment, later: datetime) -> None:
    forget(env, SUBJECT, later, **WHO)
    path = env.landing / "items" / f"{later - timedelta(hours=1):{NAME_FORMAT}}.csv"
    with path.open("a", encoding="utf-8") as file:
        file.write("item-900009,a,1.0,2025-03-16T06:00:00Z\n")
    ingest(env, later + DAY)
    assert "item-900009" in read(env, "silver.items")["item_id"]


def test_a_dry_run_lists_what_is_affected_and_changes_nothing(env: Environment) -> None:
    folders = [env.folder / "data" / name for name in ("prod", "landing")]
    before = [files(folder) for folder in folders]
    found = look(env, SUBJECT)
    assert [files(folder) for folder in folders] == before
    assert found.tables["silver.items"] == found.tables["silver.outcomes"] == 1
    # As delivered, once again, and against the contract; a line that is too short, and the file without a header.
    assert (found.tables["bronze.items"], found.tables["quarantine.items"]) == (3, 3)
    assert found.tables["ops.runs"] == found.tables["dashboard.html"] == 1
    assert sorted(found.files.values()) == [1, 1, 1, 3]
    (version,) = found.versions
    assert (version.number, version.stage, version.trained, version.judged) == (1, "Production", 1, 0)


def test_a_row_that_came_after_a_version_names_it_not(env: Environment) -> None:
    assert look(env, Subject({"item_id": SCORED})).versions == []


def test_several_columns_mean_the_rows_with_all_of_the_values(env: Environment) -> None:
    kind = read(env, "silver.items").filter(pl.col("item_id") == TRAINED)["kind"][0]
    other = next(name for name in "abc" if name != kind)
    assert look(env, Subject({"item_id": TRAINED, "kind": kind})).tables["silver.items"] == 1
    assert "silver.items" not in look(env, Subject({"item_id": TRAINED, "kind": other})).tables


def test_slices_and_the_baseline_that_quote_a_value_are_found(env: Environment) -> None:
    found = look(env, Subject({"kind": "a"}))
    assert ops.METRICS in found.tables
    assert {"baseline.parquet", "reference.parquet"} <= {*found.versions[0].files}


def test_a_value_is_taken_out_of_a_file_that_writes_it_otherwise_also_from_lines_that_came_later(
    blank: Path, load_env: LoadEnv, later: datetime
) -> None:
    env, head = load_env("prod", blank), "item_id,kind,amount,published_at\n"
    lines = [f"item-{n:06d},a,{amount},2025-03-01T06:00:00Z\n" for n, amount in enumerate(("50.00", "1.0", "50.00"))]
    path = env.landing / "items" / f"{later:{NAME_FORMAT}}.csv"
    path.parent.mkdir(parents=True)
    for end in (2, 3):
        path.write_text(head + "".join(lines[:end]), encoding="utf-8")
        ingest(env, later)
    assert read(env, "silver.items").height == 3
    forget(env, Subject({"amount": "50.0"}), later, **WHO)
    assert path.read_text(encoding="utf-8") == head + lines[1]


def test_a_value_of_a_column_that_is_no_key_takes_the_rows_of_its_entities(env: Environment, later: datetime) -> None:
    amount = str(read(env, "silver.items").filter(pl.col("item_id") == SCORED)["amount"][0])
    same = set(read(env, "silver.items").filter(pl.col("amount").cast(pl.String) == amount)["item_id"])
    forget(env, Subject({"amount": f"0{amount}0"}), later, **WHO)  # as another source may write the number
    assert not same & set(read(env, "silver.items")["item_id"])
    assert not same & set(read(env, "predictions.tiny")["item_id"])
    assert same <= set(read(env, "silver.outcomes")["item_id"]), "outcomes have no amount: they are about the item"


def test_samples_and_examples_of_versions_lose_the_rows(env: Environment, later: datetime) -> None:
    registry = Registry(env)
    sample = pd.read_parquet(registry.files(1, "reference.parquet"))
    example = input_example(registry.files(1, "model"))
    assert example is not None
    items = read(env, "silver.items")
    held_out = items.filter(pl.col("available_at") > later - 16 * DAY).sort("available_at")
    shown = held_out.filter(pl.col("amount") == example["amount"][0])["item_id"][0]

    assert any("input_example.json" in name for name in look(env, Subject({"item_id": shown})).versions[0].files)
    forget(env, Subject({"item_id": shown}), later, **WHO)
    forget(env, SUBJECT, later, **WHO)

    left = input_example(registry.files(1, "model"))
    assert left is not None
    assert left["amount"].tolist() == example["amount"].tolist()[1:]
    assert str(example["amount"][0]) not in (registry.files(1, "model") / "serving_input_example.json").read_text()
    assert len(pd.read_parquet(registry.files(1, "reference.parquet"))) == len(sample) - 1
    assert violations(registry, 1, later) == []


def test_the_audit_entry_says_who_and_why_and_not_the_value(env: Environment, later: datetime) -> None:
    forget(env, SUBJECT, later, **WHO, now=True)
    (entry,) = read(env, ops.FORGOTTEN).to_dicts()
    assert entry["columns"] == "item_id"
    assert (entry["requested_by"], entry["reason"], entry["as_of"]) == (
        "data protection",
        "request 4711",
        later,
    )
    assert json.loads(entry["tables"])["silver.items"] == 1
    assert json.loads(entry["versions"]) == {"1": 1}
    assert (entry["status"], entry["mark"], entry["history_until"]) == ("history deleted", "", None)
    kept = pl.read_parquet(env.folder / "data" / "prod" / "ops" / "forgotten" / "*.parquet")
    assert kept["mark"].to_list() == [""], "a mark of the value tells who guesses it that it was there"
    with pytest.raises(UserError, match="--by"):
        forget(env, SUBJECT, later, by=" ", reason="because")


def test_old_files_go_when_their_time_has_come(env: Environment, later: datetime, load_env: LoadEnv) -> None:
    run = forget(env, SUBJECT, later, **WHO)
    assert any("`maintain` deletes files that hold it from" in note for note in run.notes)
    maintain(env, later)
    kept = holding(env.folder / "data", TRAINED)
    assert kept
    assert all(name.startswith("prod/") for name in kept), "only tables have a history"
    overlay(env.folder, "at-once", {"lakehouse": {"keep_versions": "0s"}})
    maintain(load_env("prod", env.folder, "lenient", "at-once"), later)
    assert holding(env.folder / "data", TRAINED) == []


def test_a_second_call_deletes_the_history_that_the_first_one_left(env: Environment, later: datetime) -> None:
    forget(env, SUBJECT, later, **WHO)
    assert forget(env, SUBJECT, later, **WHO, now=True).notes[-1].endswith("old files are gone")
    assert holding(env.folder / "data", TRAINED) == []


def test_versions_are_archived_where_the_settings_say_so(env: Environment, later: datetime, load_env: LoadEnv) -> None:
    overlay(env.folder, "strict", {"registry": {"forget": "archive"}})
    env = load_env("prod", env.folder, "lenient", "strict")
    train(env, later)
    registry = Registry(env)
    request = Transition(registry.model, 2, "None", "Production", later, "a person", "newer")
    approval.approve(registry, request, Decision(later, "a person", "newer"))
    old = Subject({"item_id": "item-000005"})  # older than what version 2 learns from
    assert [(v.number, bool(v.trained)) for v in look(env, old).versions if v.trained] == [(1, True)]
    begin, items = registry.tags(2).trained_on.start, read(env, "silver.items")
    near = items.filter(pl.col("available_at").is_between(begin - 3 * DAY, begin - DAY))["item_id"][0]
    found = {v.number: (v.trained, v.through_features) for v in look(env, Subject({"item_id": near})).versions}
    assert found[2] == (0, True), "features of a week were computed from it"

    forget(env, old, later, **WHO)
    assert (registry.ledger.stage(1), registry.ledger.champion(later)) == ("Archived", 2)
    with pytest.raises(approval.ApprovalError, match="trained on rows that are forgotten"):
        approval.rollback(registry, Decision(later, "a person", "back"))

    run = forget(env, Subject({"item_id": "item-000300"}), later + DAY, **WHO)
    assert registry.ledger.champion(later) == 2
    assert registry.ledger.champion(later + DAY) is None
    assert any("it was the champion" in note for note in run.notes)
    assert "champion" not in registry.client.get_registered_model(registry.model).aliases


def test_versions_are_only_listed_by_default_and_a_training_is_asked_for(
    env: Environment, later: datetime, load_env: LoadEnv
) -> None:
    overlay(env.folder, "triggered", {"pipelines": {"retraining": {"mode": "triggered", "cooldown": "0d"}}})
    env = load_env("prod", env.folder, "lenient", "triggered")
    assert due(env, later) == ""
    run = forget(env, SUBJECT, later, **WHO)
    registry = Registry(env)
    assert registry.ledger.champion(later) == 1
    assert registry.version(1).tags["forgotten"] == "1 rows it was trained on"
    assert any("version 1 (Production): trained on 1 rows" in note for note in run.notes)
    assert due(env, later) == "alert forget: rows that versions 1 were trained on are forgotten"
    train(env, later)
    assert due(env, later + DAY) == ""
    assert [version.number for version in look(env, SUBJECT).versions] == []


def test_killed_anywhere_and_run_again_it_ends_the_same(
    full: Path, tmp_path: Path, load_env: LoadEnv, duplicate: Duplicate, later: datetime, stride: int
) -> None:
    overlay(full, "strict", {"registry": {"forget": "archive"}})
    writers: list[Writer] = [
        *((DeltaCatalog, name) for name in ("append", "replace", "upsert", "remove", "compact")),
        (LocalArtifactRepository, "log_artifact"),
        (MlflowClient, "set_model_version_tag"),
        (landing, "put"),
    ]

    def run(project: Path) -> Environment:
        env = load_env("prod", project, "lenient", "strict")
        forget(env, SUBJECT, later, **WHO, now=True)
        return env

    expected = run(duplicate(full, tmp_path / "whole"))
    tables, models = frames(expected), tags(expected)
    for survives in count(0, 2 * stride - 1):
        project = duplicate(full, tmp_path / f"killed-{survives}")
        with pytest.MonkeyPatch.context() as patch:
            mortal = Mortal(patch, survives, writers)
            try:
                run(project)
            except Killed:
                pass
            else:
                break
        reborn = run(project)
        assert holding(project / "data", TRAINED) == [], mortal.cause
        assert tags(reborn) == models, mortal.cause
        for name, rows in frames(reborn).items():
            random = ["request", "recorded_at", *["slice"] * (name == ops.ALERTS)]
            ours, theirs = (frame.drop(random, strict=False) for frame in (rows, tables[name]))
            assert_frame_equal(ours, theirs, check_row_order=False)
    assert survives > 15


def test_only_its_own_environment_is_written(env: Environment, later: datetime, load_env: LoadEnv) -> None:
    dev = load_env("dev", env.folder, "lenient")
    dev.catalog.append("predictions.tiny", pl.DataFrame(env.catalog.read("predictions.tiny")).to_arrow())
    before = files(env.folder / "data" / "prod") | files(env.landing)
    assert any("dev reads these tables" in line for line in look(env, SUBJECT).stays)

    forget(dev, Subject({"item_id": SCORED}), later, **WHO, now=True)

    assert files(env.folder / "data" / "prod") | files(env.landing) == before
    assert SCORED not in read(dev, "predictions.tiny")["item_id"]
    with pytest.raises(ForbiddenError):
        dev.sources.remove("silver.items", SUBJECT.row(pa.schema({"item_id": pa.string()})))
    with pytest.raises(ForbiddenError):
        dev.sources.compact("silver.items", DAY)


def test_a_file_that_is_still_written_is_left_alone(env: Environment, later: datetime) -> None:
    path = env.landing / "items" / "20990101T000000Z.csv"
    path.write_text(f"item_id,kind,amount,published_at\n{TRAINED},a,1.0,2025-03-16T06:00:00Z\nitem-", encoding="utf-8")
    with pytest.raises(GrowingError, match=r"items/20990101T000000Z\.csv"):
        forget(env, SUBJECT, later, **WHO)
    old = path.stat().st_mtime - 3600
    os.utime(path, (old, old))
    forget(env, SUBJECT, later, **WHO)
    assert path.read_text(encoding="utf-8") == "item_id,kind,amount,published_at\nitem-"


def test_what_stays_is_named(env: Environment) -> None:
    (env.landing / "items" / "notes.txt").write_text(f"about {TRAINED}", encoding="utf-8")
    (env.landing / "items" / f"{TRAINED}.csv").write_text("item_id,kind,amount,published_at\n", encoding="utf-8")
    other = [line for line in look(env, Subject({"kind": TRAINED})).stays if "item_id" in line]
    told = "{}: {} rows hold a value in item_id: forget it there, too, if they are about it"
    assert {told.format("silver.items", 1), told.format("bronze.items", 3)} < set(other)
    stays = look(env, SUBJECT).stays
    assert not any("hold a value in" in line for line in stays)
    assert any("notes.txt: no delivery, and holds the value" in line for line in stays)
    assert any(f"{TRAINED}.csv: its name holds a value" in line for line in stays)
    shutil.rmtree(env.landing / "outcomes")
    for file in (env.landing / "items").glob("*.csv"):
        file.unlink()
    with forbidden(env.landing, files=0), pytest.raises(StorageError, match=r"notes\.txt: .* forbid it\."):
        look(env, SUBJECT)


def test_what_is_nowhere_is_said(env: Environment, later: datetime) -> None:
    assert not look(env, Subject({"item_id": "item-777777"}))
    assert forget(env, Subject({"item_id": "item-777777"}), later, **WHO).notes == [
        "nothing here is about this item_id"
    ]


@pytest.mark.parametrize("text", ["item_id", "item_id=", "=5"])
def test_what_is_no_column_and_value_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="<column>=<value>"):
        subject_of([text])
    with pytest.raises(UserError, match="item_id: a row has one value of it"):
        subject_of(["item_id=1", "kind=a", "item_id=2"])


def test_texts_are_searched_for_whole_words() -> None:
    subject = Subject({"item_id": "I-1"})
    assert subject.is_in("too,I-1,short")
    assert not subject.is_in("too,I-12,short")
    assert Subject({"name": "O'Brien \\ é"}).is_in(str({"name": "O'Brien \\ é"}))
    assert Subject({"name": 'é "hi"'}).is_in('1,"é ""hi""",short')
    assert Subject({"name": 'é "hi"'}).is_in('{"name": "é \\"hi\\"", "n": 1')
    refused = str({"item_id": "12", "amount": "500", "note": None})
    assert not Subject({"item_id": "500"}).is_in(refused), "the row of another one"
    assert Subject({"amount": "500"}).is_in(refused)
    assert Subject({"name": "500"}).is_in(refused), "no column of the row: in any"
    assert subject_of(["a=b=c"]).values == {"a": "b=c"}
    assert Subject({"kind": "a"}).redacted("a slice kind=a, kind a and a word") == (
        "a slice kind=[forgotten], kind [forgotten] and a word"
    )
