"""What a mistake is answered with: the cause as it was found, where it is, and what to do; once, and whole."""

import os
import shutil
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from copies import Copy, make
from mlplatform.cli import main
from mlplatform.environment import Environment
from mlplatform.errors import ConfigError
from mlplatform.storage.unity import session
from steps import advance
from tiny.deliveries import land

AS_OF = ("--env", "prod", "--as-of", "2025-03-15")
Say = Callable[..., str]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    """A copy of the tiny project as the working directory, where any code may run, on a narrow screen."""
    monkeypatch.syspath_prepend(tmp_path / "src")
    made = make(tmp_path)
    made.edit("conf/prod.yml", "root: data/prod", "root: data/prod\npipelines:\n  released_code_only: false")
    monkeypatch.chdir(tmp_path)
    for name in ("ENV", "AS_OF"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    return made


@pytest.fixture
def say(copy: Copy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """say(words): what the command prints where it succeeds, and the message with which it is refused."""

    def say(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["tiny", *words])
        for name in [name for name in sys.modules if name.startswith(copy.package.name)]:
            del sys.modules[name]  # each command is a process that reads the files anew
        with pytest.raises(SystemExit) as end:
            main(copy.load)
        output = capsys.readouterr()
        assert end.value.code in (0, 1), output.err
        assert not (end.value.code and output.out), "a message and results"
        return output.err.strip() if end.value.code else output.out

    return say


@pytest.fixture(scope="module")
def weeks(tmp_path_factory: pytest.TempPathFactory, load_env: Callable[..., Environment]) -> Path:
    """Ten weeks of items in prod's Silver and features."""
    folder = make(tmp_path_factory.mktemp("weeks")).folder
    advance(load_env("prod", folder), datetime(2025, 3, 15))
    return folder / "data"


@pytest.fixture
def prepared(copy: Copy, weeks: Path) -> Copy:
    """The copy, with these tables."""
    shutil.copytree(weeks, copy.folder / "data")
    return copy


def test_pipelines_out_of_order_are_told_which_comes_first(copy: Copy, say: Say) -> None:
    first = "prod has no silver.outcomes yet: run `ingest --env prod`, which reads data/landing/outcomes/"
    assert say("train", *AS_OF) == first
    assert f"s: {first}" in say("status", *AS_OF)
    assert say("featurize", *AS_OF) == first
    items = "prod has no silver.items yet: run `ingest --env prod`, which reads data/landing/items/"
    assert say("monitor", *AS_OF) == items
    land(copy.folder / "data" / "landing", datetime(2025, 3, 15))
    say("ingest", *AS_OF)
    assert say("train", *AS_OF) == "prod has no features.kind_history yet: run `featurize --env prod`"


def test_dev_is_told_whose_tables_it_reads(say: Say) -> None:
    assert say("train", "--as-of", "2025-03-15") == (
        "prod has no silver.outcomes yet: run `ingest --env prod`, which reads data/landing/outcomes/ "
        "(dev reads prod's: lakehouse.features_from in conf/dev.yml)"
    )


def test_a_misspelt_table_is_told_with_the_one_that_was_meant(say: Say) -> None:
    def asked(table: str) -> str:
        return say("sql", f"select * from {table}", "--env", "prod")

    assert asked("silver.itms") == "there is no table silver.itms (did you mean 'silver.items'?)"
    assert asked("ops.run") == "there is no table ops.run (did you mean 'ops.runs'?)"
    assert asked("predictions.tniy") == "there is no table predictions.tniy (did you mean 'predictions.tiny'?)"
    assert "there is no table slver.items (did you mean 'silver'?)" in asked("slver.items")
    assert "there is no table items: a table is <schema>.<table>, such as silver.items" in asked("items")
    assert asked("quarantine.items") == "prod has no quarantine.items yet: `ingest` has refused no row of it"
    assert asked("ops.alerts") == "prod has no ops.alerts yet: nothing has been recorded in it"
    assert asked("predictions.tiny") == (
        "prod has no predictions.tiny yet: run `infer --env prod`, once there is a champion"
    )


def test_tables_that_could_be_meant_are_listed_once(prepared: Copy, say: Say) -> None:
    assert say("sql", "select * from ops.nothing", "--env", "prod").count("silver.items") == 1


@pytest.mark.parametrize("lacks", [("databricks.connect", "pyspark.sql"), ("databricks.connect",)], ids=len)
def test_databricks_without_its_packages_is_told_where_it_works(
    monkeypatch: pytest.MonkeyPatch, lacks: tuple[str, ...]
) -> None:
    """Plain pyspark, where it is installed, would start a Spark of its own on this machine."""
    for package in lacks:
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match="works in a job there, or with Databricks Connect"):
        session()


def test_databricks_connect_is_asked_for_its_session_once_and_tells_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[Any] = [Exception("Cluster id or serverless are required but were not specified."), "a session"]

    def answer() -> Any:
        said = answers.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    there = SimpleNamespace(builder=SimpleNamespace(getOrCreate=answer))
    monkeypatch.setitem(sys.modules, "databricks.connect", SimpleNamespace(DatabricksSession=there))
    with pytest.raises(ConfigError, match=r"From your machine\): Cluster id or serverless are required"):
        session()
    try:
        assert [session(), session()] == ["a session", "a session"], "each time it would ask the workspace"
    finally:
        session.cache_clear()


def test_a_holdout_longer_than_the_data_is_told(prepared: Copy, say: Say) -> None:
    prepared.edit("conf/base.yml", "holdout: 30d", "holdout: 90d")
    assert say("train", *AS_OF) == (
        "0 labelled rows to train on and 716 held out, and training.min_rows is 100. 716 are known as of "
        "2025-03-15 00:00:00, with prediction times from 2025-01-01 00:00:00 to 2025-03-13 19:12:00; training.holdout "
        "holds out all after 2024-12-15 00:00:00, so it is longer than the data: shorten it, or take training.split: "
        "random for data without times"
    )


def test_a_time_beyond_the_data_is_told_with_the_times_that_there_are(prepared: Copy, say: Say) -> None:
    message = say("train", "--env", "prod", "--as-of", "2026-03-15")
    assert "with prediction times from 2025-01-01 00:00:00 to 2025-03-13 19:12:00" in message
    assert message.endswith(
        "none is after 2025-12-15 00:00:00, where training.history begins: say an --as-of closer to them"
    )
    assert say("train", "--env", "prod", "--as-of", "2024-03-15") == (
        "no labelled rows as of 2024-03-15 00:00:00: sql/entities.sql gives no rows known by then (the first is "
        "known at 2025-01-01 00:00:00), sql/labels.sql gives no rows known by then (the first is known "
        "at 2025-01-02 05:24:00)"
    )


def test_labels_of_nothing_are_told(prepared: Copy, say: Say) -> None:
    prepared.edit("sql/labels.sql", "item_id,", "'x' || item_id AS item_id,")
    assert say("train", *AS_OF) == (
        "no labelled rows as of 2025-03-15 00:00:00: sql/entities.sql gives 731 rows known by then, sql/labels.sql "
        "gives 716 rows known by then, but no label is of an entity (item_id) that was known by its prediction time"
    )


@pytest.mark.parametrize(
    ("pipeline", "file", "old", "new"),
    [
        ("featurize", "sql/features/kind_history.sql", "hour AS event", "CAST(kind AS DOUBLE) AS n, hour AS event"),
        ("train", "sql/labels.sql", "WHEN outcome", "WHEN CAST(item_id AS DOUBLE)"),
        ("train", "sql/entities.sql", "kind,", "kind, CAST(item_id AS DOUBLE) AS number,"),
    ],
    ids=["features", "labels", "entities"],
)
def test_what_fails_on_the_data_is_told_with_its_file_and_line(
    prepared: Copy, say: Say, pipeline: str, file: str, old: str, new: str
) -> None:
    """`check` cannot know: it has no rows."""
    prepared.edit(file, old, new)
    (line,) = (n for n, text in enumerate((prepared.package / file).read_text().splitlines(), 1) if new in text)
    again = ("--backfill",) if pipeline == "featurize" else ()
    message = say(pipeline, *AS_OF, *again)
    assert message.startswith(f"{file}:{line}: Conversion Error: "), message
    assert f"\nLINE {line}: " in message


def test_a_misspelt_column_is_told_where_it_is_asked_for(prepared: Copy, say: Say) -> None:
    prepared.edit("features.py", '"amount",', '"amuont",')
    message = say("train", *AS_OF)
    assert "model.py:" in message
    assert message.endswith(": there is no column amuont (did you mean 'amount'?)")
    prepared.edit("features.py", '"amuont",', '"amount",')
    prepared.edit("sql/features/kind_history.sql", "outcome", "outcom")
    assert "sql/features/kind_history.sql:" in say("train", *AS_OF)


def test_a_keyerror_in_code_is_a_traceback(prepared: Copy, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """No user can mend it: it says where the code is wrong."""
    monkeypatch.setattr("mlplatform.training.data.load", lambda *_: os.environ["AMUONT"])
    with pytest.raises(KeyError):
        say("train", *AS_OF)


def test_a_column_to_forget_that_nothing_has_is_refused(prepared: Copy, say: Say) -> None:
    words = ("--env", "prod", "--yes", "--by", "me", "--reason", "asked")
    for options in ((), words[2:]):
        assert say("forget", "itm_id=item-000003", "--env", "prod", *options) == (
            "no source and no table of prod has a column itm_id (did you mean 'item_id'?)"
        )
    assert "silver.items: 1 rows forgotten" in say("forget", "item_id=item-000003", *words)


def test_a_column_is_called_what_its_owner_likes(prepared: Copy, say: Say) -> None:
    """From Silver to the model, and to be forgotten by: it may need quotes in SQL, and hold some."""
    amount, feature = 'the "amount", or select', '7d of "it\'s"; x'
    prepared.edit("tables.py", '"amount": pa', f"{amount!r}: pa")
    prepared.edit("sql/silver/items.sql", "AS amount", f"AS `{amount}`")
    prepared.edit("sql/entities.sql", "amount", f"`{amount}`")
    prepared.edit("sql/features/kind_history.sql", "AS outcome_7d", f"AS `{feature}`")
    prepared.edit("features.py", '"amount"', repr(amount))
    prepared.edit("features.py", '"kind_history__outcome_7d"', repr(f"kind_history__{feature}"))
    prepared.edit("conf/base.yml", "columns: [amount]", "columns: [the*]")
    for schema in ("silver", "features"):
        shutil.rmtree(prepared.folder / "data" / "prod" / schema)
    say("ingest", *AS_OF)
    say("featurize", *AS_OF, "--backfill")
    value = say("sql", f"select `{amount}` from silver.items limit 1", "--env", "prod")
    value = value.splitlines()[-2].strip("│ ")
    words = ("--env", "prod", "--yes", "--by", "me", "--reason", "asked")
    assert "silver.items: 1 rows forgotten" in say("forget", f"{amount}={value}", *words)


def test_values_are_whole_however_narrow_the_screen(prepared: Copy, say: Say) -> None:
    query = "select source_file, available_at, item_id, kind from silver.items order by item_id limit 2"
    lines = say("sql", query, "--env", "prod").splitlines()
    assert lines[1].split() == ["source_file", "items/20250315T000000Z.csv"]
    assert lines[2].split() == ["available_at", "2025-01-01", "00:00:00"]
    assert "│ item-000000 │" in say("sql", "select item_id from silver.items order by 1 limit 1", "--env", "prod")


def test_what_waits_for_a_person_is_said_once_with_a_path_in_one_piece(prepared: Copy, say: Say) -> None:
    say("train", *AS_OF)
    said = say("deploy", *AS_OF).splitlines()
    assert [line for line in said if "waits for approval" in line] == [
        f"deploy: version 1 waits for approval: {prepared.folder}/data/prod/review/prod.tiny-v1/review.md"
    ]
    assert len([line for line in said if "average_precision" in line]) <= 1
    # ... and the versions that need a view are listed with it.
    assert say("features", "--env", "prod").splitlines()[:6] == [
        "features.kind_history: What became of items of the same kind over the last week.",
        "  row       One row per kind and hour in which an outcome became known; available when the hour is over",
        "  keys      kind",
        "  counts    for 7d; computed from the 7d before it",
        "  newest    2025-03-14 23:00:00",
        "  versions  1",
    ]


def test_help_has_room_between_its_columns(say: Say) -> None:
    for command in ("train", "forget", "sql", "features"):
        for line in say(command, "--help").splitlines():
            assert len(line) <= 60, line
    (line,) = (line for line in say("train", "--help").splitlines() if "--as-of" in line)
    assert line.split()[:3] == ["--as-of", "TIME", "Logical"]


def test_an_environment_without_versions_says_so(say: Say) -> None:
    assert say("registry", "show", "--env", "prod") == "prod.tiny has no version yet: run `train --env prod`\n"
