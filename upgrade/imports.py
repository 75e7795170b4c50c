"""Imports in a Python file after modules have moved, its own among them. Nothing else in the text changes."""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator

from moves import module

LONGEST = 120


def rewrite(source: str, path: str, target: str, renamed: Callable[[str], str]) -> str:
    """Return the text of the file `path` as it imports from `target`; the same text if it is not Python.

    `renamed` gives the new dotted name of a module or of something in it.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return source
    lines = source.splitlines(keepends=True)
    whole: dict[str, str] = {}
    for node in sorted(ast.walk(tree), key=lambda node: -getattr(node, "lineno", 0)):
        if isinstance(node, ast.ImportFrom):
            _rewrite_from(lines, node, path, target, renamed)
        elif isinstance(node, ast.Import):
            whole |= {alias.name: renamed(alias.name) for alias in node.names}
    text = "".join(lines)
    for old, new in whole.items():
        if old != new:  # with the places where it is used by its whole name
            text = re.sub(rf"(?<![\w.]){re.escape(old)}(?![\w])", new, text)
    return text


def _rewrite_from(
    lines: list[str], node: ast.ImportFrom, path: str, target: str, renamed: Callable[[str], str]
) -> None:
    start, end = node.lineno - 1, node.end_lineno or node.lineno
    text = "".join(lines[start:end])
    indent = text[: len(text) - len(text.lstrip())]
    if len(indent) != node.col_offset or ";" in text:
        return  # beside other statements
    origin = absolute(node, path)
    if origin is None:
        return
    near = node.level > 0 and _package(path)[:1] == _package(target)[:1]
    groups: dict[str, list[str]] = {}
    for alias in node.names:
        full = renamed(f"{origin}.{alias.name}") if alias.name != "*" else f"{renamed(origin)}.*"
        place, _, leaf = full.rpartition(".")
        known = alias.asname or alias.name
        spelt = f"{leaf} as {known}" if alias.asname or leaf != known else leaf
        groups.setdefault(_spell(place, target, near), []).append(spelt)
    old = "." * node.level + (node.module or "")
    spelt_before = [f"{a.name} as {a.asname}" if a.asname else a.name for a in node.names]
    if len(groups) == 1 and next(iter(groups.values())) == spelt_before:
        (new,) = groups
        if new != old:
            lines[start] = re.sub(
                rf"from\s+{re.escape(old)}\s+import", f"from {new} import", lines[start], count=1
            )
        return
    newline = "\r\n" if text.endswith("\r\n") else "\n"
    made = [indent + comment for comment in _comments(text)]
    for place, names in groups.items():
        statement = f"{indent}from {place} import {', '.join(names)}"
        if len(statement) > LONGEST:
            inner = "".join(f"{indent}    {name},\n" for name in names)
            statement = f"{indent}from {place} import (\n{inner}{indent})"
        made += statement.split("\n")
    lines[start:end] = [line + newline for line in made]


def absolute(node: ast.ImportFrom, path: str) -> str | None:
    """Return the dotted name of the module that a file imports from; None if it leads out of the package."""
    if not node.level:
        return node.module
    package = _package(path)
    if len(package) < node.level:
        return None
    parts = [*package[: len(package) - node.level + 1], *([node.module] if node.module else [])]
    return ".".join(parts)


def _package(path: str) -> list[str]:
    name = module(path)
    if name is None:
        return []
    return name.split(".") if path.endswith("/__init__.py") else name.split(".")[:-1]


def _spell(place: str, target: str, relative: bool) -> str:
    """Write a module's name: relative where it was, if it still is in the same package and that is short."""
    package, parts = _package(target), place.split(".")
    if not relative or not package or package[0] != parts[0]:
        return place
    common = 0
    while common < min(len(package), len(parts)) and package[common] == parts[common]:
        common += 1
    return "." * (len(package) - common + 1) + ".".join(parts[common:])


def _comments(text: str) -> list[str]:
    tokens = tokenize.generate_tokens(io.StringIO(text.lstrip()).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


def lost(
    source: str, path: str, read: Callable[[str], str | None], ours: Callable[[str], bool]
) -> Iterator[str]:
    """Say which imports of our modules find nothing: "line 3: no module a.b", "line 5: a.b has no c".

    `read` gives the text of a file or None, `ours` says of a dotted name whether it is of this repository.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wanted = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (origin := absolute(node, path)):
            wanted = [(origin, alias.name) for alias in node.names]
        else:
            continue
        for name, member in wanted:
            if not ours(name):
                continue
            text = _module_text(name, read)
            if text is None:
                yield f"line {node.lineno}: there is no module {name}"
            elif (
                member
                and member not in {"*", *defined(text)}
                and _module_text(f"{name}.{member}", read) is None
            ):
                yield f"line {node.lineno}: {name} has no {member}"


def _module_text(name: str, read: Callable[[str], str | None]) -> str | None:
    path = "src/" + name.replace(".", "/")
    text = read(f"{path}.py")
    return read(f"{path}/__init__.py") if text is None else text


def defined(source: str) -> Iterator[str]:
    """Give the names that a module defines or imports, anywhere; all words of one that cannot be read."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:
        yield from re.findall(r"\w+", source)
        return
    for node in nodes:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.asname or node.name
