"""Every gate refuses the bad case: compliance, comparison, approval, and one environment against another.

Each test makes the bad case for real, in tables, files or a registered version, and sees it refused with its reason.
"""

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.ensemble import HistGradientBoostingClassifier

from mlplatform.environment import Environment
from mlplatform.errors import ForbiddenError
from mlplatform.pipelines.deploy import deploy
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.ingest import ingest
from mlplatform.pipelines.train import request_staging, train
from mlplatform.registry import approval
from mlplatform.registry.approval import ApprovalError
from mlplatform.registry.comparison import BASELINE
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Answer, Decision, Transition
from mlplatform.storage.ops import COMPARISONS, RUNS
from mlplatform.training import data, evaluation, tuning
from mlplatform.training.record import Trained, record
from steps import files, overlay
from tiny.project import PROJECT

LoadEnv = Callable[..., Environment]
Duplicate = Callable[[Path, Path], Path]
DAY = timedelta(days=1)
PRIMARY, SLICE = PROJECT.model.primary, PROJECT.slices[0]


# Compliance: a version that lacks what it must carry, or cannot do what it must do, never reaches Staging.


@pytest.fixture
def candidate(trained: Path, duplicate: Duplicate, tmp_path: Path, load_env: LoadEnv) -> Environment:
    """prod of a project in which version 1 waits at the gates."""
    return load_env("prod", duplicate(trained, tmp_path / "candidate"))


def refusal(env: Environment, version: int, as_of: datetime) -> str:
    """Deploy, see the version refused and archived everywhere, and return why."""
    registry = Registry(env)
    champion = registry.ledger.champion(as_of)
    deploy(env, as_of)
    assert registry.ledger.stage(version, as_of) == "Archived"
    assert registry.ledger.champion(as_of) == champion
    assert not registry.ledger.pending("Staging", as_of)
    assert not registry.ledger.pending("Production", as_of)
    registered = registry.version(version)
    assert registered.tags["stage"] == "Archived"
    aliases = registry.client.get_registered_model(registry.model).aliases
    assert str(version) not in {str(number) for number in aliases.values()}
    (rejected,) = [t for t in registry.ledger.all() if t.version == version and t.status == "rejected"]
    assert rejected.reason in registered.description
    return rejected.reason


def untag(tag: str) -> Callable[[Registry], None]:
    return lambda registry: registry.client.delete_model_version_tag(registry.model, "1", tag)


def tag(name: str, value: str) -> Callable[[Registry], None]:
    return lambda registry: registry.client.set_model_version_tag(registry.model, "1", name, value)


def stored(registry: Registry, name: str) -> Path:
    """The file of this name among the artifacts of version 1."""
    (path,) = (registry.env.folder / registry.settings.artifacts).rglob(name)
    return path


def without(name: str) -> Callable[[Registry], None]:
    return lambda registry: stored(registry, name).unlink()


def broken(name: str) -> Callable[[Registry], None]:
    def tamper(registry: Registry) -> None:
        stored(registry, name).write_bytes(b"garbage")

    return tamper


def rewritten(name: str, change: Callable[[str], str]) -> Callable[[Registry], None]:
    def tamper(registry: Registry) -> None:
        path = stored(registry, name)
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")

    return tamper


def unsigned(text: str) -> str:
    described = yaml.safe_load(text)
    del described["signature"]
    return yaml.safe_dump(described)


def demanding(text: str) -> str:
    """A signature that wants an input that the example lacks."""
    described = yaml.safe_load(text)
    inputs = json.loads(described["signature"]["inputs"])
    described["signature"]["inputs"] = json.dumps([*inputs, {"type": "string", "name": "moon", "required": True}])
    return yaml.safe_dump(described)


# The input example has 5 rows, the newest ones are 10.
ANSWERS: dict[str, tuple[Callable[[int], np.ndarray], str]] = {
    "no number": (lambda rows: np.full(rows, np.nan), "of shape (5,), not all finite, for the 5 rows of its own"),
    "two scores a row": (lambda rows: np.zeros((rows, 2)), "it gives scores of shape (5, 2)"),
    "no number for the newest rows": (
        lambda rows: np.full(rows, np.nan if rows == 10 else 0.5),
        "not all finite, for the 10 rows of the newest rows of prod",
    ),
}


@pytest.mark.parametrize(("answer", "says"), ANSWERS.values(), ids=list(ANSWERS))
def test_a_version_that_answers_with_anything_else_than_a_score_is_refused(
    candidate: Environment,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[int], np.ndarray],
    says: str,
) -> None:
    monkeypatch.setattr(type(PROJECT.model), "predict", lambda model, fitted, inputs: answer(len(inputs)))
    assert says in refusal(candidate, 1, now)


TAMPERED: dict[str, tuple[Callable[[Registry], None], str]] = {
    "no model card": (without("model_card.md"), "the model card is missing (model_card.md)"),
    "a card without limits": (
        rewritten("model_card.md", lambda text: text.replace("## Limits", "## Praise")),
        "the model card has no section 'Limits'",
    ),
    "no digest of the data": (untag("data_digest"), "the tag 'data_digest' is missing"),
    "an empty tag": (tag("code", ""), "the tag 'code' is missing"),
    "no description": (untag("summary"), "the description is missing"),
    "no data version": (untag("data_versions"), "the data version is missing: nobody could train this again"),
    "no metrics per slice": (without("slices.json"), "the metrics per slice are missing (slices.json)"),
    "no slice that is judged": (rewritten("slices.json", lambda text: "[]"), f"no slice of {SLICE} has "),
    "an unknown feature view": (
        tag("feature_views", f"{PROJECT.views[0].name},crystal_ball"),
        "it needs the feature view crystal_ball, which this code does not have",
    ),
    "no signature": (rewritten("MLmodel", unsigned), "the signature is missing"),
    "no input example": (without("input_example.json"), "the input example is missing"),
    "an input that it cannot score": (rewritten("MLmodel", demanding), "it cannot score its own input example: "),
    "a broken model": (broken("model.skops"), "it does not load: "),
}


@pytest.mark.parametrize(("tamper", "says"), TAMPERED.values(), ids=list(TAMPERED))
def test_a_version_that_does_not_comply_is_refused(
    candidate: Environment, now: datetime, tamper: Callable[[Registry], None], says: str
) -> None:
    tamper(Registry(candidate))
    assert says in refusal(candidate, 1, now)
    assert not candidate.catalog.exists(COMPARISONS)


@pytest.mark.parametrize(("code", "stage"), [("v1.2.0-1-g3f2a-dirty", "Archived"), ("v1.2.0-1-g3f2a", "Production")])
def test_where_released_code_runs_a_version_of_uncommitted_code_is_refused(
    candidate: Environment, now: datetime, load_env: LoadEnv, monkeypatch: pytest.MonkeyPatch, code: str, stage: str
) -> None:
    monkeypatch.setattr("mlplatform.environment.released_version", lambda folder: "v1.2.0")
    strict = overlay(candidate.folder, "released", {"pipelines": {"released_code_only": True}})
    prod = load_env("prod", candidate.folder, strict)
    tag("code", code)(Registry(prod))
    deploy(prod, now)
    assert Registry(prod).ledger.stage(1, now) == stage
    why = [t.reason for t in Registry(prod).ledger.all() if t.status == "rejected"]
    assert ["is in no commit (v1.2.0-1-g3f2a-dirty)" in reason for reason in why] == [True] * (stage == "Archived")


def test_a_version_whose_features_cannot_be_read_is_refused(candidate: Environment, now: datetime) -> None:
    lost = PROJECT.views[-1].table
    shutil.rmtree(candidate.catalog.snapshot(lost).uri)
    assert f"it needs {lost}, which prod cannot read" in refusal(candidate, 1, now)


@pytest.mark.parametrize("limit", [{"at_least": 1e6}, {"at_most": -1e6}], ids=["at least", "at most"])
def test_a_version_beyond_the_limit_of_a_slice_is_refused(
    candidate: Environment, now: datetime, load_env: LoadEnv, limit: dict[str, float]
) -> None:
    limits = [{"metric": PRIMARY.name, "column": SLICE, "min_rows": 30, **limit}]
    strict = overlay(candidate.folder, "strict", {"registry": {"compliance": {"slice_limits": limits}}})
    reason = refusal(load_env("prod", candidate.folder, strict), 1, now)
    side = "below 1e+06" if "at_least" in limit else "above -1e+06"
    assert f"{PRIMARY.name} of {SLICE}=" in reason
    assert reason.count(side) == 3  # every slice of the tiny project


def test_a_slice_of_few_rows_is_not_judged(candidate: Environment, now: datetime, load_env: LoadEnv) -> None:
    limits = [{"metric": PRIMARY.name, "column": SLICE, "min_rows": 1_000_000, "at_least": 1e6}]
    strict = overlay(candidate.folder, "strict", {"registry": {"compliance": {"slice_limits": limits}}})
    reason = refusal(load_env("prod", candidate.folder, strict), 1, now)
    assert reason == f"no slice of {SLICE} has {PRIMARY.name} on at least 1000000 rows"


def test_a_limit_on_a_metric_that_nobody_measures_is_a_refusal(
    candidate: Environment, now: datetime, load_env: LoadEnv
) -> None:
    limits = [{"metric": "acuracy", "column": SLICE, "at_least": 0.0, "min_rows": 30}]
    misspelt = overlay(candidate.folder, "misspelt", {"registry": {"compliance": {"slice_limits": limits}}})
    reason = refusal(load_env("prod", candidate.folder, misspelt), 1, now)
    assert reason.count("so nobody knows") == 3  # every slice of the tiny project
    assert reason.startswith(f"acuracy of {SLICE}=a is nan on its ")


def test_all_reasons_are_given_at_once(candidate: Environment, now: datetime) -> None:
    registry = Registry(candidate)
    lacking = [TAMPERED[name] for name in ("no model card", "no description", "an unknown feature view")]
    for tamper, _ in lacking:
        tamper(registry)
    reason = refusal(candidate, 1, now)
    assert all(says in reason for _, says in lacking)


# Comparison: a challenger is promoted because it is better, on enough rows, and for no other reason.


@pytest.fixture(scope="module")
def shuffled(world: Path, load_env: LoadEnv, now: datetime) -> Trained:
    """A model that learned from the training rows with their labels shuffled: it knows nothing."""
    rows = data.load(load_env("prod", world), now)
    labels = np.random.default_rng(0).permutation(rows.train["label"].to_numpy())
    defaults = PROJECT.model.defaults
    fitted = tuning.fit(PROJECT.model, defaults, rows.train.assign(label=labels))
    measured = evaluation.evaluate(PROJECT, fitted, rows.train, rows.holdout)
    return Trained(now, "shuffled", fitted, defaults, None, rows, measured)


@pytest.fixture
def lenient(load_env: LoadEnv) -> Callable[[Environment], Environment]:
    """The same environment without limits on slices, so that the comparison has to do its work."""

    def loaded(env: Environment) -> Environment:
        settings: dict[str, Any] = {"registry": {"compliance": {"slice_limits": []}}}
        return load_env(env.name, env.folder, overlay(env.folder, "lenient", settings))

    return loaded


def enter(env: Environment, trained: Trained) -> int:
    """Register a model and let it wait at the gates. Returns its version."""
    registry = Registry(env)
    version = record(registry, trained)
    request_staging(registry, version, trained.as_of, "a test")
    return version


def comparison(env: Environment, challenger: int) -> dict[str, Any]:
    (row,) = [row for row in env.catalog.read(COMPARISONS).to_pylist() if row["challenger"] == challenger]
    return dict(row)


def test_a_model_trained_on_shuffled_labels_is_refused_against_the_champion(
    prod: Environment, now: datetime, shuffled: Trained, lenient: Callable[[Environment], Environment]
) -> None:
    env = lenient(prod)
    version = enter(env, shuffled)
    reason = refusal(env, version, now)
    assert reason.startswith(f"against version 1: {PRIMARY.name} ")
    row = comparison(env, version)
    assert (row["champion"], row["accepted"], row["metric"]) == ("1", False, PRIMARY.name)
    assert row["high"] < 0


def test_a_model_trained_on_shuffled_labels_is_refused_against_the_baseline(
    candidate: Environment, now: datetime, shuffled: Trained, lenient: Callable[[Environment], Environment]
) -> None:
    env = lenient(candidate)
    registry = Registry(env)
    (first,) = registry.ledger.pending("Staging", now)
    approval.reject(registry, first, Decision(now, "test", "only the other one counts"))
    version = enter(env, shuffled)
    assert refusal(env, version, now).startswith(f"against baseline: {PRIMARY.name} ")
    row = comparison(env, version)
    assert (row["champion"], row["accepted"]) == (BASELINE, False)
    assert registry.ledger.champion() is None


def test_a_model_that_knows_nothing_is_refused_by_the_settings_that_ship(
    prod: Environment, now: datetime, shuffled: Trained
) -> None:
    version = enter(prod, shuffled)
    assert refusal(prod, version, now)


def test_a_challenger_that_is_the_champion_again_is_refused(prod: Environment, now: datetime) -> None:
    registry = Registry(prod)
    first = registry.version(1)
    version = registry.register(first.run_id, first.source, replace(registry.tags(1), identity="again"))
    request_staging(registry, version, now, "a test")
    assert refusal(prod, version, now).startswith("against version 1: ")
    row = comparison(prod, version)
    assert (row["difference"], row["low"], row["high"], row["accepted"]) == (0, 0, 0, False)
    assert row["challenger_score"] == row["champion_score"]


def test_a_better_challenger_is_promoted_and_the_old_champion_archived(
    candidate: Environment, now: datetime, shuffled: Trained
) -> None:
    registry = Registry(candidate)
    old = record(registry, shuffled)
    seat = Transition(registry.model, old, "Staging", "Production", now - DAY, "test", "somebody had to")
    approval.approve(registry, seat, Decision(now - DAY, "test", "there was no other"))
    assert registry.ledger.champion(now) == old

    run = deploy(candidate, now)
    assert any(f"version 1 promoted over version {old}" in note for note in run.notes)
    row = comparison(candidate, 1)
    assert (row["champion"], row["accepted"]) == (str(old), True)
    assert row["low"] > 0
    # Both are judged on the rows that version 1 was not trained on.
    measured = (registry.tags(number).metrics[PRIMARY.name] for number in (1, old))
    assert (row["challenger_score"], row["champion_score"]) == tuple(pytest.approx(v, abs=1e-6) for v in measured)
    assert [registry.ledger.champion(at) for at in (now - DAY, now)] == [old, 1]
    assert (registry.ledger.stage(1), registry.ledger.stage(old)) == ("Production", "Archived")
    (left,) = [move for move in registry.ledger.all() if (move.version, move.to_stage) == (old, "Archived")]
    assert left.from_stage == "Production"
    assert [registry.version(number).tags["stage"] for number in (1, old)] == ["Production", "Archived"]
    assert "replaced by version 1" in registry.version(old).description
    aliases = registry.client.get_registered_model(registry.model).aliases
    assert {name: int(number) for name, number in aliases.items()} == {"champion": 1}


def test_a_model_that_knows_its_training_rows_by_heart_is_no_better(prod: Environment, now: datetime) -> None:
    rows, model = data.load(prod, now), PROJECT.model
    by_heart: Any = model.build(model.defaults)
    by_heart.set_params(classify=HistGradientBoostingClassifier(max_iter=200, max_leaf_nodes=None, min_samples_leaf=1))
    by_heart.fit(model.inputs(rows.train), rows.train["label"].to_numpy())
    known = PRIMARY.measure(rows.train["label"].to_numpy(), model.predict(by_heart, model.inputs(rows.train)))
    assert known > 0.95
    measured = evaluation.evaluate(PROJECT, by_heart, rows.train, rows.holdout)
    version = enter(prod, Trained(now, "by heart", by_heart, model.defaults, None, rows, measured))
    refusal(prod, version, now)
    assert comparison(prod, version)["challenger_score"] < known


def test_on_too_few_rows_nobody_is_promoted(candidate: Environment, now: datetime, load_env: LoadEnv) -> None:
    settings = {"registry": {"comparison": {"min_rows": 1_000_000}}}
    env = load_env("prod", candidate.folder, overlay(candidate.folder, "many", settings))
    assert "registry.comparison.min_rows is 1,000,000" in refusal(env, 1, now)


def test_a_margin_that_is_not_reached_is_a_refusal(candidate: Environment, now: datetime, load_env: LoadEnv) -> None:
    settings = {"registry": {"comparison": {"margin": 1000.0}}}
    env = load_env("prod", candidate.folder, overlay(candidate.folder, "margin", settings))
    assert re.search(r"margin 1000; \d+ rows in \d+ blocks\)", refusal(env, 1, now))
    assert comparison(env, 1)["low"] > 0


# Approval: by the rule, or by a person with a name and a reason, and only after the comparison.


@pytest.fixture
def manual(candidate: Environment, load_env: LoadEnv) -> Environment:
    """The same, where a person has to approve."""
    settings = {"registry": {"approval": "manual"}}
    return load_env("prod", candidate.folder, overlay(candidate.folder, "manual", settings))


@pytest.fixture(scope="module")
def won(
    trained: Path, duplicate: Duplicate, tmp_path_factory: pytest.TempPathFactory, load_env: LoadEnv, now: datetime
) -> Path:
    """A project in which version 1 has won its comparison and waits for a person. Not to be changed."""
    project = duplicate(trained, tmp_path_factory.mktemp("won") / "project")
    deploy(load_env("prod", project, overlay(project, "manual", {"registry": {"approval": "manual"}})), now)
    return project


@pytest.fixture
def waiting(won: Path, duplicate: Duplicate, tmp_path: Path, load_env: LoadEnv) -> Environment:
    """prod of a copy of it."""
    return load_env("prod", duplicate(won, tmp_path / "waiting"), "manual")


def decide(env: Environment, as_of: datetime, answer: Answer, by: str = "Ada", reason: str = "I have looked") -> None:
    approval.decide(Registry(env), 1, answer, Decision(as_of, by, reason))


def test_a_winner_waits_for_a_person_with_a_review_pack(
    manual: Environment, now: datetime, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = Registry(manual)
    run = deploy(manual, now)
    assert registry.ledger.champion() is None
    assert [t.version for t in registry.ledger.pending("Production", now)] == [1]
    assert registry.version(1).tags["stage"] == "Staging"
    assert "version 1 waits for approval" in run.notes[-1]
    assert capsys.readouterr().err == "", "the note says it already"
    pack = manual.reports / "review" / f"{registry.model}-v1"
    review = (pack / "review.md").read_text(encoding="utf-8")
    assert comparison(manual, 1)["reason"] in review
    assert "registry approve 1 --env prod" in review
    assert {"model_card.md", "slices.json", "precision_recall.png"} <= {path.name for path in pack.iterdir()}
    assert all(f"]({path.name})" in review for path in pack.glob("*.png"))

    shutil.rmtree(pack)  # as on a machine that is there for one job
    again = deploy(manual, now + DAY)
    assert again.notes == ["version 1 still waits for a person's approval"]
    assert again.written == {}, "it was compared again"
    assert (pack / "review.md").read_text(encoding="utf-8") == review
    assert registry.ledger.champion() is None

    decide(manual, now + DAY, "approved")
    assert [registry.ledger.champion(at) for at in (now, now + DAY)] == [None, 1]
    approved = registry.ledger.all()[-1]
    assert (approved.closed_by, approved.reason, approved.to_stage) == ("Ada", "I have looked", "Production")
    assert int(registry.client.get_registered_model(registry.model).aliases["champion"]) == 1
    assert "Ada: I have looked" in registry.version(1).description


def test_people_are_told_once_also_where_a_run_dies_before_it_tells_them(
    manual: Environment, load_env: LoadEnv, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = overlay(manual.folder, "services", {"monitoring": {"notify": ["ALERTS_URL"]}})
    env, told = load_env("prod", manual.folder, "manual", more), list[tuple[str, str]]()

    def die(*_: object) -> list[str]:
        raise KeyboardInterrupt

    def tell(title: str, lines: list[str], services: tuple[str, ...]) -> list[str]:
        told.append((title, lines[0]))
        return [f"{name}: nobody is there" for name in services]

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[deploy.__module__], "notify", die)
        with pytest.raises(KeyboardInterrupt):
            deploy(env, now)
    monkeypatch.setattr(sys.modules[deploy.__module__], "notify", tell)
    runs = [deploy(env, at) for at in (now, now, now + DAY)]
    reason = f"against {BASELINE}: {comparison(env, 1)['reason']}"
    assert told == [(f"{Registry(env).model} version 1 waits for approval", reason)]
    assert runs[0].notes[-2] == "not delivered: ALERTS_URL: nobody is there"
    assert [run.notes for run in runs[1:]] == [["version 1 still waits for a person's approval"]] * 2


@pytest.mark.parametrize("answer", ["approved", "rejected"])
@pytest.mark.parametrize(("by", "reason"), [("", "it is better"), ("Ada", ""), ("  ", "it is better"), ("Ada", "\n")])
def test_a_decision_without_a_name_or_a_reason_is_refused(
    world: Path, load_env: LoadEnv, now: datetime, answer: Answer, by: str, reason: str
) -> None:
    with pytest.raises(ApprovalError, match="needs a name"):
        decide(load_env("prod", world), now, answer, by, reason)


def test_a_version_that_has_not_won_its_comparison_cannot_be_approved(manual: Environment, now: datetime) -> None:
    registry = Registry(manual)
    with pytest.raises(ApprovalError, match="version 1 waits for no approval"):
        decide(manual, now, "approved")
    (request,) = registry.ledger.pending("Staging", now)
    approval.approve(registry, request, Decision(now, "compliance", "all checks passed"))
    with pytest.raises(ApprovalError, match="has not won its comparison yet: run `deploy` first"):
        decide(manual, now, "approved")
    assert (registry.ledger.champion(), registry.ledger.stage(1)) == (None, "Staging")


def test_the_win_of_one_version_is_not_that_of_another(waiting: Environment, now: datetime, shuffled: Trained) -> None:
    registry = Registry(waiting)
    newer = enter(waiting, shuffled)
    (request,) = registry.ledger.pending("Staging", now)
    approval.approve(registry, request, Decision(now, "compliance", "all checks passed"))
    with pytest.raises(ApprovalError, match=f"version {newer} has not won its comparison yet"):
        approval.decide(registry, newer, "approved", Decision(now, "Ada", "the other one has won"))
    assert registry.ledger.champion() is None


def test_no_decision_is_dated_before_one_that_has_been_made(
    waiting: Environment, now: datetime, load_env: LoadEnv, shuffled: Trained
) -> None:
    registry, early = Registry(waiting), now - DAY
    later = enter(waiting, shuffled)
    (request,) = registry.ledger.pending("Staging", now)
    before = registry.ledger.all()
    for write in (
        lambda: approval.approve(registry, request, Decision(early, "compliance", "yesterday")),
        lambda: approval.reject(registry, request, Decision(early, "compliance", "yesterday")),
        lambda: approval.decide(registry, 1, "approved", Decision(early, "Ada", "yesterday")),
        lambda: approval.rollback(registry, Decision(early, "Ada", "yesterday")),
    ):
        with pytest.raises(ApprovalError, match=f"a decision cannot be dated {early}"):
            write()
    assert registry.ledger.all() == before
    assert registry.ledger.stage(later) == "None"


def test_a_version_that_lost_its_comparison_cannot_be_approved(
    manual: Environment, now: datetime, load_env: LoadEnv
) -> None:
    settings = {"registry": {"comparison": {"margin": 1000.0}}}
    env = load_env("prod", manual.folder, "manual", overlay(manual.folder, "margin", settings))
    refusal(env, 1, now)
    with pytest.raises(ApprovalError, match="version 1 waits for no approval"):
        decide(env, now, "approved")
    assert Registry(env).ledger.champion() is None


def test_a_rejection_archives_the_version(waiting: Environment, now: datetime) -> None:
    registry = Registry(waiting)
    decide(waiting, now, "rejected", reason="it is unfair to some")
    assert (registry.ledger.champion(), registry.ledger.stage(1)) == (None, "Archived")
    assert registry.version(1).tags["stage"] == "Archived"
    assert "it is unfair to some" in registry.version(1).description
    assert registry.client.get_registered_model(registry.model).aliases == {}
    with pytest.raises(ApprovalError, match="waits for no approval"):
        decide(waiting, now, "approved")


def test_a_newer_challenger_takes_the_place_of_one_that_waits(
    waiting: Environment, now: datetime, shuffled: Trained
) -> None:
    registry = Registry(waiting)
    newer = enter(waiting, shuffled)
    (request,) = registry.ledger.pending("Staging", now)
    approval.approve(registry, request, Decision(now, "compliance", "all checks passed"))
    approval.reject_older(registry, now)
    assert (registry.ledger.stage(1), registry.ledger.stage(newer)) == ("Archived", "Staging")
    assert f"superseded by version {newer}" in registry.version(1).description


def test_a_newer_challenger_that_loses_leaves_the_one_that_waits(
    waiting: Environment, now: datetime, shuffled: Trained
) -> None:
    registry = Registry(waiting)
    newer = enter(waiting, shuffled)
    (request,) = registry.ledger.pending("Staging", now)
    approval.approve(registry, request, Decision(now, "compliance", "all checks passed"))
    deploy(waiting, now)
    assert (registry.ledger.stage(1), registry.ledger.stage(newer)) == ("Staging", "Archived")
    assert [request.version for request in registry.ledger.pending("Production", now)] == [1]


def test_a_rollback_puts_the_previous_champion_back(prod: Environment, now: datetime, shuffled: Trained) -> None:
    registry = Registry(prod)
    with pytest.raises(ApprovalError, match="no earlier champion"):
        approval.rollback(registry, Decision(now, "Ada", "version 1 fails"))
    worse = record(registry, shuffled)
    seat = Transition(registry.model, worse, "Staging", "Production", now + DAY, "test", "a mistake")
    approval.approve(registry, seat, Decision(now + DAY, "test", "a mistake"))
    for by, reason in (("", "it fails"), ("Ada", " ")):
        with pytest.raises(ApprovalError, match="needs a name"):
            approval.rollback(registry, Decision(now + 2 * DAY, by, reason))
    assert registry.ledger.champion() == worse

    assert approval.rollback(registry, Decision(now + 2 * DAY, "Ada", "it fails at night")) == 1
    assert [registry.ledger.champion(now + n * DAY) for n in range(3)] == [1, worse, 1]
    assert int(registry.client.get_registered_model(registry.model).aliases["champion"]) == 1
    assert "rollback: it fails at night" in registry.version(1).description
    assert registry.version(worse).tags["stage"] == "Archived"


# Environments: dev reads what prod has, and changes none of it.


def test_dev_trains_on_the_features_of_prod_and_changes_nothing_there(
    project: Path, now: datetime, load_env: LoadEnv
) -> None:
    settings = {"lakehouse": {"features_from": "prod"}, "training": {"tuning": {"enabled": False}}}
    dev = load_env("dev", project, overlay(project, "borrowed", settings))
    prod = load_env("prod", project, "borrowed")
    versions, before = len(Registry(prod).versions()), files(prod.reports)
    train(dev, now)
    assert len(Registry(dev).versions()) == 1
    assert Registry(dev).model != Registry(prod).model
    assert files(prod.reports) == before
    assert len(Registry(prod).versions()) == versions


def test_dev_cannot_write_the_tables_of_prod(project: Path, now: datetime, load_env: LoadEnv) -> None:
    dev = load_env("dev", project, overlay(project, "borrowed", {"lakehouse": {"features_from": "prod"}}))
    before, silver = files(project / "data" / "prod"), PROJECT.tables[0].table
    with pytest.raises(ForbiddenError, match="dev may read prod's tables, not write them"):
        dev.sources.append(silver, dev.sources.read(silver))
    for pipeline in (ingest, featurize):
        with pytest.raises(ForbiddenError, match="dev reads prod's silver and feature tables and never writes them"):
            pipeline(dev, now)
    assert files(project / "data" / "prod") == before
    assert not dev.catalog.exists(RUNS)


def test_dev_cannot_change_the_model_of_prod(project: Path, now: datetime, load_env: LoadEnv) -> None:
    dev, prod = load_env("dev", project), load_env("prod", project)
    foreign, before = Registry(dev, "prod"), files(project / "data" / "prod")
    first = foreign.version(1)
    request = Transition(foreign.model, 1, "Staging", "Production", now, "dev", "a side door")
    for write in (
        lambda: foreign.register(first.run_id, first.source, foreign.tags(1)),
        lambda: foreign.reconcile(),
        lambda: approval.approve(foreign, request, Decision(now, "dev", "a side door")),
        lambda: approval.reject(foreign, request, Decision(now, "dev", "a side door")),
    ):
        with pytest.raises(ForbiddenError, match=rf"dev may read (the model {foreign.model}|prod's tables), not"):
            write()
    assert files(project / "data" / "prod") == before
    registry = Registry(prod)
    assert [int(version.version) for version in registry.versions()] == [1]
    assert registry.version(1).tags["stage"] == "Production"
    assert registry.ledger.champion() == 1
