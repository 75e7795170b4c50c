"""Merge what the template changed into a project, through git objects.

The merge is worked out in a scratch repository that borrows the project's objects, so a plan touches nothing.
Putting it into the project writes first the index, in one step, then the files: whenever that is interrupted,
git still knows each file as it was, and `undo` brings it back.
"""

import os
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from answers import Migration, RefusedError

RECORD = ".cruft.json"
# Here the template seeds files once; then they are their owner's.
OWNERS = ("src/<package>/usecase/", "conf/", "notebooks/", "tests/data/", "tests/model/")
# In the project, until the next upgrade: what was put into it, and the commit it was put upon.
MERGED, BEFORE = "refs/update-template/merged", "refs/update-template/before"

# Of the scratch repository: a merge comes out the same whatever its owner's git is set to.
CONFIG = """
[user]
    name = update-template
    email = update-template
[core]
    autocrlf = false
[merge]
    conflictStyle = merge
    renames = true
    directoryRenames = true
"""

Files = dict[str, str]  # path in the project: mode and object, as in "100644 <hash>"


def git(folder: Path, *words: str, data: str | None = None, index: Path | None = None) -> str:
    """Run git in a folder and return what it prints. Raises RefusedError with git's own words if it fails."""
    environment = os.environ | {"GIT_LITERAL_PATHSPECS": "1"}
    if index:
        environment["GIT_INDEX_FILE"] = str(index)
    done = subprocess.run(
        ["git", *words],
        cwd=folder,
        env=environment,
        input=None if data is None else os.fsencode(data),
        stdin=subprocess.DEVNULL if data is None else None,
        capture_output=True,
    )
    if done.returncode and not (words[0] == "merge-tree" and done.returncode == 1):
        raise RefusedError(f"git {words[0]}: {os.fsdecode(done.stderr).strip()}")
    return os.fsdecode(done.stdout)


@dataclass
class Plan:
    """What an upgrade would do to each file of a project."""

    files: Files  # the project afterwards; conflicting files with git's markers in them
    unmerged: dict[str, list[str]]  # conflicting file: its "mode object stage" lines
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    stay_deleted: list[str] = field(default_factory=list)  # the owner deleted what the template changed
    left: list[str] = field(default_factory=list)  # the owner's, and the template changed what it seeds
    notes: list[str] = field(default_factory=list)  # what git says about the conflicts


class Project:
    """A project's folder: the top of a git repository, or a folder inside one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.top = Path(git(folder, "rev-parse", "--show-toplevel").rstrip("\n"))
            self.head = git(folder, "rev-parse", "--verify", "HEAD^{commit}").strip()
        except RefusedError as error:
            raise RefusedError(f"{folder}: not in a git repository with a commit ({error})") from error
        self.prefix = git(folder, "rev-parse", "--show-prefix").rstrip("\n")

    def files(self) -> Files:
        """Return what the last commit holds of the project."""
        return listing(self.folder, f"HEAD:{self.prefix}")

    def check_clean(self) -> None:
        """Raise RefusedError if anything here is not committed."""
        status = git(self.folder, "status", "--porcelain", "--untracked-files=normal", "--", ".")
        if not status:
            return
        if self._ref(BEFORE) == self.head:
            raise RefusedError(
                "an upgrade is under way here: finish and commit it, or put everything back with\n"
                "    make update-template FLAGS=--abort"
            )
        raise RefusedError(
            f"changes are not committed; commit them, or `git stash -u`, first:\n{status.rstrip()}"
        )

    def put(self, plan: Plan, scratch: Path) -> None:
        """Bring index and files to what the plan says."""
        before = self.files()
        for path in plan.files.keys() - before.keys():
            for name in self._in_the_way(path, before):
                raise RefusedError(
                    f"{name} is in the way: the template brings {path}, git does not track yours"
                )
        git(self.folder, "update-ref", BEFORE, self.head)
        words = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"]
        git(self.folder, *words, str(scratch), f"+refs/heads/merged:{MERGED}")
        paths = differing(before, plan.files)
        self._write_index({*paths, *plan.unmerged}, plan.files, plan.unmerged)
        self._write_files(paths, plan.files, scratch)
        git(self.folder, "status", "--porcelain")  # lets git see that the files are what the index says

    def _in_the_way(self, path: str, tracked: Files) -> list[str]:
        """Return what writing a new file would overwrite although git does not know it: ignored files."""
        target = self.folder / path
        if target.is_dir() and not target.is_symlink():
            found = [file for file in target.rglob("*") if not file.is_dir() or file.is_symlink()]
        else:
            places = [target, *target.parents][: len(PurePosixPath(path).parts)]
            found = [place for place in places if place.is_symlink() or place.is_file()]
        names = [file.relative_to(self.folder).as_posix() for file in found]
        return [name for name in names if name not in tracked]

    def undo(self) -> None:
        """Put back what an upgrade, finished or interrupted, has changed since the last commit.

        The index goes last: as long as it holds something of the upgrade, there is something to undo.
        """
        refusal = RefusedError("there is no upgrade to undo: none was begun since the last commit")
        if self._ref(BEFORE) != self.head or not self._ref(MERGED):
            raise refusal
        before = self.files()
        conflicts = git(self.folder, "ls-files", "-z", "--unmerged").split("\0")
        paths = {line.split("\t", 1)[1] for line in conflicts if line}
        paths |= set(differing(listing(self.folder, MERGED), before))
        staged = git(
            self.folder, "diff", "--cached", "--name-only", "--relative", "--no-renames", "-z", "HEAD"
        )
        if not paths & set(staged.split("\0")):
            raise refusal
        self._write_files(paths, before, Path(git(self.folder, "rev-parse", "--absolute-git-dir").strip()))
        self._write_index(paths, before, {})
        git(self.folder, "status", "--porcelain")
        git(self.folder, "update-ref", "-d", MERGED)
        git(self.folder, "update-ref", "-d", BEFORE)

    def _ref(self, name: str) -> str:
        return git(self.folder, "for-each-ref", "--format=%(objectname)", name).strip()

    def _write_index(self, paths: Collection[str], files: Files, unmerged: Mapping[str, list[str]]) -> None:
        """Make the index hold these paths as they are in `files`, or as conflicts, in one step."""
        lines = [f"0 {'0' * len(self.head)}\t{self.prefix}{path}" for path in paths]
        for path in paths:
            entry = [files[path]] if path in files else []
            lines += [f"{stage}\t{self.prefix}{path}" for stage in unmerged.get(path, entry)]
        git(self.folder, "update-index", "-z", "--index-info", data="".join(f"{line}\0" for line in lines))

    def _write_files(self, paths: Collection[str], files: Files, scratch: Path) -> None:
        """Make these paths be on disk as they are in `files`; a path that is not there is deleted."""
        for path in paths:
            if path not in files:
                self._delete(self.folder / path)
        index = scratch / "update-template.index"
        index.unlink(missing_ok=True)
        lines = "".join(f"{files[path]}\t{self.prefix}{path}\0" for path in paths if path in files)
        git(self.top, "update-index", "-z", "--index-info", data=lines, index=index)
        git(self.top, "checkout-index", "--force", "--all", index=index)
        index.unlink(missing_ok=True)

    def _delete(self, path: Path) -> None:
        if os.path.lexists(path) and not (path.is_dir() and not path.is_symlink()):
            path.unlink()
        for folder in path.parents:
            if folder == self.folder or not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()


def differing(some: Files, others: Files) -> list[str]:
    """Return the paths that are not the same in both."""
    return sorted(path for path in some.keys() | others.keys() if some.get(path) != others.get(path))


def listing(repository: Path, tree: str) -> Files:
    """Return the files of a tree."""
    found = {}
    for line in git(repository, "ls-tree", "-r", "-z", "--full-tree", tree).split("\0"):
        if line:
            entry, path = line.split("\t", 1)
            mode, _, name = entry.split()
            found[path] = f"{mode} {name}"
    return found


class Scratch:
    """A bare repository that sees the project's objects and keeps its own apart."""

    def __init__(self, folder: Path, project: Project) -> None:
        self.folder = folder
        kind = git(project.folder, "rev-parse", "--show-object-format").strip()
        git(folder.parent, "init", "--quiet", "--bare", f"--object-format={kind}", str(folder))
        objects = git(project.folder, "rev-parse", "--path-format=absolute", "--git-path", "objects")
        (folder / "objects" / "info" / "alternates").write_text(objects)
        with (folder / "config").open("a") as config:
            config.write(CONFIG)

    def add(self, render: Path) -> Files:
        """Store a rendered folder and return its files."""
        index = self.folder / "render.index"
        index.unlink(missing_ok=True)
        words = ["--git-dir", str(self.folder), "--work-tree", str(render)]
        git(render, *words, "-c", "core.bare=false", "add", "--all", "--force", ".", index=index)
        return listing(self.folder, git(self.folder, "write-tree", index=index).strip())

    def commit(self, branch: str, files: Files, *parents: str) -> None:
        """Make a branch whose only commit, besides its parents, holds these files."""
        index = self.folder / "commit.index"
        index.unlink(missing_ok=True)
        lines = "".join(f"{entry}\t{path}\0" for path, entry in files.items())
        git(self.folder, "update-index", "-z", "--index-info", data=lines, index=index)
        tree = git(self.folder, "write-tree", "--missing-ok", index=index).strip()
        words = [word for parent in parents for word in ("-p", parent)]
        made = git(self.folder, "commit-tree", tree, "-m", branch, *words).strip()
        git(self.folder, "update-ref", f"refs/heads/{branch}", made)


def plan(
    scratch: Scratch,
    files: Files,
    old: Path,
    new: Path,
    label: str,
    migrations: Iterable[Migration],
    package: str,
) -> Plan:
    """Work out the merge of the project's files with the way from the old to the new render.

    `label` names the template's side in conflict markers. The record is always the new one.
    """
    base, theirs, ours = scratch.add(old), scratch.add(new), dict(files)
    base[RECORD] = ours[RECORD]
    declared: set[str] = set()
    for migration in migrations:
        for source, target in _moves(migration, base, package):
            declared |= {source, target}
            if target in theirs and target not in base:
                base[target] = base.pop(source)
                if source in ours and target not in ours:
                    ours[target] = ours.pop(source)
        declared |= {path.replace("<package>", package) for path in migration.owners}
    owners = tuple(folder.replace("<package>", package) for folder in OWNERS)
    left = []
    for path in sorted(base.keys() | theirs.keys()):
        if path.startswith(owners) and path not in declared and base.get(path) != theirs.get(path):
            left.append(path)
            if path in base:
                theirs[path] = base[path]
            else:
                del theirs[path]
    scratch.commit("old", base)
    scratch.commit("yours", ours, "old")
    scratch.commit(label, theirs, "old")
    merged, unmerged, notes = _merge(scratch.folder, label)
    stay_deleted = [path for path, stages in unmerged.items() if [s[-1] for s in stages] == ["1", "3"]]
    for path in stay_deleted:
        merged.pop(path, None)
        del unmerged[path]
    scratch.commit("merged", merged, "yours", label)
    return Plan(
        files=merged,
        unmerged=unmerged,
        added=sorted(merged.keys() - files.keys() - unmerged.keys()),
        changed=sorted(p for p in merged.keys() & files.keys() - unmerged.keys() if merged[p] != files[p]),
        deleted=sorted(files.keys() - merged.keys() - unmerged.keys()),
        stay_deleted=stay_deleted,
        left=left,
        notes=[note for note in notes if not any(note.endswith(f" {path}") for path in stay_deleted)],
    )


def _moves(migration: Migration, base: Files, package: str) -> list[tuple[str, str]]:
    """Return the declared new paths, folders spelt out file by file."""
    found = []
    for source, target in migration.files.items():
        source, target = source.replace("<package>", package), target.replace("<package>", package)
        if source.endswith("/"):
            found += [(path, target + path.removeprefix(source)) for path in base if path.startswith(source)]
        elif source in base:
            found.append((source, target))
    return found


def _merge(scratch: Path, label: str) -> tuple[Files, dict[str, list[str]], list[str]]:
    """Merge the branches `yours` and `label`; return files, unmerged stages, and git's notes on conflicts."""
    fields = git(scratch, "merge-tree", "--write-tree", "-z", "--messages", "yours", label).split("\0")
    tree, rest = fields[0], fields[1:]
    unmerged: dict[str, list[str]] = {}
    while rest and rest[0]:
        stage, path = rest.pop(0).split("\t", 1)
        unmerged.setdefault(path, []).append(stage)
    rest = rest[1:]
    notes = []
    while rest and rest[0]:
        paths = int(rest[0])
        kind, text = rest[1 + paths], rest[2 + paths]
        rest = rest[3 + paths :]
        if kind.startswith("CONFLICT"):
            notes.append(text.strip())
    return listing(scratch, tree), unmerged, notes
