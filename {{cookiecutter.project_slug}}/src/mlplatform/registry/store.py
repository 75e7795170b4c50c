"""The MLflow registry: one environment's model, its versions, and what they carry."""

import fcntl
import logging
import os
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property, wraps
from importlib import import_module
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlparse
from urllib.request import url2pathname

from mlplatform.config.sections import RegistrySettings
from mlplatform.environment import Environment
from mlplatform.errors import ConfigError, ForbiddenError, StorageError, UserError
from mlplatform.registry.tags import IncompleteVersionError, VersionTags
from mlplatform.registry.transitions import Ledger
from mlplatform.storage.address import extra_missing, scheme
from mlplatform.storage.catalog import load

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_SQLITE = "sqlite:///"
_PACKAGES = {"s3": "boto3", "abfss": "azure.storage.filedatalake", "gs": "google.cloud.storage"}
_LONGEST_RUN = 24 * 3600  # seconds; the run of a version takes as long as it takes to write its files
_UNITY = "databricks-uc"
_CLIENTS = {_UNITY: "mlplatform.registry.unity:UnityClient"}
ALIASES = {"Staging": "challenger", "Production": "champion"}


class MissingVersionError(UserError):
    """The registry has no version of this number; the message names those that it has."""


class Registry:
    """The registered model `<owner>.<model>`, or `<catalog>.<schema>.<model>` in Unity Catalog.

    `owner` is the environment the model belongs to; opened from another one, every writer raises ForbiddenError.
    `settings`: where the owner keeps its models; default: where this environment does.
    """

    def __init__(self, env: Environment, owner: str | None = None, settings: RegistrySettings | None = None) -> None:
        self.env = env
        self.owner = owner or env.name
        self.settings = settings or env.config.registry
        within = (settings or env.config_of(self.owner).registry).unity_schema or self.owner
        self.model = f"{within}.{self.settings.model}"

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.env, self.model, self.owner)

    @cached_property
    def client(self) -> "MlflowClient":
        _refuse_missing_package(self.settings.artifacts)
        warnings.filterwarnings("ignore", module="mlflow")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing leaves this machine unasked
        import mlflow

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        uri = tracking_uri(self.env.folder, self.settings.tracking_uri)
        mlflow.set_tracking_uri(uri)  # both are the process's: what it opened before may have set them elsewhere
        mlflow.set_registry_uri(_UNITY if self.settings.unity_schema else uri)
        if self.settings.unity_schema:
            made = load(_CLIENTS, _UNITY, "registry.unity_schema")(mlflow.MlflowClient(uri, _UNITY))
            return cast("MlflowClient", _Told(made, uri))
        with told(uri), _alone(uri):
            client = mlflow.MlflowClient(uri, uri)
            client.search_registered_models(max_results=1)
        return cast("MlflowClient", _Told(client, uri))

    def experiment(self) -> str:
        """The id of the model's experiment, which is created where it is missing."""
        name = self.settings.experiment or self.model
        found = self.client.get_experiment_by_name(name)
        if found:
            return str(found.experiment_id)
        if self.settings.unity_schema:  # Databricks keeps the artifacts itself
            return str(self.client.create_experiment(name))
        artifacts = self.settings.artifacts
        location = (
            artifacts if re.match("[a-z][a-z0-9-]+:/", artifacts) else (self.env.folder / artifacts).resolve().as_uri()
        )
        return str(self.client.create_experiment(name, artifact_location=location))

    def versions(self) -> "list[ModelVersion]":
        """All versions with their tags, oldest first."""
        found = self.client.search_model_versions(f"name = '{self.model}'", max_results=10_000)
        return sorted(found, key=lambda version: int(version.version))

    def version(self, number: int) -> "ModelVersion":
        """One version; raises MissingVersionError where there is none."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_model_version(self.model, str(number))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            known = ", ".join(str(version.version) for version in self.versions()) or "none"
            raise MissingVersionError(f"{self.model} has no version {number} (its versions: {known})") from error

    def tags(self, number: int) -> VersionTags:
        """The record of one version; raises MissingVersionError and IncompleteVersionError."""
        try:
            return VersionTags.of(self.version(number).tags)
        except IncompleteVersionError as error:
            raise IncompleteVersionError(f"{self.model} version {number}: {error}") from error

    def find(self, identity: str) -> "ModelVersion | None":
        """The version that was made from the same data, code and settings."""
        return next((version for version in self.versions() if version.tags.get("identity") == identity), None)

    def newest_tuned(self, as_of: datetime) -> "ModelVersion | None":
        """The newest version up to `as_of` whose hyperparameters come from a search."""
        tuned = [v for v in self.versions() if v.tags.get("tuned") == "true" and v.tags["as_of"] <= as_of.isoformat()]
        return max(tuned, key=lambda version: (version.tags["as_of"], int(version.version)), default=None)

    def claim(self, identity: str) -> dict[str, str]:
        """The tags of a new run that makes a version. Runs that killed processes have left unfinished are deleted."""
        self._refuse_foreign_write()
        for run in self.client.search_runs([self.experiment()], "attributes.status = 'RUNNING'"):
            host, _, process = run.data.tags.get("process", "").rpartition(":")
            is_dead = host == gethostname() and not _is_alive(int(process))
            if is_dead or time.time() - run.info.start_time / 1000 > _LONGEST_RUN:
                self._remove(run.info.run_id)
        return {"identity": identity, "process": f"{gethostname()}:{os.getpid()}"}

    def make(self) -> None:
        """Make the registered model, if it is not there."""
        self._refuse_foreign_write()
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(self.model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def register(self, run_id: str, source: str, record: VersionTags) -> int:
        """Make a version of a logged model; its stage is None. Returns its number.

        Where another process has made the same one meanwhile, the first of them stays and this one is deleted.
        """
        self.make()
        tags = {**record.as_tags(), "stage": "None"}
        logged = source.rpartition("/")[2] if source.startswith("models:/") else None
        made = self.client.create_model_version(
            self.model, source, run_id, tags, description=record.summary, model_id=logged
        )
        same = [v for v in self.versions() if v.tags.get("identity") == record.identity]
        first = min(int(version.version) for version in same)
        if first != int(made.version):
            self.client.delete_model_version(self.model, str(made.version))
            self._remove(run_id)
        return first

    def _remove(self, run_id: str) -> None:
        """Delete a run and what it has logged."""
        for logged in self.client.search_logged_models([self.experiment()], f"source_run_id = '{run_id}'"):
            self.client.delete_logged_model(logged.model_id)
        self.client.delete_run(run_id)

    def files(self, number: int, artifact: str = "") -> Path:
        """The version's artifacts on this machine: the logged model, or what its run logged beside it."""
        import mlflow

        if folder := self.folder(number, of_model=artifact == "model"):
            return folder if artifact == "model" else folder / artifact
        version = self.version(number)
        logged = version.source if artifact == "model" else f"runs:/{version.run_id}/{artifact}"
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=logged, tracking_uri=self.client.tracking_uri))

    def folder(self, number: int, *, of_model: bool = False) -> Path | None:
        """Where the version's artifacts are; None where that is an address.

        MLflow has recorded a whole path. Of a project that was moved or copied since, or is mounted in a container,
        they are found below `registry.artifacts`. Raises StorageError where they are in neither place.
        """
        url = urlparse(self.address(number, of_model=of_model))
        if url.scheme != "file":
            return None
        recorded, here = Path(url2pathname(url.path)), self.env.folder / self.settings.artifacts
        ends = [here.joinpath(*recorded.parts[begin:]) for begin in range(1, len(recorded.parts))]
        for place in (*ends, recorded):
            if place.is_dir():
                return place
        raise StorageError(f"{self.model} version {number}: its files are neither in {recorded} nor below {here}")

    def address(self, number: int, *, of_model: bool = False) -> str:
        """Where MLflow has recorded the logged model of a version, or what its run logged beside it."""
        version = self.version(number)
        if of_model and not self.settings.unity_schema:
            return str(self.client.get_model_version_download_uri(self.model, str(number)))  # of a copy, the original's
        return str(version.source if of_model else self.client.get_run(version.run_id).info.artifact_uri)

    def artifact_names(self, number: int) -> set[str]:
        if folder := self.folder(number):
            return {path.name for path in folder.iterdir()}
        return {item.path for item in self.client.list_artifacts(self.version(number).run_id)}

    def reconcile(self) -> None:
        """Make tags, aliases and descriptions of all versions say what the ledger says now."""
        self._refuse_foreign_write()
        versions, history = self.versions(), self.ledger.all()
        aliases = {"champion": self.ledger.champion()}
        for version in versions:
            number = int(version.version)
            stage = self.ledger.stage(number)
            if stage == "Staging":
                aliases["challenger"] = number
            asked = [t.to_stage for t in history if t.version == number and t.status == "pending"]
            tags = {"stage": stage, "requested": asked[-1] if asked else "None"}
            lines = [
                f"{t.closed_at:%Y-%m-%d} {t.from_stage} -> {t.to_stage} {t.status} by {t.closed_by}: {t.reason}"
                for t in history
                if t.version == number and t.closed_at
            ]
            description = "\n".join([version.tags.get("summary", ""), *lines])
            for name in [name for name, value in tags.items() if version.tags.get(name) != value]:
                self.client.set_model_version_tag(self.model, version.version, name, tags[name])
            if version.description != description:
                self.client.update_model_version(self.model, version.version, description)
        # Without versions there may be no registered model yet.
        current = self.client.get_registered_model(self.model).aliases if versions else {}
        for alias in ALIASES.values():
            wanted = aliases.get(alias)
            if wanted is None and alias in current:
                self.client.delete_registered_model_alias(self.model, alias)
            elif wanted is not None and str(current.get(alias)) != str(wanted):
                self.client.set_registered_model_alias(self.model, alias, str(wanted))

    def _refuse_foreign_write(self) -> None:
        if self.owner != self.env.name:
            raise ForbiddenError(f"{self.env.name} may read the model {self.model}, not change it")


def _refuse_missing_package(artifacts: str) -> None:
    """Raise StorageError where MLflow could not open the address of its artifacts."""
    package = _PACKAGES.get(scheme(artifacts))
    try:
        import_module(package or "mlplatform")
    except ImportError as error:
        raise extra_missing(artifacts, str(package)) from error


class _Told:
    """MLflow's client, of which an answer of its database that a user can fix is told in one line."""

    def __init__(self, client: "MlflowClient", uri: str) -> None:
        self._client, self._uri = client, uri

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        @wraps(found)
        def call(*arguments: Any, **named: Any) -> Any:
            with told(self._uri):
                return found(*arguments, **named)

        return call


@contextmanager
def told(uri: str) -> Iterator[None]:
    """Raise StorageError where MLflow's database does not answer, ConfigError where nobody has logged in."""
    try:
        yield
    except Exception as error:  # MLflow wraps what SQLAlchemy raises, or does not
        found = re.search(r"\(sqlite3\.\w+\) ([^\n]+)", str(error))
        if isinstance(error, OSError) and uri.startswith(_SQLITE):
            found = re.search(r"(.+)", str(error))
        if "Databricks credential configuration failed" in str(error):
            where = "run it in a job there, or log in (docs/databricks.md)"
            raise ConfigError(
                f"the registry is in Databricks, which lets nobody in without a log-in: {where}"
            ) from error
        if not found:
            raise
        raise StorageError(
            f"{uri}: MLflow's database: {found[1]}. Nothing is lost: end what holds it, or fix the disk, its rights "
            "or the file, and run the same command again"
        ) from error


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """No other process makes MLflow's tables in a SQLite file meanwhile: two at once end in errors of the database."""
    if not uri.startswith(_SQLITE):
        yield
        return
    with Path(f"{uri.removeprefix(_SQLITE)}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed, or the process dies
        yield


def _is_alive(process: int) -> bool:
    """Whether a process of this machine is running."""
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def tracking_uri(project: Path, configured: str) -> str:
    """MLflow's address; a relative SQLite path counts from the project's root, whose folder is made."""
    if not configured.startswith(_SQLITE):
        return configured
    path = (project / configured.removeprefix(_SQLITE)).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    return f"{_SQLITE}{path}"
