"""Upgrades of what this template renders: from each release to the next, and on to made-up ones."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import yaml
from bake import PROMPTS, ROOT, TEMPLATE, bake
from imports import defined
from migrations import Migration, between, covers, owned
from moves import Moves, module
from releases import PLACE, releases
from rendered import environment
from rendered import make as in_its_environment
from synthetic import ENVIRONMENT, Outcome, commit, git, run, state, tree, write

# The working tree as the release that comes next, and two after it.
NEXT, LATER, LAST = "90.0.0", "90.1.0", "90.2.0"
PACKAGE = "early_warning"
RELEASES = releases(ROOT)
# The defaults, and each other choice of each option beside them. A cloud and Databricks are chosen together.
ROWS: dict[str, dict[str, str]] = {"defaults": {}} | {
    f"{name}={choice}": {name: choice} | ({"compute": "databricks"} if name == "cloud" else {})
    for name, choices in PROMPTS.items()
    if isinstance(choices, list) and not name.startswith("_") and name != "license"
    for choice in choices[1:]
    if choice != "databricks"
}
Render = Callable[[str, str], Path]
Start = Callable[..., Path]


def known(version: str, row: str) -> bool:
    """Whether a release asks for the choices of a row."""
    prompts = json.loads(git(ROOT, "show", f"{RELEASES[version]}:{PLACE}"))
    return all(choice in prompts.get(name, ()) for name, choice in ROWS[row].items())


def set_version(template: Path, version: str) -> None:
    place = template / PLACE
    write(template, {PLACE: place.read_text().replace(json.loads(place.read_text())["_version"], version)})
    migrations = template / "upgrade" / "migrations.json"
    write(template, {"upgrade/migrations.json": migrations.read_text().replace("unreleased", version)})


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository with its history, the working tree as its next release, and two releases more."""
    clone = tmp_path_factory.mktemp("history") / "template"
    git(clone.parent, "clone", "--quiet", str(ROOT), str(clone))
    git(clone, "rm", "-r", "--quiet", ".")
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in listed:
        if name and (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    set_version(clone, NEXT)
    commit(clone, "Next")
    inside = clone / TEMPLATE
    makefile, runbook = (inside / name for name in ("Makefile", "docs/runbook.md"))
    makefile.write_text(makefile.read_text() + "\n.PHONY: new\nnew: ## What is new\n\t@true\n")
    runbook.write_text("A new first line.\n\n" + runbook.read_text())
    (inside / "src/mlplatform/monitoring/notify.py").unlink()
    write(inside, {"docs/new.md": "# New in {{ cookiecutter.project_name }}\n"})
    set_version(clone, LATER)
    commit(clone, "Later")
    (inside / "docs/new.md").rename(inside / "docs/newer.md")
    makefile.write_text(makefile.read_text().replace("What is new", "What is newer"))
    base = inside / "conf/dev.yml"
    base.write_text(base.read_text() + "# A comment that belongs to new projects only.\n")
    set_version(clone, LAST)
    commit(clone, "Last")
    return clone


@pytest.fixture(scope="module")
def render(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """render(version, **answers): a render of that release, as a user would get it from a clone."""

    @cache
    def at(version: str) -> Path:
        clone = tmp_path_factory.mktemp("at") / "template"
        git(clone.parent, "clone", "--quiet", str(template), str(clone))
        git(clone, "checkout", "--quiet", "--detach", releases(template)[version])
        return clone

    @cache
    def render(version: str, **answers: str) -> Path:
        return bake(at(version), tmp_path_factory.mktemp("render"), answers)

    return render


@pytest.fixture
def start(render: Callable[..., Path], tmp_path: Path) -> Start:
    """start(version, row): a fresh project of that release, committed."""

    def start(version: str, row: str = "defaults") -> Path:
        project = Path(shutil.copytree(render(version, **ROWS[row]), tmp_path / "project"))
        git(project, "init", "--quiet", "--initial-branch=main")
        commit(project, "Render")
        return project

    return start


def answered(project: Path) -> dict[str, str]:
    """Return the answers that a project records."""
    answers = json.loads((project / ".cruft.json").read_text())["context"]["cookiecutter"]
    return {name: answer for name, answer in answers.items() if not name.startswith("_")}


def declared(template: Path, old: str, new: str) -> list[Migration]:
    return between(old, new, PACKAGE, template / "upgrade" / "migrations.json")


CASES = [(version, NEXT, row) for version in RELEASES for row in ROWS if known(version, row)]
CASES += [(old, new, "defaults") for old, new in zip(list(RELEASES)[:-1], list(RELEASES)[1:], strict=True)]
CASES += [(NEXT, LATER, "defaults"), (LATER, LAST, "defaults"), *((NEXT, LAST, row) for row in ROWS)]
# Each release brings a case of every row. `make test` takes the newest one's, and the defaults of older ones.
OLDER = [case for case in CASES if case[0] in list(RELEASES)[:-1] and case[2] != "defaults"]


@pytest.mark.parametrize(
    ("old", "new", "row"),
    [
        pytest.param(
            *case,
            id="{} to {}, {}".format(*case),
            marks=[pytest.mark.projects] if case in OLDER else [],
        )
        for case in CASES
    ],
)
def test_an_upgraded_project_is_a_new_render_with_the_owners_edits(
    template: Path, render: Callable[..., Path], start: Start, old: str, new: str, row: str
) -> None:
    project = start(old, row)
    edits: dict[str, str | None] = {
        "LICENSE": "My first line.\n" + (project / "LICENSE").read_text(),
        "mine.txt": "mine\n",
        "docs/governance.md": None,
    }
    write(project, edits)
    commit(project, "Edits")
    before = tree(project)
    outcome = Outcome(project, [template / "upgrade", "update", "--to", new])
    assert outcome.code == 0, outcome.output
    after, wanted = tree(project), tree(render(new, **answered(project)))
    wanted["LICENSE"] = b"My first line.\n" + wanted["LICENSE"]
    wanted["mine.txt"] = b"mine\n"
    del wanted["docs/governance.md"]
    theirs = owned(new, PACKAGE, template / "upgrade" / "migrations.json")
    taken = [path for step in declared(template, old, new) for path in step.owners + step.renewed]
    taken += [path for step in declared(template, old, new) for path in step.settings]
    kept = {path for path in before | after | wanted if covers(theirs, path) and not covers(taken, path)}
    assert after.keys() - kept == wanted.keys() - kept
    assert [path for path in after.keys() - kept if after[path] != wanted[path]] == []
    assert {path: after.get(path) for path in kept} == {path: before.get(path) for path in kept}


COMMENTS = {".sql": "-- ", ".md": "", ".json": "", ".j2": "", "": "# "}
PLACES: dict[str, Callable[[int], int]] = {
    "first": lambda lines: min(1, lines),
    "middle": lambda lines: lines // 2,
    "last": lambda lines: lines,
}


def mark(project: Path, place: str) -> dict[str, bytes]:
    """Put a line into every file, and a file into every folder; return what marks each."""
    marks = {}
    for number, (name, content) in enumerate(sorted(tree(project).items())):
        if name == ".cruft.json" or b"\0" in content:
            continue
        lines = content.decode().splitlines(keepends=True)
        marks[name] = f"marker-{number}-".encode()
        comment = COMMENTS.get(Path(name).suffix, "# ")
        lines.insert(PLACES[place](len(lines)), f"{comment}marker-{number}-\n")
        (project / name).write_text("".join(lines))
    for number, folder in enumerate(sorted({(project / name).parent for name in marks})):
        name = (folder / f"mine_{number}.py").relative_to(project).as_posix()
        marks[name] = f"marker-added-{number}-".encode()
        write(project, {name: f"# marker-added-{number}-\n"})
    return marks


def full(project: Path, work: Path) -> Path:
    return project


def shallow(project: Path, work: Path) -> Path:
    """A clone of depth one, with the edits in the one commit that it has."""
    git(work, "clone", "--quiet", "--depth=1", f"file://{project}", "shallow")
    return work / "shallow"


def subfolder(project: Path, work: Path) -> Path:
    """A project that is a folder of a larger repository."""
    shutil.rmtree(project / ".git")
    repository = work / "large"
    (repository / "ml").mkdir(parents=True)
    project.rename(repository / "ml" / "project")
    git(repository, "init", "--quiet", "--initial-branch=main")
    commit(repository, "Start")
    return repository / "ml" / "project"


LAYOUTS = {"full": full, "shallow": shallow, "subfolder": subfolder}
MARKED = [
    ("0.2.0", "defaults", "first", "full"),
    ("0.2.0", "defaults", "middle", "subfolder"),
    ("0.2.0", "sample=none", "last", "shallow"),
    ("0.1.0", "problem_type=regression", "middle", "full"),
    ("0.2.0", "deployment_pattern=deploy_models", "last", "full"),
    ("0.2.0", "ci_platform=gitlab", "middle", "full"),
]
MARKED = [case for case in MARKED if case[0] in RELEASES]
EVERY = [
    (version, row, place, layout)
    for version in RELEASES
    for row in ROWS
    if known(version, row)
    for place in PLACES
    for layout in LAYOUTS
    if (version, row, place, layout) not in MARKED
]


@pytest.mark.parametrize(
    ("old", "row", "place", "layout"),
    [*MARKED, *(pytest.param(*case, marks=pytest.mark.nightly) for case in EVERY)],
)
def test_no_line_of_the_owners_is_lost_on_the_way_to_the_next_release(
    template: Path,
    render: Callable[..., Path],
    start: Start,
    tmp_path: Path,
    old: str,
    row: str,
    place: str,
    layout: str,
) -> None:
    """A line in every file and a file in every folder: each arrives, or stands in a conflict, or is told."""
    project = start(old, row)
    marks = mark(project, place)
    commit(project, "Edits")
    project = LAYOUTS[layout](project, tmp_path)
    before = state(project)
    outcome = Outcome(project, [template / "upgrade", "update", "--to", NEXT])
    assert outcome.code == 1, outcome.output
    whole = b"\n".join(tree(project).values())
    assert {name for name, text in marks.items() if text not in whole} == set()
    unmerged = git(project, "diff", "--name-only", "--diff-filter=U", "--relative").splitlines()
    assert {name for name in unmerged if f"    {name}\n        " not in outcome.output} == set()
    # What the owner adds beside ours moves along.
    left = [name for name in tree(project) if re.match(rf"src/{PACKAGE}/(?!sql/)\w+/mine_\d+.py", name)]
    assert left == []
    # Settings are changed by key: they have no others than new ones, and base.yml has them all.
    fresh = render(NEXT, **answered(project))
    for path in sorted((fresh / "conf").glob("*.yml")):
        ours, new = (
            keys(yaml.safe_load((folder / "conf" / path.name).read_text())) for folder in (project, fresh)
        )
        assert ours <= new and (path.name != "base.yml" or ours == new), path.name
    assert Outcome(project, [template / "upgrade", "update", "--abort"]).code == 0
    assert state(project) | {"references": ""} == before | {"references": ""}


def keys(settings: object, above: str = "") -> set[str]:
    """Return the dotted keys of settings."""
    if not isinstance(settings, dict):
        return set()
    return {f"{above}{key}" for key in settings} | {
        one for key, value in settings.items() for one in keys(value, f"{above}{key}.")
    }


def replace(project: Path, edits: dict[str, tuple[str, str]]) -> None:
    for name, (old, new) in edits.items():
        text = (project / name).read_text()
        assert old in text, name
        (project / name).write_text(text.replace(old, new))


@pytest.mark.skipif("0.2.0" not in RELEASES, reason="this clone lacks the history")
def test_edits_of_an_owner_arrive_where_their_files_go(template: Path, start: Start) -> None:
    usecase = f"src/{PACKAGE}/usecase"
    project = start("0.2.0")
    replace(
        project,
        {
            f"{usecase}/columns.py": ('    "distance",\n', '    "distance",\n    "my_column",\n'),
            f"{usecase}/features.py": ("ttl=timedelta(hours=12)", "ttl=timedelta(hours=13)"),
            f"{usecase}/tables.py": ("number(-180, 2000", "number(-190, 2000"),
            f"{usecase}/silver_sql/weather.sql": ("SELECT", "SELECT  -- mine"),
            f"{usecase}/model.py": ('"max_iter": 60', '"max_iter": 61'),
            f"{usecase}/purpose.py": ('("carrier", "local_hour")', '("carrier",)'),
            f"src/{PACKAGE}/monitoring/notify.py": ("import ", "import shlex\nimport "),
            f"src/{PACKAGE}/options.py": ('["nothing new"]', '["nothing mine"]'),
            "conf/base.yml": ("slices: [origin]", "slices: [dest]  # mine"),
            "conf/prod.yml": ("\n", "\n# mine\n"),
        },
    )
    write(
        project,
        {
            f"{usecase}/mine.py": "from ..lakehouse.contracts import SilverTable\n"
            "from .columns import NUMERIC\n",
            "scripts/mine.py": f"from {PACKAGE}.usecase import tables\n"
            f"from {PACKAGE}.usecase.story import story\n",
            "docs/mine.md": f"See `{usecase}/model.py` and {PACKAGE}.pipelines.train.\n",
        },
    )
    commit(project, "Edits")
    outcome = Outcome(project, [template / "upgrade", "update", "--to", NEXT])
    assert outcome.code == 1
    package = project / "src" / PACKAGE
    features = (package / "features.py").read_text()
    assert '    "my_column",\n' in features and "hours=13" in features and "<<<<" not in features
    assert "number(-190, 2000" in (package / "tables.py").read_text()
    assert "SELECT  -- mine" in (package / "sql/silver/weather.sql").read_text()
    assert "import shlex\n" in (project / "src/mlplatform/monitoring/notify.py").read_text()
    assert '["nothing mine"]' in (project / "src/mlplatform/cli/__init__.py").read_text()
    assert (package / "mine.py").read_text() == (
        "from mlplatform.contract import SilverTable\nfrom .features import NUMERIC\n"
    )
    assert (project / "scripts/mine.py").read_text().startswith(f"from {PACKAGE} import tables\n")
    unmerged = git(project, "diff", "--name-only", "--diff-filter=U").splitlines()
    assert unmerged == [f"src/{PACKAGE}/model.py", f"src/{PACKAGE}/project.py"]
    for told in (
        "imports renamed in files of yours (`make format` sorts them)",
        f"    src/{PACKAGE}/mine.py\n",
        f"    src/{PACKAGE}/model.py\n        was {usecase}/model.py; ",
        "its functions are methods of",
        "conf/base.yml: your `slices: [dest] # mine` was taken out: monitoring.slices: put these columns",
        f"scripts/mine.py, line 2: {PACKAGE}.deliveries has no story",
        f"docs/mine.md, line 1: {usecase}/model.py is src/{PACKAGE}/model.py now",
        f"docs/mine.md, line 1: {PACKAGE}.pipelines.train is mlplatform.pipelines.train now",
    ):
        assert told in outcome.output


def prod(project: Path, query: str) -> list[str]:
    """What prod's tables answer to a query for one column, row by row."""
    command = [str(environment(project) / "bin" / "python"), "-m", PACKAGE, "sql", "--env", "prod", query]
    said = run(project, *command, settings={"PYTHONPATH": "src", "COLUMNS": "400"})
    return [line.strip("│ ") for line in said.splitlines() if line.startswith("│")]


AUDIT = """
SELECT concat_ws('|', version, from_stage, to_stage, status, requested_at, requested_by, closed_by, reason)
AS line
FROM ops.transitions WHERE requested_at < '2025-09-01' ORDER BY line
"""
SCORES = f"""
SELECT md5(string_agg(concat_ws('|', item_id, prediction_time, score, model_version), ';' ORDER BY item_id))
AS digest
FROM predictions.{PACKAGE} WHERE prediction_time <= '2025-08-01'
"""


@pytest.mark.skipif("0.2.0" not in RELEASES, reason="this clone lacks the history")
@pytest.mark.projects
def test_what_was_made_before_an_upgrade_scores_monitors_compares_and_rolls_back(
    template: Path, start: Start
) -> None:
    """The tables, champion and audit of a project of 0.2.0 with edits, at work under the next release."""
    project = start("0.2.0", "sample=none")
    usecase = f"src/{PACKAGE}/usecase"
    replace(
        project,
        {
            f"{usecase}/tables.py": ("[0-9]{6}", "[0-9]{6,}"),
            f"{usecase}/features.py": ("ttl=timedelta(days=7)", "ttl=timedelta(days=8)"),
            f"{usecase}/feature_sql/kind_history.sql": ("SELECT", "SELECT  -- mine"),
            "conf/prod.yml": ("\n", "\n# mine\n"),
        },
    )
    write(project, {f"{usecase}/mine.py": "from .tables import SILVER\n\nNAMES = [t.name for t in SILVER]\n"})
    commit(project, "Edits")
    git(project, "tag", "v1.0.0")
    in_its_environment(project, "setup", "demo")
    before = {query: prod(project, query) for query in (AUDIT, SCORES)}
    outcome = Outcome(project, [template / "upgrade", "update", "--to", NEXT])
    assert outcome.code == 0, outcome.output
    commit(project, "Upgrade")
    git(project, "tag", "v2.0.0")
    in_its_environment(project, "format", "lint", "check", "test")
    to = ("ENV=prod", "AS_OF=2025-09-01")
    in_its_environment(project, "land", "ingest", "featurize", "infer", "monitor", "train", "deploy", *to)
    assert prod(project, "SELECT DISTINCT status FROM ops.runs") == ["finished"]
    new = "WHERE prediction_time > '2025-08-01'"
    assert prod(project, f"SELECT DISTINCT model_version FROM predictions.{PACKAGE} {new}") == ["4"]
    performance = "FROM monitoring.metrics WHERE metric = 'roc_auc' AND window_end > '2025-08-04'"
    assert int(prod(project, f"SELECT count(*) {performance}")[0]) > 0
    assert prod(project, "SELECT champion FROM ops.comparisons WHERE challenger = 5") == ["4"]
    words = "registry rollback --env prod --as-of 2025-09-02 --by me --reason drill".split()
    command = [str(environment(project) / "bin" / "python"), "-m", PACKAGE, *words]
    said = run(project, *command, settings={"PYTHONPATH": "src"})
    assert said == "version 1 is in Production again\n"
    assert {query: prod(project, query) for query in before} == before


@pytest.mark.skipif(not RELEASES, reason="this clone lacks the history")
def test_what_migrations_declare_is_there_and_what_moved_is_declared(
    template: Path, render: Callable[..., Path]
) -> None:
    """Over all rows, from the newest release: no declared target is missing, no rename is left to guesses."""
    old = list(RELEASES)[-1]
    rows = [row for row in ROWS if known(old, row)]
    migrations = declared(template, old, NEXT)
    files = {row: tree(render(old, **ROWS[row])) for row in rows}
    news = {row: tree(render(NEXT, **render_answers(migrations, ROWS[row]))) for row in rows}
    every = {name: content for new in news.values() for name, content in new.items()}
    for step in migrations:
        for target in step.files.values():
            for one in [target] if isinstance(target, str) else target:
                assert any(covers([one], name) for name in every), one
        for name in step.names.values():
            place, _, member = name.rpartition(".")
            texts = [content.decode() for path, content in every.items() if module(path) == place]
            assert member in defined(texts[0]), name
        for key in ("owners", "renewed", "owned"):
            for one in getattr(step, key):
                assert any(covers([one], name) for name in every), one
    for row in rows:
        moves = Moves(migrations, files[row], files[row], news[row])
        gone = {name for name in files[row] if moves.targets[name] not in news[row]}
        come = news[row].keys() - {moves.targets[name] for name in files[row]} - files[row].keys()
        alike = [
            (name, other)
            for name in gone
            for other in come
            if Path(name).suffix == Path(other).suffix and similar(files[row][name], news[row][other])
        ]
        assert alike == [], row


def render_answers(migrations: list[Migration], answers: dict[str, str]) -> dict[str, str]:
    for step in migrations:
        answers = step.apply(answers)
    return answers


def similar(one: bytes, other: bytes) -> bool:
    """Whether most of the longer lines of a file are in another."""
    lines, others = ({line for line in text.splitlines() if len(line) > 30} for text in (one, other))
    return len(lines) > 3 and len(lines & others) > 0.5 * len(lines)


def address(template: Path) -> dict[str, str]:
    """Settings by which git finds this template where renders say it is."""
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{template}.insteadOf",
        "GIT_CONFIG_VALUE_0": PROMPTS["_source"],
    }


def make(template: Path, project: Path, *words: str, venv: Path = ROOT / ".venv") -> tuple[int, str]:
    """Run make in the project as its owner would, with the template at its address."""
    command = ["make", *words, f"VENV={venv}"]
    settings = ENVIRONMENT | address(template)
    done = subprocess.run(
        command, cwd=project, env=settings, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    return done.returncode, done.stdout + done.stderr


def test_make_targets_check_plan_take_and_undo(template: Path, start: Start) -> None:
    project = start(NEXT)
    code, output = make(template, project, "check-template")
    assert (code, f"newer release of the template exists: {LAST}" in output) == (2, True)
    code, output = make(template, project, "update-template", f"TO=v{LATER}", "FLAGS=--dry-run")
    assert code == 0, output
    assert "added: 1\n    docs/new.md" in output
    assert git(project, "status", "--porcelain") == ""
    code, output = make(template, project, "update-template", f"TO=v{LATER}")
    assert (code, (project / "docs/new.md").read_text()) == (0, "# New in Early Warning\n"), output
    code, output = make(template, project, "update-template", "FLAGS=--abort")
    assert (code, git(project, "status", "--porcelain")) == (0, ""), output
    code, output = make(template, project, "update-template", "TO=v0.0.9")
    assert code == 2 and "there is no release 0.0.9" in output
    code, output = make(template, project, "update-template")
    assert (code, (project / "docs/newer.md").exists()) == (0, True), output
    commit(project, "Upgrade")
    code, output = make(template, project, "check-template")
    assert (code, "Up to date" in output) == (0, True), output


def test_an_address_that_does_not_answer_is_a_clear_error(template: Path, start: Start) -> None:
    code, output = make(template, start(NEXT), "update-template", f"FROM={template}-not-there")
    assert code == 2
    assert "does not exist" in output


def test_cruft_merges_the_same_where_it_can(template: Path, start: Start, tmp_path: Path) -> None:
    ours = start(NEXT)
    write(ours, {"mine.txt": "mine\n", "docs/governance.md": None})
    commit(ours, "Edits")
    theirs = Path(shutil.copytree(ours, tmp_path / "theirs"))
    assert Outcome(ours, [template / "upgrade", "update", "--to", LATER]).code == 0
    command = [sys.executable, "-m", "cruft", "update", "-y", "-c", releases(template)[LATER]]
    subprocess.run(command, cwd=theirs, env=ENVIRONMENT | address(template), check=True, capture_output=True)
    merged, expected = tree(ours), tree(theirs)
    assert merged.keys() == expected.keys()
    assert [name for name in merged if merged[name] != expected[name]] == [".cruft.json"]


@pytest.mark.skipif(not RELEASES, reason="this clone lacks the history")
def test_the_next_release_comes_by_make_where_cookiecutter_is_not_installed(
    template: Path, render: Callable[..., Path], start: Start, tmp_path: Path
) -> None:
    project = start(list(RELEASES)[-1])
    code, output = make(template, project, "update-template", f"TO={NEXT}", venv=tmp_path / "venv")
    assert code == 0, output
    assert tree(project) == tree(render(NEXT, **answered(project)))
