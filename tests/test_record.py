"""What a render records of itself, and that cruft finds it right."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bake import PROMPTS, ROOT, bake, export
from cookiecutter.main import cookiecutter
from post_gen_project import commit as recorded_commit
from synthetic import ENVIRONMENT, commit, git, run, tree

ANSWERS = {name for name in PROMPTS if not name.startswith("_")}


def record(project: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((project / ".cruft.json").read_text())
    return content


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that holds the template as it is in the working tree."""
    folder = export(tmp_path_factory.mktemp("repository") / "template")
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, "Template")
    return folder


@pytest.fixture(scope="module")
def at_its_address(repository: Path) -> dict[str, str]:
    """Settings by which git finds this repository where the template says it is."""
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository}.insteadOf",
        "GIT_CONFIG_VALUE_0": PROMPTS["_source"],
    }


def test_a_render_records_template_version_commit_and_answers(repository: Path, tmp_path: Path) -> None:
    project = bake(repository, tmp_path, {"author": 'Zoë "Z" O\'Neil'})
    content = record(project)
    assert content["template"] == PROMPTS["_source"]
    assert content["commit"] == git(repository, "rev-parse", "HEAD")
    context = content["context"]
    assert isinstance(context, dict)
    answers = context["cookiecutter"]
    assert answers.keys() == ANSWERS | {"_version"}
    assert answers["_version"] == PROMPTS["_version"]
    assert answers["author"] == 'Zoë "Z" O\'Neil'
    assert str(tmp_path) not in (project / ".cruft.json").read_text()


def test_a_render_of_files_without_history_records_no_commit(render: Callable[..., Path]) -> None:
    assert record(render())["commit"] is None


def test_the_record_is_right_wherever_cookiecutter_is_started(repository: Path, tmp_path: Path) -> None:
    expected = git(repository, "rev-parse", "HEAD")
    for number, words in enumerate([[], ["-o", "elsewhere"]]):
        work = repository.parent / f"start-{number}"
        work.mkdir()
        command = ["-m", "cookiecutter", "--no-input", "--default-config", "../template", *words]
        run(work, sys.executable, *command, settings={"HOME": str(tmp_path), "PWD": str(work)})
        project = next(work.rglob(".cruft.json")).parent
        assert record(project)["commit"] == expected


def test_a_replay_records_the_version_that_it_renders(repository: Path, tmp_path: Path) -> None:
    answers = {name: raw[0] if isinstance(raw, list) else raw for name, raw in PROMPTS.items()}
    answers |= {"project_slug": "again", "package_name": "again", "_version": "0.0.1"}
    replay = tmp_path / "replay.json"
    replay.write_text(
        json.dumps({"cookiecutter": answers | {"_copy_without_render": PROMPTS["_copy_without_render"]}})
    )
    project = cookiecutter(str(repository), replay=str(replay), output_dir=str(tmp_path), default_config=True)
    context = record(Path(project))["context"]
    assert isinstance(context, dict)
    assert context["cookiecutter"]["_version"] == PROMPTS["_version"]


def detached(origin: Path, work: Path) -> Path:
    git(work, "clone", "--quiet", str(origin), "clone")
    git(work / "clone", "checkout", "--quiet", "--detach")
    return work / "clone"


def packed(origin: Path, work: Path) -> Path:
    git(work, "clone", "--quiet", str(origin), "clone")
    git(work / "clone", "pack-refs", "--all")
    assert not (work / "clone/.git/refs/heads/main").exists()
    return work / "clone"


def worktree(origin: Path, work: Path) -> Path:
    git(work, "clone", "--quiet", str(origin), "clone")
    git(work / "clone", "worktree", "add", "--quiet", "-b", "other", "../linked")
    return work / "linked"


def packed_worktree(origin: Path, work: Path) -> Path:
    linked = worktree(origin, work)
    git(linked, "pack-refs", "--all")
    return linked


@pytest.mark.parametrize("kind", [detached, packed, worktree, packed_worktree])
def test_the_commit_is_read_from_gits_files(
    repository: Path, tmp_path: Path, kind: Callable[[Path, Path], Path]
) -> None:
    assert recorded_commit(kind(repository, tmp_path)) == git(repository, "rev-parse", "HEAD")


def test_what_is_no_commit_is_not_recorded(tmp_path: Path) -> None:
    assert recorded_commit(tmp_path) is None
    git(tmp_path, "init", "--quiet")
    assert recorded_commit(tmp_path) is None  # a branch without a commit
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/.invalid\n")  # how git marks other formats
    assert recorded_commit(tmp_path) is None


def by_cookiecutter(repository: Path, work: Path, address: dict[str, str]) -> Path:
    return bake(repository, work, {"description": 'Retards d\'été <&> "1"'})


def by_cruft(repository: Path, work: Path, address: dict[str, str]) -> Path:
    run(work, sys.executable, "-m", "cruft", "create", PROMPTS["_source"], "-y", "-d", settings=address)
    return next(work.iterdir())


@pytest.fixture(params=[by_cookiecutter, by_cruft], ids=["by cookiecutter", "by cruft"])
def fresh(
    request: pytest.FixtureRequest, repository: Path, at_its_address: dict[str, str], tmp_path: Path
) -> Path:
    project: Path = request.param(repository, tmp_path, at_its_address)
    return project


def cruft(project: Path, address: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cruft", *words]
    return subprocess.run(command, cwd=project, env=ENVIRONMENT | address, capture_output=True, text=True)


def test_cruft_finds_nothing_to_say_about_a_fresh_render(fresh: Path, at_its_address: dict[str, str]) -> None:
    checked = cruft(fresh, at_its_address, "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    compared = cruft(fresh, at_its_address, "diff", "--exit-code")
    assert (compared.returncode, compared.stdout) == (0, ""), compared.stderr


def test_cruft_sees_an_edit(fresh: Path, at_its_address: dict[str, str]) -> None:
    with (fresh / "README.md").open("a") as readme:
        readme.write("mine\n")
    assert cruft(fresh, at_its_address, "diff", "--exit-code").returncode == 1


def test_cruft_and_cookiecutter_render_the_same(
    repository: Path, at_its_address: dict[str, str], tmp_path: Path, render: Callable[..., Path]
) -> None:
    ours, theirs = tree(render()), tree(by_cruft(repository, tmp_path, at_its_address))
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == [".cruft.json"]


def test_the_address_stands_in_one_place() -> None:
    command = ["git", "grep", "--files-with-matches", "--untracked", "--fixed-strings", PROMPTS["_source"]]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert found.split() == ["cookiecutter.json"]
