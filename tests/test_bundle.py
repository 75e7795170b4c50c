"""The bundle for Databricks: every resource is of the types that Databricks declares, every name leads
somewhere, and every command line is one that the project takes."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
import yaml
from databricks.bundles.core import Variable
from matrix import ROWS

BUNDLES = [row for row in ROWS.values() if row["compute"] == "databricks"]
CLASSES = {
    "alerts": "alerts:Alert",
    "dashboards": "dashboards:Dashboard",
    "experiments": "experiments:MlflowExperiment",
    "jobs": "jobs:Job",
    "quality_monitors": "quality_monitors:QualityMonitor",
    "registered_models": "registered_models:RegisteredModel",
    "schemas": "schemas:Schema",
    "volumes": "volumes:Volume",
}
# Of databricks.yml; what else it takes, no row needs.
KEYS = {
    "": {"bundle", "include", "experimental", "artifacts", "sync", "variables", "targets", "resources"},
    "bundle": {"name", "databricks_cli_version"},
    "experimental": {"skip_name_prefix_for_schema"},
    "artifacts.wheel": {"type", "path", "build"},
    "sync": {"paths"},
    "target": {"mode", "default", "variables", "presets", "workspace", "run_as", "permissions", "resources"},
    "variable": {"description", "default", "type", "lookup"},
}
GIVEN = {"bundle.name", "bundle.target", "workspace.current_user.userName", "workspace.file_path"}
GIVEN |= {"workspace.root_path"}
VALUE = re.compile(r"\$\{([\w.]+)\}")
# Reads lists of words from its input, and prints for each what the command line has against it.
PARSE = """
import json, sys
from typer.main import get_command
from mlplatform.cli import application

def parse(command, words, parent=None):
    context = command.make_context(command.name or "", list(words), parent=parent)
    if hasattr(command, "commands"):
        name, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        parse(inner, rest, context)

for words in json.load(sys.stdin):
    try:
        parse(get_command(application()), words)
        print("")
    except Exception as error:
        print(f"{type(error).__name__}: {error}".splitlines()[0])
"""
Bundle = dict[str, Any]
Resources = dict[str, dict[str, Any]]


def read(project: Path) -> Bundle:
    """databricks.yml with all that it includes, or may: resources by target, `all` for those of every one."""
    bundle: Bundle = yaml.safe_load((project / "databricks.yml").read_text())
    found: dict[str, Resources] = {"all": {}, **{target: {} for target in bundle["targets"]}}
    for file in sorted((project / "resources").rglob("*.yml")):
        content = yaml.safe_load(file.read_text())
        assert set(content) <= {"resources", "targets"}, file.name
        parts = {name: target["resources"] for name, target in content.get("targets", {}).items()}
        for target, resources in {"all": content.get("resources", {}), **parts}.items():
            for kind, named in resources.items():
                there = found[target].setdefault(kind, {})
                assert not set(there) & set(named), file.name
                there.update(named)
    return bundle | {"resources": found}


def resources(bundle: Bundle, target: str) -> Iterator[tuple[str, str, Any]]:
    """The kind, the key and the content of each resource of a target."""
    for part in ("all", target):
        for kind, named in bundle["resources"][part].items():
            for key, content in named.items():
                yield kind, key, content


def mistakes(hint: Any, value: Any, where: str) -> Iterator[str]:
    """What is wrong with a value of YAML where Databricks' classes declare this type."""
    if isinstance(value, str) and VALUE.fullmatch(value):
        return
    if get_origin(hint) in (Union, UnionType):
        kinds = [kind for kind in get_args(hint) if kind not in (Variable, type(None))]
        kinds = [kind for kind in kinds if get_origin(kind) is not Variable]
        found = [list(mistakes(kind, value, where)) for kind in kinds]
        yield from min(found, key=len)
    elif get_origin(hint) is list:
        if not isinstance(value, list):
            yield f"{where}: {value!r} is no list"
            return
        for number, item in enumerate(value):
            yield from mistakes(get_args(hint)[0], item, f"{where}[{number}]")
    elif get_origin(hint) is dict:
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            yield f"{where}: {value!r} does not give texts by name"
    elif is_dataclass(hint):
        yield from of_class(hint, value, where)
    elif isinstance(hint, type) and issubclass(hint, Enum):
        if value not in [member.value for member in hint]:
            yield f"{where}: {value!r} is none of {', '.join(str(member.value) for member in hint)}"
    elif hint is not Any and type(value) is not hint and (type(value), hint) != (int, float):
        yield f"{where}: {value!r} is no {hint.__name__}"


def of_class(kind: Any, value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: {value!r} is no {kind.__name__}"
        return
    hints = get_type_hints(kind)
    for name in value:
        if name not in hints:
            yield f"{where}.{name}: unknown"
        else:
            yield from mistakes(hints[name], value[name], f"{where}.{name}")
    for field in fields(kind):
        if field.default is MISSING and field.default_factory is MISSING and field.name not in value:
            yield f"{where}.{field.name}: missing"


def wrong_types(bundle: Bundle) -> list[str]:
    found = []
    for target in bundle["targets"]:
        for kind, key, content in resources(bundle, target):
            module, _, name = CLASSES[kind].partition(":")
            declared = getattr(import_module(f"databricks.bundles.{module}"), name)
            found += list(of_class(declared, content, f"{kind}.{key}"))
    return list(dict.fromkeys(found))


def unknown_keys(bundle: Bundle) -> list[str]:
    """Of databricks.yml itself."""
    parts: list[tuple[str, Any]] = [
        ("", bundle),
        *((name, bundle[name]) for name in ("bundle", "experimental", "sync")),
    ]
    parts += [("artifacts.wheel", bundle["artifacts"]["wheel"])]
    parts += [("target", target) for target in bundle["targets"].values()]
    parts += [("variable", variable) for variable in bundle["variables"].values()]
    return [f"{where}: {key}" for where, content in parts for key in content if key not in KEYS[where]]


def unresolved(bundle: Bundle) -> list[str]:
    """References in ${...} that lead nowhere, variables without a value, and keys that two resources have."""
    found = []
    for target, settings in bundle["targets"].items():
        here = list(resources(bundle, target))
        keys = [key for _, key, _ in here]
        found += [f"{target}: two resources are called {key}" for key in keys if keys.count(key) > 1]
        known = GIVEN | {f"resources.{kind}.{key}.{what}" for kind, key, _ in here for what in ("id", "name")}
        known |= {f"var.{name}" for name in bundle["variables"]}
        text = json.dumps([here, settings, bundle["variables"], bundle["artifacts"]])
        found += [f"{target}: {name}" for name in VALUE.findall(text) if name not in known]
        given = {
            name for name, variable in bundle["variables"].items() if {"default", "lookup"} & set(variable)
        }
        given |= set(settings["variables"])
        found += [f"{target}: {name} has no value" for name in set(bundle["variables"]) - given]
    return list(dict.fromkeys(found))


def commands(bundle: Bundle, target: str) -> dict[str, list[str]]:
    """The command line of each task of a wheel in a target, as Databricks would start it."""
    found: dict[str, list[str]] = {}
    values = {name: variable.get("default") for name, variable in bundle["variables"].items()}
    values |= bundle["targets"][target]["variables"]
    for kind, key, job in resources(bundle, target):
        for task in job["tasks"] if kind == "jobs" else ():
            for word in task.get("python_wheel_task", {}).get("parameters", ()):
                word = re.sub(r"\$\{var\.(\w+)\}", lambda match: str(values[match[1]]), word)
                word = re.sub(
                    r"\$\{resources\.jobs\.\w+\.id\}|\{\{job\.parameters\.model_version\}\}", "17", word
                )
                found.setdefault(f"{key}.{task['task_key']}", []).append(word)
    return found


def refused(project: Path, lines: list[list[str]]) -> list[str]:
    """What the project's own command line has against each list of words; nothing where it takes them."""
    search = os.environ | {"PYTHONPATH": str(project / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", PARSE]
    said = subprocess.run(
        command, input=json.dumps(lines), env=search, check=True, stdout=subprocess.PIPE, text=True
    )
    return said.stdout.split("\n")[:-1]


@pytest.fixture(
    params=BUNDLES, scope="module", ids=lambda row: ",".join(f"{row[n]}" for n in row if n != "license")
)
def project(request: pytest.FixtureRequest, render: Callable[..., Path]) -> Path:
    return render(**request.param)


@pytest.fixture
def bundle(project: Path) -> Bundle:
    return read(project)


def test_every_resource_is_what_databricks_declares(bundle: Bundle) -> None:
    assert {kind for kind, _, _ in resources(bundle, "prod")} == set(CLASSES)
    assert wrong_types(bundle) == []
    assert unknown_keys(bundle) == []


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda job: job.update(shedule=job.pop("schedule")), "jobs.feature_refresh.shedule: unknown"),
        (lambda job: job.update(max_concurrent_runs="one"), "max_concurrent_runs: 'one' is no int"),
        (lambda job: job["tasks"][0].pop("task_key"), "jobs.feature_refresh.tasks[0].task_key: missing"),
        (lambda job: job["schedule"].update(pause_status="PAUSE"), "pause_status: 'PAUSE' is none of"),
        (lambda job: job.update(tasks=job["tasks"][0]), "is no list"),
        (
            lambda job: job["tasks"][0]["python_wheel_task"].update(parameters=[1]),
            "parameters[0]: 1 is no str",
        ),
    ],
    ids=[
        "a misspelt key",
        "a wrong type",
        "a missing key",
        "an unknown value",
        "no list",
        "a number for a text",
    ],
)
def test_what_databricks_would_not_take_is_found(
    render: Callable[..., Path], edit: Callable[[Any], None], said: str
) -> None:
    bundle = read(render(**BUNDLES[0]))
    edit(bundle["resources"]["all"]["jobs"]["feature_refresh"])
    (found,) = wrong_types(bundle)
    assert said in found


def test_every_reference_leads_somewhere(bundle: Bundle) -> None:
    assert unresolved(bundle) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("${var.catalog}", "${var.catalogue}", "dev: var.catalogue"),
        ("resources.jobs.training.id", "resources.jobs.train.id", "dev: resources.jobs.train.id"),
        ('"bronze": {', '"training": {', "dev: two resources are called training"),
    ],
)
def test_a_reference_that_leads_nowhere_is_found(
    render: Callable[..., Path], old: str, new: str, said: str
) -> None:
    bundle = json.dumps(read(render(**BUNDLES[0])))
    assert old in bundle
    assert said in unresolved(json.loads(bundle.replace(old, new)))


def test_every_command_line_is_one_that_the_project_takes(project: Path, bundle: Bundle) -> None:
    for target in bundle["targets"]:
        lines = commands(bundle, target)
        assert len(lines) >= 9
        assert dict(zip(lines, refused(project, list(lines.values())), strict=True)) == dict.fromkeys(
            lines, ""
        )


def test_a_command_line_that_the_project_does_not_take_is_found(render: Callable[..., Path]) -> None:
    lines = [
        ["refesh"],
        ["refresh", "--environment", "prod"],
        ["databricks", "connect"],
        ["refresh", "--env", "prod"],
    ]
    found = refused(render(**BUNDLES[0]), lines)
    assert [line.split(":")[0] for line in found] == ["UsageError", "NoSuchOption", "MissingParameter", ""]


def test_the_tasks_name_the_wheel_and_its_command(project: Path, bundle: Bundle) -> None:
    about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    named = set()
    for kind, _, job in resources(bundle, "test"):
        for task in job["tasks"] if kind == "jobs" else ():
            if wheel := task.get("python_wheel_task"):
                named.add((wheel["package_name"], wheel["entry_point"]))
    ((package, command),) = named
    assert package == about["name"]
    assert command in about["scripts"]


def test_what_the_deliveries_replay_is_installed_where_they_are_integrated(
    project: Path, bundle: Bundle
) -> None:
    groups = tomllib.loads((project / "pyproject.toml").read_text())["dependency-groups"]
    named = [re.match(r"[\w-]+", package) for package in groups.get("sample", [])]
    default = bundle["variables"]["environments"]["default"]
    (there,) = bundle["targets"]["test"]["variables"].get("environments", default)
    common = default[0]["spec"]
    wheel, *pins = common["dependencies"]
    assert there["spec"] == common | {"dependencies": [wheel, *(name[0] for name in named if name), *pins]}


def layers(project: Path, *names: str) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for name in names:
        text = (project / "conf" / f"{name}.yml").read_text().replace("{env}", names[1])
        for section, keys in yaml.safe_load(text).items():
            merged[section] = merged.get(section, {}) | keys
    return merged


def test_names_and_times_are_those_of_the_settings(project: Path, bundle: Bundle) -> None:
    package = next(path.name for path in (project / "src").iterdir() if path.name != "mlplatform")
    for target, settings in bundle["targets"].items():
        given = {name: variable.get("default") for name, variable in bundle["variables"].items()}
        given |= settings["variables"]
        conf = layers(project, "base", given["environment"], given["settings"])
        catalog = given["catalog"]
        assert conf["lakehouse"]["root"] == f"uc://{catalog}/{package}"
        named: Resources = {kind: {} for kind in CLASSES}
        for kind, key, content in resources(bundle, target):
            named[kind][key] = content
        schemas = {schema["name"] for schema in named["schemas"].values()}
        assert schemas >= {
            f"{package}_{layer}" for layer in ("bronze", "silver", "features", "ops", "monitoring")
        }
        volumes = {
            f"/Volumes/{catalog}/{package}_bronze/landing",
            f"/Volumes/{catalog}/{package}_ops/reports",
        }
        assert {conf["lakehouse"]["landing"], conf["lakehouse"]["reports"]} == volumes
        assert conf["registry"]["unity_schema"] == f"{catalog}.{package}_models"
        if target != "dev":
            assert named["registered_models"]["model"]["name"] == conf["registry"]["model"]
            experiment = named["experiments"]["experiment"]["name"].replace("${var.catalog}", catalog)
            assert experiment == conf["registry"]["experiment"]
        times = layers(project, "base", given["environment"], "databricks")["delivery"]["schedules"]
        jobs = {"feature_refresh": "refresh", "monitor": "monitor", "maintenance": "maintain"}
        scheduled = {key for key, job in named["jobs"].items() if "schedule" in job}
        assert scheduled == set(jobs)
        for key, name in jobs.items():
            minute, hour, *rest = times[name].split()
            assert rest == ["*", "*", "*"], "Databricks writes other days in another way"
            assert named["jobs"][key]["schedule"]["quartz_cron_expression"] == f"0 {minute} {hour} * * ?"
            assert named["jobs"][key]["schedule"]["timezone_id"] == "UTC"


def test_pages_and_alerts_ask_tables_that_there_are(project: Path, bundle: Bundle) -> None:
    text = (project / "resources" / "dashboard.lvdash.json").read_text()
    package = next(path.name for path in (project / "src").iterdir() if path.name != "mlplatform")
    tables = set(re.findall(rf"FROM {package}_(\w+\.\w+)", text))
    assert tables == {"ops.alerts", "ops.runs", "monitoring.metrics"}
    kept = (project / "src/mlplatform/storage/ops.py").read_text()
    for table in tables:
        assert f'"{table}"' in kept
    for dataset in json.loads(text)["datasets"]:
        columns = re.findall(r"`?(\w+)`?(?=,| FROM)", dataset["queryLines"][0].removeprefix("SELECT "))
        assert columns
        assert [column for column in columns if f'"{column}"' not in kept] == []


def test_nobody_but_the_jobs_may_write(bundle: Bundle) -> None:
    may = {"USE_SCHEMA", "SELECT", "EXECUTE", "READ_VOLUME"}
    for kind, key, content in resources(bundle, "prod"):
        for grant in content.get("grants", ()):
            if grant["principal"] != "${var.service_principal}":
                assert set(grant["privileges"]) <= may, f"{kind}.{key}"
    assert bundle["targets"]["prod"]["mode"] == "production"
    assert bundle["targets"]["prod"]["run_as"] == {"service_principal_name": "${var.service_principal}"}
    assert bundle["targets"]["dev"]["mode"] == "development"


def test_streaming_is_a_job_where_it_was_chosen(render: Callable[..., Path]) -> None:
    for row in BUNDLES:
        jobs = read(render(**row))["resources"]["all"]["jobs"]
        assert ("streaming" in jobs) == (row["inference"] in ("streaming", "all"))
