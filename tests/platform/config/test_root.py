"""The root of the settings: the sections that every repository has, those of options, and a digest of all."""

import json
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from conftest import CONF
from mlplatform.config import Section, loading
from mlplatform.config.loading import Config, Settings, load_config

MACHINERY = {"__init__", "loading", "sections"}


def test_the_section_of_an_option_is_declared_by_the_module_of_its_name() -> None:
    modules = {path.stem for path in Path(str(loading.__file__)).parent.glob("*.py")} - MACHINERY
    assert modules == set(Settings.model_fields) - set(Config.model_fields)
    for name in modules:
        declared = Settings.model_fields[name].annotation
        assert isinstance(declared, type)
        assert declared.__module__ == f"mlplatform.config.{name}"


def parts(model: type[BaseModel]) -> set[type[BaseModel]]:
    """The model and all models inside it."""
    inner = {part for field in model.model_fields.values() for part in models(field.annotation)}
    return {model}.union(*(parts(part) for part in inner))


def models(annotation: object) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for part in getattr(annotation, "__args__", ()) for model in models(part)}


def test_every_part_is_frozen_strict_and_closed_to_unknown_keys() -> None:
    found = parts(Settings)
    assert len(found) > 12
    for model in found:
        assert issubclass(model, Section)
        assert {key: model.model_config[key] for key in ("frozen", "strict", "extra")} == {
            "frozen": True,
            "strict": True,
            "extra": "forbid",
        }


def test_the_settings_can_be_written_as_json() -> None:
    written = load_config(CONF.parent, "prod").as_dict()
    assert json.loads(json.dumps(written)) == written
    assert written["registry"]["model"] == "tiny"


@pytest.mark.parametrize("section", list(Settings.model_fields))
def test_every_section_counts_in_the_digest(section: str) -> None:
    """A value anywhere can change a model; which ones cannot is not worth guessing."""
    config = load_config(CONF.parent, "prod")
    values = getattr(config, section)
    changed = values.model_copy(update={next(iter(type(values).model_fields)): "another"})
    assert config.model_copy(update={section: changed}).digest != config.digest
    assert config.model_copy().digest == config.digest


def test_a_section_that_no_file_has_keeps_its_defaults_or_names_the_keys_that_it_needs(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    base = yaml.safe_load((CONF / "base.yml").read_text(encoding="utf-8"))
    del base["monitoring"]
    (tmp_path / "conf" / "base.yml").write_text(yaml.safe_dump(base), encoding="utf-8")
    (tmp_path / "conf" / "prod.yml").write_text("lakehouse: {root: data/prod}\n", encoding="utf-8")
    assert load_config(tmp_path, "prod").monitoring.rules == ()
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({name: {} for name in Settings.model_fields})
    assert {".".join(map(str, error["loc"][:2])) for error in caught.value.errors()} >= {"lakehouse.root"}
