"""A repository on a CI platform: the blank project, its history, its environments' storage."""

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bake import ROOT, bake
from platform_api import Platform
from rendered import environment, make

# Two times of the example's data: what is trained at the first is used until the second.
FIRST, SECOND = "2025-04-01", "2025-05-01"
# Changes of a file, as path, old text and new text; <package> is the owner's. A model that can hardly tell
# items apart, and SQL that means something else.
WORSE = (
    "src/<package>/model.py",
    "early_stopping=False, **parameters)",
    'early_stopping=False, **{**parameters, "max_iter": 1})',
)
BROKEN_SQL = ("src/<package>/sql/labels.sql", "outcome > 0", "outcome < 0")


def broken(pipeline: str, error: str) -> tuple[str, str, str]:
    """A change after which a pipeline does nothing but fail."""
    line = f'    with env.run("{pipeline}", as_of) as run:\n'
    return f"src/mlplatform/pipelines/{pipeline}.py", line, f'{line}        raise OSError("{error}")\n'


# How this machine reaches what it installs from.
INSTALLING = ("PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class Result:
    """How a workflow ended: each job that ran, and everything that was said."""

    jobs: dict[str, str]
    said: str
    artifacts: dict[str, set[str]]

    @property
    def passed(self) -> bool:
        return set(self.jobs.values()) == {"success"}


@dataclass
class Origin:
    """The repository on the platform; `venv` has what it installs, `storage` its tables and models.

    `inside`: the folder of the project in the repository, if it is not the root.
    """

    folder: Path
    venv: Path
    storage: Path
    inside: str = ""
    platform: Platform = field(init=False)
    settings: dict[str, str] = field(default_factory=dict)  # what its machine says on top of the usual

    def __post_init__(self) -> None:
        self.platform = Platform(self.folder)
        self.platform.own = f"{self.inside}-" if self.inside else ""

    @property
    def project(self) -> Path:
        return self.folder / self.inside

    def begin(self) -> None:
        """Make the render a repository with one commit, and let its sources deliver."""
        self.git("init", "--quiet", "--initial-branch=main")
        if self.inside:
            make(self.project, "workflows")
        self.commit("first")
        for moment in (FIRST, SECOND):
            self.run("land", "--as-of", moment)
        self.storage.parent.mkdir(parents=True, exist_ok=True)
        (self.project / "data").rename(self.storage)
        (self.project / "data").symlink_to(self.storage)

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(self.folder), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message: str, *changes: tuple[str, str, str]) -> str:
        """Commit what is there, after changes in files: (path, old text, new text). Returns the commit."""
        for path, old, new in changes:
            file = self.project / path.replace("<package>", self.package())
            text = file.read_text()
            assert old in text, f"{path} does not hold {old!r}"
            file.write_text(text.replace(old, new, 1))
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def package(self) -> str:
        return next(path.parent.name for path in (self.project / "src").glob("*/project.py"))

    def run(self, *arguments: str) -> str:
        """Run the project's command line here, on the same storage."""
        command = [str(self.venv / "bin" / "python"), "-m", self.package(), *arguments]
        variables = {**os.environ, "PYTHONPATH": "src"}
        done = subprocess.run(command, cwd=self.project, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


def machine_origin(
    template: Path, folder: Path, ci_platform: str, *, inside: bool = False, **answers: str
) -> Origin:
    """A repository on a machine that is prepared: what it installs is there already.

    `inside`: the project is a folder of it.
    """
    project = bake(template, folder, {"ci_platform": ci_platform, "sample": "none", **answers})
    venv = environment(project)
    make(project, "setup")
    # A fresh clone's files are newer than the environment, which each job would install again.
    os.utime(venv / ".ready", (time.time(), time.time() + 10**6))
    origin = Origin(project, venv, folder / "storage")
    if inside:
        origin = Origin(Path(project.parent, "repository"), venv, folder / "storage", project.name)
        origin.folder.mkdir()
        project.rename(origin.project)
    origin.begin()
    return origin


def machine(origin: Origin) -> dict[str, str]:
    """What the environment of a prepared machine says to every job: few tests, one logical time."""
    return {
        "VENV": str(origin.venv),
        "MYPY_CACHE_DIR": str(ROOT / "build" / "mypy"),
        "TESTS": "tests/test_labels.py",
        "SLOW_TESTS": "",
        "AS_OF": FIRST,
        **{name: value for name, value in os.environ.items() if name.startswith(INSTALLING)},
        **origin.settings,
    }


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what its own make, and the platform it may run on, have set."""
    ours = ("MAKE", "MFLAGS", "GITHUB_", "CI_", "PYTEST_", "VIRTUAL_ENV")
    return {name: value for name, value in environment.items() if not name.startswith(ours)}
