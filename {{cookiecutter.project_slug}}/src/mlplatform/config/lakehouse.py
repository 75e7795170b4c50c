"""Settings of the lakehouse: where an environment's tables live and what it may read."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from mlplatform.config import Duration, Section


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
    features_from: Literal["dev", "staging", "prod"] | None = Field(
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
    def _can_be_read(self) -> "LakehouseSettings":
        if self.root.startswith("uc://") and self.engine != "spark":
            raise ValueError("tables in Unity Catalog (root: uc://...) need engine: spark")
        return self
