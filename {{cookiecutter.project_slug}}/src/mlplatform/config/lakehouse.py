"""Settings of the lakehouse: where an environment's tables live and what it may read."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from mlplatform.config.section import Duration, Section


class ExternalView(Section):
    """A feature table that another team manages, `path` its folder: read and checked, never written."""

    view: str
    path: str


class SparkSettings(Section):
    """Where Spark runs, for `engine: spark`."""

    master: str = Field(
        default="local[*]", description="a master, or the address of a Spark Connect server: sc://host:15002"
    )
    jars: str = Field(default="jars", description="folder of Delta's jars; behind sc:// the server has them")
    python: str | None = Field(default=None, description="Python on the workers, with the same packages; null: as here")
    session: dict[str, str] = Field(default={}, description="Spark's settings by Spark's names, as text")


class LakehouseSettings(Section):
    root: str = Field(
        description="address of this environment's tables: s3://, abfss://, gs://, or a folder, from the project's root"
    )
    landing: str = Field(description="address at which source files arrive, as of root")
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
