"""What the CI files of a rendered repository call exists there, and starts when conf/base.yml says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from matrix import Answers

FILES = {
    "github": ".github/workflows/*.yml",
    "gitlab": ".gitlab-ci.yml",
    "azure_devops": "azure-pipelines/*.yml",
    "none": "Makefile",
}
CALL = re.compile(r"(?:\bmake|\$\(MAKE\)) ([^\n#|;&]+)")
CRON = re.compile(r"""["'](\d[\d*/,-]*(?: [\d*/,-]+){4})["']""")
# Prints each command with the words that are typed, a line each.
COMMANDS = """
from typer.main import get_command
from mlplatform.cli import application
for name, command in get_command(application()).commands.items():
    for inner in getattr(command, "commands", [""]):
        print(f"{name} {inner}".strip())
"""


@pytest.fixture
def files(row: Answers, variant: Path) -> dict[str, str]:
    """The text of each file that the platform reads, by name."""
    found = {path.name: path.read_text() for path in variant.glob(FILES[row["ci_platform"]])}
    assert found
    return found


def targets(text: str) -> set[str]:
    """What a file asks make for, TARGETS included."""
    calls = CALL.findall(re.sub("#.*", "", text))
    words = [word for call in calls for word in re.sub(r"TARGETS=|[A-Z]+=\S*|[\"']", " ", call).split()]
    return {word for word in words if re.fullmatch("[a-z][a-z-]*", word)}


def schedules(project: Path) -> dict[str, str]:
    settings = yaml.safe_load((project / "conf" / "base.yml").read_text())
    return dict(settings["delivery"]["schedules"])


def test_every_target_that_is_called_exists(variant: Path, files: dict[str, str]) -> None:
    makefile = (variant / "Makefile").read_text()
    rules = re.findall(r"^([a-z][a-z -]*):", makefile, re.MULTILINE)
    rules += re.findall(r"^PIPELINES := (.*)$", makefile, re.MULTILINE)
    known = {word for line in rules for word in line.split()}
    for text in {**files, "Makefile": makefile}.values():
        assert targets(text)
        assert targets(text) - known == set()


def test_every_command_that_the_makefile_calls_exists(variant: Path) -> None:
    makefile = (variant / "Makefile").read_text()
    called = set(re.findall(r"\$\(RUN\) ([a-z-]+(?: [a-z]+)?)", makefile))
    assert "delivery cut" in called
    search = os.environ | {"PYTHONPATH": str(variant / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    there = subprocess.check_output([sys.executable, "-c", COMMANDS], env=search, text=True).splitlines()
    # The second word of a command that has no others is its argument.
    assert {words for words in called if not {words, words.split()[0]} & set(there)} == set()


def test_each_target_is_listed_apart_from_what_it_does(variant: Path) -> None:
    """In words that stay true once the owner has put something in the place of the sample."""
    listed = subprocess.check_output(["make", "help"], cwd=variant, text=True).splitlines()[:-1]
    described = re.findall(r"^([a-z-]+):.*## (.+)$", (variant / "Makefile").read_text(), re.MULTILINE)
    assert [re.split(" {2,}", line) for line in listed] == [list(pair) for pair in described]
    for about in ("demo", "land"):
        assert "deliveries.py" in dict(described)[about]
        assert not re.search("flight|example|sample", dict(described)[about])


def test_jobs_of_prod_run_one_at_a_time(row: Answers, files: dict[str, str]) -> None:
    """But none that waits for a person: where that holds up the others, it stays apart."""
    if row["compute"] == "databricks":
        pytest.skip("jobs of prod run in Databricks, which queues those of one name; the lease does the rest")
    parsed = {name: yaml.safe_load(text) for name, text in files.items() if name.endswith(".yml")}
    match row["ci_platform"]:
        case "github":
            jobs = [job for workflow in parsed.values() for job in workflow["jobs"].values()]
            groups = [(job["environment"], job.get("concurrency")) for job in jobs if "environment" in job]
            one = {"group": "production", "cancel-in-progress": False, "queue": "max"}
            assert [group for where, group in groups if where == "production"] == [one] * 3
            assert not any(group for where, group in groups if where.startswith("production-"))
        case "gitlab":  # what a person starts takes its turn when it is started
            (jobs,) = parsed.values()
            named = {name: job for name, job in jobs.items() if isinstance(job, dict)}
            uses = {name for name, job in named.items() if "production" in str(job.get("environment"))}
            assert uses >= {"prod", "train", "scheduled", "gates", "approve"}
            assert {name for name in uses if ".production" not in str(jobs[name]["extends"])} == set()
            assert jobs[".production"]["resource_group"] == "production"
        case "azure_devops":  # the lock is the last check of a stage, after the person's
            uses = {name for name, text in files.items() if "group: production" in text}
            assert uses == {"model-cd.yml", "production.yml", "release.yml"}
            locks = {name for name in uses if parsed[name].get("lockBehavior") == "sequential"}
            assert locks == uses - {"model-cd.yml"}, "a template of the other two"


def test_jobs_start_when_the_settings_say(row: Answers, variant: Path, files: dict[str, str]) -> None:
    match row["ci_platform"]:
        case _ if row["compute"] == "databricks":  # the others start there: tests/test_bundle.py
            times = {time for text in files.values() for time in CRON.findall(text)}
            kept = {"nightly", "dependencies"} if row["ci_platform"] in ("github", "azure_devops") else set()
            assert times == {schedules(variant)[name] for name in kept}
        case "none":
            assert "delivery" not in yaml.safe_load((variant / "conf" / "base.yml").read_text())
        case "gitlab":  # it keeps the times itself, and its pipeline has to know each job by name
            (pipeline,) = files.values()
            jobs = set(re.findall(r"\$JOB [!=]= \"([a-z]+)\"", pipeline))
            assert jobs - {"model"} == set(schedules(variant))
        case _:
            times = {time for text in files.values() for time in CRON.findall(text)}
            assert times == set(schedules(variant).values())
