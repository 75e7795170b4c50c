"""Settings: layers merge, mistakes are reported with the file, the key and the way out, and nothing changes later."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from conftest import CONF
from mlplatform.config.loading import ENVIRONMENTS, find_project, load_config
from mlplatform.errors import ConfigError

OVERLAYS = sorted({path.stem for path in CONF.glob("*.yml")} - {"base", *ENVIRONMENTS})


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A project of the test's own with the shipped conf/."""
    shutil.copytree(CONF, tmp_path / "conf")
    return tmp_path


def write(project: Path, layer: str, text: str) -> None:
    (project / "conf" / f"{layer}.yml").write_text(text, encoding="utf-8")


def problems(project: Path, environment: str = "prod", *overlays: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(project, environment, overlays)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("overlay", ["", *OVERLAYS])
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_shipped_configuration_loads(environment: str, overlay: str) -> None:
    config = load_config(CONF.parent, environment, (overlay,) if overlay else ())
    assert config.lakehouse.root
    assert len(config.digest) == 12


def test_no_environment_has_the_tables_of_another_as_its_own() -> None:
    roots = {(CONF.parent / load_config(CONF.parent, name).lakehouse.root) for name in ENVIRONMENTS}
    assert len(roots) == len(ENVIRONMENTS)


def test_a_later_layer_changes_single_keys_and_keeps_the_others(copy: Path) -> None:
    write(copy, "prod", "lakehouse: {root: data/prod}\ntraining: {tuning: {trials: 77}}\n")
    write(copy, "late", "training:\n  min_rows: 7\n  tuning:\nmonitoring:\n")  # empty headings say nothing
    before = load_config(CONF.parent, "prod").training
    after = load_config(copy, "prod", ("late",)).training
    assert (after.tuning.trials, after.min_rows) == (77, 7)
    changed = {"min_rows": 7, "tuning": before.tuning.model_copy(update={"trials": 77})}
    assert after == before.model_copy(update=changed)
    assert load_config(copy, "prod", ("late",)).monitoring == load_config(CONF.parent, "prod").monitoring


def test_a_list_in_a_later_layer_replaces_the_earlier_one(copy: Path) -> None:
    write(copy, "late", "monitoring: {rules: [{name: only this, metric: psi, above: 1.0}]}\n")
    rules = load_config(copy, "prod", ("late",)).monitoring.rules
    assert [item.name for item in rules] == ["only this"]


def test_a_typo_in_a_rule_names_the_file_the_key_and_the_word_that_was_meant(copy: Path) -> None:
    rule = "{name: drift, metric: psi, above: 0.2, windos: 2 of 3}"
    write(copy, "prod", f"lakehouse:\n  root: data/prod\nmonitoring:\n  rules:\n    - {rule}\n")
    assert problems(copy) == ["conf/prod.yml: monitoring.rules.0.windos: unknown key (did you mean 'windows'?)"]


def test_a_typo_is_reported_with_the_file_that_set_it(copy: Path) -> None:
    base = yaml.safe_load((copy / "conf" / "base.yml").read_text(encoding="utf-8"))
    base["training"]["tuning"]["fold"] = 3
    write(copy, "base", yaml.safe_dump(base))
    write(copy, "late", "training: {holdoot: 3d}\nregistry: {aproval: manual}\n")
    assert problems(copy, "dev", "late") == [
        "conf/base.yml: training.tuning.fold: unknown key (did you mean 'folds'?)",
        "conf/late.yml: training.holdoot: unknown key (did you mean 'holdout'?)",
        "conf/late.yml: registry.aproval: unknown key (did you mean 'approval'?)",
    ]


def test_a_key_that_resembles_none_is_answered_with_those_that_are_known(copy: Path) -> None:
    write(copy, "late", "training: {tuning: {xyzzy: 1}}\n")
    (line,) = problems(copy, "prod", "late")
    assert line == (
        "conf/late.yml: training.tuning.xyzzy: unknown key (known: enabled, folds, fraction, timeout, trials)"
    )


WRONG = [
    ("training: {min_rows: '5'}", "training.min_rows: Input should be a valid integer (found '5')"),
    ("training: {min_rows: 0}", "training.min_rows: Input should be greater than or equal to 2 (found 0)"),
    ("training: {holdout: 30}", "training.holdout: a duration is a whole number and a unit: 7d, 12h, 30m or 45s"),
    ("training: {tuning: {timeout: soon}}", "training.tuning.timeout: a duration is a whole number and a unit"),
    ("training: {holdout: -3d}", "training.holdout: a duration is a whole number and a unit"),
    ("training: {holdout: 9999999999d}", "training.holdout: a duration is at most 365000d (found '9999999999d')"),
    ("pipelines: {inference: {batch_window: 0h}}", "pipelines.inference.batch_window: it must be longer than zero"),
    ("monitoring: {rules: [{name: a, metric: b, above: .inf}]}", "above: Input should be a finite number"),
    ("training: {tuned_in: test}", "training.tuned_in: Input should be 'dev', 'staging' or 'prod' (found 'test')"),
    ("pipelines: {released_code_only: 'no'}", "pipelines.released_code_only: Input should be a valid boolean"),
    ("pipelines: {refused: [trian]}", "pipelines.refused.0: Input should be 'ingest', 'featurize', 'train'"),
    ("registry: {approval: maybe}", "registry.approval: Input should be 'automatic' or 'manual' (found 'maybe')"),
    ("registry: {comparison: {confidence: 95}}", "registry.comparison.confidence: Input should be less than 1"),
    ("lakehouse: {max_refused_share: 2}", "lakehouse.max_refused_share: Input should be less than or equal to 1"),
    ("lakehouse: 5", "lakehouse: Input should be an object (found 5)"),
    ("registry: {compliance: {slice_limits: [{metric: a, column: b}]}}", "without one it could not refuse"),
    ("monitoring: {rules: [{name: a, metric: b}]}", "rule 'a' can never fire"),
    ("trainnig: {min_rows: 5}", "trainnig: unknown section (did you mean 'training'?)"),
    ("usecase: {a: 1}", "usecase: unknown section (known: "),
]


@pytest.mark.parametrize(("text", "says"), WRONG, ids=[says.split(":")[0] for _, says in WRONG])
def test_a_wrong_value_is_one_line_with_the_file_the_key_and_the_reason(copy: Path, text: str, says: str) -> None:
    write(copy, "late", text)
    (line,) = problems(copy, "dev", "late")
    assert line.startswith("conf/late.yml: ")
    assert says in line


def test_a_wrong_section_is_told_without_all_that_it_holds(copy: Path) -> None:
    write(copy, "late", "training: {split: group}\n")
    (line,) = problems(copy, "dev", "late")
    assert line == "conf/late.yml: training: 'group' names the column of split: group, and is for no other split"


def test_an_address_in_the_place_of_the_variable_that_holds_it_is_not_repeated(copy: Path) -> None:
    write(copy, "late", "monitoring: {notify: ['mailto://me:hunter2@example.org']}\n")
    (line,) = problems(copy, "prod", "late")
    assert line.startswith("conf/late.yml: monitoring.notify.0: name the environment variable")
    assert "hunter2" not in line


def test_a_missing_key_is_reported(copy: Path) -> None:
    write(copy, "prod", "lakehouse: {landing: data/landing}\n")
    assert problems(copy) == ["conf/prod.yml: lakehouse.root: missing"]


def test_all_problems_are_reported_at_once(copy: Path) -> None:
    write(copy, "late", "training: {min_rows: x, fraction: 0.0}\nlakehouse: {engin: duckdb}\nservice: {}\n")
    assert len(problems(copy, "prod", "late")) == 4


def test_broken_yaml_is_reported_with_file_and_line(copy: Path) -> None:
    write(copy, "prod", "lakehouse: [1\n")
    (text,) = problems(copy)
    assert text.startswith("conf/prod.yml:2: not valid YAML: expected ',' or ']'")
    write(copy, "prod", "lakehouse:\n   root: data/prod\n  engine: duckdb\n")
    (text,) = problems(copy)
    assert text.startswith("conf/prod.yml:3: not valid YAML: ") and text.endswith("those before it are indented")
    (copy / "conf" / "prod.yml").write_bytes(b"# gr\xf6\xdfer\n")
    assert problems(copy) == ["conf/prod.yml: not in UTF-8: save it in that encoding"]


def test_a_key_that_stands_twice_is_refused_since_yaml_takes_the_last_one_in_silence(copy: Path) -> None:
    write(copy, "prod", "training: {holdout: 3d}\nlakehouse: {root: data/prod}\ntraining: {min_rows: 20}\n")
    assert problems(copy) == ["conf/prod.yml:3: not valid YAML: training stands here twice"]
    write(copy, "prod", "lakehouse: &a {root: data/prod}\ntraining: {<<: {min_rows: 20}, min_rows: 30}\n")
    assert load_config(copy, "prod").training.min_rows == 30
    write(copy, "prod", "lakehouse: {root: data/prod}\n{[a]: 1}: 2\n")
    assert problems(copy)[0].startswith("conf/prod.yml:2: not valid YAML: ")


def test_a_file_without_sections_is_refused(copy: Path) -> None:
    write(copy, "prod", "- root: data/prod\n")
    assert problems(copy) == [
        "conf/prod.yml: expected sections (`name:` and indented keys), found [{'root': 'data/prod'}]"
    ]


def test_a_missing_file_is_refused(copy: Path) -> None:
    (copy / "conf" / "staging.yml").unlink()
    assert problems(copy, "staging") == ["conf/staging.yml: no such file"]
    assert problems(copy, "prod", "nowhere") == ["conf/nowhere.yml: no such file"]


def test_an_unknown_environment_is_refused(copy: Path) -> None:
    write(copy, "test", "lakehouse: {root: data/test}\n")
    assert problems(copy, "test") == ["environment 'test': choose one of dev, staging, prod"]


def test_settings_cannot_be_changed(copy: Path) -> None:
    settings = load_config(copy, "prod").training
    with pytest.raises(ValidationError, match="frozen"):
        settings.min_rows = 1
    with pytest.raises(ValidationError, match="frozen"):
        settings.tuning.trials = 1


def test_the_digest_follows_values_and_not_their_spelling(copy: Path) -> None:
    digest = load_config(copy, "prod").digest
    holdout = load_config(copy, "prod").training.holdout
    assert holdout > timedelta(hours=1)
    write(copy, "late", f"training:\n  holdout: {holdout // timedelta(hours=1)}h\n")
    assert load_config(copy, "prod", ("late",)).digest == digest
    write(copy, "late", "training: {holdout: 1h}\n")
    assert load_config(copy, "prod", ("late",)).digest != digest


def test_the_project_is_found_from_any_folder_inside_it(copy: Path) -> None:
    inside = copy / "src" / "deep"
    inside.mkdir(parents=True)
    assert find_project(inside) == find_project(copy) == copy.resolve()


def test_outside_of_a_project_there_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run this inside the project"):
        find_project(tmp_path)


def test_the_name_of_the_environment_can_stand_in_a_layer(copy: Path) -> None:
    write(copy, "cloud", "lakehouse: {landing: 'landing/{env}/files'}\n")
    for name in ENVIRONMENTS:
        assert load_config(copy, name, ("cloud",)).lakehouse.landing == f"landing/{name}/files"


def test_tables_in_unity_catalog_need_spark(copy: Path) -> None:
    write(copy, "cloud", "lakehouse: {root: 'uc://{env}/tiny'}\n")
    (problem,) = problems(copy, "prod", "cloud")
    assert "tables in Unity Catalog (root: uc://...) need engine: spark" in problem
    write(copy, "cloud", "lakehouse: {root: 'uc://{env}/tiny', engine: spark}\n")
    assert load_config(copy, "prod", ("cloud",)).lakehouse.root == "uc://prod/tiny"
