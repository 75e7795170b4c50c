"""The CI platforms: each module can do what the platform's own commands ask of it."""

import inspect
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest

from conftest import commit, git
from mlplatform.config.sections import DeliverySettings
from mlplatform.delivery import hosts
from mlplatform.delivery.hosts import HOSTS, Host, host
from mlplatform.errors import ConfigError

# All of them in the template; in a repository that was rendered from it, the chosen one.
THERE = [name for name, module in HOSTS.items() if find_spec(module)]
ASKED = {name: method for name, method in vars(Host).items() if inspect.isfunction(method) and name[0] != "_"}


def test_the_settings_name_the_platforms_that_there_are() -> None:
    assert set(get_args(DeliverySettings.model_fields["host"].annotation)) == set(HOSTS)
    modules = {path.stem for path in Path(str(hosts.__file__)).parent.glob("*.py")} - {"__init__"}
    assert modules == set(THERE)


@pytest.mark.parametrize("name", THERE)
def test_a_platform_takes_what_it_is_asked_with(name: str) -> None:
    assert set(ASKED) == {"checks_passed", "tag", "approval", "disk_is_lost", "comment", "output"}
    for method, asked in ASKED.items():
        parameters = list(inspect.signature(asked).parameters.values())[1:]  # without self
        given = inspect.signature(getattr(host(name), method))
        assert list(given.parameters.values()) == parameters
        assert given.return_annotation == inspect.signature(asked).return_annotation


@pytest.mark.parametrize(
    ("name", "job", "lost"),
    [
        ("github", {"RUNNER_ENVIRONMENT": "github-hosted"}, True),
        ("github", {"RUNNER_ENVIRONMENT": "self-hosted"}, False),
        ("gitlab", {"CI_DISPOSABLE_ENVIRONMENT": "true"}, True),
        ("gitlab", {"CI_DISPOSABLE_ENVIRONMENT": "true", "STORAGE": "/volume"}, False),
        ("gitlab", {"CI_RUNNER_TAGS": '["saas-linux-small-amd64"]', "STORAGE": "/volume"}, True),
        ("gitlab", {}, False),
        ("azure_devops", {"AGENT_ISSELFHOSTED": "0"}, True),
        ("azure_devops", {"AGENT_ISSELFHOSTED": "1"}, False),
        ("by_hand", {"RUNNER_ENVIRONMENT": "github-hosted"}, False),
    ],
)
def test_a_platform_knows_whether_its_jobs_lose_their_disk(
    name: str, job: dict[str, str], lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name not in THERE:
        pytest.skip("this repository has another platform")
    names = ("RUNNER_ENVIRONMENT", "CI_DISPOSABLE_ENVIRONMENT", "CI_RUNNER_TAGS", "AGENT_ISSELFHOSTED", "STORAGE")
    for variable in names:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in job.items():
        monkeypatch.setenv(variable, value)
    assert host(name).disk_is_lost() is lost


def test_a_platform_that_was_not_chosen_is_refused_with_those_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hook deletes the modules of the platforms that were not chosen."""
    (tmp_path / "only_here.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(hosts, "HOSTS", {"github": "mlplatform.not_there", "gitlab": "only_here"})
    assert host("gitlab").__name__ == "only_here"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"delivery\.host: 'github' is not supported here \(choose from: gitlab\)"):
        host("github")


by_hand_only = pytest.mark.skipif("by_hand" not in THERE, reason="this repository has a CI platform")


@by_hand_only
@pytest.mark.usefixtures("no_git_around")
def test_without_a_platform_the_commit_carries_a_note_of_its_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand = host("by_hand")
    git(tmp_path, "init", "--quiet")
    checked, newer = commit(tmp_path), commit(tmp_path)
    git(tmp_path, "notes", "--ref=checks", "add", "--message", "passed on main", checked)
    monkeypatch.chdir(tmp_path)
    assert by_hand.checks_passed(checked, "main")
    assert not by_hand.checks_passed(checked, "feature")
    assert not by_hand.checks_passed(newer, "main")
    by_hand.tag("v1.0.0", checked)
    assert git(tmp_path, "rev-parse", "v1.0.0^{commit}") == checked


@by_hand_only
def test_without_a_platform_the_person_at_the_terminal_approves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    by_hand = host("by_hand")
    monkeypatch.setenv("USER", "ada")
    monkeypatch.setenv("REASON", "better on weekends")
    assert by_hand.approval() == ("ada", "better on weekends")
    by_hand.comment("a report")
    by_hand.output("train", "true")
    assert capsys.readouterr().out == "a report\ntrain: true\n"
