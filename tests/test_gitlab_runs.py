"""The GitLab pipeline at work: its jobs run under gitlab-ci-local, each in a tree of its own.

The project serves its model, too. It installs what "served on spark" of the matrix does.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from gitlab_ci import MERGE_REQUEST, pipeline
from origin import BROKEN_SQL, SECOND, WORSE, Origin, Result, broken, machine_origin
from platform_api import serve

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("gitlab")]

Story = dict[str, Result]
# Two seconds, of which nothing is asked, whatever a key may ask; then more than any machine can do.
LOAD = (
    "conf/base.yml",
    "    per_second: 50\n    p50: 0.05\n    p99: 0.5\n",
    "    seconds: 2\n    per_second: 1\n    p50: 5\n    p99: 30\n  limits: {per_second: 5}\n",
)
TOO_MUCH = ("conf/base.yml", "    per_second: 1\n", "    per_second: 1000000\n")


@pytest.fixture(scope="module")
def origin(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    folder = tmp_path_factory.mktemp("gitlab")
    origin = machine_origin(template, folder, "gitlab", inference="all", compute="spark")
    origin.commit("a short load test", LOAD)
    with serve(origin.platform):
        yield origin


@pytest.fixture(scope="module")
def story(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """What happened to the repository, in order: each chapter goes on from where the one before left it."""
    story: Story = {}
    work = tmp_path_factory.mktemp("runs")

    def chapter(name: str, **variables: str) -> None:
        story[name] = pipeline(origin, work / name.replace(" ", "-"), **variables)

    first = origin.git("rev-parse", "HEAD")
    chapter("merge")
    origin.platform.ci_ended(first, passed=story["merge"].passed)
    chapter("too early", JOB="refresh", CI_PIPELINE_SOURCE="schedule")
    chapter("lost disk", JOB="refresh", CI_PIPELINE_SOURCE="schedule", CI_RUNNER_TAGS='["saas-linux-small"]')
    chapter("release", VERSION="v0.1.0", CI_PIPELINE_SOURCE="web")
    chapter("no person", JOB="model", CI_PIPELINE_SOURCE="api", manual="approve")
    chapter("approval", JOB="model", CI_PIPELINE_SOURCE="web", manual="approve", CI_JOB_MANUAL="true")
    chapter("refresh", JOB="refresh", CI_PIPELINE_SOURCE="schedule", AS_OF=SECOND)
    chapter("monitor", JOB="monitor", CI_PIPELINE_SOURCE="schedule", AS_OF=SECOND)
    chapter("retrain", JOB="retrain", CI_PIPELINE_SOURCE="schedule", AS_OF=SECOND)

    origin.git("switch", "--quiet", "--create", "pipeline")
    origin.commit("broken pipeline", broken("featurize", "out of order"))
    chapter("broken pipeline", **MERGE_REQUEST)
    origin.commit("broken earlier", broken("ingest", "no files"))
    chapter("broken again", only="integration report", **MERGE_REQUEST)
    chapter("no token", only="integration report", comment_token="", **MERGE_REQUEST)

    origin.git("switch", "--quiet", "main")
    red = origin.commit("broken SQL", BROKEN_SQL)
    chapter("failing test")
    # What counts is the newest run of that commit: not one before, nor one of another commit.
    origin.platform.ci_ended(red, passed=True)
    origin.platform.ci_ended(red, passed=story["failing test"].passed)
    origin.platform.ci_ended(first, passed=True)
    chapter("red release", VERSION="v0.2.0", CI_PIPELINE_SOURCE="web")

    origin.git("revert", "--no-edit", "HEAD")
    slow = origin.commit("too much to ask", TOO_MUCH)
    chapter("too slow", only="staging")
    origin.platform.ci_ended(slow, passed=story["too slow"].passed)
    chapter("slow release", VERSION="v0.2.0", CI_PIPELINE_SOURCE="web")
    origin.git("revert", "--no-edit", "HEAD")
    # Its model still beats the baseline, so that CI would let it pass; that is not what is looked at here.
    origin.platform.ci_ended(origin.commit("worse model", WORSE), passed=True)
    chapter("worse model", VERSION="v0.3.0", CI_PIPELINE_SOURCE="web", AS_OF=SECOND)
    return story


def test_a_merge_is_checked_in_all_pipelines_and_deployed_to_staging(story: Story, origin: Origin) -> None:
    assert story["merge"].jobs == {"checks": "success", "integration": "success", "staging": "success"}
    assert story["merge"].artifacts["integration"] == {"integration.md"}
    assert "ops.releases" in origin.run("sql", "--env", "staging")


def test_staging_trains_with_the_code_and_bears_the_load(story: Story) -> None:
    said = story["merge"].said
    assert "train: staging.early_warning version 1" in said
    assert re.search(r"load-test: [\d,]+ requests/s, .* 0 failed", said)


def test_no_release_is_cut_from_a_commit_that_does_not_bear_the_load(story: Story, origin: Origin) -> None:
    assert story["too slow"].jobs == {"staging": "failure"}
    assert "is beyond serving.load.per_second" in story["too slow"].said
    assert story["slow release"].jobs == {"release": "failure"}
    assert "v0.2.0" not in origin.git("tag").split()


def test_no_job_of_prod_runs_before_a_release_is_deployed(story: Story) -> None:
    assert story["too early"].jobs == {"scheduled": "failure"}
    assert "nothing is deployed in prod yet" in story["too early"].said


def test_where_the_disk_is_lost_after_the_job_no_folder_is_taken_for_storage(story: Story) -> None:
    assert story["lost disk"].jobs == {"scheduled": "failure"}
    assert (
        "this runner's disk is gone after the job, and with it lakehouse.root (data/prod)"
        in story["lost disk"].said
    )


def test_a_release_is_tagged_deployed_trained_and_waits_for_a_person(story: Story, origin: Origin) -> None:
    release = story["release"]
    assert release.jobs == dict.fromkeys(("release", "prod", "train", "gates"), "success")
    assert "version 1 waits: build/review/review.md" in release.said
    assert "review.md" in release.artifacts["gates"]
    assert "v0.1.0" in origin.git("tag")


def test_an_approval_that_no_person_started_is_refused(story: Story) -> None:
    assert story["no person"].jobs == {"gates": "success", "approve": "warning"}
    assert "nobody has started this job by hand" in story["no person"].said


def test_a_person_who_starts_the_job_puts_the_model_into_production(story: Story, origin: Origin) -> None:
    assert story["approval"].jobs == {"gates": "success", "approve": "success"}
    history = origin.run("registry", "show", "--env", "prod")
    assert "version 1: Production" in history
    assert "approved on GitLab" in history


def test_scheduled_jobs_score_and_monitor(story: Story) -> None:
    assert story["refresh"].jobs == {"scheduled": "success"}
    assert "infer: predictions." in story["refresh"].said
    assert story["monitor"].jobs == {"scheduled": "success"}
    assert "monitor: monitoring.metrics" in story["monitor"].said
    assert story["monitor"].artifacts["scheduled"] == {"dashboard.html"}


def test_where_retraining_is_not_due_the_gates_ask_nobody(
    story: Story,
) -> None:
    assert story["retrain"].jobs == {"scheduled": "success", "gates": "success"}
    assert "retraining is not due" in story["retrain"].said


def test_a_pipeline_that_breaks_stops_a_merge_request_and_is_reported_on_it(story: Story) -> None:
    ended = {"checks": "success", "integration": "failure", "report": "success"}
    assert story["broken pipeline"].jobs == ended
    assert "OSError: out of order" in story["broken pipeline"].said
    assert story["broken pipeline"].artifacts["integration"] == {"integration.md"}


def test_the_newest_report_takes_the_place_of_the_one_before(story: Story, origin: Origin) -> None:
    assert story["broken again"].jobs == {"integration": "failure", "report": "success"}
    (note,) = origin.platform.comments
    assert "## Integration test: failed" in note
    assert "OSError: no files" in note
    assert "out of order" not in note


def test_a_report_without_a_token_warns_and_says_what_to_set(story: Story) -> None:
    assert story["no token"].jobs == {"integration": "failure", "report": "warning"}
    assert "COMMENT_TOKEN is not set: make it a variable of this project" in story["no token"].said


def test_a_failing_test_stops_everything_after_it(story: Story) -> None:
    assert story["failing test"].jobs == {"checks": "failure"}
    assert "test_labels.py" in story["failing test"].said


def test_no_release_is_cut_from_a_commit_whose_checks_failed(story: Story, origin: Origin) -> None:
    assert story["red release"].jobs == {"release": "failure"}
    assert "has not passed the checks of main" in story["red release"].said
    assert "v0.2.0" not in origin.git("tag").split()


def test_a_worse_model_is_trained_and_refused_and_nobody_is_asked(story: Story, origin: Origin) -> None:
    assert story["worse model"].jobs == dict.fromkeys(("release", "prod", "train", "gates"), "success")
    assert "no version waits for a person" in story["worse model"].said
    history = origin.run("registry", "show", "--env", "prod")
    assert "version 1: Production" in history
    assert "version 2: Archived" in history
