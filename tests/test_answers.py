"""Which answers are refused, and which odd ones are not."""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from bake import PROMPTS, TEMPLATE, bake
from checks import files, lint, parse, unreadable
from cookiecutter.exceptions import FailedHookException
from cookiecutter.generate import is_copy_only_path
from cookiecutter.main import cookiecutter
from cookiecutter.utils import create_env_with_context
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pre_gen_project import CHOICES, EXAMPLES, INSTALLED, LONGEST_NAME, TEXT, problems

UNDERSCORES = "is not lower-case letters and digits, a letter first, joined by single underscores"
HYPHENS = UNDERSCORES.replace("underscores", "hyphens")
# Which answer, its value, and why it is refused.
REFUSED = {
    "keyword": ("package_name", "class", "'class' is a keyword of Python"),
    "standard library": ("package_name", "queue", "'queue' is a module of Python's standard library"),
    "import name": ("package_name", "sklearn", "'sklearn' is a library that the project installs"),
    "dependency of one": ("package_name", "click", "'click' is a library that the project installs"),
    "other folder": ("package_name", "tests", "'tests' is another folder of the project"),
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
    replay.write_text(json.dumps({"cookiecutter": PROMPTS | EXAMPLES | {name: "other"}}))
    with pytest.raises(FailedHookException):
        cookiecutter(str(template), replay=str(replay), output_dir=str(tmp_path), default_config=True)
    choices = ", ".join(PROMPTS[name])
    line = f"{name}: 'other' is not one of {choices}; for example: {EXAMPLES[name]}\n"
    assert capfd.readouterr().err == line
    assert list(tmp_path.iterdir()) == [replay]


def test_every_problem_has_its_own_line() -> None:
    bad = dict.fromkeys(EXAMPLES, "\n")
    assert [line.split(":")[0] for line in problems(bad)] == list(EXAMPLES)
    assert all("\n" not in line and line.endswith(EXAMPLES[line.split(":")[0]]) for line in problems(bad))


def test_text_that_an_upgrade_would_fill_in_is_refused() -> None:
    """Given on the command line it is filled in before the hook sees it; typed at a prompt it is not."""
    for text in ("{" * 2 + " author }}", "{" + "% if a %}", "{" + "# note #}"):
        assert len(problems(EXAMPLES | {"description": text})) == 1


def test_the_hook_knows_the_prompts() -> None:
    assert problems(dict(EXAMPLES)) == []
    assert {name: list(choices) for name, choices in CHOICES.items()} == {
        name: choices for name, choices in PROMPTS.items() if name in CHOICES
    }
    assert set(EXAMPLES) == {name for name in PROMPTS if not name.startswith("_")}


def test_the_hook_knows_every_pinned_library(render: Callable[..., Path]) -> None:
    pins = re.findall(r"^([\w.-]+)==", (render() / "constraints.txt").read_text(), re.MULTILINE)
    assert "mlflow" in pins
    assert {re.sub("[-.]", "_", name.lower()) for name in pins} - INSTALLED == set()


@pytest.mark.parametrize("answers", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted(render: Callable[..., Path], answers: dict[str, str]) -> None:
    project = render(**answers)
    assert unreadable(project) == []
    assert lint(project) == []
    metadata = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert metadata["description"] == answers.get("description", PROMPTS["description"])
    assert metadata["authors"] == [{"name": answers.get("author", PROMPTS["author"])}]


SPECIAL = st.sampled_from("'\"\\#:{}[]&*")
TEXTS = st.text(SPECIAL | st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1)


def test_whatever_is_accepted_renders_files_that_parse(template: Path) -> None:
    context = {"cookiecutter": PROMPTS | EXAMPLES}
    environment = create_env_with_context(context)
    templates = {
        name: environment.from_string(path.read_text())
        for name, path in files(template / TEMPLATE)
        if path.suffix in {".json", ".toml", ".yaml", ".yml"} and not is_copy_only_path(name, context)
    }
    assert "pyproject.toml" in templates

    @given(answers=st.fixed_dictionaries(dict.fromkeys(TEXT, TEXTS)))
    @settings(derandomize=True, deadline=None)
    def check(answers: dict[str, str]) -> None:
        assume(not problems(EXAMPLES | answers))
        for name, source in templates.items():
            parse(name, source.render(cookiecutter=context["cookiecutter"] | answers))

    check()
