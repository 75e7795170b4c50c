"""Making a release of the template: what it writes, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bake import ROOT
from releases import releases, version_at
from synthetic import ENVIRONMENT, Template, commit, git, state, write

PASS, FAIL = f"{sys.executable} -c pass", f"{sys.executable} -c assert(False)"
CHANGELOG = "# Changelog\n\n## Unreleased\n\n- More of it.\n\n## 0.1.0\n\nThe first version.\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A template with one release, and work for the next one committed."""
    template = Template(tmp_path / "template")
    write(template.folder, {"CHANGELOG.md": "# Changelog\n\n## 0.1.0\n\nThe first version.\n"})
    template.release("0.1.0", {"a.txt": "a\n"})
    migrations = json.dumps({"unreleased": {"defaults": {"ci": "none"}}})
    write(template.folder, {"CHANGELOG.md": CHANGELOG, "upgrade/migrations.json": migrations})
    commit(template.folder, "More of it")
    return template.folder


def release(repository: Path, version: str, check: str = PASS) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "upgrade" / "release.py"), version, check]
    return subprocess.run(command, cwd=repository, env=ENVIRONMENT, capture_output=True, text=True)


def test_a_release_is_a_commit_with_version_entry_and_migrations_and_a_tag(repository: Path) -> None:
    done = release(repository, "0.2.0")
    assert done.returncode == 0, done.stderr
    head = git(repository, "rev-parse", "HEAD")
    assert version_at(repository, "HEAD") == "0.2.0"
    assert releases(repository)["0.2.0"] == head == git(repository, "rev-parse", "v0.2.0")
    assert (repository / "CHANGELOG.md").read_text() == CHANGELOG.replace("Unreleased", "0.2.0")
    migrations = json.loads((repository / "upgrade/migrations.json").read_text())
    assert migrations == {"unreleased": {}, "0.2.0": {"defaults": {"ci": "none"}}}
    assert git(repository, "status", "--porcelain") == ""
    git(repository, "tag", "--delete", "v0.2.0")
    assert releases(repository)["0.2.0"] == head


def test_releases_on_a_branch_that_was_merged_are_found(repository: Path) -> None:
    """A merge may bring two at once: its own change of the version names the newer one only."""
    git(repository, "checkout", "--quiet", "-b", "side")
    assert release(repository, "0.9.0").returncode == 0
    first = git(repository, "rev-parse", "HEAD")
    write(repository, {"CHANGELOG.md": CHANGELOG})
    commit(repository, "Still more of it")
    assert release(repository, "0.10.0").returncode == 0
    git(repository, "checkout", "--quiet", "main")
    git(repository, "merge", "--quiet", "--no-ff", "--message", "Merge", "side")
    git(repository, "tag", "--delete", "v0.9.0", "v0.10.0")
    merge = git(repository, "rev-parse", "HEAD")
    found = releases(repository)
    assert list(found) == ["0.1.0", "0.9.0", "0.10.0"]
    assert (found["0.9.0"], found["0.10.0"]) == (first, merge)


def test_a_fresh_clone_without_tags_knows_this_templates_releases(tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--no-tags", str(ROOT), "clone")
    found = releases(tmp_path / "clone")
    assert list(found)[:2] == ["0.1.0", "0.2.0"]
    assert all(version_at(tmp_path / "clone", commit) == version for version, commit in found.items())


def nothing(repository: Path) -> None:
    pass


def unsaved(repository: Path) -> None:
    write(repository, {"CHANGELOG.md": CHANGELOG + "\n"})


def no_entry(repository: Path) -> None:
    write(repository, {"CHANGELOG.md": CHANGELOG.replace("## Unreleased\n", "")})
    commit(repository, "No entry")


def empty_entry(repository: Path) -> None:
    write(repository, {"CHANGELOG.md": CHANGELOG.replace("- More of it.\n", "")})
    commit(repository, "An empty entry")


@pytest.mark.parametrize(
    ("version", "check", "prepare", "reason"),
    [
        ("", PASS, nothing, "'' is not a version"),
        ("0.2", PASS, nothing, "'0.2' is not a version"),
        ("0.2.0rc1", PASS, nothing, "'0.2.0rc1' is not a version"),
        ("0.02.0", PASS, nothing, "'0.02.0' is not a version"),
        ("0.1.0", PASS, nothing, "0.1.0 does not come after 0.1.0"),
        ("0.0.9", PASS, nothing, "0.0.9 does not come after 0.1.0"),
        ("0.2.0", PASS, unsaved, "changes are not committed"),
        ("0.2.0", PASS, no_entry, "write under `## Unreleased`"),
        ("0.2.0", PASS, empty_entry, "write under `## Unreleased`"),
        ("0.2.0", FAIL, nothing, "the check failed"),
    ],
)
def test_refused(repository: Path, version: str, check: str, prepare: object, reason: str) -> None:
    assert callable(prepare)
    prepare(repository)
    before = state(repository)
    done = release(repository, version, check)
    assert done.returncode == 1
    assert reason in done.stderr
    assert state(repository) == before


def test_the_version_that_stands_there_has_an_entry() -> None:
    version = json.loads((ROOT / "cookiecutter.json").read_text())["_version"]
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text()
