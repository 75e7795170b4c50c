"""What an answer decides: overlays that are moved into place, and files of the platform that are deleted."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import post_gen_project
import pytest
from bake import TEMPLATE
from checks import files
from matrix import CHOICES, ROWS, Answers
from post_gen_project import OVERLAYS, PLATFORM, holds, place

FILES = (
    "README.md",
    "options/inference=online+all/deploy/service.yml",
    "options/label=one/src/rides/model.py",
    "options/label=two/src/rides/model.py",
    "options/label=two,inference=batch/src/rides/labels.sql",
    "src/mlplatform/serving/app.py",
    "src/mlplatform/train.py",
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(post_gen_project, "PLATFORM", {"serving/app.py": "inference=online+all"})
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("inference", "label", "there"),
    [
        ("batch", "one", {"src/rides/model.py"}),
        ("batch", "two", {"src/rides/model.py", "src/rides/labels.sql"}),
        ("online", "two", {"src/rides/model.py", "deploy/service.yml", "src/mlplatform/serving/app.py"}),
        ("all", "one", {"src/rides/model.py", "deploy/service.yml", "src/mlplatform/serving/app.py"}),
    ],
)
def test_what_was_chosen_is_in_its_place_and_nothing_else(
    project: Path, inference: str, label: str, there: set[str]
) -> None:
    place(project, {"inference": inference, "label": label})
    assert {name for name, _ in files(project)} == {"README.md", "src/mlplatform/train.py"} | there
    assert (project / "src/rides/model.py").read_text() == f"options/label={label}/src/rides/model.py"
    assert not (project / OVERLAYS).exists()


def test_a_file_that_was_there_before_stays_and_is_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "src/rides").mkdir()
    (project / "src/rides/model.py").write_text("mine")
    place(project, {"inference": "batch", "label": "one"})
    assert (project / "src/rides/model.py").read_text() == "mine"
    assert capsys.readouterr().out == "src/rides/model.py was there before and stays as it is\n"


def conditions(template: Path) -> Iterator[str]:
    """Every condition that the template states."""
    yield from (path.name for path in (template / TEMPLATE / OVERLAYS).iterdir())
    yield from PLATFORM.values()


def test_conditions_name_real_choices_and_leave_some_out(template: Path) -> None:
    for condition in conditions(template):
        for prompt, _, choices in (part.partition("=") for part in condition.split(",")):
            assert set(choices.split("+")) < set(CHOICES[prompt]), condition


def test_the_platform_has_what_is_deleted_of_it(template: Path) -> None:
    """A path that nobody has any more would be deleted without a word."""
    assert [path for path in PLATFORM if not (template / TEMPLATE / "src/mlplatform" / path).exists()] == []


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_no_two_overlays_of_one_project_hold_the_same_file(template: Path, row: Answers) -> None:
    placed: dict[str, str] = {}
    for name, _ in files(template / TEMPLATE):
        where, path = split(name, row)
        if path:
            assert path not in placed, f"{where} and {placed[path]} both hold {path}"
            placed[path] = where


def split(name: str, answers: Mapping[str, str]) -> tuple[str, str]:
    """The overlay that holds a file of the template, and the file's final path: empty if it has none."""
    if not name.startswith(f"{OVERLAYS}/"):
        return "", name
    _, condition, path = name.split("/", 2)
    return condition, path if holds(condition, answers) else ""
