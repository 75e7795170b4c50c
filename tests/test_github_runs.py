"""The GitHub workflows at work, on machines that are there for one job: what it leaves on the disk is gone.

Their jobs run under act, each in a fresh clone of one repository, whose tables and models are at addresses.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from act import REPOSITORY, act
from origin import BROKEN_SQL, SECOND, WORSE, Origin, Result, broken, machine_origin
from platform_api import serve
from stores import models, s3

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("github")]

Story = dict[str, Result]
REFRESH = {"schedule": "5 * * * *"}
MONITOR = {"schedule": "30 6 * * *"}
RETRAIN = {"schedule": "30 7 * * *"}


@pytest.fixture(scope="module")
def origin(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    folder = tmp_path_factory.mktemp("github")
    origin = machine_origin(template, folder, "github")
    origin.settings["RUNNER_ENVIRONMENT"] = "github-hosted"
    with s3() as store, models(store, folder, str(origin.venv / "bin" / "python")) as address:
        origin.move(store, address)
        with serve(origin.platform):
            yield origin


@pytest.fixture(scope="module")
def story(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """What happened to the repository, in order: each chapter goes on from where the one before left it."""
    story: Story = {}
    work = tmp_path_factory.mktemp("runs")

    def chapter(name: str, event: str, workflow: str, **more: Any) -> None:
        story[name] = act(origin, work / name.replace(" ", "-"), event, workflow, **more)

    def merge_request(name: str) -> None:
        base = {"sha": origin.git("rev-parse", "main")}
        head = {"repo": {"full_name": REPOSITORY}}
        payload = {"pull_request": {"number": 7, "base": base, "head": head}}
        story[name] = act(origin, work / name.replace(" ", "-"), "pull_request", "ci.yml", payload=payload)

    first = origin.git("rev-parse", "HEAD")
    chapter("merge", "push", "ci.yml")
    origin.platform.ci_ended(first, passed=story["merge"].passed)
    chapter("too early", "schedule", "production.yml", payload=REFRESH)
    chapter("release", "workflow_dispatch", "release.yml", inputs={"version": "v0.1.0"})
    origin.platform.approver = "ada"
    chapter("approval", "workflow_dispatch", "model-cd.yml")
    chapter("refresh", "schedule", "production.yml", payload=REFRESH, variables={"AS_OF": SECOND})
    chapter("monitor", "schedule", "production.yml", payload=MONITOR, variables={"AS_OF": SECOND})
    chapter("retrain", "schedule", "production.yml", payload=RETRAIN, variables={"AS_OF": SECOND})
    chapter("unknown schedule", "schedule", "production.yml", payload={"schedule": "1 1 1 1 1"})
    chapter("twice", "workflow_dispatch", "release.yml", inputs={"version": "v0.1.0"})

    origin.git("switch", "--quiet", "--create", "prose")
    origin.commit("words", ("README.md", "First commands", "First steps"))
    merge_request("prose")

    origin.git("switch", "--quiet", "--create", "pipeline", "main")
    origin.commit("broken pipeline", broken("featurize", "out of order"))
    merge_request("broken pipeline")

    origin.git("switch", "--quiet", "main")
    red = origin.commit("broken SQL", BROKEN_SQL)
    chapter("failing test", "push", "ci.yml")
    # What counts is the newest run of that commit: not one before, nor one of another commit.
    origin.platform.ci_ended(red, passed=True)
    origin.platform.ci_ended(red, passed=story["failing test"].passed)
    origin.platform.ci_ended(first, passed=True)
    chapter("red release", "workflow_dispatch", "release.yml", inputs={"version": "v0.2.0"})

    origin.git("revert", "--no-edit", "HEAD")
    origin.commit("worse model", WORSE)
    origin.git("tag", "v0.3.0")
    chapter(
        "worse model",
        "workflow_dispatch",
        "deploy.yml",
        inputs={"version": "v0.3.0"},
        variables={"AS_OF": SECOND},
    )
    return story


def test_a_merge_is_checked_in_all_pipelines_and_deployed_to_staging(story: Story, origin: Origin) -> None:
    assert story["merge"].jobs == {"checks": "success", "integration": "success", "staging": "success"}
    assert "## Integration test: passed" in story["merge"].said
    assert "ops.releases" in origin.run("sql", "--env", "staging")


def test_no_job_of_prod_runs_before_a_release_is_deployed(story: Story) -> None:
    assert story["too early"].jobs == {"job": "failure"}
    assert "nothing is deployed in prod yet" in story["too early"].said


def test_a_release_is_tagged_deployed_and_trained_and_stops_where_nobody_approves(
    story: Story, origin: Origin
) -> None:
    release = story["release"]
    assert release.jobs == {
        "cut": "success", "code": "success", "train": "success", "gates": "success", "approve": "failure",
    }  # fmt: skip
    assert "nobody has approved this run" in release.said
    assert "v0.1.0" in origin.git("tag")


def test_a_person_who_passes_the_gate_puts_the_model_into_production(story: Story, origin: Origin) -> None:
    assert story["approval"].jobs == {"gates": "success", "approve": "success"}
    assert "version 1 still waits for a person's approval" in story["approval"].said, "it was compared again"
    assert "approved by ada: looks right" in origin.run("registry", "show", "--env", "prod")


def test_the_review_pack_is_an_artifact(story: Story) -> None:
    assert "review.md" in story["approval"].artifacts["review"]
    assert "model_card.md" in story["approval"].artifacts["review"]


def test_scheduled_jobs_score_and_monitor(story: Story) -> None:
    assert story["refresh"].jobs == {"job": "success"}
    assert "infer: predictions." in story["refresh"].said
    assert story["monitor"].jobs == {"job": "success"}
    assert "monitor: monitoring.metrics" in story["monitor"].said
    assert story["monitor"].artifacts["dashboard"] == {"dashboard.html"}


def test_where_retraining_is_not_due_the_gates_ask_nobody(
    story: Story,
) -> None:
    assert story["retrain"].jobs == {"job": "success", "gates": "success"}
    assert "retraining is not due" in story["retrain"].said


def test_a_schedule_that_the_settings_do_not_know_runs_nothing(story: Story) -> None:
    assert story["unknown schedule"].jobs == {"job": "failure"}
    assert "no schedule in conf/base.yml" in story["unknown schedule"].said


def test_a_release_cannot_be_cut_twice(story: Story) -> None:
    assert story["twice"].jobs == {"cut": "failure"}
    assert "v0.1.0 is not later than v0.1.0" in story["twice"].said


def test_a_merge_request_of_prose_is_not_run_through_the_pipelines(story: Story) -> None:
    assert story["prose"].jobs == {"checks": "success"}


def test_a_pipeline_that_breaks_stops_a_merge_request_and_is_reported_on_it(
    story: Story, origin: Origin
) -> None:
    assert story["broken pipeline"].jobs == {
        "checks": "success",
        "integration": "failure",
        "report": "success",
    }
    (comment,) = origin.platform.comments
    assert "## Integration test: failed" in comment
    assert "OSError: out of order" in comment


def test_a_failing_test_stops_everything_after_it(story: Story) -> None:
    assert story["failing test"].jobs == {"checks": "failure"}
    assert "test_labels.py" in story["failing test"].said


def test_no_release_is_cut_from_a_commit_whose_checks_failed(story: Story, origin: Origin) -> None:
    assert story["red release"].jobs == {"cut": "failure"}
    assert "has not passed the checks of main" in story["red release"].said
    assert "v0.2.0" not in origin.git("tag").split()


def test_a_worse_model_is_trained_and_refused_and_nobody_is_asked(story: Story, origin: Origin) -> None:
    assert story["worse model"].jobs == {"code": "success", "train": "success", "gates": "success"}
    assert "version 2 rejected" in story["worse model"].said
    history = origin.run("registry", "show", "--env", "prod")
    assert "version 1: Production" in history
    assert "version 2: Archived" in history
