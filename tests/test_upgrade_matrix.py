"""Whatever template and owner do to a file, no line of the owner's is lost: all pairs, all layouts."""

from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic import Template, commit, git, run, state, tree, write

Deed = Callable[[str, Path, str], None]  # who does it, the file, what distinguishes its content


def edit(number: int) -> Deed:
    def change(who: str, path: Path, cell: str) -> None:
        lines = path.read_text().splitlines()
        lines[number] = f"{cell}: line of the {who}"
        path.write_text("\n".join(lines) + "\n")

    return change


def binary(who: str, path: Path, cell: str) -> None:
    path.write_bytes(b"\0\1" + f"{cell} {who}".encode() * 40)


def reformat(who: str, path: Path, cell: str) -> None:
    path.write_text("".join(f"    {line}\n" for line in path.read_text().splitlines()))


def rename(who: str, path: Path, cell: str) -> None:
    path.rename(path.with_name(f"{path.name}-of-the-{who}"))


def add(who: str, path: Path, cell: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{cell}: added by the {who}\n")


DEEDS: dict[str, Deed] = {
    "nothing": lambda who, path, cell: None,
    "edit": edit(4),
    "edit elsewhere": edit(24),
    "delete": lambda who, path, cell: path.unlink(),
    "rename": rename,
    "move": rename,  # a rename that the template declares
    "binary": binary,
    "mode": lambda who, path, cell: path.chmod(0o755),
    "reformat": reformat,
    "add": add,
}
# By what the template does: what the owner can do, so that a person has to look.
CONFLICTS = {
    "edit": {"edit", "binary", "reformat"},
    "edit elsewhere": {"edit elsewhere", "binary", "reformat"},
    "delete": {"edit", "edit elsewhere", "rename", "binary", "mode", "reformat"},
    "rename": {"edit", "edit elsewhere", "rename", "binary", "mode", "reformat"},
    "binary": {"edit", "edit elsewhere", "binary", "reformat"},
    "reformat": {"edit", "edit elsewhere", "binary"},
    "add": {"add"},
}
CELLS = {
    f"{of_template}, {of_owner}": (of_template, of_owner)
    for of_template in DEEDS
    for of_owner in DEEDS
    # Who adds a file meets another's new one, or none.
    if ("add" not in (of_template, of_owner) or {of_template, of_owner} <= {"add", "nothing"})
    and of_owner != "move"
}


def seed(folder: Path) -> None:
    """Write the file of each cell as it is before anybody does anything."""
    folder.mkdir(parents=True)
    for cell, deeds in CELLS.items():
        if "add" not in deeds:
            (folder / cell).write_text("".join(f"{cell}: line {number}\n" for number in range(30)))
        if "binary" in deeds and not {"edit", "edit elsewhere", "reformat"} & set(deeds):
            (folder / cell).write_bytes(b"\0\1" + cell.encode() * 40)


def act(who: str, folder: Path) -> None:
    """Let template or owner do their deed in each cell."""
    for cell, deeds in CELLS.items():
        DEEDS[deeds[who == "owner"]](who, folder / cell, cell)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Three releases: with one file only, with a file for each cell, with the template's deeds done."""
    template = Template(tmp_path_factory.mktemp("matrix") / "template")
    template.release("0.1.0", {"README.md": "tiny\n"})
    cells = template.folder / "{{cookiecutter.project_slug}}" / "cells"
    seed(cells)
    template.release("0.2.0", {})
    act("template", cells)
    moved = {f"cells/{cell}" for cell, (of_template, _) in CELLS.items() if of_template == "move"}
    template.release("0.3.0", {}, {"files": {path: f"{path}-of-the-template" for path in moved}})
    return template


def full(template: Template, work: Path) -> Path:
    return template.project(work, version="0.2.0")


def shallow(template: Template, work: Path) -> Path:
    """A clone of depth one, with the deeds in the one commit that it has."""
    origin = template.project(work, version="0.2.0")
    act("owner", origin / "cells")
    commit(origin, "Deeds")
    git(work, "clone", "--quiet", "--depth=1", f"file://{origin}", "shallow")
    assert git(work / "shallow", "rev-list", "--count", "HEAD") == "1"
    return work / "shallow"


def squashed(template: Template, work: Path) -> Path:
    """A project whose upgrade to the release before was merged as one commit without its parents."""
    project = template.project(work, version="0.1.0")
    git(project, "switch", "--quiet", "--create", "upgrade")
    assert template.upgrade(project, "--to", "v0.2.0").code == 0
    commit(project, "Upgrade")
    git(project, "switch", "--quiet", "main")
    git(project, "merge", "--quiet", "--squash", "upgrade")
    commit(project, "Upgrade, squashed")
    git(project, "branch", "--quiet", "-D", "upgrade")
    return project


def subfolder(template: Template, work: Path) -> Path:
    """A project that is a folder of a larger repository, which has unsaved work elsewhere."""
    repository = work / "large"
    project = repository / "ml" / "délais de vol"
    project.parent.mkdir(parents=True)
    template.render(work, version="0.2.0").rename(project)
    write(repository, {"elsewhere.txt": "saved\n", "cells/edit, edit": "of another project\n"})
    git(repository, "init", "--quiet", "--initial-branch=main")
    commit(repository, "Start")
    return project


LAYOUTS = {"full": full, "shallow": shallow, "squash merged": squashed, "subfolder": subfolder}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_line_of_the_owners_is_lost_whatever_both_sides_do(
    template: Template, tmp_path: Path, layout: str
) -> None:
    project = LAYOUTS[layout](template, tmp_path)
    seed(tmp_path / "seed")
    if layout != "shallow":
        act("owner", project / "cells")
        commit(project, "Deeds")
    if layout == "subfolder":
        write(project.parent.parent, {"elsewhere.txt": "unsaved\n"})
    before, untouched = tree(project), state(project)
    outcome = template.upgrade(project)
    after = tree(project)

    base = {f"cells/{name}": content for name, content in tree(tmp_path / "seed").items()}
    kept = {line for content in after.values() for line in content.split(b"\n")} | set(after.values())
    lost = {}
    for name in before.keys() - {".cruft.json", "README.md"}:
        content, seeded = before[name], base.get(renamed(name), b"")
        if b"\0" in content:
            lost[name] = {content} - {seeded} - kept
        else:
            lost[name] = set(content.split(b"\n")) - set(seeded.split(b"\n")) - kept
    assert {name: lines for name, lines in lost.items() if lines} == {}

    conflicts = {
        cell for cell, (of_template, of_owner) in CELLS.items() if of_owner in CONFLICTS.get(of_template, ())
    }
    unmerged = git(
        project, "-c", "core.quotePath=false", "diff", "--name-only", "--diff-filter=U", "--relative"
    )
    assert {renamed(name).removeprefix("cells/") for name in unmerged.splitlines()} == conflicts
    assert outcome.code == 1, outcome.output

    deleted = {f"cells/{cell}" for cell, deeds in CELLS.items() if deeds[1] == "delete"}
    deleted.remove("cells/rename, delete")  # under its undeclared new name it is a new file
    assert not deleted & {renamed(name) for name in after}
    for cell, (of_template, of_owner) in CELLS.items():
        where = [name for name in after if renamed(name) == f"cells/{cell}"]
        if of_template == "move" and of_owner not in {"rename", "delete"}:
            assert where == [f"cells/{cell}-of-the-template"]
        if of_template in {"edit", "edit elsewhere"} and of_owner != "delete" and cell not in conflicts:
            assert f"{cell}: line of the template".encode() in after[where[0]]
        if of_owner == "mode" or (of_template == "mode" and of_owner != "delete"):
            assert any((project / name).stat().st_mode & 0o111 for name in where)
    unstaged = {
        line[3:] for line in run(project, "git", "status", "--porcelain").splitlines() if line[1] == "M"
    }
    assert unstaged == ({"elsewhere.txt"} if layout == "subfolder" else set())
    assert git(project, "ls-files", "--others") == ""

    assert template.upgrade(project, "--abort").code == 0
    assert state(project) | {"references": ""} == untouched | {"references": ""}


def renamed(name: str) -> str:
    """Return the name that a file had before anybody renamed it."""
    return name.split("-of-the-")[0]
