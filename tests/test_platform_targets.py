"""`make platform-diff` and `make test-platform` of a rendered repository, with a clone as the template."""

import subprocess
from pathlib import Path

import pytest
from bake import bake, export
from rendered import environment, make
from synthetic import ENVIRONMENT, commit, git, write

pytestmark = [pytest.mark.projects, pytest.mark.xdist_group("platform targets")]

# Stands in for the platform's tests, which take minutes: it fails where the project's file was edited.
TEST = """
import mlplatform.errors
import toml  # which no project installs

def test_errors() -> None:
    with open(mlplatform.errors.__file__) as file:
        assert "# mine" not in file.read(), "the project's own file"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A render and its template, which has gone on since."""
    template = export(tmp_path_factory.mktemp("template"))
    git(template, "init", "--quiet", "--initial-branch=main")
    tests = {"pyproject.toml": "[tool.pytest]\n", "requirements.txt": "toml==0.10.2\n", "test_it.py": TEST}
    write(template, {f"tests/platform/{name}": text for name, text in tests.items()})
    commit(template, "Release")
    project = bake(template, tmp_path_factory.mktemp("project"), {"sample": "none"})
    errors = next(template.glob("*/src/mlplatform/errors.py"))
    write(template, {f"{errors.relative_to(template)}": errors.read_text() + "# newer\n"})
    write(template, {"tests/platform/test_it.py": "def test_newer() -> None:\n    raise OSError('newer')\n"})
    commit(template, "Go on")
    make(project, "setup")
    return project, template


def call(project: tuple[Path, Path], target: str) -> subprocess.CompletedProcess[str]:
    folder, template = project
    command = ["make", target, f"FROM={template}", f"VENV={environment(folder)}"]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)


def test_the_platform_of_a_fresh_render_is_the_recorded_releases(project: tuple[Path, Path]) -> None:
    """Although the template has gone on, and has files that this project's choices do without."""
    done = call(project, "platform-diff")
    assert (done.returncode, done.stdout) == (0, "src/mlplatform is the template's\n"), done.stderr
    done = call(project, "test-platform")
    assert done.returncode == 0, done.stdout + done.stderr


def test_edits_of_the_platform_are_shown_and_tested(project: tuple[Path, Path]) -> None:
    platform = project[0] / "src" / "mlplatform"
    before = {name: (platform / name).read_text() for name in ("errors.py", "revision.py")}
    (platform / "errors.py").write_text(before["errors.py"] + "# mine\n")
    (platform / "revision.py").unlink()
    (platform / "own.py").write_text("# mine, too\n")
    try:
        done = call(project, "platform-diff")
        assert done.returncode == 0, done.stderr
        changed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("+++ ")]
        assert changed == ["here/errors.py", "here/own.py", "here/revision.py"]
        assert "\n+# mine\n" in done.stdout
        done = call(project, "test-platform")
        assert done.returncode != 0
        assert "the project's own file" in done.stdout
    finally:
        for name, text in before.items():
            (platform / name).write_text(text)
        (platform / "own.py").unlink()


def test_a_render_of_files_without_history_says_that_there_is_nothing_to_compare_with(
    template: Path, tmp_path: Path
) -> None:
    alone = bake(template, tmp_path, {"sample": "none"})
    done = call((alone, template), "platform-diff")
    assert done.returncode != 0
    assert ".cruft.json records no commit to compare with" in done.stderr


def test_extras_are_installed_into_an_environment_that_is_there(template: Path, tmp_path: Path) -> None:
    project = bake(template, tmp_path, {"sample": "none"})
    for name in ("bin/uv", ".ready"):
        (tmp_path / "venv" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "venv" / name).touch()

    def installs(*extras: str) -> bool:
        command = ["make", "-n", "setup", f"VENV={tmp_path / 'venv'}", *extras]
        return "--editable" in subprocess.check_output(command, cwd=project, env=ENVIRONMENT, text=True)

    assert installs("EXTRAS=aws")
    assert not installs()
