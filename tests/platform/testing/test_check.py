"""`check` finds each mistake that an owner can make in their files or in conf/, and names where it is."""

import sys
from typing import Any, NamedTuple
from unittest import mock

import pytest
import yaml
from typer.testing import CliRunner

from copies import Copy
from mlplatform.cli import application, owned_by
from mlplatform.testing.check import MistakesError, refuse_mistakes


class Mistake(NamedTuple):
    """One edit, and all that `check` should say of it."""

    file: str
    old: str
    new: str
    lines: str


MISTAKES = {
    # Seven breaches of the contract.
    "a column misspelt in the model": Mistake(
        "features.py",
        '"amount",',
        '"amout",',
        "model.py:49: there is no column amout (did you mean 'amount'?)",
    ),
    "a tuple of letters as entity key": Mistake(
        "features.py",
        'Entity(keys=("item_id",)',
        'Entity(keys=("item_id")',
        "PROJECT.entity.keys: 'item_id' is str, not tuple[str, ...]",
    ),
    "a tuple as one entity key": Mistake(
        "features.py",
        'Entity(keys=("item_id",)',
        'Entity(keys=(("item_id",),)',
        "PROJECT.entity.keys[0]: ('item_id',) is tuple, not str",
    ),
    "a string as baseline": Mistake(
        "project.py", 'Baseline(groups=("kind",))', '"kind"', "PROJECT.baseline: 'kind' is str, not Baseline"
    ),
    "a misspelt optional member": Mistake(
        "model.py",
        "def plots(",
        "def polts(",
        ".model.Estimate.polts: not a member of Model (did you mean 'plots'?); "
        "the name of a helper starts with an underscore",
    ),
    "a member that names no method": Mistake(
        "model.py",
        "    trusted_types: tuple[str, ...] = (",
        '    weights = "balanced"\n    trusted_types: tuple[str, ...] = (',
        ".model.Estimate.weights: 'balanced' is no method",
    ),
    "a missing member": Mistake(
        "model.py",
        "def predict(",
        "def _predict(",
        "project.py:16: TypeError: Can't instantiate abstract class Estimate with abstract method predict",
    ),
    # Types and names in the owner's files.
    "no entity key": Mistake(
        "features.py",
        'Entity(keys=("item_id",)',
        "Entity(keys=()",
        "PROJECT.entity.keys: there are none: what tells one row to predict for from another?",
    ),
    "a sensitive field that there is not": Mistake(
        "features.py",
        'Entity(keys=("item_id",)',
        'Entity(keys=("item_id",), sensitive=("amuont",)',
        "PROJECT.entity.sensitive: there is no column amuont (did you mean 'amount'?)",
    ),
    "a field of requests that there is not": Mistake(
        "features.py",
        'Entity(keys=("item_id",)',
        'Entity(keys=("item_id",), fields=("knid",)',
        "PROJECT.entity.fields: entities.sql gives no knid (did you mean 'kind'?)",
    ),
    "a kind of labels that there is not": Mistake(
        "project.py",
        'Labels("binary")',
        'Labels("yesno")',
        "PROJECT.labels.kind: 'yesno' is str, not Literal['binary', 'multiclass', 'number']",
    ),
    "classes of labels that have none": Mistake(
        "project.py",
        'Labels("binary")',
        'Labels("binary", ("a",))',
        "project.py:12: ValueError: classes are named for multiclass labels, and for no others: "
        "Labels('multiclass', (...))",
    ),
    "a module that does not parse": Mistake(
        "model.py",
        "class Estimate(Model):",
        "class Estimate(Model:",
        "project.py:6: SyntaxError: invalid syntax (model.py, line 32)",
    ),
    # How sources are declared.
    "an option of a format that there is not": Mistake(
        "tables.py",
        '"Items, when they become known."',
        'format=Csv(delimeter=";")',
        "tables.py:27: TypeError: Csv.__init__() got an unexpected keyword argument 'delimeter' "
        "(did you mean 'delimiter'?)",
    ),
    "a format that there is not": Mistake(
        "tables.py",
        '"Items, when they become known."',
        'format="csv"',
        "PROJECT.sources[0].format: 'csv' is str, not Csv | JsonLines | Parquet | Database",
    ),
    "a delimiter of two characters": Mistake(
        "tables.py",
        '"Items, when they become known."',
        'format=Csv(delimiter="||", quote="|")',
        "PROJECT.sources[0].format.delimiter: '||' is not one ASCII character",
    ),
    "a quote that is the delimiter": Mistake(
        "tables.py",
        '"Items, when they become known."',
        'format=Csv(delimiter="|", quote="|")',
        "PROJECT.sources[0].format.quote: '|' is not one ASCII character besides the delimiter; none: ''",
    ),
    "an encoding that Python does not know": Mistake(
        "tables.py",
        '"Items, when they become known."',
        'format=Csv(encoding="latin_one")',
        "PROJECT.sources[0].format.encoding: Python knows no encoding 'latin_one' (did you mean 'latin_1'?)",
    ),
    "an encoding that is none of text": Mistake(
        "tables.py",
        '"Items, when they become known."',
        'format=Csv(encoding="base64")',
        "PROJECT.sources[0].format.encoding: Python knows no encoding 'base64'",
    ),
    "a compression that there is not": Mistake(
        "tables.py",
        '"Items, when they become known."',
        'format=Csv(compression="gzipped")',
        "PROJECT.sources[0].format.compression: 'gzipped' is str, not Literal['none', 'gzip', 'zstd'] "
        "(did you mean 'gzip'?)",
    ),
    "a column that ingest gives": Mistake(
        "tables.py",
        '("item_id", "kind", "amount", "published_at"), "Items',
        '("item_id", "kind", "amount", "published_at", "landed_at"), "Items',
        "PROJECT.sources[0].columns: landed_at: ingest gives columns of these names itself",
    ),
    "a source that is not declared": Mistake(
        "tables.py",
        'SilverTable("items", "items"',
        'SilverTable("items", "itms"',
        "SilverTable 'items': there is no source itms (did you mean 'items'?)",
    ),
    "a group of the baseline that is not joined": Mistake(
        "project.py",
        'Baseline(groups=("kind",))',
        'Baseline(groups=("kindd",))',
        "PROJECT.baseline.groups: there is no column kindd (did you mean 'kind'?)",
    ),
    "a key of a view that entities lack": Mistake(
        "features.py",
        'name="kind_history",\n        keys=("kind",)',
        'name="kind_history",\n        keys=("kindd",)',
        "sql/features/kind_history.sql: gives no column kindd (did you mean 'kind'?)\n"
        "FeatureView 'kind_history': keys: entities.sql gives no kindd (did you mean 'kind'?)",
    ),
    "times of deliveries in the wrong order": Mistake(
        "deliveries.py",
        "first=datetime(2025, 4, 1)",
        "first=datetime(2026, 4, 1)",
        "DELIVERIES.stops: each time is later than the one before it, `begin` and `first` among them",
    ),
    # SQL.
    "a column that a source does not have": Mistake(
        "sql/silver/items.sql",
        "TRY_CAST(amount AS DOUBLE)",
        "TRY_CAST(amout AS DOUBLE)",
        'sql/silver/items.sql:5: Binder Error: Referenced column "amout" not found in FROM clause! Candidate bindings: '
        '"amount", "source_row", "source_file"',
    ),
    "a column that its contract lacks": Mistake(
        "sql/silver/items.sql",
        "    kind,\n",
        "    kind,\n    1 AS more,\n",
        "sql/silver/items.sql: gives the column more, which its contract does not have",
    ),
    "a column of the contract that is missing": Mistake(
        "sql/silver/items.sql",
        "AS amount",
        "AS amounts",
        "sql/silver/items.sql: gives the column amounts, which its contract does not have\n"
        "sql/silver/items.sql: gives no column amount, which its contract has (did you mean 'amounts'?)",
    ),
    "a column of another type than its contract says": Mistake(
        "sql/silver/items.sql",
        "TRY_CAST(amount AS DOUBLE)",
        "TRY_CAST(amount AS FLOAT)",
        "sql/silver/items.sql: amount: the contract says dtype('Float64'), the SQL gives Float32",
    ),
    "a key of a table that is no column": Mistake(
        "tables.py",
        'SilverTable("items", "items", keys=("item_id",)',
        'SilverTable("items", "items", keys=("item",)',
        "sql/silver/items.sql: gives no column item (did you mean 'item_id'?)",
    ),
    "features without available_at": Mistake(
        "sql/features/kind_history.sql",
        "AS available_at",
        "AS available",
        "sql/features/kind_history.sql: gives no column available_at (did you mean 'available'?)",
    ),
    "features of a date": Mistake(
        "sql/features/kind_history.sql",
        "hour AS event_timestamp",
        "CAST(hour AS DATE) AS event_timestamp",
        "sql/features/kind_history.sql: event_timestamp is date32[day], and should be timestamp[us]",
    ),
    "a key of another type than the entity's": Mistake(
        "sql/labels.sql",
        "    item_id,",
        "    length(item_id) AS item_id,",
        "sql/labels.sql: item_id is int64, and should be string",
    ),
    "labels that are text": Mistake(
        "sql/labels.sql",
        "THEN 1e0 ELSE 0e0",
        "THEN 'yes' ELSE 'no'",
        "sql/labels.sql: label is string, but Labels('binary', ...) are numbers",
    ),
    "a table that there is not": Mistake(
        "sql/labels.sql",
        "silver.outcomes",
        "silver.outcome",
        "sql/labels.sql: there is no table silver.outcome (did you mean 'silver.outcomes'?)",
    ),
    "SQL that does not parse": Mistake(
        "sql/entities.sql",
        "FROM silver.items",
        "FROM silver.items WHERE",
        'sql/entities.sql:8: Parser Error: syntax error at or near "WHERE"',
    ),
    "SQL that means something else on Spark": Mistake(
        "sql/features/kind_history.sql",
        "ORDER BY hour NULLS LAST",
        "ORDER BY hour",
        "sql/features/kind_history.sql:22: ORDER BY hour: nulls come last on DuckDB and first on Spark; "
        "say NULLS FIRST or NULLS LAST",
    ),
    "a key that is called like a word of SQL": Mistake(
        "features.py",
        'keys=("kind",)',
        'keys=("order",)',
        "FeatureView 'kind_history': keys: 'order' is a word of SQL, or no plain name: take another one\n"
        "FeatureView 'kind_arrivals': keys: 'order' is a word of SQL, or no plain name: take another one",
    ),
    "a list, which no model sees": Mistake(
        "sql/entities.sql",
        "    amount,\n",
        "    amount,\n    split(kind, ',') AS kinds,\n",
        "sql/entities.sql: kinds is list<l: string>: rows to score hold numbers, text, booleans, dates and times: "
        "make several columns of it, or text",
    ),
    "a span of time, which Delta does not keep": Mistake(
        "sql/features/kind_history.sql",
        "    kind,\n    hour AS event_timestamp,",
        "    kind,\n    hour - hour AS span,\n    hour AS event_timestamp,",
        "sql/features/kind_history.sql: span is month_day_nano_interval: rows to score hold numbers, text, booleans, "
        "dates and times: make several columns of it, or text",
    ),
    "two queries in a file": Mistake(
        "sql/labels.sql",
        "FROM silver.outcomes",
        "FROM silver.outcomes; SELECT 1",
        "sql/labels.sql: one SELECT is run here, no more, no less and nothing else: tables are written by the "
        "pipelines",
    ),
    "a table in quotes, where the engine does not see its name": Mistake(
        "sql/entities.sql",
        "silver.items",
        "silver.`items`",
        "sql/entities.sql:8: there is no table silver.items: the name of a table stands as it is, in no quotes",
    ),
    "a source with a capital letter": Mistake(
        "tables.py",
        'Source("items"',
        'Source("Items"',
        "PROJECT.sources: 'Items' names a table, so it is of small letters, digits and underscores",
    ),
    "two sources of one name": Mistake(
        "tables.py",
        '"outcomes", ("item_id", "kind"',
        '"items", ("item_id", "kind"',
        "PROJECT.sources: 'items' is the name of 2: each needs its own",
    ),
    "two columns that differ by a capital letter": Mistake(
        "sql/entities.sql",
        "    kind,\n",
        "    kind,\n    kind AS Kind,\n",
        "sql/entities.sql: gives kind, Kind, which to SQL are one name: it knows no capitals",
    ),
    "entities without a prediction time": Mistake(
        "sql/entities.sql",
        "AS prediction_time",
        "AS predicted_at",
        "sql/entities.sql: gives no column prediction_time (known: amount, available_at, item_id, kind, predicted_at)",
    ),
    # The model.
    "a default that the estimator does not take": Mistake(
        "model.py",
        '"learning_rate": 0.1',
        '"learn_rate": 0.1',
        "model.py:61: TypeError: HistGradientBoostingClassifier.__init__() got an unexpected keyword argument "
        "'learn_rate' (build, with `defaults`)",
    ),
    "inputs that are whole numbers": Mistake(
        "model.py",
        '.astype("float64")',
        '.astype({"amount": "int64"})',
        ".model.Estimate.inputs: gives amount as int64: numbers are float64, categories text",
    ),
    "a primary metric that is not measured": Mistake(
        "model.py",
        "self.primary.name: self.primary.measure(labels, scores),",
        "",
        ".model.Estimate.primary: `metrics` gives no average_precision (known: brier, log_loss, roc_auc)",
    ),
    "a decision that is no metric": Mistake(
        "model.py",
        "    trusted_types: tuple[str, ...] = (",
        '    decision = "cost"\n    trusted_types: tuple[str, ...] = (',
        "PROJECT.model.decision: 'cost' is str, not Metric | None",
    ),
    "a text in place of several": Mistake(
        "model.py",
        "    trusted_types: tuple[str, ...] = (",
        '    requirements = "shap"\n    trusted_types: tuple[str, ...] = (',
        "PROJECT.model.requirements: 'shap' is str, not Sequence[str]",
    ),
    "a requirement that is not installed": Mistake(
        "model.py",
        "    trusted_types: tuple[str, ...] = (",
        '    requirements = ("no-such-distribution",)\n    trusted_types: tuple[str, ...] = (',
        ".model.Estimate.requirements: 'no-such-distribution' is not installed",
    ),
    "a metric of the owner's on a column that there is not": Mistake(
        "project.py",
        "    card=Card(",
        '    metrics={"cost": lambda frame: frame["scor"].sum()},\n    card=Card(',
        "project.py:19: there is no column scor (did you mean 'score'?)",
    ),
    "a metric of the owner's with the name of another": Mistake(
        "project.py",
        "    card=Card(",
        '    metrics={"psi": len},\n    card=Card(',
        "PROJECT.metrics: 'psi' is the name of another metric",
    ),
    # Settings.
    "a split by a column that there is not": Mistake(
        "conf/staging.yml",
        "training:\n",
        "training:\n  split: group\n  group: kindd\n",
        "conf/staging.yml: training.group: there is no column kindd (did you mean 'kind'?)",
    ),
    "a setting that there is not": Mistake(
        "conf/staging.yml",
        "released_code_only",
        "release_code_only",
        "conf/staging.yml: pipelines.release_code_only: unknown key (did you mean 'released_code_only'?)",
    ),
    "a limit on a metric that there is not": Mistake(
        "conf/base.yml",
        "{metric: roc_auc, column: kind",
        "{metric: roc_auk, column: kind",
        "conf/base.yml: registry.compliance.slice_limits: the model has no metric roc_auk (did you mean 'roc_auc'?)",
    ),
    "a limit on a column that is no slice": Mistake(
        "conf/base.yml",
        "{metric: roc_auc, column: kind",
        "{metric: roc_auc, column: kin",
        "conf/base.yml: registry.compliance.slice_limits: PROJECT.slices has no kin (did you mean 'kind'?)",
    ),
}


def test_the_project_as_it_is_has_no_mistake(copy: Copy) -> None:
    assert copy.problems() == []


def test_a_project_needs_neither_views_nor_groups(copy: Copy) -> None:
    copy.edit("project.py", "views=VIEWS", "views=()")
    copy.edit("project.py", 'baseline=Baseline(groups=("kind",)),', "")
    for view in ("kind_history", "kind_arrivals"):
        (copy.package / "sql" / "features" / f"{view}.sql").unlink()
    for feature in ("kind_history__outcome_7d", "kind_history__outcomes_7d", "kind_arrivals__items_1d"):
        copy.edit("features.py", f'    "{feature}",\n', "")
    assert copy.problems() == []


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_found_and_is_the_only_thing_said(copy: Copy, mistake: Mistake) -> None:
    copy.edit(mistake.file, mistake.old, mistake.new)
    said = mistake.lines
    for text, (version, newer) in SAID_SINCE.items():
        said = said.replace(text, newer) if sys.version_info >= version else said
    assert copy.problems() == said.splitlines()


# What a newer Python says itself.
SAID_SINCE = {
    "with abstract method predict": ((3, 12), "without an implementation for abstract method 'predict'"),
    "'delimeter' (did you mean 'delimiter'?)": ((3, 13), "'delimeter'. Did you mean 'delimiter'?"),
    "'learn_rate' (build": ((3, 13), "'learn_rate'. Did you mean 'learning_rate'? (build"),
}
# One rule of monitoring each, and what is wrong with it.
RULES = {
    "a metric that there is not": (
        {"metric": "roc_auk"},
        "nothing measures roc_auk (did you mean 'roc_auc'?)",
    ),
    "a column of a metric of all rows": (
        {"metric": "roc_auc", "columns": ["amount"]},
        "columns: roc_auc is not measured for amount but for all rows together",
    ),
    "a column that is no input": (
        {"metric": "psi", "columns": ["amuont"]},
        "columns: psi is not measured for amuont (did you mean 'amount'?)",
    ),
    "a pattern that matches nothing": (
        {"metric": "psi", "columns": ["history_*"]},
        "columns: psi is not measured for history_* (known: amount, kind, "
        "kind_arrivals__items_1d, kind_history__outcome_7d, kind_history__outcomes_7d, score)",
    ),
    "a number's metric of a category": (
        {"metric": "ks", "columns": ["kind"]},
        "columns: ks is not measured for kind (known: amount, kind_arrivals__items_1d, "
        "kind_history__outcome_7d, kind_history__outcomes_7d, score)",
    ),
    "an exception that is no input": (
        {"metric": "missing_rate", "except_columns": ["scores"]},
        "except_columns: missing_rate is not measured for scores (did you mean 'score'?)",
    ),
    "a table that there is not": (
        {"metric": "freshness_seconds", "columns": ["silver.item"]},
        "columns: freshness_seconds is not measured for silver.item (did you mean 'silver.items'?)",
    ),
    "a pipeline that there is not": (
        {"metric": "failed_runs", "columns": ["inger"]},
        "columns: failed_runs is not measured for inger (did you mean 'infer'?)",
    ),
    "a column that is no slice": (
        {"metric": "roc_auc", "slices": ["kin=a"]},
        "slices: roc_auc is not measured for kin=a (did you mean 'kind'?)",
    ),
    "a slice of a metric that has none": (
        {"metric": "failed_runs", "slices": ["kind=a"]},
        "slices: failed_runs is not measured for kind=a but for all rows together",
    ),
}
GOOD_RULES = [
    {"metric": "baseline_brier", "slices": ["*", "kind=*"]},
    {"metric": "rows", "columns": ["silver.*"], "slices": ["all"]},
    {"metric": "chi_squared", "columns": ["kind"]},
    {"metric": "run_seconds", "columns": ["infer", "monitor"]},
]


def watch(copy: Copy, *rules: dict[str, Any]) -> None:
    """An overlay with these rules: every layer is checked, not those of the environments alone."""
    named = [{"name": f"rule {number}", "above": 1.0, **rule} for number, rule in enumerate(rules)]
    text = yaml.safe_dump({"monitoring": {"rules": named}})
    (copy.folder / "conf" / "watch.yml").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(("rule", "reason"), RULES.values(), ids=list(RULES))
def test_a_rule_that_can_never_fire_is_found(copy: Copy, rule: dict[str, Any], reason: str) -> None:
    watch(copy, rule)
    assert copy.problems() == [f"conf/watch.yml: monitoring.rules, 'rule 0': {reason}"]


def test_rules_on_what_is_measured_are_right(copy: Copy) -> None:
    watch(copy, *GOOD_RULES)
    assert copy.problems() == []


def test_a_database_that_is_not_declared_right_is_found(copy: Copy) -> None:
    copy.edit("tables.py", "import Csv,", "import Csv, Database,")
    copy.edit(
        "tables.py", ", Csv()", ', Database(address="sqlite:///shop.db", overlap=__import__("datetime").timedelta(1))'
    )
    assert copy.problems() == [
        "PROJECT.sources[1].format.address: the name of an environment variable, which holds the address",
        "PROJECT.sources[1].format: give a table or a query, one of them",
        "PROJECT.sources[1].format.overlap: nothing overlaps without a watermark: all rows are read each time",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"-- later", "one SELECT is run here, no more, no less and nothing else: tables are written by the pipelines"),
        (b"-- gr\xf6\xdfer\nSELECT 1 AS a", "not in UTF-8: save it in that encoding"),
    ],
    ids=["nothing", "another encoding"],
)
def test_a_file_that_holds_no_query_is_found(copy: Copy, text: bytes, says: str) -> None:
    (copy.package / "sql" / "labels.sql").write_bytes(text)
    assert copy.problems() == [f"sql/labels.sql: {says}"]


def test_a_file_that_nothing_declares_and_one_that_is_missing_are_found(copy: Copy) -> None:
    (copy.package / "sql" / "labels.sql").rename(copy.package / "sql" / "label.sql")
    assert copy.problems() == [
        "sql/label.sql: nothing declares it (did you mean 'labels.sql'?)",
        "sql/labels.sql: the file is missing",
    ]


LABEL = "CASE WHEN outcome > 0 THEN 1e0 ELSE 0e0 END AS label"
CASES = {
    "CASE WHEN outcome > 9 THEN 'hihg'\n WHEN outcome > 0 THEN 'mid' ELSE 'low' END AS label": [
        "sql/labels.sql:4: Labels(...) have no class hihg (did you mean 'high'?)"
    ],
    "CASE WHEN outcome > 9 THEN 'high'\n WHEN outcome > 0 THEN 'mid' ELSE 'mìd' END AS label": [
        "sql/labels.sql:5: Labels(...) have no class mìd (did you mean 'mid'?)"
    ],
    "CASE WHEN outcome > 9 THEN 'high' ELSE CASE item_id WHEN 'hot' THEN 'mid' ELSE 'low' END END AS label": [],
    "CASE WHEN outcome > 9 THEN 'high'\n ELSE CASE item_id WHEN 'hot'\n THEN 'midd' ELSE 'low' END END AS label": [
        "sql/labels.sql:6: Labels(...) have no class midd (did you mean 'mid'?)"
    ],
    "coalesce(CASE item_id WHEN 'hot' THEN 'high' END, if(item_id > 'i', 'mid', 'lo')) AS label": [
        "sql/labels.sql:4: Labels(...) have no class lo (did you mean 'low'?)"
    ],
    "'mid' AS label, event_timestamp, available_at FROM silver.outcomes WHERE item_id = 'one'\nUNION ALL\n"
    "SELECT item_id, 'hi' AS label": ["sql/labels.sql:6: Labels(...) have no class hi (did you mean 'high'?)"],
    "label, event_timestamp, available_at FROM (SELECT *, 'hi' AS label FROM silver.outcomes)\nUNION ALL\n"
    "SELECT item_id, 'low' AS label": ["sql/labels.sql:4: Labels(...) have no class hi (did you mean 'high'?)"],
    "label, event_timestamp, available_at\n"
    "FROM (SELECT *, if(outcome > 9, 'high', 'none') AS label FROM silver.outcomes)\n"
    "WHERE label <> 'none'\nUNION ALL\nSELECT item_id, 'low' AS label": [],
    "if(kinds.label = 'odd', 'high', 'low') AS label, outcomes.event_timestamp, outcomes.available_at\n"
    "FROM silver.outcomes JOIN (SELECT item_id, if(amount > 9, 'odd', 'even') AS label FROM silver.items) AS kinds\n"
    "USING (item_id)\nUNION ALL\nSELECT item_id, 'low' AS label": [],
    "CASE WHEN CASE WHEN outcome > 0 THEN 'a' ELSE 'b' END = 'a' THEN 'high' ELSE 'low' END AS label": [],
    "'h' || CASE WHEN outcome > 9 THEN 'igh' ELSE 'ello' END AS label": [],
    "-- THEN 'none' END AS label\n CASE WHEN outcome > 9 THEN 'high' ELSE 'low' END AS label": [],
}


@pytest.mark.parametrize(("given", "said"), CASES.items())
def test_a_class_that_is_misspelt_in_the_sql_of_labels_is_found(copy: Copy, given: str, said: list[str]) -> None:
    copy.edit("project.py", 'Labels("binary")', 'Labels("multiclass", classes=("low", "mid", "high"))')
    copy.edit("sql/labels.sql", LABEL, given)
    assert [line for line in copy.problems() if line.startswith("sql/labels.sql")] == said


def test_everything_is_told_at_once(copy: Copy) -> None:
    for name in ("a column misspelt in the model", "labels that are text", "a limit on a column that is no slice"):
        copy.edit(*MISTAKES[name][:3])
    assert len(copy.problems()) == 3


def test_pipelines_are_refused_until_the_mistake_is_gone_and_checked_once(copy: Copy) -> None:
    refuse_mistakes(copy.load, copy.folder)
    with mock.patch("mlplatform.testing.check.problems", side_effect=AssertionError("checked again")):
        refuse_mistakes(copy.load, copy.folder)
    copy.edit(*MISTAKES["labels that are text"][:3])
    for _ in range(2):
        with pytest.raises(MistakesError, match="label is string"):
            refuse_mistakes(copy.load, copy.folder)
    copy.edit("sql/labels.sql", "THEN 'yes' ELSE 'no'", "THEN 1e0 ELSE 0e0")
    refuse_mistakes(copy.load, copy.folder)
    with (copy.folder / "conf" / "base.yml").open("a", encoding="utf-8") as settings:
        settings.write("mistake: 1\n")
    with pytest.raises(MistakesError, match="mistake: "):
        refuse_mistakes(copy.load, copy.folder)


def test_a_pipeline_does_not_begin_with_a_mistake(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy.folder)
    owned_by(copy.load)
    copy.edit(*MISTAKES["labels that are text"][:3])
    told = CliRunner().invoke(application(), ["check"])
    assert (told.exit_code, "label is string" in told.output) == (1, True)
    refused = CliRunner().invoke(application(), ["ingest", "--env", "staging"])
    assert isinstance(refused.exception, MistakesError)
    assert not (copy.folder / "data").exists()
