"""Each conformance check fails on a project that is broken in the way that it looks for."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from pyarrow import fs

from copies import Copy
from mlplatform.contract import Deliveries, Project
from mlplatform.environment import Environment
from mlplatform.pipelines.ingest import ingest
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Transition
from mlplatform.storage.address import Remote, filesystem
from mlplatform.testing import conformance
from mlplatform.testing.conformance import World
from stores import Store

Edit = tuple[str, str, str]
CHANCE: Edit = ("sql/features/kind_history.sql", "sum(outcomes) OVER week AS", "random() + sum(outcomes) OVER week AS")


class Broken(NamedTuple):
    """A project with these edits, and what the check says of it."""

    check: Callable[[World], None]
    says: str
    edits: tuple[Edit, ...]


BROKEN = {
    "an entity comes twice": Broken(
        conformance.keys_are_unique,
        "sql/entities.sql: more than one row for {'item_id': 'item-",
        (("sql/entities.sql", "FROM silver.items", "FROM silver.items CROSS JOIN (VALUES (1), (2)) AS twice (n)"),),
    ),
    "a fact is said to be known before it lands": Broken(
        conformance.what_was_known_then_is_what_a_run_then_finds,
        r"silver.outcomes: [1-9]\d* of its rows say in available_at that they were known at 2025-",
        (
            (
                "sql/silver/outcomes.sql",
                "(published_at) AS available_at",
                "(published_at) - INTERVAL 86400 SECONDS AS available_at",
            ),
        ),
    ),
    "a feature is said to be known before its hour is over": Broken(
        conformance.what_was_known_then_is_what_a_run_then_finds,
        r"features.kind_history: \d+ of its rows say in available_at",
        (("sql/features/kind_history.sql", "hour + INTERVAL 3600 SECONDS AS available_at", "hour AS available_at"),),
    ),
    "what has not happened yet is said to be known": Broken(
        conformance.what_was_known_then_is_what_a_run_then_finds,
        "sql/labels.sql: labels that say in available_at that they were known at 2025-",
        (
            (
                "sql/labels.sql",
                "FROM silver.outcomes",
                "FROM (SELECT items.*, outcome FROM silver.items AS items LEFT JOIN silver.outcomes AS outcomes "
                "ON items.item_id = outcomes.item_id)",
            ),
        ),
    ),
    "the outcome is among what is known of an entity": Broken(
        conformance.the_future_changes_no_earlier_row,
        'entities rows: .*"amount"',
        (
            ("sql/entities.sql", "    amount,", "    coalesce(outcome, amount) AS amount,"),
            (
                "sql/entities.sql",
                "FROM silver.items",
                "FROM silver.items LEFT JOIN (SELECT item_id, outcome FROM silver.outcomes) USING (item_id)",
            ),
        ),
    ),
    "a view looks back further than it says": Broken(
        conformance.a_backfill_equals_increments,
        "features.kind_history as of ",
        (("features.py", "lookback=timedelta(days=7)", "lookback=timedelta(hours=1)"),),
    ),
    "the model says the opposite": Broken(
        conformance.the_model_beats_the_baseline,
        "the model was refused: ",
        (("model.py", "return np.asarray(", "return 1 - np.asarray("),),
    ),
    "the primary metric looks at nothing but the scores": Broken(
        conformance.a_model_of_shuffled_labels_is_refused,
        "a model that knows nothing was promoted: ",
        (
            ("model.py", "float(average_precision_score(labels, scores))", "float(len(np.unique(scores)))"),
            ("conf/base.yml", "at_least: 0.6", "at_least: 0.0"),
        ),
    ),
    "inputs are centred on their batch": Broken(
        conformance.scores_do_not_depend_on_their_batch,
        "rows get another score alone",
        (("model.py", 'astype("float64")\n', 'astype("float64")\n        numbers = numbers - numbers.mean()\n'),),
    ),
    "inputs have a column more for many rows": Broken(
        conformance.input_types_do_not_depend_on_the_batch,
        "`inputs` gives other columns for one row: size",
        (
            (
                "model.py",
                'astype("float64")\n',
                'astype("float64")\n        if len(numbers) > 1:\n            numbers["size"] = 1.0\n',
            ),
        ),
    ),
    "inputs hold gaps in a category": Broken(
        conformance.input_types_do_not_depend_on_the_batch,
        "`inputs` gives gaps in kind",
        (("model.py", '.astype("str").fillna("missing")', '.where(frame[list(CATEGORICAL)] != "a")'),),
    ),
    "what is known of an entity changes when there are many": Broken(
        conformance.one_run_scores_what_many_do,
        'what several runs have scored, beside one at the end: .*"score"',
        (("sql/entities.sql", "    amount,", "    amount * CAST(count(*) OVER () < 570 AS INT) AS amount,"),),
    ),
    "features hold chance, which another run does not repeat": Broken(
        conformance.running_twice_changes_nothing, "features.kind_history: ", (CHANCE,)
    ),
    "features hold chance, which a run after a kill does not repeat": Broken(
        conformance.killed_pipelines_end_as_if_nothing_had_happened, "features.kind_history: ", (CHANCE,)
    ),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=list(BROKEN))
def test_a_check_fails_on_a_project_that_breaks_its_promise(copy: Copy, broken: Broken) -> None:
    for edit in broken.edits:
        copy.edit(*edit)
    with pytest.raises(AssertionError, match=broken.says):
        broken.check(World(*copy.load()))


def test_every_check_has_a_project_on_which_it_fails() -> None:
    assert {broken.check for broken in BROKEN.values()} == set(conformance.CHECKS)


def test_a_project_that_has_nothing_to_score_is_told_so(copy: Copy) -> None:
    world = World(*copy.load())
    env = world.environment("without predictions", registry=True)
    world.uninterrupted = env, {}
    with pytest.raises(AssertionError, match="no version became champion"):
        conformance.running_twice_changes_nothing(world)
    registry = Registry(env)
    move = Transition(registry.model, 1, "Staging", "Production", world.start, "a test", "the first one")
    registry.ledger.record(move.closed("approved", world.start, "a test", "the first one"))
    with pytest.raises(AssertionError, match="no champion has scored anything"):
        conformance.running_twice_changes_nothing(world)


def test_the_time_of_writing_in_a_delivered_file_does_not_count(copy: Copy) -> None:
    copy.edit("tables.py", "Csv()", 'Csv(compression="gzip")')
    world, states = World(*copy.load()), []
    for time in (0, 1):
        env = world.environment(f"written-at-{time}")
        world.deliver(env, world.start)
        for path in env.landing.glob("outcomes/*.csv"):
            path.with_suffix(".csv.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=time))
            path.unlink()
        ingest(env, world.start)
        states.append(conformance._state(env))
    assert states[0]["bronze.outcomes"].height
    conformance._assert_same(*states)


class AwayWorld(World):
    """The same ways, with tables, deliveries and artifacts at addresses where nothing is before."""

    def __init__(self, project: Project, deliveries: Deliveries, store: Store) -> None:
        super().__init__(project, deliveries)
        self._store = store

    def environment(self, name: str, *, registry: bool = False) -> Environment:
        made = super().environment(name, registry=registry)
        at = self._store.fresh()
        kept = {
            "lakehouse": {"root": f"{at}/tables", "landing": f"{at}/landing"},
            "registry": {"artifacts": self._store.fresh_for_artifacts()},
        }
        (made.folder / "conf" / "away.yml").write_text(json.dumps(kept), encoding="utf-8")
        return Environment.load("staging", self.project, made.folder, ("conformance", "away"))

    def copy_of_backfill(self, name: str, *, registry: bool = False) -> Environment:
        made = self.environment(name, registry=registry)
        for ours, theirs in ((made.landing, self.backfill.landing), (_tables(made), _tables(self.backfill))):
            (system, source), (_, target) = filesystem(str(theirs)), filesystem(str(ours))
            fs.copy_files(source, target, source_filesystem=system, destination_filesystem=system)
        return made


def _tables(env: Environment) -> Remote:
    return Remote(env.config.lakehouse.root)


@pytest.fixture(scope="module")
def worlds() -> Callable[[Store], AwayWorld]:
    """worlds(store): one for all checks of a store."""
    from tiny.deliveries import DELIVERIES
    from tiny.project import PROJECT

    made: dict[str, AwayWorld] = {}
    return lambda store: made.setdefault(store.root, AwayWorld(PROJECT, DELIVERIES, store))


@pytest.mark.storage
@pytest.mark.parametrize(
    "store", ["s3", *(pytest.param(name, marks=pytest.mark.nightly) for name in ("azure", "google"))], indirect=True
)
@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_a_project_conforms_with_all_that_it_keeps_at_addresses(
    check: Callable[[World], None], store: Store, worlds: Callable[[Store], AwayWorld]
) -> None:
    away = worlds(store)
    check(away)
    assert {path.name for path in Path(away._folder.name).glob("*/data/*")} <= {"mlflow.db", "mlflow.db.lock"}
