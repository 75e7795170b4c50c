"""A repository on a CI platform: the blank project, its history, its environments' storage."""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import Request, urlopen

from bake import ROOT, bake
from platform_api import Platform
from rendered import alone, environment, make
from stores import Store

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

    `access`: what opens its store, where tables and models are at addresses and not in a folder.
    `inside`: the folder of the project in the repository, if it is not the root.
    """

    folder: Path
    venv: Path
    storage: Path
    inside: str = ""
    access: Mapping[str, str] = field(default_factory=dict)
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
        self.storage.mkdir()
        (self.project / "data").symlink_to(self.storage)
        for name, content in _delivered(self).items():
            (self.storage / name).parent.mkdir(parents=True, exist_ok=True)
            (self.storage / name).write_bytes(content)

    def move(self, store: Store, models: str) -> None:
        """Put staging and prod at addresses, as docs/ci-cd.md says, with their deliveries; nothing stays."""
        self.access = store.environment
        root, landed = store.fresh(), self.storage / "landing"
        kept = f"registry:\n  tracking_uri: {models}\n  artifacts: {root}/artifacts\n"
        self.commit(
            "tables and models at addresses",
            ("Makefile", "EXTRAS ?=\n", "EXTRAS ?= aws\n"),
            *(
                (f"conf/{env}.yml", f"root: data/{env}\n", f"root: {root}/{env}\n  landing: {root}/landing\n")
                for env in ("staging", "prod")
            ),
            ("conf/staging.yml", "registry:\n", kept),
            ("conf/prod.yml", "lakehouse:\n", f"{kept}\nlakehouse:\n"),
        )
        for file in landed.rglob("*.csv"):
            url = f"{store.environment['AWS_ENDPOINT_URL']}/{root.removeprefix('s3://')}/landing"
            name = file.relative_to(landed).as_posix()
            request = Request(f"{url}/{name}", file.read_bytes(), {"Content-Type": "text/csv"}, method="PUT")
            urlopen(request).close()
        (self.project / "data").unlink()
        shutil.rmtree(self.storage)
        with alone(self.venv):  # as an owner would: the packages for addresses
            make(self.project, "setup", venv=self.venv)
        _keep(self.venv / ".ready-aws")

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
        variables = {**os.environ, "PYTHONPATH": "src", **self.access}
        done = subprocess.run(command, cwd=self.project, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


DELIVERED: dict[str, bytes] = {}


def _delivered(origin: Origin) -> dict[str, bytes]:
    """What the sources deliver, by file: the same for each origin."""
    if not DELIVERED:
        for moment in (FIRST, SECOND):
            origin.run("land", "--as-of", moment)
        files = [path for path in origin.storage.rglob("*") if path.is_file()]
        DELIVERED.update({path.relative_to(origin.storage).as_posix(): path.read_bytes() for path in files})
    return DELIVERED


def machine_origin(
    template: Path, folder: Path, ci_platform: str, *, inside: bool = False, **answers: str
) -> Origin:
    """A repository on a machine that is prepared: what it installs is there already.

    `inside`: the project is a folder of it.
    """
    project = bake(template, folder, {"ci_platform": ci_platform, "sample": "none", **answers})
    venv = environment(project)
    make(project, "setup")
    _keep(venv / ".ready")
    origin = Origin(project, venv, folder / "storage")
    if inside:
        origin = Origin(Path(project.parent, "repository"), venv, folder / "storage", project.name)
        origin.folder.mkdir()
        project.rename(origin.project)
    origin.begin()
    return origin


def _keep(ready: Path) -> None:
    """A fresh clone's files are newer than the environment, which each job would install again."""
    os.utime(ready, (time.time(), time.time() + 10**6))


def machine(origin: Origin) -> dict[str, str]:
    """What the environment of a prepared machine says to every job: few tests, one logical time."""
    return {
        "VENV": str(origin.venv),
        "MYPY_CACHE_DIR": str(ROOT / "build" / "mypy"),
        "TESTS": "tests/test_labels.py",
        "SLOW_TESTS": "",
        "PYTEST_XDIST_AUTO_NUM_WORKERS": "0",  # for one file of tests no process more
        "OMP_WAIT_POLICY": "passive",
        "AS_OF": FIRST,
        **{name: value for name, value in os.environ.items() if name.startswith(INSTALLING)},
        **origin.settings,
    }


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what its own make, and the platform it may run on, have set."""
    ours = ("MAKE", "MFLAGS", "GITHUB_", "CI_", "PYTEST_", "VIRTUAL_ENV")
    return {name: value for name, value in environment.items() if not name.startswith(ours)}
