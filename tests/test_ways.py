"""Whichever way a project is rendered, the same answers give the same files."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from bake import TEMPLATE, bake, export
from checks import files

TAG = "v9.9.9"
RECORD = ".cruft.json"  # says where a project came from, and so differs
ANSWERS = {
    "project_name": "Bike Rides",
    "author": 'Ada "L" Lovelace',
    "sample": "none",
    "license": "Apache-2.0",
}
Run = Callable[..., None]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as a git repository: a release, and a commit after it that nobody asked for."""
    folder = export(tmp_path_factory.mktemp("repository"))

    def git(*words: str) -> None:
        identity = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)

    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "Release")
    git("tag", TAG)
    (folder / TEMPLATE / "README.md").write_text("# Not released\n")
    git("commit", "--quiet", "--all", "--message", "Go on")
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """run(words): a command as a person types it, with settings and folders of the test's own."""
    config = tmp_path / "config.yml"
    folders = {name: str(tmp_path / name) for name in ("cookiecutters_dir", "replay_dir")}
    config.write_text(yaml.safe_dump(folders))
    monkeypatch.setenv("COOKIECUTTER_CONFIG", str(config))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def run(program: str, *words: str) -> None:
        command = [str(Path(sys.executable).with_name(program)), *words]
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)

    return run


def tree(project: Path) -> dict[str, tuple[bytes, int]]:
    """Content and mode of every file."""
    return {n: (p.read_bytes(), p.stat().st_mode) for n, p in files(project) if n != RECORD}


@pytest.fixture(scope="module")
def expected(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, int]]:
    return tree(bake(template, tmp_path_factory.mktemp("expected"), ANSWERS))


def given() -> list[str]:
    return [f"{name}={value}" for name, value in ANSWERS.items()]


def test_cookiecutter_at_a_tag(
    repository: Path, tmp_path: Path, run: Run, expected: dict[str, tuple[bytes, int]]
) -> None:
    address = f"git+{repository.as_uri()}"
    run(
        "cookiecutter",
        "--no-input",
        "--checkout",
        TAG,
        "--output-dir",
        str(tmp_path / "at"),
        address,
        *given(),
    )
    assert tree(tmp_path / "at" / "bike-rides") == expected
    run("cookiecutter", "--no-input", "--output-dir", str(tmp_path / "newest"), address, *given())
    newest = tree(tmp_path / "newest" / "bike-rides")
    assert {name for name in expected if newest[name] != expected[name]} == {"README.md"}


def test_cruft_at_a_tag(
    repository: Path, tmp_path: Path, run: Run, expected: dict[str, tuple[bytes, int]]
) -> None:
    run(
        *("cruft", "create", "--no-input", "--checkout", TAG, "--output-dir", str(tmp_path / "cruft")),
        *("--extra-context", json.dumps(ANSWERS), repository.as_uri()),
    )
    assert tree(tmp_path / "cruft" / "bike-rides") == expected
    assert (tmp_path / "cruft" / "bike-rides" / RECORD).is_file()


def test_a_replay(template: Path, tmp_path: Path, run: Run, expected: dict[str, tuple[bytes, int]]) -> None:
    run("cookiecutter", "--no-input", "--output-dir", str(tmp_path / "first"), str(template), *given())
    assert tree(tmp_path / "first" / "bike-rides") == expected
    run("cookiecutter", "--replay", "--output-dir", str(tmp_path / "again"), str(template))
    assert tree(tmp_path / "again" / "bike-rides") == expected
    assert not (tmp_path / "home").exists()


def test_the_settings_of_whoever_renders_do_not_leak_in(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, tuple[bytes, int]]
) -> None:
    """Neither their answers nor keys that the template does not know; a replay stays out of their home."""
    context = {"description": "Mine", "problem_type": "regression", "secret": "hunter2"}
    config = {"default_context": context, "replay_dir": str(tmp_path / "replay")}
    for path in (tmp_path / "config.yml", tmp_path / "home" / ".cookiecutterrc"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("COOKIECUTTER_CONFIG", str(tmp_path / "config.yml"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert tree(bake(template, tmp_path / "output", ANSWERS)) == expected
    assert {path.name for path in tmp_path.iterdir()} == {"config.yml", "home", "output"}
