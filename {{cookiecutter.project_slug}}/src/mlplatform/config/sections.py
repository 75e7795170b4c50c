"""The sections of conf/*.yml that every repository has, in their order there."""

import re
from datetime import timedelta
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, field_validator, model_validator

from mlplatform.config import Duration, Period, Section
from mlplatform.errors import ConfigError

EnvironmentName = Literal["dev", "staging", "prod"]
Share = Annotated[float, Field(gt=0, le=1)]
_VARIABLE = r"[A-Za-z_]\w*"  # an environment variable, or a table


class ExternalView(Section):
    """A feature table that another team manages, `path` its folder: read and checked, never written."""

    view: str
    path: str


class SparkSettings(Section):
    """Where Spark runs, for `engine: spark`. A Spark Connect server brings its own jars and Python."""

    master: str = Field(
        default="local[*]",
        description="a master, a Spark Connect server (sc://host:15002), or databricks: the session there",
    )
    jars: str = Field(default="jars", description="folder of Delta's jars")
    python: str | None = Field(default=None, description="Python on the workers, with the same packages; null: as here")
    session: dict[str, str] = Field(default={}, description="Spark's settings by Spark's names, as text")

    @field_validator("master")
    @classmethod
    def _keeps_no_token(cls, master: str) -> str:
        if ";token=" in master:
            raise ValueError("a token is a secret: it belongs in the environment, as SPARK_CONNECT_AUTHENTICATE_TOKEN")
        return master


class LakehouseSettings(Section):
    root: str = Field(
        description="where this environment's tables are: a folder, from the project's root, an address of s3://, "
        "abfss:// or gs://, or a catalog of Unity Catalog with a prefix for its schemas: uc://prod/rides"
    )
    landing: str = Field(description="address at which source files arrive, as of root")
    reports: str | None = Field(
        None, description="folder of what people read; null: the root, or data/<env> where that is an address"
    )
    engine: str = "duckdb"
    memory_limit: str = "1GB"
    spark: SparkSettings = SparkSettings()
    features_from: EnvironmentName | None = Field(
        None, description="environment whose silver and feature tables are read; null means its own"
    )
    external_views: tuple[ExternalView, ...] = ()
    settle: Duration = Field(
        timedelta(minutes=10), description="so long a file without a last line break must be unchanged to be read"
    )
    max_refused_share: Annotated[float, Field(ge=0, le=1)] = 0.02
    tolerated_rows: Annotated[int, Field(ge=0)] = Field(
        0, description="so many refused rows never stop a batch: in a small one the share says little"
    )
    expire_after: Duration | None = Field(None, description="rows older than this are removed by `maintain`")
    keep_versions: Duration = Field(
        timedelta(days=7),
        description="so long `maintain` keeps files that tables need no more, for whoever reads: the longest query",
    )

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        if self.root.startswith("uc://") and self.engine != "spark":
            raise ValueError("tables in Unity Catalog (root: uc://...) need engine: spark")
        return self


class Tuning(Section):
    """The search for hyperparameters, over expanding time-series folds."""

    enabled: bool = False
    trials: Annotated[int, Field(ge=1)] = 10
    timeout: Period
    folds: Annotated[int, Field(ge=2)] = 3
    fraction: Share = Field(default=1.0, description="share of the training rows that the search sees")


class TrainingSettings(Section):
    split: Literal["time", "group", "random"] = Field(
        "time", description="what is held out for evaluation: the newest rows, a share of groups, or of all rows"
    )
    holdout: Duration = Field(timedelta(days=30), description="by time: the newest part of the labelled data")
    group: str | None = Field(None, description="by group: the column of joined rows whose values stay together")
    holdout_share: Annotated[float, Field(gt=0, lt=1)] = Field(0.2, description="by group or random: what share")
    seed: int = Field(0, description="by group or random: another seed holds out other rows")
    history: Duration | None = Field(None, description="how far back training reaches; null means everything")
    fraction: Share = Field(default=1.0, description="share of the entities that are trained on")
    max_rows: Annotated[int, Field(ge=2)] = Field(
        500_000, description="of training rows, and of held-out rows: of more, those of a smaller share of the entities"
    )
    min_rows: Annotated[int, Field(ge=2)] = Field(100, description="of training rows, and of held-out rows")
    min_class_rows: Annotated[int, Field(ge=1)] = Field(5, description="training rows of each class")
    tuned_in: EnvironmentName = Field(
        "dev", description="environment whose newest tuned model gives the hyperparameters where tuning is off"
    )
    tuning: Tuning

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if (self.split == "group") != (self.group is not None):
            raise ValueError("'group' names the column of split: group, and is for no other split")
        if self.max_rows < self.min_rows:
            raise ValueError(f"'max_rows' is {self.max_rows:,}, less than 'min_rows' of {self.min_rows:,}")
        return self


class Sink(Section):
    """Where predictions of batch go, too: a table of a database, or a file of each day.

    `to`: of a database, the environment variable that holds its SQLAlchemy address; of files, a folder or an address.
    """

    kind: Literal["database", "parquet", "csv"]
    to: str = Field(min_length=1)
    table: str = Field("predictions", pattern=f"^{_VARIABLE}$", description="of a database")

    @model_validator(mode="after")
    def _holds_no_secret(self) -> Self:
        if self.kind == "database" and not re.fullmatch(_VARIABLE, self.to):
            raise ValueError("'to' names the environment variable that holds the database's address: that is a secret")
        return self


class Inference(Section):
    """Batch scoring."""

    first_window: Duration = Field(description="how far back the first run reaches, and each run for what landed late")
    batch_window: Period = Field(description="span of prediction times scored at once: it bounds the memory")
    sinks: tuple[Sink, ...] = ()

    @model_validator(mode="after")
    def _sinks_differ(self) -> Self:
        places = [(sink.to, sink.table if sink.kind == "database" else "") for sink in self.sinks]
        if len(set(places)) < len(places):
            raise ValueError("two of 'sinks' are the same place: each file or table has one that writes it")
        return self


class Retraining(Section):
    """When `retrain` trains: manual (never by itself), scheduled (every so often) or triggered (by an alert)."""

    mode: Literal["manual", "scheduled", "triggered"] = "manual"
    every: Duration
    cooldown: Duration = Field(description="the least time between two trainings that alerts ask for")
    alerts_from: EnvironmentName | None = Field(
        None, description="environment whose alerts are answered; null means its own"
    )


class PipelineSettings(Section):
    released_code_only: bool = True
    refused: tuple[Literal["ingest", "featurize", "train", "deploy", "infer", "monitor"], ...] = Field(
        (), description="pipelines that do not run in this environment"
    )
    inference: Inference
    retraining: Retraining


class SliceLimit(Section):
    """The least or the most that a held-out metric may be in every slice of a column."""

    metric: str
    column: str
    at_least: float | None = None
    at_most: float | None = None
    min_rows: int = Field(200, description="slices with fewer rows are not judged")

    @model_validator(mode="after")
    def _has_a_limit(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a limit needs at_least, at_most or both: without one it could not refuse")
        return self


class Compliance(Section):
    required_tags: tuple[str, ...]
    slice_limits: tuple[SliceLimit, ...]


class Comparison(Section):
    """A challenger wins when it is better by `margin`, and the interval of the difference lies above zero.

    The chance that an equal challenger wins is (1 - confidence) / 2. With fewer blocks than six, a challenger that is
    better in each of them could be so by chance more often: 2 ** -5 is 0.031.
    """

    margin: Annotated[float, Field(ge=0)] = 0.0
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    block: Period = Field(description="rows of one block count together, since they are not independent")
    min_blocks: Annotated[int, Field(ge=2)] = 6
    min_rows: Annotated[int, Field(ge=1)] = 100


class RegistrySettings(Section):
    tracking_uri: str = Field(description="MLflow's store; a relative sqlite path starts at the project's root")
    artifacts: str = Field(description="folder or address of MLflow's artifacts")
    model: str = Field(description="models are registered as <env>.<model>")
    unity_schema: str | None = Field(
        None, description="<catalog>.<schema> of Unity Catalog, where models are registered instead: prod.rides_models"
    )
    experiment: str | None = Field(None, description="MLflow's name of the experiment; null: that of the model")
    compliance: Compliance
    comparison: Comparison
    approval: Literal["automatic", "manual"] = "manual"
    forget: Literal["list", "archive"] = Field(
        "list", description="what `forget` does with versions that were trained on the rows"
    )


class Breaches(NamedTuple):
    """A rule fires when `breached` of the last `of` windows breach, the latest one among them."""

    breached: int
    of: int


def _windows(value: object) -> Breaches:
    match = re.fullmatch(r"(\d+) of (?:the last )?(\d+)", value) if isinstance(value, str) else None
    pair = Breaches(*map(int, match.groups())) if match else value
    if not isinstance(pair, Breaches) or not 1 <= pair.breached <= pair.of:
        raise ValueError(f"{value!r} is not 'N of M' with 1 <= N <= M (for example '2 of 3')")
    return pair


def _variable(name: str) -> str:
    if not re.fullmatch(_VARIABLE, name):
        raise ValueError("name the environment variable that holds the Apprise URL: the URL itself is a secret")
    return name


class Rule(Section):
    """One alert rule: a metric, where it is looked at, the limit, and what happens when it is crossed.

    `columns`, `except_columns` and `slices` take names or shell patterns (`prices__*`, `country=*`).
    The slice named `all` is every row together; `*` is each slice, that one included.
    """

    name: str = Field(min_length=1)
    metric: str = Field(min_length=1)
    columns: tuple[str, ...] = Field(default=("*",), min_length=1)
    except_columns: tuple[str, ...] = ()
    slices: tuple[str, ...] = Field(default=("all",), min_length=1)
    above: float | None = None
    below: float | None = None
    windows: Annotated[Breaches, BeforeValidator(_windows)] = Breaches(1, 1)
    action: Literal["notify", "retrain"] = "notify"

    @model_validator(mode="after")
    def _can_fire(self) -> Self:
        if self.above is None and self.below is None:
            raise ValueError(f"rule {self.name!r} can never fire: give it 'above', 'below' or both")
        if self.above is not None and self.below is not None and self.below >= self.above:
            raise ValueError(f"rule {self.name!r} always fires: 'below' must be less than 'above'")
        if set(self.columns) <= set(self.except_columns):
            raise ValueError(f"rule {self.name!r} can never fire: every column it names is in 'except_columns'")
        return self


def _told_apart(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    names = [rule.name for rule in rules]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"rule names must differ; repeated: {', '.join(repeated)}")
    return rules


class MonitoringSettings(Section):
    """The `monitoring` section. Durations are written like `7d` or `6h`.

    Windows follow one another without a gap, each of length `window`. Labels of a window count as complete
    `label_delay` after its end. A window, or a slice of one, with fewer than `min_rows` rows says nothing
    about drift or performance: with n rows a PSI of about (bins - 1) / n is expected where nothing has
    changed. With more than `max_rows` predictions, those of a share of the entities stand for all. `notify` names
    the environment variables that hold Apprise URLs; without any, alerts are printed. `title` heads the dashboard and
    the server's pages; without it they have the package's name.
    """

    title: str = ""
    window: Period = timedelta(days=7)
    label_delay: Duration = timedelta(days=2)
    psi_bins: Annotated[int, Field(ge=2, le=100)] = 10
    min_rows: PositiveInt = 200
    max_rows: PositiveInt = 500_000
    rules: Annotated[tuple[Rule, ...], AfterValidator(_told_apart)] = ()
    notify: tuple[Annotated[str, AfterValidator(_variable)], ...] = ()


def _cron(value: str) -> str:
    if not re.fullmatch(r"[\d*/,-]+( [\d*/,-]+){4}", value):
        raise ValueError("a schedule is five fields of cron (minute hour day month weekday), in numbers")
    return value


Cron = Annotated[str, AfterValidator(_cron)]


class Schedules(Section):
    """The only place that decides on times: the tests hold the platform's files against it."""

    nightly: Cron
    refresh: Cron
    monitor: Cron
    retrain: Cron
    maintain: Cron = "30 3 * * *"
    dependencies: Cron

    @model_validator(mode="after")
    def _are_told_apart(self) -> Self:
        if len(set(self.model_dump().values())) < len(self.model_dump()):
            raise ValueError("two schedules say the same time: the platform starts jobs by it")
        return self


class DeliverySettings(Section):
    host: Literal["github", "gitlab", "azure_devops", "by_hand"] = Field(
        "by_hand", description="the CI platform whose API is asked what passed and who approved"
    )
    schedules: Schedules | None = None

    def jobs(self) -> dict[str, str]:
        """The cron expression of each job that the CI platform starts."""
        return self.schedules.model_dump() if self.schedules else {}

    def job(self, cron: str) -> str:
        """The job that runs at `cron`; raises ConfigError where there is none."""
        for name, time in self.jobs().items():
            if time == cron:
                return name
        raise ConfigError(f"no schedule in conf/base.yml, delivery.schedules, says {cron!r}")
