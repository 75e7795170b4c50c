"""The command line: every command explains itself, at once; a mistake is one message and not a traceback."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
import typer.main

import tiny
from conftest import CONF
from mlplatform import cli
from mlplatform.cli import application
from mlplatform.environment import Environment
from tiny.__main__ import main
from tiny.deliveries import land
from tiny.project import PROJECT

PLATFORM = Path(str(cli.__file__)).parents[1]
TINY = Path(str(tiny.__file__)).parent
HEAVY = {"deltalake", "duckdb", "matplotlib", "mlflow", "numpy", "optuna", "pandas", "pandera", "polars", "pyarrow"}
HEAVY |= {"plotly", "rich", "scipy", "shap", "sklearn", "skops", "yaml"}
# Asks for help on each command that is given, its words joined by dots, and prints what was imported on the way.
HELP = """
import sys
from tiny.__main__ import main

for words in sys.argv[1:]:
    sys.argv = ["tiny", *words.split("."), "--help"]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words
print("loaded:", *{name.split(".")[0] for name in sys.modules})
"""


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group of commands, with the words that are typed."""
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(application())))


class Answer(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Call = Callable[..., Answer]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which any code may run; the working directory."""
    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf" / "prod.yml").write_text(
        "lakehouse:\n  root: data/prod\npipelines:\n  released_code_only: false\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENV", raising=False)
    monkeypatch.delenv("AS_OF", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """call(words): what typing a command in the working directory gives, in this process."""

    def call(*words: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["tiny", *words])
        with pytest.raises(SystemExit) as end:
            main()
        output = capsys.readouterr()
        return Answer(int(end.value.code or 0), output.out, output.err)

    return call


def run(*arguments: str, platform: Path = PLATFORM) -> Answer:
    """What a new Python process gives."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (platform.parent, TINY.parent)))}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


def refused(answer: Answer) -> str:
    """The one message of a command that was refused."""
    assert (answer.code, answer.out) == (1, ""), answer
    return answer.err.strip()


def test_there_is_a_command_for_every_pipeline() -> None:
    pipelines = {path.stem for path in (PLATFORM / "pipelines").glob("*.py")}
    pipelines -= {"__init__"}
    assert {(name,) for name in pipelines} <= set(COMMANDS)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "all")
def test_every_command_explains_itself(call: Call, words: tuple[str, ...]) -> None:
    answer = call(*words, "--help")
    assert (answer.code, answer.err) == (0, "")
    command = COMMANDS[words]
    assert "".join(command.help.splitlines()[0].split()) in "".join(answer.out.split())
    assert all(option.help for option in command.params), answer.out


def test_a_layer_that_is_named_comes_on_top_for_any_command(here: Path, call: Call) -> None:
    (here / "conf" / "away.yml").write_text("pipelines: {refused: [infer]}\n", encoding="utf-8")
    expected = "prod does not infer: see pipelines.refused in conf/prod.yml"
    assert refused(call("--conf", "away", "infer", "--env", "prod")) == expected
    assert "does not infer" not in call("infer", "--env", "prod").err, "it lasts no longer than the command"
    assert "conf/nowhere.yml: no such file" in refused(call("--conf", "nowhere", "status", "--env", "prod"))


def test_where_databricks_calls_it_a_command_that_ends_well_does_not_exit(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job there takes any exit for a failure."""
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "client.4.1")
    monkeypatch.setattr(sys, "argv", ["tiny", "ingest", "--env", "prod", "--as-of", "2025-03-01"])
    main()
    monkeypatch.setattr(sys, "argv", ["tiny", "ingest", "--env", "production"])
    with pytest.raises(SystemExit):
        main()


def test_help_loads_no_heavy_library_and_not_the_owners_project() -> None:
    """What a start costs is imports: none of those that take long is among them."""
    answer = run("-c", HELP, *(".".join(words) for words in COMMANDS if words))
    assert answer.code == 0, answer.err
    loaded = set(answer.out.rpartition("loaded:")[2].split())
    assert "typer" in loaded
    assert loaded & HEAVY == set()


def test_help_answers_in_less_than_half_a_second() -> None:
    """Time of the processor, which other work on this machine does not lengthen much; the best of three tries."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run("-m", "tiny", "train", "--help").code == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.5


def test_a_group_of_commands_that_was_not_chosen_is_absent(tmp_path: Path) -> None:
    """The hook deletes what was not chosen; nothing else has to know."""
    platform = Path(shutil.copytree(PLATFORM, tmp_path / "mlplatform"))
    (platform / "cli" / "serving.py").unlink()
    whole, part = run("-m", "tiny", "--help"), run("-m", "tiny", "--help", platform=platform)
    assert (whole.code, part.code) == (0, 0)
    assert set(whole.out.split()) - set(part.out.split()) >= {"load-test", "serving-key"}
    assert {"ingest", "train", "registry"} <= set(part.out.split())
    assert run("-m", "tiny", "serve", platform=platform).code == 2


def test_help_names_the_pipelines_and_the_rest() -> None:
    answer = run("-m", "tiny", "--help")
    assert answer.code == 0
    assert {"ingest", "train", "deploy", "monitor", "sql", "registry"} <= set(answer.out.split())


def test_a_wrong_setting_is_one_message_and_no_traceback(here: Path) -> None:
    (here / "conf" / "dev.yml").write_text("lakehouse:\n  root: data/dev\n  engin: duckdb\n", encoding="utf-8")
    message = refused(run("-m", "tiny", "sql"))
    assert message == "conf/dev.yml: lakehouse.engin: unknown key (did you mean 'engine'?)"


def test_a_file_where_a_folder_belongs_is_told_in_one_line(here: Path, call: Call) -> None:
    (here / "data").write_text("a file where a folder belongs", encoding="utf-8")
    assert f"{here / 'data'}" in refused(call("ingest", "--env", "prod"))


def test_forget_lists_what_it_finds_and_deletes_only_when_told(here: Path, call: Call) -> None:
    land(here / "data" / "landing", datetime(2025, 3, 1))
    call("ingest", "--env", "prod", "--as-of", "2025-03-01")
    words = ("forget", "item_id=item-000007", "--env", "prod", "--as-of", "2025-03-01")
    for _ in range(2):
        listed = call(*words).out
        assert "silver.items: 1 rows\n" in listed
        assert listed.endswith("nothing is changed: --yes with --by and --reason forgets it\n")
    assert "needs a name (--by) and a reason (--reason)" in refused(call(*words, "--yes"))
    assert "silver.items: 1 rows forgotten\n" in call(*words, "--yes", "--by", "me", "--reason", "4711").out
    assert "nothing here is about it\n" in call(*words).out


def test_an_unknown_environment_is_refused(here: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = "environment 'production': choose one of dev, staging, prod"
    assert refused(call("monitor", "--env", "production")) == expected
    monkeypatch.setenv("ENV", "production")
    assert refused(call("monitor")) == expected


def test_outside_of_a_project_a_command_says_where_to_run_it(here: Path, call: Call) -> None:
    shutil.rmtree(here / "conf")
    assert "run this inside the project" in refused(call("monitor"))


def test_an_as_of_that_is_no_time_is_refused(here: Path, call: Call) -> None:
    answer = call("ingest", "--as-of", "yesterday")
    assert answer.code == 2
    assert "yesterday" in answer.err
    without = cli.logical_time(None) - datetime.now(UTC).replace(tzinfo=None)
    assert abs(without) < timedelta(minutes=1)


def test_a_job_whose_disk_is_lost_leaves_nothing_on_it(here: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    host = SimpleNamespace(disk_is_lost=lambda: True, approval=lambda: ("Ada", "I have looked"))
    monkeypatch.setattr("mlplatform.cli.delivery._host", lambda: host)
    for words in (("record",), ("checkout",), ("approve", "1")):
        assert "and with it lakehouse.root (data/prod)" in refused(call("delivery", *words, "--env", "prod"))


def test_dev_refuses_to_build_what_it_borrows_from_prod(here: Path, call: Call) -> None:
    (here / "conf" / "dev.yml").write_text(
        "lakehouse:\n  root: data/dev\n  features_from: prod\npipelines:\n  released_code_only: false\n",
        encoding="utf-8",
    )
    for command in ("ingest", "featurize"):
        message = refused(call(command))
        assert message.startswith("dev reads prod's silver and feature tables and never writes them")
    assert not (here / "data" / "dev").exists()
    assert not (here / "data" / "prod").exists()


def test_a_pipeline_that_the_settings_refuse_does_not_run(here: Path, call: Call) -> None:
    (here / "conf" / "prod.yml").write_text(
        "lakehouse:\n  root: data/prod\npipelines:\n  refused: [infer]\n", encoding="utf-8"
    )
    assert refused(call("infer", "--env", "prod")) == "prod does not infer: see pipelines.refused in conf/prod.yml"
    assert not (here / "data" / "prod").exists()


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a_decision_needs_a_name_and_a_reason(here: Path, call: Call, decision: str) -> None:
    for by, reason in (("", "it is better"), ("Ada", " ")):
        message = refused(call("registry", decision, "1", "--env", "prod", "--by", by, "--reason", reason))
        assert message == "an approval or rejection needs a name (--by) and a reason (--reason)"
    assert call("registry", decision, "1", "--env", "prod").code == 2


@pytest.mark.parametrize("words", [("approve", "1"), ("reject", "1"), ("rollback",)], ids=lambda words: words[0])
def test_a_person_decides_about_prod_with_released_code_only(here: Path, call: Call, words: tuple[str, ...]) -> None:
    (here / "conf" / "prod.yml").write_text("lakehouse:\n  root: data/prod\n", encoding="utf-8")
    message = refused(call("registry", *words, "--env", "prod", "--by", "Ada", "--reason", "I have looked"))
    assert message.startswith("prod runs released code only (pipelines.released_code_only): ")
    assert not (here / "data" / "prod").exists()


def test_sql_lists_tables_and_answers_questions(here: Path, call: Call) -> None:
    assert "prod has no tables yet" in call("sql", "--env", "prod").out
    prod = Environment.load("prod", PROJECT, here)
    times = pa.array([datetime(2013, 4, 1), datetime(2013, 5, 1)], pa.timestamp("us"))
    prod.catalog.append("silver.items", pa.table({"item": ["AA1", "AA2"], "available_at": times}))

    assert call("sql", "--env", "prod").out == "silver.items\n"
    answer = call("sql", "select item, 'x' || item as doubled from silver.items", "--env", "prod").out
    assert all(text in answer for text in ("item", "doubled", "AA1", "xAA2"))
    answer = call("sql", "select * from silver.items", "--env", "prod", "--as-of", "2013-04-15").out
    assert "AA1" in answer
    assert "AA2" not in answer
    answer = call("sql", "select * from silver.items order by item", "--env", "prod", "--rows", "1").out
    assert "AA2" not in answer
    assert "1 of 2 rows" in answer


def test_sql_shows_dev_the_tables_that_it_reads_of_prod(here: Path, call: Call) -> None:
    (here / "conf" / "dev.yml").write_text("lakehouse:\n  root: data/dev\n  features_from: prod\n", encoding="utf-8")
    Environment.load("prod", PROJECT, here).catalog.append("silver.items", pa.table({"item": ["AA1"]}))
    assert call("sql").out == "silver.items (of prod)\n"
    assert "AA1" in call("sql", "select * from silver.items").out


def test_a_mistake_in_sql_is_no_traceback(here: Path, call: Call) -> None:
    assert "syntax error" in refused(call("sql", "selct 1", "--env", "prod"))
    assert "nonsense" in refused(call("sql", "select nonsense", "--env", "prod"))
