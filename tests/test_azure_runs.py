"""The Azure pipelines at work: the script steps of their jobs run in order, each job in a fresh clone.

The project deploys models: they are trained in dev and promoted. Those of the other platforms deploy code.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from azure import azure
from origin import BROKEN_SQL, SECOND, WORSE, Origin, Result, broken, machine_origin
from platform_api import serve

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("azure")]

Story = dict[str, Result]


@pytest.fixture(scope="module")
def origin(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    folder = tmp_path_factory.mktemp("azure")
    origin = machine_origin(template, folder, "azure_devops", deployment_pattern="deploy_models")
    with serve(origin.platform):
        yield origin


@pytest.fixture(scope="module")
def story(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """What happened to the repository, in order: each chapter goes on from where the one before left it."""
    story: Story = {}
    work = tmp_path_factory.mktemp("runs")

    def chapter(name: str, pipeline: str, reason: str, **more: str) -> None:
        names: list[str] = [name for name in ("version", "job") if name in more]
        parameters = {name: more.pop(name) for name in names}
        story[name] = azure(origin, work / name.replace(" ", "-"), pipeline, reason, parameters, **more)

    first = origin.git("rev-parse", "HEAD")
    schedule = "Build__CronSchedule__DisplayName"
    chapter("merge", "ci", "IndividualCI")
    origin.platform.ci_ended(first, passed=story["merge"].passed)
    chapter("too early", "production", "Schedule", **{schedule: "refresh"})
    hosted = {"AGENT_ISSELFHOSTED": "0"}
    chapter("lost disk", "production", "Schedule", **{schedule: "refresh"}, **hosted)
    chapter("release", "release", "Manual", version="v0.1.0")
    origin.platform.approver = "Ada"
    chapter("approval", "production", "Manual", job="model")
    chapter("refresh", "production", "Schedule", **{schedule: "refresh", "AS_OF": SECOND})
    chapter("monitor", "production", "Schedule", **{schedule: "monitor", "AS_OF": SECOND})
    chapter("retrain", "production", "Schedule", **{schedule: "retrain", "AS_OF": SECOND})

    origin.git("switch", "--quiet", "--create", "prose")
    origin.commit("words", ("README.md", "First commands", "First steps"))
    chapter("prose", "ci", "PullRequest")

    origin.git("switch", "--quiet", "--create", "pipeline", "main")
    origin.commit("broken pipeline", broken("featurize", "out of order"))
    chapter("broken pipeline", "ci", "PullRequest")

    origin.git("switch", "--quiet", "main")
    red = origin.commit("broken SQL", BROKEN_SQL)
    chapter("failing test", "ci", "IndividualCI")
    # What counts is the newest run of that commit: not one before, nor one of another commit.
    origin.platform.ci_ended(red, passed=True)
    origin.platform.ci_ended(red, passed=story["failing test"].passed)
    origin.platform.ci_ended(first, passed=True)
    chapter("red release", "release", "Manual", version="v0.2.0")

    origin.git("revert", "--no-edit", "HEAD")
    # Its model still beats the baseline, so that CI would let it pass; that is not what is looked at here.
    origin.platform.ci_ended(origin.commit("worse model", WORSE), passed=True)
    chapter("worse model", "release", "Manual", version="v0.3.0", AS_OF=SECOND)
    return story


def test_a_merge_is_checked_in_all_pipelines_and_deployed_to_staging(story: Story, origin: Origin) -> None:
    assert story["merge"].jobs == {"checks": "success", "integration": "success", "staging": "success"}
    assert story["merge"].artifacts["integration"] == {"integration.md"}
    assert "ops.releases" in origin.run("sql", "--env", "staging")


def test_no_job_of_prod_runs_before_a_release_is_deployed(story: Story) -> None:
    assert story["too early"].jobs == {"job": "failure"}
    assert "nothing is deployed in prod yet" in story["too early"].said


def test_where_the_disk_is_lost_after_the_job_no_folder_is_taken_for_storage(story: Story) -> None:
    assert story["lost disk"].jobs == {"job": "failure"}
    assert (
        "this runner's disk is gone after the job, and with it lakehouse.root (data/prod)"
        in story["lost disk"].said
    )


def test_a_release_is_tagged_deployed_trained_and_stops_without_approval(
    story: Story, origin: Origin
) -> None:
    release = story["release"]
    passed = dict.fromkeys(("cut", "prod", "train", "gates"), "success")
    assert release.jobs == passed | {"approve": "failure"}
    assert "nobody has approved this stage" in release.said
    assert "version 1 waits: build/review/review.md" in release.said
    assert "review.md" in release.artifacts["review"]
    assert "v0.1.0" in origin.git("tag")


def test_a_release_promotes_the_model_that_dev_has_accepted(story: Story, origin: Origin) -> None:
    for line in (
        "train: dev.early_warning version 1: ",
        "promote: staging.early_warning version 1: accepted in dev as version 1",
        "promote: prod.early_warning version 1: accepted in staging as version 1",
    ):
        assert line in story["release"].said
    assert "version 1: Production" in origin.run("registry", "show", "--env", "staging")


def test_a_person_who_passes_the_check_puts_the_model_into_production(story: Story, origin: Origin) -> None:
    assert story["approval"].jobs == {"gates": "success", "approve": "success"}
    assert "approved by Ada: looks right" in origin.run("registry", "show", "--env", "prod")


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


def test_a_merge_request_of_prose_is_not_run_through_the_pipelines(story: Story) -> None:
    assert story["prose"].jobs == {"checks": "success"}


def test_a_pipeline_that_breaks_stops_a_merge_request_and_is_reported_on_it(
    story: Story, origin: Origin
) -> None:
    ended = {"checks": "success", "integration": "failure", "report": "success"}
    assert story["broken pipeline"].jobs == ended
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


def test_a_worse_model_is_trained_and_refused_in_dev_and_goes_no_further(
    story: Story, origin: Origin
) -> None:
    assert story["worse model"].jobs == dict.fromkeys(("cut", "prod", "train", "gates"), "success")
    assert "no version waits for a person" in story["worse model"].said
    assert "dev.early_warning version 2: Archived" in origin.run("registry", "show", "--env", "dev")
    for env in ("staging", "prod"):
        history = origin.run("registry", "show", "--env", env)
        assert "version 1: Production" in history
        assert "version 2" not in history
