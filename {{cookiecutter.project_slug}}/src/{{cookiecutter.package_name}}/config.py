"""Settings: conf/base.yml and conf/<env>.yml, merged, typed and checked before any work begins.

This is where unchecked input becomes checked input. Each room of the package claims the section of its own name
by having a module `settings` with a class `Settings`; a section that no room claims is refused.
"""

import difflib
import hashlib
import importlib
import importlib.util
import json
import pkgutil
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

ENVIRONMENTS = ("dev", "staging", "prod")
_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


class ConfigError(Exception):
    """The configuration is wrong; the message has one line per problem: file, key, reason."""


class Section(BaseModel):
    """One room's settings: frozen, typed, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d+)\s*([dhms])", str(value).strip())
    if not match:
        raise ValueError("a duration is a whole number and a unit: 7d, 12h, 30m or 45s")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


Duration = Annotated[timedelta, BeforeValidator(_duration)]
S = TypeVar("S", bound=Section)


class Config:
    """The checked sections of one environment.

    `digest` identifies what can change a model: every section's values, as 12 hexadecimal characters.
    """

    def __init__(self, sections: Mapping[str, Section]) -> None:
        self._sections = dict(sections)

    def section(self, model: type[S]) -> S:
        """The section that `model` describes."""
        for section in self._sections.values():
            if isinstance(section, model):
                return section
        raise ConfigError(f"no room claims {model.__module__}.{model.__name__}")

    def as_dict(self) -> dict[str, Any]:
        """All values, ready for JSON."""
        return {name: section.model_dump(mode="json") for name, section in self._sections.items()}

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:12]


def find_project(start: Path | None = None) -> Path:
    """The nearest folder at or above `start` that holds conf/base.yml."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "conf" / "base.yml").is_file():
            return folder
    raise ConfigError(f"no conf/base.yml in {here} or above it: run this inside the project")


def load_config(project: Path, environment: str, overlays: tuple[str, ...] = ()) -> Config:
    """Read, merge and check the layers: conf/base.yml, conf/<environment>.yml, conf/<overlay>.yml ...

    Raises ConfigError with every problem found, each with the file that set the key.
    """
    if environment not in ENVIRONMENTS:
        raise ConfigError(f"environment {environment!r}: choose one of {', '.join(ENVIRONMENTS)}")
    layers = {name: _read_layer(project / "conf" / f"{name}.yml") for name in ("base", environment, *overlays)}
    merged: dict[str, Any] = {}
    for layer in layers.values():
        merged = _merge(merged, layer)

    models = dict(_claimed_sections())
    problems = [_unknown_section(layers, name, models) for name in merged if name not in models]
    sections = {}
    for name, model in models.items():
        try:
            # As JSON, where strict models take a list for a tuple but still no text for a number.
            sections[name] = model.model_validate_json(json.dumps(merged.get(name) or {}, default=str))
        except ValidationError as error:
            problems += [_describe(layers, name, model, item) for item in error.errors()]
    if problems:
        raise ConfigError("\n".join(problems))
    return Config(sections)


def _claimed_sections() -> Iterator[tuple[str, type[Section]]]:
    package = importlib.import_module(__package__)
    for room in pkgutil.iter_modules(package.__path__):
        if room.ispkg and importlib.util.find_spec(f"{__package__}.{room.name}.settings"):
            yield room.name, importlib.import_module(f"{__package__}.{room.name}.settings").Settings


def _read_layer(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"conf/{path.name}: no such file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"conf/{path.name}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"conf/{path.name}: expected sections (`name:` and indented keys), found {content!r}")
    return content


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and (value is None or isinstance(value, Mapping)):
            merged[key] = _merge(below, value or {})  # a heading with nothing under it changes nothing
        else:
            merged[key] = value
    return merged


def _describe(layers: Mapping[str, Any], section: str, model: type[Section], item: Any) -> str:
    path = (section, *item["loc"])
    if item["type"] == "extra_forbidden":
        reason = "unknown key" + _suggestion(str(path[-1]), _fields(model, item["loc"][:-1]))
    elif item["type"] == "missing":
        reason = "missing"
    else:
        reason = f"{item['msg'].removeprefix('Value error, ')} (found {item['input']!r})"
    return f"{_origin(layers, path)}: {'.'.join(map(str, path))}: {reason}"


def _unknown_section(layers: Mapping[str, Any], name: str, models: Mapping[str, type[Section]]) -> str:
    return f"{_origin(layers, (name,))}: {name}: unknown section{_suggestion(str(name), list(models))}"


def _suggestion(wrong: str, known: list[str]) -> str:
    close = difflib.get_close_matches(wrong, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else f" (known: {', '.join(sorted(known))})"


def _fields(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """The names allowed at `path` below `model`, found by walking its annotations."""
    current: Any = model
    for step in path:
        if isinstance(step, str) and step in getattr(current, "model_fields", {}):
            current = current.model_fields[step].annotation
        current = next((part for part in _flatten(current) if hasattr(part, "model_fields")), current)
    return list(getattr(current, "model_fields", {}))


def _flatten(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _flatten(part)


def _origin(layers: Mapping[str, Any], path: tuple[Any, ...]) -> str:
    """The last layer that sets `path`, or the longest part of it."""
    for length in range(len(path), 0, -1):
        for name in reversed(list(layers)):
            if _has(layers[name], path[:length]):
                return f"conf/{name}.yml"
    return "conf/base.yml"


def _has(node: Any, path: tuple[Any, ...]) -> bool:
    for step in path:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True
