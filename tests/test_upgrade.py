"""What the updater takes in, what it leaves alone, and what it refuses."""

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from merge import RECORD
from migrations import MIGRATIONS, NEXT, between, covers, owned
from releases import number, releases
from synthetic import ENVIRONMENT, NAME, Outcome, Template, commit, git, run, state, tree, write

LINES = "".join(f"line {number}\n" for number in range(20))
BETWEEN = LINES.replace("line 3\n", "line three\n")
LICENSES = ["MIT", "none"]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Two releases; the second renames a prompt, a choice and a file, and asks a new question."""
    template = Template(
        tmp_path_factory.mktemp("releases") / "template", {"author": "Ada", "license": ["mit", "none"]}
    )
    template.release(
        "0.1.0",
        {
            "by.txt": "by {{ cookiecutter.author }}, {{ cookiecutter.license }}\n" + LINES,
            "old name.txt": f"first\n{LINES}",
            "conf/base.yml": "of: owner\n",
            "conf/needed.yml": "a: 1\n\n\n\n\nb: 1\n",
            "gone.txt": "gone\n",
            "both.txt": LINES,
            "between.txt": LINES,
        },
    )
    write(template.folder / NAME, {"between.txt": BETWEEN})
    commit(template.folder, "Work between two releases")
    template.prompts = {
        "project_slug": "tiny",
        "package_name": "tiny",
        "holder": "Ada",
        "license": LICENSES,
        "ci": ["github", "none"],
    }
    template.release(
        "0.2.0",
        {
            "by.txt": "by {{ cookiecutter.holder }}, {{ cookiecutter.license }}\n" + LINES,
            "ci.txt": "{{ cookiecutter.ci }}\n",
            "old name.txt": None,
            "new name.txt": "quite another text\n",
            "conf/base.yml": "of: template\n",
            "conf/needed.yml": "a: 2\n\n\n\n\nb: 1\n",
            "conf/more.yml": "more: 1\n",
            "gone.txt": None,
            "both.txt": LINES.replace("line 3\n", "line three\n"),
            "between.txt": LINES.replace("line 3\n", "line third\n"),
            "data/new.txt": "new\n",
        },
        {
            "answers": {"author": "holder"},
            "values": {"license": {"mit": "MIT"}},
            "files": {"old name.txt": "new name.txt"},
            "owners": ["conf/needed.yml"],
            "defaults": {"ci": "none"},
        },
    )
    write(template.folder, {"{{cookiecutter.project_slug}}/unreleased.txt": "not yet\n"})
    commit(template.folder, "Work that is not released")
    return template


@pytest.fixture(scope="module")
def rendered(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template.project(tmp_path_factory.mktemp("rendered"), "author=Grace", version="0.1.0")


@pytest.fixture
def project(rendered: Path, tmp_path: Path) -> Path:
    """A project as the first release rendered it, committed."""
    return Path(shutil.copytree(rendered, tmp_path / "project"))


def test_an_upgrade_is_a_fresh_render_of_the_release_with_the_owners_edits(
    template: Template, project: Path, tmp_path: Path
) -> None:
    write(project, {"mine.txt": "mine\n", "both.txt": LINES.replace("line 15\n", "my line\n")})
    commit(project, "Edit")
    outcome = template.upgrade(project)
    assert outcome.code == 0, outcome.output
    (tmp_path / "fresh").mkdir()
    expected = tree(template.render(tmp_path / "fresh", "holder=Grace", "ci=none", version="0.2.0"))
    expected["mine.txt"] = b"mine\n"
    expected["both.txt"] = expected["both.txt"].replace(b"line 15\n", b"my line\n")
    expected["conf/base.yml"] = b"of: owner\n"
    del expected["conf/more.yml"]
    assert tree(project) == expected
    assert git(project, "diff") == "" and git(project, "ls-files", "--others") == ""
    assert "kept as yours" in outcome.output and "conf/more.yml" in outcome.output


def test_what_is_not_released_is_not_taken(template: Template, project: Path) -> None:
    assert template.upgrade(project).code == 0
    assert not (project / "unreleased.txt").exists()


def test_after_an_upgrade_there_is_nothing_to_do(template: Template, project: Path) -> None:
    template.upgrade(project)
    commit(project, "Upgrade")
    before = state(project)
    outcome = template.upgrade(project)
    assert (outcome.code, state(project)) == (0, before)
    assert "Up to date" in outcome.output


def test_a_declared_new_name_of_a_file_takes_the_owners_edits_along(
    template: Template, project: Path
) -> None:
    write(project, {"old name.txt": f"first\n{LINES}my line\n"})
    commit(project, "Edit")
    assert template.upgrade(project).code == 1
    assert "my line\n" in (project / "new name.txt").read_text()
    assert not (project / "old name.txt").exists()


def test_a_declared_change_of_the_owners_file_is_merged_into_it(template: Template, project: Path) -> None:
    write(project, {"conf/needed.yml": "a: 1\n\n\n\n\nb: mine\n"})
    commit(project, "Edit")
    assert template.upgrade(project).code == 0
    assert (project / "conf/needed.yml").read_text() == "a: 2\n\n\n\n\nb: mine\n"


def test_a_dry_run_shows_the_same_plan_and_touches_nothing(template: Template, project: Path) -> None:
    write(project, {"gone.txt": "gone, but mine\n"})
    commit(project, "Edit")
    before = state(project)
    planned = template.upgrade(project, "--dry-run")
    assert state(project) == before
    done = template.upgrade(project)
    assert (planned.code, done.code) == (1, 1)
    assert [line for line in planned.output.splitlines() if line.startswith("    ")] == [
        line for line in done.output.splitlines() if line.startswith("    ")
    ]
    assert "in conflict: 1\n    gone.txt" in done.output


def test_abort_puts_everything_back(template: Template, project: Path) -> None:
    write(project, {"gone.txt": "gone, but mine\n", "both.txt": LINES.replace("line 3\n", "my line\n")})
    commit(project, "Edit")
    before = state(project)
    assert template.upgrade(project).code == 1
    assert (
        "<<<<<<< yours\nmy line\n=======\nline three\n>>>>>>> template-v0.2.0\n"
        in (project / "both.txt").read_text()
    )
    assert template.upgrade(project, "--abort").code == 0
    assert state(project) == before


def test_abort_leaves_alone_what_the_upgrade_did_not_touch(template: Template, project: Path) -> None:
    template.upgrade(project)
    write(project, {"conf/base.yml": "of: owner, and unsaved\n", "note.txt": "untracked\n"})
    assert template.upgrade(project, "--abort").code == 0
    assert (project / "conf/base.yml").read_text() == "of: owner, and unsaved\n"
    assert (project / "note.txt").exists()


@pytest.mark.parametrize("begun", ["never", "committed", "gone on", "reset"])
def test_abort_without_an_upgrade_under_way_is_refused(template: Template, project: Path, begun: str) -> None:
    if begun != "never":
        template.upgrade(project)
    if begun in ("committed", "gone on"):
        commit(project, "Upgrade")
    if begun == "gone on":
        write(project, {"both.txt": "mine\n"})
        commit(project, "Work of later")
    if begun == "reset":
        git(project, "reset", "--quiet", "--hard")
    write(project, {"both.txt": "unsaved\n"})
    if begun == "gone on":
        git(project, "add", "both.txt")
    outcome = template.upgrade(project, "--abort")
    assert outcome.code == 2
    assert "no upgrade to undo" in outcome.output
    assert (project / "both.txt").read_text() == "unsaved\n"


def edited(project: Path) -> str:
    write(project, {"both.txt": "unsaved\n"})
    return "changes are not committed"


def staged(project: Path) -> str:
    write(project, {"both.txt": "unsaved\n"})
    git(project, "add", "both.txt")
    return "changes are not committed"


def untracked(project: Path) -> str:
    write(project, {"note.txt": "untracked\n"})
    return "changes are not committed"


def ignored_in_the_way(project: Path) -> str:
    write(project, {".gitignore": "/data/\n"})
    commit(project, "Ignore data")
    write(project, {"data/new.txt": "my data\n"})
    return "data/new.txt is in the way"


def ignored_file_for_folder(project: Path) -> str:
    write(project, {".gitignore": "/data\n"})
    commit(project, "Ignore data")
    write(project, {"data": "my data\n"})
    return "data is in the way"


def ignored_link_for_folder(project: Path) -> str:
    write(project, {".gitignore": "/data\n"})
    commit(project, "Ignore data")
    (project / "data").symlink_to("..", target_is_directory=True)
    return "data is in the way"


def without_record(project: Path) -> str:
    git(project, "rm", "--quiet", RECORD)
    commit(project, "Delete the record")
    return "restore it from git"


def newer_than_any(project: Path) -> str:
    record = (project / RECORD).read_text()
    write(project, {RECORD: record.replace('"_version": "0.1.0"', '"_version": "0.3.0"')})
    commit(project, "From the future")
    return "does not go back"


def under_way(project: Path) -> str:
    template = Path((project / RECORD).read_text().split('"template": "')[1].split('"')[0])
    assert Outcome(project, [template / "upgrade", "update"]).code == 0
    return "under way"


@pytest.mark.parametrize(
    "prepare",
    [
        edited,
        staged,
        untracked,
        ignored_in_the_way,
        ignored_file_for_folder,
        ignored_link_for_folder,
        without_record,
        newer_than_any,
        under_way,
    ],
)
def test_refused(template: Template, project: Path, prepare: object) -> None:
    assert callable(prepare)
    reason = prepare(project)
    before = state(project)
    outcome = template.upgrade(project)
    assert outcome.code == 2, outcome.output
    assert reason in outcome.output
    assert "Traceback" not in outcome.output
    assert state(project) == before


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--to", "v0.9.0"], "there is no release 0.9.0; releases are 0.1.0, 0.2.0"),
        (["--set", "ci=jenkins"], "'jenkins' is not one of github, none"),
        (["--set", "license=none"], "answered when the project was rendered"),
        (["--set", "cj=none"], "no prompt asks for it"),
        (["--set", "ci"], "write --set NAME=VALUE"),
    ],
)
def test_flags_that_do_not_fit_are_refused(
    template: Template, project: Path, flags: list[str], reason: str
) -> None:
    before = state(project)
    outcome = template.upgrade(project, *flags)
    assert outcome.code == 2
    assert reason in outcome.output
    assert state(project) == before


def test_a_folder_outside_git_is_refused(template: Template, tmp_path: Path) -> None:
    outcome = template.upgrade(template.render(tmp_path))
    assert outcome.code == 2
    assert "not in a git repository" in outcome.output


def test_a_new_prompt_takes_its_answer_from_a_flag(template: Template, project: Path) -> None:
    assert template.upgrade(project, "--set", "ci=github").code == 0
    assert (project / "ci.txt").read_text() == "github\n"


def test_a_person_is_asked_for_new_prompts_only(template: Template, project: Path) -> None:
    person, terminal = pty.openpty()
    os.write(person, b"2\n")
    command = [sys.executable, str(template.folder / "upgrade"), "update"]
    done = subprocess.run(
        command, cwd=project, env=ENVIRONMENT, stdin=terminal, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (project / "ci.txt").read_text() == "github\n"  # the second: what changes nothing comes first
    assert done.stdout.count("Choose from") == 1


@pytest.mark.parametrize("commit_known", ["null", '"0123456789012345678901234567890123456789"'])
def test_where_the_commit_says_nothing_the_version_decides(
    template: Template, project: Path, commit_known: str
) -> None:
    lines = (project / RECORD).read_text().splitlines()
    lines[2] = f'  "commit": {commit_known},'
    write(project, {RECORD: "\n".join(lines) + "\n"})
    commit(project, "Lose the commit")
    outcome = template.upgrade(project)
    assert outcome.code == 0, outcome.output
    assert "line three" in (project / "both.txt").read_text()


def test_what_the_recorded_commit_had_is_no_edit_though_no_release_had_it(
    template: Template, project: Path
) -> None:
    between = git(template.folder, "log", "-1", "--format=%H", "--grep=Work between")
    lines = (project / RECORD).read_text().splitlines()
    lines[2] = f'  "commit": "{between}",'
    write(project, {RECORD: "\n".join(lines) + "\n", "between.txt": BETWEEN})
    commit(project, "As rendered from there")
    outcome = template.upgrade(project)
    assert outcome.code == 0, outcome.output
    assert "line third" in (project / "between.txt").read_text()


def test_a_project_that_cruft_made_can_be_upgraded(template: Template, tmp_path: Path) -> None:
    first = next(iter(releases(template.folder).values()))
    create = ["create", str(template.folder), "-y", "-d", "-c", first]
    run(tmp_path, sys.executable, "-m", "cruft", *create)
    git(tmp_path / "tiny", "init", "--quiet")
    commit(tmp_path / "tiny", "Render")
    outcome = template.upgrade(tmp_path / "tiny")
    assert outcome.code == 0, outcome.output
    assert "line three" in (tmp_path / "tiny" / "both.txt").read_text()


def test_releases_are_found_by_history_where_tags_are_missing(template: Template, tmp_path: Path) -> None:
    found = releases(template.folder)
    assert list(found) == ["0.1.0", "0.2.0"]
    subjects = [git(template.folder, "log", "-1", "--format=%s", made) for made in found.values()]
    assert subjects == ["Release 0.1.0", "Release 0.2.0"]
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(template.folder), str(clone))
    git(clone, "tag", "v0.2.0", "HEAD")
    assert releases(clone)["0.2.0"] == git(clone, "rev-parse", "HEAD") != found["0.2.0"]
    git(clone, "tag", "v0.3.0", "HEAD")
    assert list(releases(clone)) == ["0.1.0", "0.2.0"], "there the template says 0.2.0"


def test_a_release_is_the_merge_that_brings_the_version_to_the_main_line(tmp_path: Path) -> None:
    template = Template(tmp_path / "template")
    template.release("0.1.0", {"a.txt": "a\n"})
    git(template.folder, "switch", "--quiet", "--create", "next")
    template.release("0.2.0", {"a.txt": "b\n"})
    git(template.folder, "switch", "--quiet", "main")
    git(template.folder, "merge", "--quiet", "--no-ff", "--message", "Merge", "next")
    assert releases(template.folder)["0.2.0"] == git(template.folder, "rev-parse", "HEAD")


def test_every_declared_migration_can_be_read() -> None:
    declared = json.loads(MIGRATIONS.read_text())
    assert [version for version in declared if version != NEXT and not number(version)] == []
    assert len(between("0.0.0", "999.0.0")) == len(declared) - (NEXT in declared)


def test_an_upgrade_takes_the_migrations_of_later_versions_and_the_newest_word_on_what_is_owned(
    tmp_path: Path,
) -> None:
    declared = {
        version: {"owners": [version], "owned": owns}
        for version, owns in (("0.10.0", ["c/"]), ("0.9.0", ["a", "b/"]), ("0.2.0", ["a"]), ("0.11.0", []))
    }
    path = tmp_path / "migrations.json"
    path.write_text(json.dumps(declared | {NEXT: {"owned": ["d"]}}))
    assert [one.owners for one in between("0.2.0", "0.10.0", path=path)] == [["0.9.0"], ["0.10.0"]]
    assert owned("0.9.1", path=path) == ["a", "b/"]
    assert owned("0.11.0", path=path) == ["c/"]
    assert [covers(["a", "b/"], path) for path in ("a", "a.orig", "b/c", "b")] == [True, False, True, False]


def test_a_misspelt_migration_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, {"migrations.json": '{"0.2.0": {"answer": {"a": "b"}}}'})
    with pytest.raises(TypeError, match="answer"):
        between("0.1.0", "0.2.0", path=tmp_path / "migrations.json")
