"""What a migration moves, joins and renews: the owner's lines go along, or stand in a conflict."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from migrations import Migration
from moves import Moves
from repository import BACK
from synthetic import ENVIRONMENT, Outcome, Template, commit, git, run, state, tree, write

ONE = "".join(f"one {number}\n" for number in range(20))
TWO = "".join(f"two {number}\n" for number in range(20))
MAKEFILE = "all:\n\t@echo all\n"
Edits = Mapping[str, str | bytes | None]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Two releases: the second moves the folder `rooms` into `house`, and joins two files of it."""
    template = Template(tmp_path_factory.mktemp("moves") / "template")
    old = {
        "rooms/one.txt": ONE,
        "rooms/two.txt": TWO,
        "rooms/alone.txt": ONE,
        "rooms/gone.txt": TWO,
        "tests/old.txt": "old test\n",
        "conf/base.yml": "# Head.\nfirst:\n  old: 1\n  kept: 2\n",
        "conf/dev.yml": "first:\n  old: 3\n",
        "Makefile": MAKEFILE,
    }
    template.release("0.1.0", old)
    new: dict[str, str | bytes | None] = dict.fromkeys(old) | {
        "house/both.txt": ONE.replace("one 3\n", "one three\n") + TWO.replace("two 15\n", "two fifteen\n"),
        "house/alone.txt": ONE.replace("one 3\n", "one three\n"),
        "tests/new.txt": "new test\n",
        "conf/base.yml": "# Another head.\nfirst:\n  new: 1\n  kept: 5\n  more: 6\n",
        "conf/dev.yml": "first:\n  new: 3\n",
        "Makefile": MAKEFILE.replace("echo all", "echo more"),
    }
    template.release(
        "0.2.0",
        new,
        {
            "files": {
                "rooms/": "house/",
                "rooms/one.txt": "house/both.txt",
                "rooms/two.txt": "house/both.txt",
                "rooms/alone.txt": ["cellar/alone.txt", "house/alone.txt"],
            },
            "owned": ["house/", "tests/", "conf/"],
            "owners": ["house/", "tests/"],
            "renewed": ["conf/"],
            "settings": {
                "conf/*.yml": {"rename": {"first.old": "first.new"}},
                "conf/base.yml": {"add": ["first.more"]},
            },
            "advice": {"rooms/gone.txt": "it is in the shed now"},
        },
    )
    return template


@pytest.fixture(scope="module")
def rendered(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template.project(tmp_path_factory.mktemp("rendered"), version="0.1.0")


@pytest.fixture
def project(rendered: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rendered, tmp_path / "project"))


def upgrade(template: Template, project: Path, edits: Edits) -> Outcome:
    write(project, edits)
    commit(project, "Edits")
    return template.upgrade(project)


def text(project: Path, name: str) -> str:
    return (project / name).read_text()


def unmerged(project: Path) -> list[str]:
    return git(project, "diff", "--name-only", "--diff-filter=U").splitlines()


def test_without_edits_all_is_as_in_a_new_render(template: Template, project: Path, tmp_path: Path) -> None:
    outcome = template.upgrade(project)
    assert outcome.code == 0, outcome.output
    (tmp_path / "fresh").mkdir()
    assert tree(project) == tree(template.render(tmp_path / "fresh", version="0.2.0"))
    assert "    rooms/one.txt, rooms/two.txt -> house/both.txt\n" in outcome.output


def test_edits_in_files_that_are_joined_are_merged(template: Template, project: Path) -> None:
    outcome = upgrade(
        template,
        project,
        {
            "rooms/one.txt": ONE.replace("one 10\n", "mine\n").removesuffix("\n"),
            "rooms/two.txt": TWO.replace("two 5\n", "mine too\n"),
        },
    )
    assert outcome.code == 0, outcome.output
    joined = {*text(project, "house/both.txt").split("\n")}
    assert {"mine", "mine too", "one three", "two fifteen", "one 19", "two 0"} <= joined


def test_of_folders_inside_each_other_that_move_the_inner_one_goes_its_own_way() -> None:
    migration = Migration(files={"rooms/": "house/", "rooms/inner/": "cellar/"})
    moves = Moves([migration], [], ["rooms/a.txt", "rooms/inner/b.txt"], [])
    assert moves.targets == {"rooms/a.txt": "house/a.txt", "rooms/inner/b.txt": "cellar/b.txt"}


@pytest.mark.parametrize(("name", "old"), [("one", "one 3\n"), ("two", "two 15\n")])
def test_edits_in_either_file_that_meet_the_templates_are_a_conflict(
    template: Template, project: Path, name: str, old: str
) -> None:
    before = text(project, f"rooms/{name}.txt")
    outcome = upgrade(template, project, {f"rooms/{name}.txt": before.replace(old, "mine\n")})
    assert (outcome.code, unmerged(project)) == (1, ["house/both.txt"])
    assert "<<<<<<< yours\nmine\n=======\n" in text(project, "house/both.txt")
    assert "was rooms/one.txt, rooms/two.txt; both changed the same lines" in outcome.output


def test_what_the_template_drops_stays_if_it_was_edited_with_advice(
    template: Template, project: Path
) -> None:
    outcome = upgrade(template, project, {"rooms/gone.txt": TWO + "mine\n", "tests/old.txt": "mine\n"})
    assert (outcome.code, unmerged(project)) == (1, ["house/gone.txt", "tests/old.txt"])
    assert text(project, "house/gone.txt") == TWO + "mine\n"
    assert "it is in the shed now" in outcome.output


def test_files_that_the_owner_added_move_along(template: Template, project: Path) -> None:
    added: Edits = {"rooms/mine.txt": "mine\n", "rooms/deep/mine.txt": "mine\n", "tests/mine.txt": "mine\n"}
    outcome = upgrade(template, project, added)
    assert outcome.code == 0, outcome.output
    assert text(project, "house/mine.txt") == text(project, "house/deep/mine.txt") == "mine\n"
    assert text(project, "tests/mine.txt") == "mine\n"
    assert not (project / "rooms").exists()


def test_a_file_that_the_owner_added_is_not_joined_with_ours(template: Template, project: Path) -> None:
    assert upgrade(template, project, {"rooms/both.txt": "mine\n"}).code == 0
    assert text(project, "rooms/both.txt") == "mine\n"
    assert "mine" not in text(project, "house/both.txt")


def test_a_file_of_the_owners_in_the_place_meets_ours_as_a_conflict(
    template: Template, project: Path
) -> None:
    outcome = upgrade(template, project, {"house/both.txt": "my own\n", "rooms/one.txt": ONE + "mine\n"})
    assert (outcome.code, unmerged(project)) == (1, ["house/both.txt", "rooms/one.txt"])
    assert "<<<<<<< yours\nmy own\n=======\none 0\n" in text(project, "house/both.txt")
    assert text(project, "rooms/one.txt") == ONE + "mine\n"


def test_an_owners_settings_change_by_key_and_keep_their_form(template: Template, project: Path) -> None:
    outcome = upgrade(template, project, {"conf/base.yml": "first:\n    # Mine.\n    old: 7  # mine\n"})
    assert outcome.code == 0, outcome.output
    assert text(project, "conf/base.yml") == "first:\n    # Mine.\n    new: 7  # mine\n    more: 6\n"
    assert text(project, "conf/dev.yml") == "first:\n  new: 3\n"
    assert "    conf/base.yml: renamed first.old to first.new\n" in outcome.output
    assert "    conf/base.yml: added first.more\n" in outcome.output


def test_a_task_that_is_left_to_the_owner_shows_in_the_exit_code(template: Template, project: Path) -> None:
    outcome = upgrade(template, project, {"conf/base.yml": "first: {old: 7}\n"})
    assert (outcome.code, unmerged(project)) == (1, [])
    assert "for you to do: 2\n    conf/base.yml: first.old is written in one line" in outcome.output


def test_the_way_back_works_while_the_makefile_holds_conflict_marks(
    template: Template, project: Path
) -> None:
    write(project, {"Makefile": MAKEFILE.replace("echo all", "echo mine"), "rooms/mine.txt": "mine\n"})
    commit(project, "Edits")
    before = state(project)
    outcome = template.upgrade(project)
    assert (outcome.code, unmerged(project)) == (1, ["Makefile"])
    assert "<<<<<<< yours\n\t@echo mine\n=======\n\t@echo more\n>>>>>>> " in text(project, "Makefile")
    refused = subprocess.run(["make"], cwd=project, env=ENVIRONMENT, capture_output=True, text=True)
    assert (refused.returncode, "Makefile:2: *** missing separator" in refused.stderr) == (2, True)
    assert f"To put everything back: {BACK}\n" in outcome.output
    run(project, *BACK.split())
    assert state(project) | {"references": ""} == before | {"references": ""}
    assert template.upgrade(project).code == 1


SETTINGS = {
    "line ends of Windows in the working tree": "[core]\nautocrlf = true\n",
    "bare repositories by name only": "[safe]\nbareRepository = explicit\n",
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_what_a_person_sets_for_git_makes_no_difference(
    template: Template, project: Path, settings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, {"rooms/one.txt": ONE.replace("one 10\n", "mine\n"), "rooms/gone.txt": TWO + "mine\n"})
    commit(project, "Edits")
    plain = Path(shutil.copytree(project, project.parent / "plain"))
    expected = template.upgrade(plain)
    write(tmp_path, {"gitconfig": settings})
    monkeypatch.setitem(ENVIRONMENT, "GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    outcome = template.upgrade(project)
    assert (outcome.code, outcome.output) == (expected.code, expected.output)
    assert git(project, "ls-files", "--stage") == git(plain, "ls-files", "--stage")
    assert git(project, "diff", "--name-only", "--diff-filter=M") == ""
    assert template.upgrade(project, "--abort").code == 0
    assert git(project, "status", "--porcelain") == ""


def test_line_ends_of_windows_in_the_repository_are_no_edit(template: Template, project: Path) -> None:
    windows = {
        name: content.replace(b"\n", b"\r\n").replace(b"one 10", b"mine")
        for name, content in tree(project).items()
        if name != ".cruft.json"
    }
    outcome = upgrade(template, project, windows)
    assert outcome.code == 0, outcome.output
    both = (project / "house/both.txt").read_bytes()
    assert b"mine\r\n" in both and b"one three\r\n" in both
    assert both.count(b"\n") == both.count(b"\r\n")


def test_an_old_git_is_refused_in_one_line(
    template: Template, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    itself = shutil.which("git")
    fake = f'#!/bin/sh\n[ "$1" = version ] && echo "git version 2.9.4" && exit\nexec {itself} "$@"\n'
    write(tmp_path, {"bin/git": fake})
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setitem(ENVIRONMENT, "PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    outcome = template.upgrade(project)
    assert outcome.code == 2
    assert outcome.output == "refused: upgrades need git 2.38 or newer; this is git version 2.9.4\n"
