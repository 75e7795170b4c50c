"""What is wrong with a project, found without data and before any training: one line per mistake."""

import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mlplatform.config.loading import suggestion
from mlplatform.contract import Deliveries, Model, Project
from mlplatform.errors import UserError
from mlplatform.testing import settings
from mlplatform.testing.dry_run import DryRun, located, package_folder

_MEMBERS = sorted(name for name in dir(Model) if not name.startswith("_"))


class MistakesError(UserError):
    """The project or its settings are wrong; the message has one line per mistake."""


def problems(load: Callable[[], tuple[Project, Deliveries]], folder: Path) -> list[str]:
    """Every mistake that can be found without data in the project that `load` gives; its conf/ is in `folder`."""
    try:
        project, deliveries = load()
    except Exception as error:
        return [*_unknown_members(folder), located(error, folder)]
    found = [*_unknown_members(folder), *_wrong_types(project, "PROJECT"), *_wrong_types(deliveries, "DELIVERIES")]
    for name, declared in get_type_hints(Model).items():
        found += _wrong_types(getattr(project.model, name, None), f"PROJECT.model.{name}", declared)
    if not found:  # what follows needs objects of the right types
        configs, found = settings.read(folder)
        run = DryRun(project, folder, settings.external_views(configs))
        found = [*run.problems(), *found, *_wrong_times(deliveries), *settings.problems(configs, project, run)]
    return list(dict.fromkeys(found))


def refuse_mistakes(load: Callable[[], tuple[Project, Deliveries]], folder: Path) -> None:
    """Check the project once for each state of its code and settings; raises MistakesError.

    What was found right is remembered where Python, too, keeps what it derives from code.
    """
    try:
        package = package_folder(load()[0])
    except Exception as error:
        raise MistakesError("\n".join(problems(load, folder))) from error
    files = [path for root in (package, Path(__file__).parents[1], folder / "conf") for path in root.rglob("*.*")]
    digest = hashlib.sha256()
    for path in sorted(path for path in files if path.suffix in (".py", ".sql", ".yml")):
        digest.update(str(path).encode() + path.read_bytes())
    marker = package / "__pycache__" / "checked"
    if marker.is_file() and marker.read_text(encoding="utf-8") == digest.hexdigest():
        return
    if found := problems(load, folder):
        raise MistakesError("\n".join(found))
    try:
        marker.parent.mkdir(exist_ok=True)
        marker.write_text(digest.hexdigest(), encoding="utf-8")
    except OSError:  # an installed package of somebody else's: it is checked each time
        pass


def _unknown_members(folder: Path) -> Iterator[str]:
    """Public names of the owner's models that the contract does not know: a misspelt one would never be called."""
    for owned in _subclasses(Model):
        module = sys.modules.get(owned.__module__)
        if not Path(getattr(module, "__file__", None) or "").is_relative_to(folder):
            continue
        for name, value in vars(owned).items():
            where = f"{owned.__module__}.{owned.__qualname__}.{name}"
            if not name.startswith("_") and name not in _MEMBERS:
                meant = suggestion(name, _MEMBERS)
                yield f"{where}: not a member of Model{meant}; the name of a helper starts with an underscore"
            elif callable(getattr(Model, name, None)) and not (callable(value) or isinstance(value, staticmethod)):
                yield f"{where}: {value!r} is no method"


def _subclasses(parent: type[object]) -> Iterator[type[object]]:
    for child in parent.__subclasses__():
        yield child
        yield from _subclasses(child)


def _wrong_types(value: Any, name: str, declared: Any = None) -> Iterator[str]:
    """Where a value is not of the type that the contract declares."""
    declared = declared or type(value)
    kind, arguments = get_origin(declared), get_args(declared)
    if kind is Literal:
        fits = value in arguments
    else:
        wanted = declared if kind in (None, UnionType) else kind
        fits = declared is Any or (isinstance(value, wanted) and (type(value) is not str or declared is str))
    if not fits:
        simple = isinstance(declared, type) and not arguments
        what = declared.__name__ if simple else re.sub(r"\b\w+\.", "", str(declared))  # without modules
        yield f"{name}: {value!r} is {type(value).__name__}, not {what}"
    elif is_dataclass(declared):
        import pandera.polars

        types = get_type_hints(declared, localns={"pandera": pandera.polars})
        for member in fields(declared):
            yield from _wrong_types(getattr(value, member.name), f"{name}.{member.name}", types[member.name])
    elif kind is tuple:
        for number, item in enumerate(value):
            yield from _wrong_types(item, f"{name}[{number}]", arguments[0])


def _wrong_times(deliveries: Deliveries) -> Iterator[str]:
    for name, times in (("integration", deliveries.integration), ("stops", (deliveries.first, *deliveries.stops))):
        ordered = [deliveries.begin, *times]
        if any(later <= earlier for earlier, later in pairwise(ordered)):
            yield f"DELIVERIES.{name}: each time is later than the one before it, `begin` and `first` among them"
