"""What the platform asks of an owner: one frozen `Project`. The platform never imports the owner's package.

Members are only ever added, with defaults; a release that renames one brings a migration of the owner's files.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
import pandas as pd

from mlplatform.errors import QueryError

if TYPE_CHECKING:
    import optuna
    import pandera.polars as pandera

Measure = Callable[[np.ndarray, np.ndarray], float]
WindowMetric = Callable[[pd.DataFrame], float]
Kind = Literal["binary", "multiclass", "number"]
Compression = Literal["none", "gzip", "zstd"]
_COMPRESSED = {"none": "", "gzip": ".gz", "zstd": ".zst"}
RowScorer = Callable[[Mapping[str, Any]], Any]
"""The score, or the scores, of one joined row by column, where nothing is None."""


@dataclass(frozen=True, kw_only=True)
class Csv:
    """Files <name>.csv: a header, then a line per row.

    `delimiter` and `quote` are one ASCII character each (no quote: ""), `encoding` is a name that Python knows.
    Compressed files are named <name>.csv.gz and <name>.csv.zst.
    """

    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    compression: Compression = "none"

    @property
    def suffix(self) -> str:
        return f".csv{_COMPRESSED[self.compression]}"


@dataclass(frozen=True, kw_only=True)
class JsonLines:
    """Files <name>.jsonl, or <name>.jsonl.gz and <name>.jsonl.zst: a JSON object per line, which names every column
    that the SQL needs. Others are kept as JSON in the column `unexpected`."""

    compression: Compression = "none"

    @property
    def suffix(self) -> str:
        return f".jsonl{_COMPRESSED[self.compression]}"


@dataclass(frozen=True, kw_only=True)
class Parquet:
    """Files <name>.parquet."""

    suffix = ".parquet"


@dataclass(frozen=True, kw_only=True)
class Database:
    """No files: a `table` (or `schema.table`) or a `query` of a database that SQLAlchemy knows.

    `address` names the environment variable that holds its address. `watermark` is a column of the time at which a row
    came to be or changed last (UTC where it has no zone): a row counts from then on, and only newer ones are read, from
    `overlap` before the newest on, for those that are committed late. Without a watermark all rows are read each time.
    """

    address: str
    table: str = ""
    query: str = ""
    watermark: str = ""
    overlap: timedelta = timedelta()


@dataclass(frozen=True)
class Source:
    """Where rows of one kind come from: files in the folder `<landing>/<name>/`, or a database.

    `columns` are those that the SQL needs; a file that lacks one is refused.
    """

    name: str
    columns: tuple[str, ...]
    description: str = ""
    format: Csv | JsonLines | Parquet | Database = Csv()

    def origin(self, files: object) -> str:
        """Where its rows come from, in words: `files`, if not from a database."""
        return f"the database at ${self.format.address}" if isinstance(self.format, Database) else str(files)


@dataclass(frozen=True)
class SilverTable:
    """A table of typed facts, made from bronze.<source> by sql/silver/<name>.sql.

    `keys` name a fact: its first version is kept, a later one refused. `contract` judges each row.
    """

    name: str
    source: str
    keys: tuple[str, ...]
    contract: "pandera.DataFrameSchema"
    description: str = ""

    @property
    def table(self) -> str:
        return f"silver.{self.name}"


@dataclass(frozen=True)
class FeatureView:
    """Features of an entity, made by sql/features/<name>.sql into the table features.<name>.

    `keys` name what a row describes; none means that it holds for every entity. A value older than `ttl`, counted
    from its event_timestamp, is not used. `lookback` is the longest span of Silver rows that one row is computed from.
    """

    name: str
    keys: tuple[str, ...]
    ttl: timedelta
    lookback: timedelta
    description: str = ""

    @property
    def table(self) -> str:
        return f"features.{self.name}"


@dataclass(frozen=True)
class Entity:
    """What is predicted for. sql/entities.sql gives one row per entity, `prediction_time` and `available_at` in it.

    Where the model is asked over HTTP, a request gives the keys and the `fields` of that row; none named: all of its
    columns but the two times. Fields that are `sensitive` are never written into the request log.
    """

    keys: tuple[str, ...]
    description: str = ""
    fields: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if named := set(self.keys) & set(self.sensitive):
            raise ValueError(
                f"{', '.join(sorted(named))}: keys name an entity and are written; they cannot be sensitive"
            )


@dataclass(frozen=True)
class Labels:
    """What the model learns. sql/labels.sql gives the entity's keys, `label`, `event_timestamp` and `available_at`.

    binary: the label is 0 or 1, a score is the probability of 1. multiclass: the label is one of `classes`, a score
    is a probability per class, in that order. number: the label and its estimate are numbers.
    """

    kind: Kind
    classes: tuple[str, ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        if (self.kind == "multiclass") != bool(self.classes):
            raise ValueError("classes are named for multiclass labels, and for no others: Labels('multiclass', (...))")

    @property
    def score_columns(self) -> tuple[str, ...]:
        """The columns of scores in predictions: `score`, or one `score__<class>` per class."""
        return tuple(f"score__{name}" for name in self.classes) or ("score",)


class Metric(NamedTuple):
    """A metric by which models are compared: `measure(labels, scores)`, NaN where it cannot be computed."""

    name: str
    measure: Measure
    greater_is_better: bool = True


class Estimator(Protocol):
    """Anything with scikit-learn's interface: a pipeline, a classifier, a regressor."""

    def fit(self, X: Any, y: Any) -> Any: ...  # noqa: N803 (scikit-learn's names)

    def predict(self, X: Any) -> Any: ...  # noqa: N803


class Explanation(NamedTuple):
    """How much the model looks at each input, largest first, and a Matplotlib figure of it, if there is one."""

    importance: pd.Series
    figure: Any = None


class Model(ABC):
    """How the model is built, tuned and judged. `labels` have the shape (n,), `scores` (n,) or (n, classes)."""

    defaults: Mapping[str, Any] = {}
    """The hyperparameters of a model that no search has tuned."""

    trusted_types: Sequence[str] = ()
    """Types that skops may load besides its own, as dotted names; none given: what the fitted model is made of."""

    requirements: Sequence[str] = ()
    """Distributions that the fitted model needs to be loaded, besides those of the types that it is made of."""

    decision: Metric | None = None
    """For binary labels: what a decision is worth or costs, `measure(labels, decisions)`, both of 0 and 1.

    With it a threshold is chosen on training rows: the decision is 1 where the score is at least that. It is kept with
    the version, and predictions hold `threshold` and `prediction` beside `score`.
    """

    @property
    @abstractmethod
    def primary(self) -> Metric:
        """The metric by which models are tuned and compared; a class attribute will do."""

    @abstractmethod
    def inputs(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The model's input from joined rows (columns of entities.sql and `<view>__<feature>`), row by row.

        float64 for numbers, which may be missing, and text without gaps for categories.
        """

    @abstractmethod
    def build(self, parameters: Mapping[str, Any]) -> Estimator:
        """An estimator that is not fitted yet; its input is what `inputs` returns."""

    def suggest(self, trial: "optuna.Trial") -> dict[str, Any]:
        """One point of the search space. Without an override nothing is searched for."""
        return {}

    @abstractmethod
    def predict(self, fitted: Any, inputs: pd.DataFrame) -> np.ndarray:
        """The scores that the fitted estimator gives."""

    def row_scorer(self, fitted: Any) -> RowScorer | None:
        """A quicker way to score one joined row, for servers; None: `inputs` and `predict` do it.

        It does the work of both, and must give their scores to the last bit. That is tried on held-out rows whenever a
        version is loaded; where one differs, the quick way is left aside.
        """
        return None

    @abstractmethod
    def metrics(self, labels: np.ndarray, scores: np.ndarray) -> Mapping[str, float]:
        """All metrics by name, the primary one among them; NaN where one cannot be computed."""

    def plots(self, labels: np.ndarray, scores: np.ndarray) -> Mapping[str, Any]:
        """Matplotlib figures by file name."""
        return {}

    def weights(self, frame: pd.DataFrame) -> np.ndarray | None:
        """The weight of each joined training row, shape (n,); None weighs all the same."""
        return None

    def explain(self, fitted: Any, inputs: pd.DataFrame, labels: np.ndarray) -> Explanation:
        """How much the primary metric suffers when a column is shuffled (Breiman, Random Forests, 2001)."""
        from sklearn.inspection import permutation_importance

        sign = 1 if self.primary.greater_is_better else -1

        def score(estimator: Any, rows: pd.DataFrame, known: np.ndarray) -> float:
            return sign * float(self.primary.measure(known, self.predict(estimator, rows)))

        found = permutation_importance(fitted, inputs, labels, scoring=score, n_repeats=3, random_state=0)
        return Explanation(pd.Series(found.importances_mean, index=inputs.columns).sort_values(ascending=False))


@dataclass(frozen=True)
class Baseline:
    """The heuristic that a first model has to beat: the mean label (for classes: their shares) of each group.

    For numbers it is the mean or the median, whichever the primary metric prefers on training rows. `groups` are
    columns of joined rows; none means one guess for all.
    """

    groups: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a reader of the model card must know."""

    description: str
    intended_use: str
    limits: str


@dataclass(frozen=True, kw_only=True)
class Project:
    """Everything that the platform asks of its owner.

    `package` is the owner's: its folder `sql/` holds silver/<table>.sql, features/<view>.sql, entities.sql and
    labels.sql, and `python -m <package>` is its command line. `slices` are columns of joined rows in which the model
    is judged apart. `metrics` are measured for each window of predictions whose labels are known (business figures,
    costs), as functions of a frame with the columns of predictions, and `label`.
    """

    package: str
    entity: Entity
    labels: Labels
    sources: tuple[Source, ...]
    tables: tuple[SilverTable, ...]
    views: tuple[FeatureView, ...]
    model: Model
    card: Card
    baseline: Baseline = Baseline()
    slices: tuple[str, ...] = ()
    metrics: Mapping[str, WindowMetric] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.package.replace("_", " ").title()

    def sql(self, path: str) -> str:
        """The text of a file below sql/, such as `silver/items.sql`, without a semicolon at its end.

        Its first line is a comment with the file's name, by which errors are told in terms of the file.
        """
        try:
            text = resources.files(self.package).joinpath("sql", path).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise QueryError(f"sql/{path}: not in UTF-8: save it in that encoding") from error
        return f"-- sql/{path}\n{text.rstrip().rstrip(';')}"


@dataclass(frozen=True, kw_only=True)
class Deliveries:
    """What the sources deliver, and when: for the demonstration, the integration test and the conformance checks.

    `deliver(landing, until)` puts into the landing zone what was published up to `until` (naive UTC) and is not there
    yet, and returns the rows by source. The demonstration learns from what is known at `first` and goes on from stop
    to stop; the integration test trains at the first of its two times and scores up to the second.
    """

    deliver: Callable[[Path, datetime], Mapping[str, int]]
    begin: datetime
    first: datetime
    stops: tuple[datetime, ...]
    integration: tuple[datetime, datetime]
