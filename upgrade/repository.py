"""A project in its git repository, and a scratch repository beside it in which the merge is worked out.

The scratch repository borrows the project's objects, so a plan touches nothing. Putting it into the project
writes first the index, in one step, then the files: whenever that is interrupted, git still knows each file
as it was, and `undo` brings it back.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from migrations import RefusedError

# In the project, until the next upgrade: what was put into it, and the commit it was put upon.
MERGED, BEFORE = "refs/update-template/merged", "refs/update-template/before"
# The first git whose merge-tree merges.
OLDEST = (2, 38)
# The way back that needs nothing but git: neither make nor any file that may hold conflict marks.
BACK = "git restore --source=HEAD --staged --worktree ."

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


def git(
    folder: Path, *words: str, data: bytes | None = None, index: Path | None = None, bare: bool = False
) -> str:
    """Run git in a folder and return what it prints. Raises RefusedError with git's own words if it fails."""
    return os.fsdecode(_git(folder, *words, data=data, index=index, bare=bare))


def _git(
    folder: Path, *words: str, data: bytes | None = None, index: Path | None = None, bare: bool = False
) -> bytes:
    environment = os.environ | {"GIT_LITERAL_PATHSPECS": "1"}
    if index:
        environment["GIT_INDEX_FILE"] = str(index)
    if bare:  # told, not found: safe.bareRepository=explicit forbids to find one
        environment["GIT_DIR"] = str(folder)
    done = subprocess.run(
        ["git", *words],
        cwd=folder,
        env=environment,
        input=data,
        stdin=subprocess.DEVNULL if data is None else None,
        capture_output=True,
    )
    if done.returncode and not (words[0] == "merge-tree" and done.returncode == 1):
        raise RefusedError(f"git {words[0]}: {os.fsdecode(done.stderr).strip()}")
    return done.stdout


def check_git() -> None:
    """Raise RefusedError if git is too old."""
    told = git(Path.cwd(), "version").strip()
    found = re.search(r"(\d+)\.(\d+)", told)
    if found and tuple(map(int, found.groups())) < OLDEST:
        raise RefusedError(f"upgrades need git {'.'.join(map(str, OLDEST))} or newer; this is {told}")


@dataclass
class Plan:
    """What an upgrade would do to each file of a project."""

    files: Files  # the project afterwards; conflicting files with git's markers in them
    unmerged: dict[str, list[str]]  # conflicting file: its "mode object stage" lines
    added: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)  # "from -> to"
    changed: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    stay_deleted: list[str] = field(default_factory=list)  # the owner deleted what the template changed
    left: list[str] = field(default_factory=list)  # the owner's, and the template changed what it seeds
    imports: list[str] = field(default_factory=list)  # the owner's, whose imports name other modules now
    settings: list[str] = field(default_factory=list)  # what was changed in the owner's settings, by key
    todo: list[str] = field(default_factory=list)  # what a person has to do besides the conflicts
    advice: dict[str, str] = field(default_factory=dict)  # conflicting file: what it is, and what to do


class Project:
    """A project's folder: the top of a git repository, or a folder inside one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        check_git()
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
                f"    make update-template FLAGS=--abort\nor, if make cannot run, with\n    {BACK}"
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
        git(self.folder, "update-index", "-z", "--index-info", data=_entries(lines))

    def _write_files(self, paths: Collection[str], files: Files, scratch: Path) -> None:
        """Make these paths be on disk as they are in `files`; a path that is not there is deleted."""
        for path in paths:
            if path not in files:
                self._delete(self.folder / path)
        index = scratch / "update-template.index"
        index.unlink(missing_ok=True)
        lines = [f"{files[path]}\t{self.prefix}{path}" for path in paths if path in files]
        git(self.top, "update-index", "-z", "--index-info", data=_entries(lines), index=index)
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


def listing(repository: Path, tree: str, bare: bool = False) -> Files:
    """Return the files of a tree."""
    found = {}
    for line in git(repository, "ls-tree", "-r", "-z", "--full-tree", tree, bare=bare).split("\0"):
        if line:
            entry, path = line.split("\t", 1)
            mode, _, name = entry.split()
            found[path] = f"{mode} {name}"
    return found


def _entries(lines: Iterable[str]) -> bytes:
    return os.fsencode("".join(f"{line}\0" for line in lines))


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
        return self.listing(git(self.folder, "write-tree", index=index, bare=True).strip())

    def commit(self, branch: str, files: Files, *parents: str) -> None:
        """Make a branch whose only commit, besides its parents, holds these files."""
        index = self.folder / "commit.index"
        index.unlink(missing_ok=True)
        lines = _entries(f"{entry}\t{path}" for path, entry in files.items())
        git(self.folder, "update-index", "-z", "--index-info", data=lines, index=index, bare=True)
        tree = git(self.folder, "write-tree", "--missing-ok", index=index, bare=True).strip()
        words = [word for parent in parents for word in ("-p", parent)]
        made = git(self.folder, "commit-tree", tree, "-m", branch, *words, bare=True).strip()
        git(self.folder, "update-ref", f"refs/heads/{branch}", made, bare=True)

    def listing(self, tree: str) -> Files:
        """Return the files of a tree."""
        return listing(self.folder, tree, bare=True)

    def read(self, objects: Iterable[str]) -> dict[str, bytes]:
        """Return the content of objects, by name."""
        names = sorted(set(objects))
        printed = _git(
            self.folder,
            "cat-file",
            "--batch",
            data="".join(f"{name}\n" for name in names).encode(),
            bare=True,
        )
        found, start = {}, 0
        for name in names:
            end = printed.index(b"\n", start)
            size = int(printed[start:end].split()[2])
            found[name] = printed[end + 1 : end + 1 + size]
            start = end + 1 + size + 1
        return found

    def write(self, contents: Iterable[bytes]) -> list[str]:
        """Store contents and return the names of their objects, in the same order."""
        with tempfile.TemporaryDirectory(dir=self.folder) as work:
            names = []
            for number, content in enumerate(contents):
                names.append(str(Path(work, str(number))))
                Path(names[-1]).write_bytes(content)
            data = os.fsencode("".join(f"{name}\n" for name in names))
            words = ["hash-object", "-w", "--no-filters", "--stdin-paths"]
            return git(self.folder, *words, data=data, bare=True).split()
