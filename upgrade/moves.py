"""Where each file of a project goes by the declared moves, and how its module is imported then."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath

from migrations import Migration


class Moves:
    """The declared moves of several migrations, oldest first, as they meet the files of one project."""

    def __init__(
        self,
        migrations: Iterable[Migration],
        base: Collection[str],
        ours: Collection[str],
        rendered: Collection[str],
    ) -> None:
        """`base` and `rendered` are the files of the old and the new render, `ours` the project's.

        A file of the owner's own is never mixed with another: where one is in the place already, what would
        come to it stays where it is; and one that would come to a place of ours stays where it is, too.
        """
        self._rules = [_rules(migration, rendered) for migration in migrations]
        self._names = {old: new for migration in migrations for old, new in migration.names.items()}
        targets = {path: self._target(path) for path in {*base, *ours}}
        seeded = {targets[path] for path in base}
        own = {path for path in ours if path not in base}
        taken = {path for path in own if targets[path] == path}
        self.targets = {
            path: path if target in taken or (path in own and target in seeded) else target
            for path, target in targets.items()
        }
        self._modules = {
            old: new
            for path, target in self.targets.items()
            if target != path and (old := module(path)) and (new := module(target))
        }

    def sources(self, paths: Iterable[str]) -> dict[str, list[str]]:
        """Return what each file is made of: itself, or those that are joined, as declared."""
        found: dict[str, list[str]] = {}
        for path in sorted(paths, key=self._rank):
            found.setdefault(self.targets[path], []).append(path)
        return found

    def renamed(self, name: str) -> str:
        """Return the new dotted name of a module, or of something in one; the same if it has not moved."""
        for _ in self._rules:
            best = _longest(self._names, name)
            if best is None:
                break
            name = self._names[best] + name.removeprefix(best)
        best = _longest(self._modules, name)
        return name if best is None else self._modules[best] + name.removeprefix(best)

    def _target(self, path: str) -> str:
        for rules in self._rules:
            path = _follow(rules, path)
        return path

    def _rank(self, path: str) -> tuple[list[int], str]:
        ranks, start = [], path
        for rules in self._rules:
            rule = _rule(rules, path)
            ranks.append(-1 if rule is None else list(rules).index(rule))
            path = _follow(rules, path)
        return ranks, start


def module(path: str) -> str | None:
    """Return the dotted name by which a file below src/ is imported; None for any other file."""
    parts = PurePosixPath(path).parts
    if not path.endswith(".py") or parts[0] != "src":
        return None
    return ".".join(parts[1:]).removesuffix(".py").removesuffix(".__init__")


def _rules(migration: Migration, rendered: Collection[str]) -> dict[str, str]:
    return {
        source: target
        if isinstance(target, str)
        else next((one for one in target if one in rendered), target[0])
        for source, target in migration.files.items()
    }


def _rule(rules: Mapping[str, str], path: str) -> str | None:
    if path in rules:
        return path
    folders = (rule for rule in rules if rule.endswith("/") and path.startswith(rule))
    return max(folders, key=len, default=None)


def _follow(rules: Mapping[str, str], path: str) -> str:
    rule = _rule(rules, path)
    return path if rule is None else rules[rule] + path.removeprefix(rule)


def _longest(names: Iterable[str], name: str) -> str | None:
    return max((one for one in names if f"{name}.".startswith(f"{one}.")), key=len, default=None)
