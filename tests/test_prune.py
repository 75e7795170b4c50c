"""The pruning of a fresh render, by a table made for the test."""

from pathlib import Path

import post_gen_project
import pytest
from checks import files
from post_gen_project import Option, prune

TABLE = {
    "inference": Option(
        choices=("batch", "online", "all"),
        paths={
            "src/<package>/serving": ("online", "all"),
            "src/<package>/pipelines/infer.py": ("batch", "all"),
            "deploy/online/service.yml": ("online", "all"),
        },
    ),
    "problem_type": Option(choices=("one", "two"), variants=("src/<package>/model.py",)),
}
FILES = (
    "deploy/online/service.yml",
    "src/rides/model.one.py",
    "src/rides/model.two.py",
    "src/rides/pipelines/infer.py",
    "src/rides/pipelines/train.py",
    "src/rides/serving/app.py",
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(post_gen_project, "OPTIONS", TABLE)
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("inference", "left"),
    [
        ("batch", {"pipelines/infer.py"}),
        ("online", {"serving/app.py"}),
        ("all", {"pipelines/infer.py", "serving/app.py"}),
    ],
)
def test_what_the_answer_does_not_have_is_deleted(project: Path, inference: str, left: set[str]) -> None:
    prune(project, {"package_name": "rides", "inference": inference, "problem_type": "two"})
    package = {name.removeprefix("src/rides/") for name, _ in files(project) if name.startswith("src/")}
    assert package == {"model.py", "pipelines/train.py"} | left


def test_no_empty_folder_is_left(project: Path) -> None:
    prune(project, {"package_name": "rides", "inference": "batch", "problem_type": "one"})
    assert {path.name for path in project.iterdir()} == {"src"}


def test_the_chosen_variant_gets_the_final_name(project: Path) -> None:
    prune(project, {"package_name": "rides", "inference": "all", "problem_type": "two"})
    assert (project / "src/rides/model.py").read_text() == "src/rides/model.two.py"
