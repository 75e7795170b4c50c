"""The GitHub workflows of a project in a folder of a repository at work, from the merge to production."""

from pathlib import Path

import pytest
from act import act
from origin import Origin, Result, machine_origin
from platform_api import serve

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("github")]


@pytest.fixture(scope="module")
def told(template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Origin, dict[str, Result]]:
    """What happened: a merge, a job on GitHub's runner, a release, and a person who approves its model."""
    origin = machine_origin(template, tmp_path_factory.mktemp("folder"), "github", inside=True)
    work, story = tmp_path_factory.mktemp("runs"), {}
    with serve(origin.platform):
        head = origin.git("rev-parse", "HEAD")
        story["merge"] = act(origin, work / "merge", "push", f"{origin.inside}-ci.yml")
        origin.platform.ci_ended(head, passed=story["merge"].passed)
        story["lost disk"] = act(
            origin,
            work / "lost",
            "schedule",
            f"{origin.inside}-production.yml",
            payload={"schedule": "5 * * * *"},
            variables={"RUNNER_ENVIRONMENT": "github-hosted"},
        )
        origin.platform.approver = "ada"
        release = f"{origin.inside}-release.yml"
        story["release"] = act(
            origin, work / "release", "workflow_dispatch", release, inputs={"version": "v0.1.0"}
        )
    return origin, story


def test_a_merge_is_checked_and_deployed_to_staging(told: tuple[Origin, dict[str, Result]]) -> None:
    _, story = told
    assert story["merge"].jobs == {"checks": "success", "integration": "success", "staging": "success"}
    assert story["merge"].artifacts["integration"] == {"integration.md"}


def test_where_the_disk_is_lost_after_the_job_no_folder_is_taken_for_storage(
    told: tuple[Origin, dict[str, Result]],
) -> None:
    _, story = told
    assert story["lost disk"].jobs == {"job": "failure"}
    assert (
        "this runner's disk is gone after the job, and with it lakehouse.root (data/prod)"
        in story["lost disk"].said
    )


def test_a_release_of_the_folder_reaches_production(told: tuple[Origin, dict[str, Result]]) -> None:
    origin, story = told
    assert story["release"].jobs == {
        "cut": "success", "code": "success", "train": "success", "gates": "success", "approve": "success",
    }  # fmt: skip
    assert origin.git("tag") == f"{origin.inside}/v0.1.0"
    assert "approved by ada: looks right" in origin.run("registry", "show", "--env", "prod")
