"""All settings of one environment, and how they are read: the layers of conf/*.yml, merged and checked.

Here unchecked input becomes checked input.
"""

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError, create_model

from mlplatform.config import Section
from mlplatform.config.sections import (
    DeliverySettings,
    LakehouseSettings,
    MonitoringSettings,
    PipelineSettings,
    RegistrySettings,
    TrainingSettings,
)
from mlplatform.errors import ConfigError

ENVIRONMENTS = ("dev", "staging", "prod")
# Sections that a repository has only where the option was chosen: with the module of that name.
OPTIONS = ("promotion", "serving", "streaming")
_Chosen = TypeVar("_Chosen", bound=Section)


class Config(Section):
    """The checked sections of one environment."""

    lakehouse: LakehouseSettings
    training: TrainingSettings
    pipelines: PipelineSettings
    registry: RegistrySettings
    monitoring: MonitoringSettings
    delivery: DeliverySettings

    def of(self, section: type[_Chosen]) -> _Chosen:
        """The section of an option, by its class."""
        return next(found for found in vars(self).values() if isinstance(found, section))

    def as_dict(self) -> dict[str, Any]:
        """All values, ready for JSON."""
        return self.model_dump(mode="json")

    @property
    def digest(self) -> str:
        """Identifies what can change a model: every section's values, as 12 hexadecimal characters."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:12]


_chosen: dict[str, Any] = {
    name: (getattr(import_module(f"{__package__}.{name}"), f"{name.title()}Settings"), ...)
    for name in OPTIONS
    if find_spec(f"{__package__}.{name}")
}
Settings: type[Config] = create_model("Settings", __base__=Config, __module__=__name__, **_chosen)


def find_project(start: Path | None = None) -> Path:
    """The nearest folder at or above `start` that holds conf/base.yml, or else an installed wheel that brings conf/."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents, Path(__file__).parents[1]):
        if (folder / "conf" / "base.yml").is_file():
            return folder
    raise ConfigError(f"no conf/base.yml in {here} or above it: run this inside the project")


def load_config(project: Path, environment: str, overlays: tuple[str, ...] = ()) -> Config:
    """Read, merge and check the layers: conf/base.yml, conf/<environment>.yml, conf/<overlay>.yml ...

    Raises ConfigError with every problem found, each with the file that set the key.
    """
    return checked(read_layers(project, environment, overlays))


def read_layers(project: Path, environment: str, overlays: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """The layers by name, in the order in which they are laid on each other."""
    if environment not in ENVIRONMENTS:
        raise ConfigError(f"environment {environment!r}: choose one of {', '.join(ENVIRONMENTS)}")
    names = ("base", environment, *overlays)
    return {name: _read_layer(project / "conf" / f"{name}.yml", environment) for name in names}


def checked(layers: Mapping[str, dict[str, Any]]) -> Config:
    """The layers merged and checked; raises ConfigError."""
    merged: dict[str, Any] = {}
    for layer in layers.values():
        merged = _merge(merged, layer)

    sections = {name: merged.pop(name, None) or {} for name in Settings.model_fields}
    try:
        # As JSON, where strict models take a list for a tuple but still no text for a number.
        return Settings.model_validate_json(json.dumps({**sections, **merged}, default=str))
    except ValidationError as error:
        raise ConfigError("\n".join(_describe(layers, item) for item in error.errors())) from error


def _read_layer(path: Path, environment: str) -> dict[str, Any]:
    """What a file says; `{env}` in it is the name of the environment."""
    if not path.is_file():
        raise ConfigError(f"conf/{path.name}: no such file")
    try:
        content = yaml.load(path.read_text(encoding="utf-8").replace("{env}", environment), _Once) or {}
    except UnicodeDecodeError as error:
        raise ConfigError(f"conf/{path.name}: not in UTF-8: save it in that encoding") from error
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or error
        indented = "; look how this line and those before it are indented" if "<block" in str(problem) else ""
        where = f"conf/{path.name}{f':{mark.line + 1}' if mark else ''}"
        raise ConfigError(f"{where}: not valid YAML: {problem}{indented}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"conf/{path.name}: expected sections (`name:` and indented keys), found {content!r}")
    return content


class _Once(yaml.SafeLoader):
    """Refuses a key that stands twice under one heading: YAML would take the last one, and all below it, in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands here twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and (value is None or isinstance(value, Mapping)):
            merged[key] = _merge(below, value or {})  # a heading with nothing under it changes nothing
        else:
            merged[key] = value
    return merged


def _describe(layers: Mapping[str, Any], item: Any) -> str:
    path = item["loc"]
    if item["type"] == "extra_forbidden":
        what = "key" if len(path) > 1 else "section"
        reason = f"unknown {what}{suggestion(str(path[-1]), _fields(Settings, path[:-1]))}"
    elif item["type"] == "missing":
        reason = "missing"
    else:
        reason = item["msg"].removeprefix("Value error, ")
        hidden = "secret" in reason or isinstance(item["input"], dict)  # it may be one; or is the whole section
        reason += "" if hidden else f" (found {item['input']!r})"
    return f"{origin(layers, path)}: {'.'.join(map(str, path))}: {reason}"


def suggestion(wrong: str, known: list[str]) -> str:
    """The known name that was probably meant, or all of them, in brackets."""
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


def origin(layers: Mapping[str, Any], path: tuple[Any, ...]) -> str:
    """The file of the last layer that sets `path`, or the longest part of it."""
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
