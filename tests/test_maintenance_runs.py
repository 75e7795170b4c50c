"""The weekly jobs at work on each platform: tests on the newest versions, a look for a newer template."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from act import act
from azure import azure
from bake import ROOT
from gitlab_ci import pipeline
from origin import Origin, Result, machine_origin
from synthetic import commit, git, run

pytestmark = pytest.mark.ci

Story = dict[str, Result]
Run = Callable[[Origin, Path, str], Result]
RUNS: dict[str, Run] = {
    "github": lambda origin, work, only: act(origin, work, "schedule", "maintenance.yml", only=only),
    "gitlab": lambda origin, work, only: pipeline(
        origin, work, only=only, CI_PIPELINE_SOURCE="schedule", JOB="dependencies"
    ),
    "azure_devops": lambda origin, work, only: azure(origin, work, "maintenance", "Schedule", only=only),
}
# An older tool that the project pins, and cannot do without.
OLD = "0.17.0"


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.xdist_group(f"maintenance {name}")) for name in RUNS],
)
def story(request: pytest.FixtureRequest, template: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A week in which all is well; then one with a newer tool that refuses the code, and a newer template."""
    folder = tmp_path_factory.mktemp(request.param)
    origin = machine_origin(template, folder, request.param)
    constraints = origin.folder / "constraints.txt"
    (folder / "newest.txt").write_text(constraints.read_text())
    history = folder / "template"
    git(folder, "clone", "--quiet", str(ROOT), str(history))
    origin.settings |= {
        "FROM": str(history),
        "UV_CACHE_DIR": run(folder, Path(sys.executable).with_name("uv"), "cache", "dir").strip(),
        # What is newest today would make this test another one tomorrow: it is what the template pins.
        "UV_CONSTRAINT": str(folder / "newest.txt"),
    }
    weekly = RUNS[request.param]
    # The job of dependencies is one command, the same everywhere: once is enough to see it pass.
    story = {"all well": weekly(origin, folder / "well", "" if request.param == "github" else "template")}

    (pin,) = [line for line in constraints.read_text().splitlines() if line.startswith("ruff==")]
    section = "[tool.ruff]\n"
    origin.commit(
        "hold back a tool",
        ("constraints.txt", pin, f"ruff=={OLD}"),
        ("pyproject.toml", section, f'{section}required-version = "=={OLD}"\n'),
    )
    place = history / "cookiecutter.json"
    place.write_text(place.read_text().replace(json.loads(place.read_text())["_version"], "90.0.0"))
    commit(history, "A newer release")
    story["behind"] = weekly(origin, folder / "behind", "")
    return story


def test_where_all_is_up_to_date_the_week_passes(story: Story) -> None:
    assert story["all well"].passed
    assert "Up to date" in story["all well"].said


def test_a_newer_version_that_breaks_the_checks_fails_the_job(story: Story) -> None:
    assert story["behind"].jobs["dependencies"] == "failure"
    assert f"Required version `=={OLD}` does not match the running version" in story["behind"].said


def test_a_newer_release_of_the_template_fails_the_job(story: Story) -> None:
    assert story["behind"].jobs["template"] == "failure"
    assert "90.0.0" in story["behind"].said
