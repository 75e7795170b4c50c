"""Merge what the template changed into a project: three ways, from the old render as the common ancestor.

What a migration declares (moves, joined files, imports, settings by key) is done to the old render and to the
project alike. What differs between the two then is the owner's, and git merges it with the new render.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from imports import lost, rewrite
from migrations import Keys, Migration, covers
from moves import Moves, module
from repository import Files, Plan, Scratch, git
from settings import Edited, edit, keys_for

RECORD = ".cruft.json"
# What a person does about a conflict, by the stages that git leaves of it.
ADVICE = {
    "12": "the template has this file no longer, and you changed it: take over what you need elsewhere, then "
    "`git rm` it; or `git add` it to keep it",
    "23": "you and the template both added this file: make one of the two, then `git add` it",
    "123": "both changed the same lines: between the marks, yours come first; edit, then `git add` it",
}
OTHER = "look at `git status`"


def plan(
    scratch: Scratch,
    files: Files,
    old: Path,
    new: Path,
    label: str,
    migrations: Sequence[Migration],
    owned: Collection[str],
) -> Plan:
    """Work out the merge of the project's files with the way from the old to the new render.

    `label` names the template's side in conflict markers, `owned` is what is the owner's in the new version.
    The record is always the new one.
    """
    base, theirs, ours = scratch.add(old), scratch.add(new), dict(files)
    base[RECORD] = ours[RECORD]
    seed = dict(base)
    moves = Moves(migrations, base, ours, theirs)
    base, _ = _move(scratch, moves, base)
    ours, renamed = _move(scratch, moves, ours)
    done, todo = _settings(scratch, migrations, base, ours, theirs)
    _endings(scratch, base, ours, theirs)
    left = _leave(migrations, owned, base, ours, theirs)
    scratch.commit("old", base)
    scratch.commit("yours", ours, "old")
    merged, unmerged = _merge(scratch, label, base, ours, theirs)
    stay_deleted = [path for path, stages in unmerged.items() if _stages(stages) == "13"]
    for path in stay_deleted:
        merged.pop(path, None)
        del unmerged[path]
    scratch.commit("merged", merged, "yours", label)
    sources = {
        target: paths
        for target, paths in moves.sources(files).items()
        if paths != [target] and target in merged
    }
    gone = (
        files.keys()
        - merged.keys()
        - unmerged.keys()
        - {path for paths in sources.values() for path in paths}
    )
    return Plan(
        files=merged,
        unmerged=unmerged,
        added=sorted(merged.keys() - files.keys() - unmerged.keys() - sources.keys()),
        moved=sorted(f"{', '.join(paths)} -> {target}" for target, paths in sources.items()),
        changed=sorted(
            path
            for path in (merged.keys() & files.keys()) - unmerged.keys() - sources.keys()
            if merged[path] != files[path]
        ),
        deleted=sorted(gone),
        stay_deleted=stay_deleted,
        left=left,
        imports=sorted(moves.targets[path] for path in renamed if files[path] != seed.get(path)),
        settings=done,
        todo=[*todo, *_look(scratch, moves, seed, merged, unmerged.keys(), theirs)],
        advice={path: _advice(path, stages, migrations, moves) for path, stages in unmerged.items()},
    )


def _move(scratch: Scratch, moves: Moves, files: Files) -> tuple[Files, set[str]]:
    """Put files where the moves say, with their imports as of there; join those that go to the same place.

    Returns them, and those whose imports were changed, by their old names.
    """
    sources = moves.sources(files)
    joined = {target: paths for target, paths in sources.items() if len(paths) > 1}
    python = [path for path, entry in files.items() if path.endswith(".py") and entry.startswith("100")]
    wanted = {*python, *(path for paths in joined.values() for path in paths)}
    contents = scratch.read(_object(files[path]) for path in wanted)
    texts = {path: contents[_object(files[path])] for path in wanted}
    for path in python:
        texts[path] = _imports(texts[path], path, moves)
    renamed = {path for path in python if texts[path] != contents[_object(files[path])]}
    moved, written = {}, {}
    for target, paths in sources.items():
        moved[target] = files[paths[0]]
        if paths[0] in texts:
            content = _join([texts[path] for path in paths])
            if content != contents[_object(files[paths[0]])]:
                written[target] = content
    return moved | _store(scratch, moved, written), renamed


def _join(texts: Sequence[bytes]) -> bytes:
    whole = [text if text.endswith(b"\n") or not text else text + b"\n" for text in texts[:-1]]
    return b"".join([*whole, *texts[-1:]])


def _settings(
    scratch: Scratch, migrations: Sequence[Migration], base: Files, ours: Files, theirs: Files
) -> tuple[list[str], list[str]]:
    """Change settings by key, in place; return what was done to edited files, and what is to do."""
    done, todo = [], []
    declared = {path: keys for path in sorted({*base, *ours}) if (keys := keys_for(migrations, path))}
    sides = [{path: side[path] for path in declared if path in side} for side in (base, ours, theirs)]
    contents = scratch.read(_object(entry) for side in sides for entry in side.values())
    for path, keys in declared.items():
        texts = [
            contents[_object(side[path])].decode("utf-8", "surrogateescape") if path in side else None
            for side in sides
        ]
        seeded, example = texts[0] or "", texts[2]
        results = [_edit(text, keys, example, seeded) for text in texts[:2]]
        for side, text, result in zip((base, ours), texts[:2], results, strict=True):
            if result and result.text != text:
                side |= _store(scratch, side, {path: result.text.encode("utf-8", "surrogateescape")})
        before, after = results
        if after and texts[0] != texts[1]:
            done += [f"{path}: {note}" for note in after.notes]
            todo += [f"{path}: {task}" for task in after.todo]
            for key, lines in after.removed.items():
                if not before or before.removed.get(key) != lines:
                    why = next(step.remove[key] for step in keys if key in step.remove)
                    todo.append(f"{path}: your `{lines}` was taken out: {key}: {why}")
    return done, todo


def _edit(text: str | None, keys: Iterable[Keys], example: str | None, seeded: str) -> Edited | None:
    if text is None:
        return None
    whole = Edited(text, [], [], {})
    for step in keys:
        result = edit(whole.text, step, example, seeded)
        whole = Edited(
            result.text,
            whole.notes + result.notes,
            whole.todo + result.todo,
            whole.removed | result.removed,
        )
    return whole


def _endings(scratch: Scratch, base: Files, ours: Files, theirs: Files) -> None:
    """Where the owner's file has the line endings of Windows, compare it with renders that have them, too."""
    edited = [path for path in base.keys() & ours.keys() if base[path] != ours[path] and _is_file(ours[path])]
    contents = scratch.read(_object(side[path]) for path in edited for side in (base, ours))
    windows = [
        path
        for path in edited
        if b"\r\n" in contents[_object(ours[path])] and b"\r\n" not in contents[_object(base[path])]
    ]
    for side in (base, theirs):
        here = [path for path in windows if path in side]
        contents = scratch.read(_object(side[path]) for path in here)
        changed = {path: contents[_object(side[path])].replace(b"\n", b"\r\n") for path in here}
        side |= _store(scratch, side, changed)


def _leave(
    migrations: Sequence[Migration], owned: Collection[str], base: Files, ours: Files, theirs: Files
) -> list[str]:
    """Let `theirs` be as before where it is the owner's and no migration says otherwise; return where."""
    taken = [path for migration in migrations for path in migration.owners]
    renewed = [path for migration in migrations for path in migration.renewed]
    left = []
    for path in sorted(base.keys() | theirs.keys()):
        if base.get(path) == theirs.get(path) or not covers(owned, path) or covers(taken, path):
            continue
        if covers(renewed, path) and base.get(path) == ours.get(path):
            continue
        left.append(path)
        if path in base:
            theirs[path] = base[path]
        else:
            del theirs[path]
    return left


def _merge(
    scratch: Scratch, label: str, base: Files, ours: Files, theirs: Files
) -> tuple[Files, dict[str, list[str]]]:
    """Merge; return files and unmerged stages.

    Git follows what the owner renamed, but must not guess what the template did: so what the template deletes
    stays for the merge, and goes afterwards, unless the owner changed it.
    """
    dead = {path for path in base.keys() - theirs.keys() if not _crosses(path, theirs)}
    scratch.commit(label, theirs | {path: base[path] for path in dead}, "old")
    words = ["merge-tree", "--write-tree", "-z", "yours", label]
    fields = git(scratch.folder, *words, bare=True).split("\0")
    unmerged: dict[str, list[str]] = {}
    for line in fields[1 : fields.index("", 1)]:
        stage, path = line.split("\t", 1)
        unmerged.setdefault(path, []).append(stage)
    merged = scratch.listing(fields[0])
    for path in dead & merged.keys() - unmerged.keys():
        if merged[path] == base[path]:
            del merged[path]
        else:
            unmerged[path] = [f"{base[path]} 1", f"{merged[path]} 2"]
    for path, name in _renames(scratch).items():
        if path in dead and name in merged:
            unmerged[name] = [f"{base[path]} 1", f"{merged[name]} 2"]
    scratch.commit(label, theirs, "old")
    return merged, unmerged


def _crosses(path: str, files: Files) -> bool:
    """Whether a file cannot be beside these: one of them is in a folder of its name, or has its folder's."""
    above = path.split("/")[:-1]
    return any("/".join(above[: n + 1]) in files for n in range(len(above))) or any(
        other.startswith(f"{path}/") for other in files
    )


def _renames(scratch: Scratch) -> dict[str, str]:
    """Return what the owner renamed, as git sees it: the old path and the new one."""
    words = ["diff-tree", "-r", "-z", "--find-renames", "--diff-filter=R"]
    fields = git(scratch.folder, *words, "old", "yours", bare=True).split("\0")
    return dict(zip(fields[1::3], fields[2::3], strict=False))


def _stages(stages: Iterable[str]) -> str:
    return "".join(sorted(stage[-1] for stage in stages))


def _advice(path: str, stages: Iterable[str], migrations: Iterable[Migration], moves: Moves) -> str:
    """Say what a conflict is and what to do, and what the migrations say of its place."""
    words = [ADVICE.get(_stages(stages), OTHER)]
    sources = sorted(source for source, target in moves.targets.items() if target == path != source)
    if sources:
        words.insert(0, f"was {', '.join(sources)}")
    places = {*sources, path}
    for migration in migrations:
        for place, advice in migration.advice.items():
            if any(covers([place], one) for one in places):
                words.append(advice)
    return "; ".join(words)


def _look(
    scratch: Scratch,
    moves: Moves,
    seed: Files,
    merged: Files,
    unmerged: Collection[str],
    theirs: Files,
) -> Iterator[str]:
    """Find what the owner wrote that names what has moved or is gone; give a line for each place."""
    places = {path: target if target in merged else "" for path, target in moves.targets.items()}
    places = {path: target for path, target in places.items() if target != path}
    if not places:
        return
    places |= {name: module(target) or "" for path, target in places.items() if (name := module(path))}
    packages = {name.split(".")[0] for path in [*seed, *theirs] if (name := module(path))}
    text = _Texts(scratch, merged)
    for path in sorted(merged.keys() - unmerged - {RECORD}):
        if merged[path] == theirs.get(path) or (source := text(path)) is None:
            continue
        if path.endswith(".py"):
            found = lost(source, path, text, lambda name: name.split(".")[0] in packages)
            yield from (f"{path}, {what}" for what in found)
            continue
        told = set((_Texts(scratch, theirs)(path) or "").splitlines())
        for number, line in enumerate(source.splitlines(), 1):
            for word in re.findall(r"[\w/.-]+", line) if line not in told else ():
                name = word.strip("./")
                now = places.get(name, name)
                if now != name:
                    yield f"{path}, line {number}: {name} is {f'{now} now' if now else 'gone'}"


class _Texts:
    """The texts of files, read as they are asked for; None for a file that is not there, or not text."""

    def __init__(self, scratch: Scratch, files: Files) -> None:
        self._scratch, self._files = scratch, files

    def __call__(self, path: str) -> str | None:
        entry = self._files.get(path)
        if entry is None or not _is_file(entry):
            return None
        content = self._scratch.read([_object(entry)])[_object(entry)]
        return None if b"\0" in content else content.decode("utf-8", "replace")


def _imports(content: bytes, path: str, moves: Moves) -> bytes:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return content
    return rewrite(text, path, moves.targets[path], moves.renamed).encode()


def _store(scratch: Scratch, files: Files, contents: dict[str, bytes]) -> Files:
    """Return the entries of files with new contents."""
    names = scratch.write(contents.values()) if contents else []
    return {path: f"{files[path].split()[0]} {name}" for path, name in zip(contents, names, strict=True)}


def _object(entry: str) -> str:
    return entry.split()[1]


def _is_file(entry: str) -> bool:
    return entry.startswith("100")
