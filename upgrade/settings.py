"""Changes of settings in YAML files by key: all other lines, comments and formatting stay as they are."""

import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from migrations import Keys, Migration


@dataclass
class Entry:
    """A key's lines in a file: comments right above it, the key, its value."""

    start: int
    key: int
    end: int  # the line after the last one
    indent: int


@dataclass
class Edited:
    """A file's new text, and what happened to it."""

    text: str
    notes: list[str]  # what was changed
    todo: list[str]  # what its owner has to do
    removed: dict[str, str]  # key: its lines


def keys_for(migrations: Iterable[Migration], path: str) -> list[Keys]:
    """Return the changes of keys that are declared for a file, oldest first."""
    return [
        Keys(**keys)
        for migration in migrations
        for pattern, keys in migration.settings.items()
        if fnmatch.fnmatchcase(path, pattern)
    ]


def edit(text: str, keys: Keys, example: str | None, seeded: str) -> Edited:
    """Rename, remove and add keys.

    `example` is the new render's file, where an added key's lines come from; `seeded` the old render's: a
    comment above a removed key goes with it if it stands there, and stays if it is the owner's. A file that
    is not YAML stays as it is, with a task for its owner.
    """
    import yaml

    done = Edited(text, [], [], {})
    try:
        for old, new in keys.rename.items():
            _rename(done, old, new)
        for key, instead in keys.remove.items():
            _remove(done, key, instead, set(seeded.splitlines()))
        for key in keys.add:
            if example is not None:
                _add(done, key, example)
        yaml.safe_load(done.text)
    except yaml.YAMLError as error:
        words = [f"{old} is called {new} now" for old, new in keys.rename.items()]
        words += [f"remove {key}: {instead}" for key, instead in keys.remove.items()]
        return Edited(
            text, [], [f"not readable ({' '.join(str(error).split())}); by hand: {'; '.join(words)}"], {}
        )
    return done


def _remove(done: Edited, key: str, instead: str, seeded: Collection[str]) -> None:
    entry = _find(done, key)
    if entry is None:
        return
    lines = done.text.splitlines(keepends=True)
    done.removed[key] = " ".join("".join(lines[entry.key : entry.end]).split())
    _cut(done, lines, key, entry, seeded)
    done.notes.append(f"removed {key}: {instead}")


def _cut(done: Edited, lines: list[str], key: str, entry: Entry, seeded: Collection[str]) -> None:
    """Take the lines out, and the heading above them with it if nothing else was below it."""
    comments = [line for line in lines[entry.start : entry.key] if line.rstrip("\r\n") not in seeded]
    done.text = "".join(lines[: entry.start] + comments + lines[entry.end :])
    parent = key.rpartition(".")[0]
    if parent and _value(done.text, parent) is None:
        heading = _find(done, parent)
        if heading:
            _cut(done, done.text.splitlines(keepends=True), parent, heading, seeded)


def _rename(done: Edited, old: str, new: str) -> None:
    entry = _find(done, old)
    if entry is None:
        return
    if _find(done, new):
        done.todo.append(f"{old} is called {new} now, which is there already: merge the two")
        return
    lines = done.text.splitlines(keepends=True)
    (parent, _, name), (new_parent, _, new_name) = old.rpartition("."), new.rpartition(".")
    line = lines[entry.key]
    lines[entry.key] = line[: entry.indent] + re.sub(
        rf"""^(["']?){re.escape(name)}\1""", new_name, line[entry.indent :], count=1
    )
    if parent == new_parent:
        done.text = "".join(lines)
    else:
        block = "".join(lines[entry.start : entry.end])
        _cut(done, lines, old, entry, [line.rstrip("\r\n") for line in lines])
        _insert(done, new_parent, block)
    done.notes.append(f"renamed {old} to {new}")


def _add(done: Edited, key: str, example: str) -> None:
    """Put in a key that is missing, as the new render writes it, and those of its headings that are."""
    while "." in key and _value(done.text, key.rpartition(".")[0]) is None:
        key = key.rpartition(".")[0]
    source = Edited(example, [], [], {})
    entry = _find(source, key)
    if entry is None or _find(done, key):
        return
    _insert(done, key.rpartition(".")[0], "".join(example.splitlines(keepends=True)[entry.start : entry.end]))
    done.notes.append(f"added {key}")


def _insert(done: Edited, parent: str, block: str) -> None:
    """Put a key's lines at the end of those below `parent`; an empty name is the file itself."""
    lines = done.text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    names = parent.split(".") if parent else []
    known = len(names)
    while known and _value(done.text, ".".join(names[:known])) is None:
        known -= 1
    if known < len(names) and _find(done, ".".join(names[: known + 1])):
        done.todo.append(f"{'.'.join(names[: known + 1])} is empty: put below it\n{block.rstrip()}")
        return
    for name in reversed(names[known:]):
        block = f"{name}:\n{_indented(block, 2)}"
    _insert_below(done, lines, ".".join(names[:known]), block)


def _insert_below(done: Edited, lines: list[str], parent: str, block: str) -> None:
    below = _entries(done.text, parent)
    if not parent:
        end, indent = len(lines), 0
        block = f"\n{block}" if lines else block
    elif below:
        end, indent = max(entry.end for entry in below.values()), next(iter(below.values())).indent
    else:
        done.todo.append(f"{parent} is written in one line: add to it\n{block.rstrip()}")
        return
    newline = "\r\n" if "\r\n" in done.text else "\n"
    text = _indented(block, indent).replace("\r\n", "\n").replace("\n", newline)
    done.text = "".join(lines[:end]) + text + "".join(lines[end:])


def _indented(block: str, indent: int) -> str:
    """Move lines so that the first key of them has this indent."""
    lines = block.splitlines(keepends=True)
    now = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "".join(" " * indent + line[now:] if line.strip() else line for line in lines)


def _find(done: Edited, key: str) -> Entry | None:
    """Return where a key is; None, with a task for the owner, where it has no lines of its own."""
    parent, _, name = key.rpartition(".")
    entry = _entries(done.text, parent).get(name)
    missing = object()
    if entry is None and _value(done.text, key, missing) is not missing:
        task = f"{key} is written in one line with others: change it by hand"
        if task not in done.todo:
            done.todo.append(task)
    return entry


def _value(text: str, key: str, missing: object = None) -> object:
    import yaml

    value: Any = yaml.safe_load(text)
    for name in key.split(".") if key else []:
        if not isinstance(value, Mapping) or name not in value:
            return missing
        value = value[name]
    return value


def _entries(text: str, parent: str) -> dict[str, Entry]:
    """Return where the keys right below `parent` are, if each has lines of its own."""
    import yaml

    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for name in parent.split(".") if parent else []:
        found = [value for key, value in _pairs(node) if key.value == name]
        node = found[0] if found else None
    lines = text.splitlines()
    flow = isinstance(node, yaml.MappingNode) and node.flow_style
    entries: dict[str, Entry] = {}
    for key, value in _pairs(node):
        number, indent = key.start_mark.line, key.start_mark.column
        if flow or lines[number][:indent].strip():
            return {}
        end = _last(value, number)
        while not lines[end].strip():
            end -= 1
        start = number
        while start and lines[start - 1].startswith(" " * indent + "#"):
            start -= 1
        entries[key.value] = Entry(start, number, end + 1, indent)
    return entries


def _pairs(node: Any) -> Iterator[tuple[Any, Any]]:
    import yaml

    if isinstance(node, yaml.MappingNode):
        yield from node.value


def _last(node: Any, number: int) -> int:
    """Return the last line of a value: that of its last part; a block ends where the next thing begins."""
    import yaml

    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last(last[1] if isinstance(last, tuple) else last, number)
    mark = node.end_mark
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        return max(number, int(mark.line) - 1)
    return max(number, int(mark.line))
