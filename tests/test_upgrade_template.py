"""Upgrades of what this template renders: from each release to the next, and on to made-up ones."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from answers import between
from bake import PROMPTS, ROOT, TEMPLATE, bake
from merge import OWNERS
from releases import PLACE, releases
from rendered import environment
from synthetic import ENVIRONMENT, Outcome, commit, git, tree, write

# The working tree as the release that comes next, and two after it.
NEXT, LATER, LAST = "90.0.0", "90.1.0", "90.2.0"
PACKAGE = "early_warning"
# The defaults, and each other choice of each option beside them.
ROWS: dict[str, dict[str, str]] = {"defaults": {}} | {
    f"{name}={choice}": {name: choice}
    for name, choices in PROMPTS.items()
    if isinstance(choices, list) and not name.startswith("_") and name != "license"
    for choice in choices[1:]
}
Project = Callable[..., Path]


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
    (inside / "tests/unit/test_tuning.py").unlink()
    write(inside, {"docs/new.md": "# New in {{ cookiecutter.project_name }}\n"})
    set_version(clone, LATER)
    commit(clone, "Later")
    (inside / "docs/new.md").rename(inside / "docs/newer.md")
    makefile.write_text(makefile.read_text().replace("What is new", "What is newer"))
    base = inside / "conf/base.yml"
    base.write_text(base.read_text() + "# A comment that belongs to new projects only.\n")
    set_version(clone, LAST)
    commit(clone, "Last")
    return clone


PAIRS = [(version, NEXT) for version in releases(ROOT)] + [(NEXT, LATER), (LATER, LAST), (NEXT, LAST)]
# Every pair with the defaults, every row with the newest pair of real releases and the widest of the others.
CASES = [(*pair, "defaults") for pair in PAIRS]
CASES += [
    (*pair, row)
    for pair in PAIRS[-4:]
    if pair[1] != LATER and pair[0] != LATER
    for row in ROWS
    if row != "defaults"
]


@pytest.fixture(scope="module")
def fresh(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """fresh(version, row): a render of that release, as a user would get it from a clone."""

    @cache
    def fresh(version: str, row: str) -> Path:
        work = tmp_path_factory.mktemp("fresh")
        git(work, "clone", "--quiet", str(template), "clone")
        git(work / "clone", "checkout", "--quiet", "--detach", releases(template)[version])
        prompts = json.loads((work / "clone" / PLACE).read_text())
        known = {name: answer for name, answer in ROWS[row].items() if answer in prompts.get(name, [])}
        return bake(work / "clone", work / "render", known)

    return fresh


def edit(project: Path) -> None:
    """Do what owners do: change a line, add and delete a file, change what is theirs."""
    package = next((project / "src").iterdir())
    readme = (project / "LICENSE").read_text()
    write(project, {"LICENSE": f"My first line.\n{readme}", "mine.txt": "mine\n", "docs/governance.md": None})
    model = package / "usecase" / "tables.py"
    model.write_text(f"# My own tables.\n{model.read_text()}")


def kept(template: Path, old: str, new: str, name: str) -> bool:
    """Whether a file of the owner's has to stay as it is: no migration says that it must take the change."""
    declared = between(old, new, template / "upgrade" / "migrations.json")
    moved = [path for migration in declared for path in migration.owners]
    folders, moved = ([path.replace("<package>", PACKAGE) for path in paths] for paths in (OWNERS, moved))
    return name.startswith(tuple(folders)) and name not in moved


@pytest.fixture
def start(fresh: Callable[[str, str], Path], tmp_path: Path) -> Iterator[Project]:
    def start(version: str, row: str = "defaults") -> Path:
        project = Path(shutil.copytree(fresh(version, row), tmp_path / "project"))
        git(project, "init", "--quiet", "--initial-branch=main")
        commit(project, "Render")
        return project

    yield start


@pytest.mark.parametrize(
    ("old", "new", "row"), CASES, ids=[f"{old} to {new}, {row}" for old, new, row in CASES]
)
def test_an_upgraded_project_is_a_new_render_with_the_owners_edits(
    template: Path,
    fresh: Callable[[str, str], Path],
    start: Project,
    tmp_path: Path,
    old: str,
    new: str,
    row: str,
) -> None:
    project = start(old, row)
    edit(project)
    commit(project, "Edits")
    before = tree(project)
    outcome = Outcome(project, [template / "upgrade", "update", "--to", new])
    assert outcome.code == 0, outcome.output
    answers = json.loads((project / ".cruft.json").read_text())["context"]["cookiecutter"]
    asked = {name: answer for name, answer in answers.items() if not name.startswith("_")}
    expected = bake(template_at(template, new, tmp_path), tmp_path / "expected", asked)
    edit(expected)
    after, wanted = tree(project), tree(expected)
    theirs = {name for name in before | after | wanted if kept(template, old, new, name)}
    assert after.keys() - theirs == wanted.keys() - theirs
    assert [name for name in after.keys() - theirs if after[name] != wanted[name]] == []
    assert {name: after.get(name) for name in theirs} == {name: before.get(name) for name in theirs}


def template_at(template: Path, version: str, work: Path) -> Path:
    git(work, "clone", "--quiet", str(template), "at-version")
    git(work / "at-version", "checkout", "--quiet", "--detach", releases(template)[version])
    return work / "at-version"


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


def test_make_targets_check_plan_take_and_undo(template: Path, start: Project) -> None:
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


def test_an_address_that_does_not_answer_is_a_clear_error(template: Path, start: Project) -> None:
    code, output = make(template, start(NEXT), "update-template", f"FROM={template}-not-there")
    assert code == 2
    assert "does not exist" in output


def test_cruft_merges_the_same_where_it_can(template: Path, start: Project, tmp_path: Path) -> None:
    ours = start(NEXT)
    edit(ours)
    commit(ours, "Edits")
    theirs = Path(shutil.copytree(ours, tmp_path / "theirs"))
    assert Outcome(ours, [template / "upgrade", "update", "--to", LATER]).code == 0
    command = [sys.executable, "-m", "cruft", "update", "-y", "-c", releases(template)[LATER]]
    subprocess.run(command, cwd=theirs, env=ENVIRONMENT | address(template), check=True, capture_output=True)
    merged, expected = tree(ours), tree(theirs)
    assert merged.keys() == expected.keys()
    assert [name for name in merged if merged[name] != expected[name]] == [".cruft.json"]


@pytest.mark.xdist_group("rendered projects")
def test_a_project_upgraded_to_the_next_release_passes_its_own_checks(template: Path, start: Project) -> None:
    """In an environment without cookiecutter, where the updater has to install it first."""
    to = NEXT if len(PAIRS) > 3 else LATER  # a clone without history knows no release
    project = start(PAIRS[-4][0] if len(PAIRS) > 3 else NEXT)
    code, output = make(template, project, "setup", venv=environment(project))
    assert code == 0, output
    code, output = make(template, project, "update-template", f"TO={to}", venv=environment(project))
    assert code == 0, output
    commit(project, "Upgrade")
    code, output = make(template, project, "lint", venv=environment(project))
    assert code == 0, output
    python = environment(project) / "bin" / "python"
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    subprocess.run(
        [python, "-m", "pytest", "-q", "tests/unit", "-k", "config or contracts"],
        cwd=project,
        env=settings,
        check=True,
    )
