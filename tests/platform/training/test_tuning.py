"""The search for hyperparameters: within its budget, on folds that follow time, never worse than where it began."""

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import TimeSeriesSplit

from mlplatform.config.sections import TrainingSettings, Tuning
from mlplatform.contract import Metric, Model
from mlplatform.training import tuning
from tiny.features import CATEGORICAL, NUMERIC
from tiny.model import Estimate

ROWS = 240
MODEL = Estimate()
SETTINGS = Tuning(trials=2, timeout=timedelta(seconds=60), folds=2)


@pytest.fixture(scope="module")
def train() -> pd.DataFrame:
    """Rows in the order of time; the first number says what the label is, give or take."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({name: random.normal(size=ROWS) for name in NUMERIC})
    for name in CATEGORICAL:
        frame[name] = random.choice(["a", "b", "c"], ROWS)
    frame["label"] = (frame[NUMERIC[0]] + random.normal(0, 0.5, ROWS) > 0).astype(float)
    return frame


Found = tuple[dict[str, Any], pd.DataFrame]


def parts(rows: pd.DataFrame, classes: bool = True, **given: Any) -> list[tuning.Fold]:
    return tuning.folds(MODEL, rows, TrainingSettings(tuning=SETTINGS, **given), classes)


def search(rows: pd.DataFrame, settings: Tuning = SETTINGS, progress: tuning.Progress | None = None) -> Found:
    return tuning.search(MODEL, rows, parts(rows), settings, progress)


@pytest.fixture(scope="module")
def found(train: pd.DataFrame) -> Found:
    return search(train)


def best(values: "pd.Series[float]") -> float:
    return float(values.max() if MODEL.primary.greater_is_better else values.min())


def test_the_search_stays_within_its_trials(found: Found) -> None:
    assert len(found[1]) == SETTINGS.trials


def test_the_search_begins_with_the_defaults_and_never_ends_below_them(
    found: Found,
) -> None:
    parameters, trials = found
    assert {name: trials.iloc[0][f"params_{name}"] for name in MODEL.defaults} == dict(MODEL.defaults)
    winner = trials[trials["value"] == best(trials["value"])].iloc[0]
    assert {name: winner[f"params_{name}"] for name in parameters} == parameters
    sign = 1 if MODEL.primary.greater_is_better else -1
    assert sign * winner["value"] >= sign * trials.iloc[0]["value"]


def test_what_the_search_finds_can_be_built(found: Found, train: pd.DataFrame) -> None:
    fitted = MODEL.build(found[0]).fit(MODEL.inputs(train), train["label"])
    assert len(MODEL.predict(fitted, MODEL.inputs(train))) == ROWS


def test_the_same_rows_give_the_same_search(found: Found, train: pd.DataFrame) -> None:
    again, trials = search(train)
    assert again == found[0]
    assert trials["value"].tolist() == found[1]["value"].tolist()


def test_a_trial_is_the_mean_over_folds_that_train_on_what_came_before(found: Found, train: pd.DataFrame) -> None:
    scores = []
    for past, future in TimeSeriesSplit(SETTINGS.folds).split(train):
        assert past.max() < future.min()
        fitted = MODEL.build(MODEL.defaults).fit(MODEL.inputs(train.iloc[past]), train["label"].iloc[past])
        predicted = MODEL.predict(fitted, MODEL.inputs(train.iloc[future]))
        scores.append(MODEL.primary.measure(train["label"].iloc[future].to_numpy(), predicted))
    assert found[1]["value"].iloc[0] == pytest.approx(np.mean(scores))


def test_the_search_stops_when_its_time_is_over(train: pd.DataFrame) -> None:
    hurried = SETTINGS.model_copy(update={"trials": 100, "timeout": timedelta(seconds=0.3)})
    _, trials = search(train, hurried)
    assert 1 <= len(trials) < 100


def test_progress_is_reported_trial_by_trial(train: pd.DataFrame) -> None:
    reports: list[tuple[int, int, float]] = []
    _, trials = search(train, SETTINGS, lambda *report: reports.append(report))
    assert [(number, of) for number, of, _ in reports] == [(1, 2), (2, 2)]
    assert reports[-1][2] == best(trials["value"])


def test_no_trials_are_told_of_where_there_is_nothing_to_search_for(
    train: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Estimate, "suggest", Model.suggest)
    parameters, trials = search(train, SETTINGS, lambda *report: pytest.fail(f"told: {report}"))
    assert (parameters, len(trials)) == (dict(MODEL.defaults), 1)


class Diverging(Estimate):
    """With a learning rate that is too high it gives no finite score where labels are of the last quarter."""

    def predict(self, fitted: Any, inputs: pd.DataFrame) -> np.ndarray:
        scores = super().predict(fitted, inputs)
        if fitted[-1].learning_rate >= self.highest and inputs.index.max() == ROWS - 1:
            scores[-1] = np.nan
        return scores

    highest = 0.11


def test_a_trial_that_gives_no_finite_score_in_one_fold_has_failed(train: pd.DataFrame) -> None:
    settings = SETTINGS.model_copy(update={"trials": 6})
    parameters, trials = tuning.search(Diverging(), train, parts(train), settings)
    failed = trials[trials["params_learning_rate"] >= Diverging.highest]
    assert 0 < len(failed) < 6
    assert failed["value"].isna().all()
    assert set(failed["state"]) == {"PRUNED"}
    assert parameters["learning_rate"] < Diverging.highest


def test_a_search_in_which_every_trial_fails_says_so(train: pd.DataFrame) -> None:
    model = Diverging()
    model.highest = 0.0
    with pytest.raises(tuning.ModelError, match="average_precision is no finite number in any of 2 trials"):
        tuning.search(model, train, parts(train), SETTINGS, lambda *report: pytest.fail("there is no best value"))


def test_without_a_search_space_the_defaults_are_judged_once(train: pd.DataFrame) -> None:
    class Fixed(Estimate):
        def suggest(self, trial: Any) -> dict[str, Any]:
            return {}

    parameters, trials = tuning.search(Fixed(), train, parts(train), SETTINGS)
    assert parameters == dict(Estimate.defaults)
    assert len(trials) == 1


def test_what_suggest_gives_is_found_even_if_it_was_computed(train: pd.DataFrame) -> None:
    class Computed(Estimate):
        def suggest(self, trial: Any) -> dict[str, Any]:
            return {"learning_rate": 10 ** trial.suggest_float("exponent", -1, -0.5), "max_iter": 5}

    parameters, _ = tuning.search(Computed(), train, parts(train), SETTINGS)
    assert set(parameters) == {"learning_rate", "max_iter"}


def test_folds_follow_the_way_in_which_rows_are_held_out(train: pd.DataFrame) -> None:
    by_time, random = parts(train), parts(train, split="random", seed=3)
    assert all(past.max() < future.min() for past, future in by_time)
    assert not any(past.max() < future.min() for past, future in random)
    grouped = train.assign(shop=[f"shop {row % 7}" for row in range(ROWS)])
    for here, there in parts(grouped, split="group", group="shop"):
        assert set(grouped["shop"].iloc[here]).isdisjoint(grouped["shop"].iloc[there])


def test_a_fold_of_one_class_only_is_left_out(train: pd.DataFrame) -> None:
    late = train.assign(label=[0.0] * 100 + [0.0, 1.0] * 70)
    assert len(parts(late)) == 1
    early = train.assign(label=[0.0, 1.0] * 80 + [0.0] * 80)
    assert [len(trained) for trained, _ in parts(early)] == [80]
    assert len(parts(late, classes=False)) == 2
    with pytest.raises(tuning.ModelError, match=r"none of training.tuning.folds \(2\) holds all classes"):
        parts(train.assign(label=[0.0] * (ROWS - 1) + [1.0]))


def test_a_fold_that_trains_on_no_value_of_an_input_is_left_out(train: pd.DataFrame) -> None:
    """As the first ones do where a source began later, or labels come late: boosted trees cannot be fitted on it."""
    begun = train.assign(**{NUMERIC[1]: train[NUMERIC[1]].where(train.index >= 100)})
    (fold,) = parts(begun)
    assert len(fold[0]) == 160
    tuning.fit(MODEL, MODEL.defaults, begun.iloc[fold[0]])
    newest = train.assign(**{NUMERIC[1]: train[NUMERIC[1]].where(train.index >= 200)})
    with pytest.raises(tuning.ModelError, match=f"holds a value of {NUMERIC[1]} where it trains: fewer folds"):
        parts(newest)
    assert len(parts(train.assign(**{NUMERIC[1]: np.nan}))) == 2, "where there is none at all, no fold is better"


def test_an_input_without_any_value_is_named_where_the_estimator_needs_one(train: pd.DataFrame) -> None:
    with pytest.raises(tuning.ModelError, match=f"no training row has a value of {NUMERIC[1]}, and fit says: "):
        tuning.fit(MODEL, MODEL.defaults, train.assign(**{NUMERIC[1]: np.nan}))


class Weighing(Estimate):
    """Only rows of kind a count."""

    def weights(self, frame: pd.DataFrame) -> np.ndarray | None:
        return (frame["kind"] == "a").to_numpy().astype(float)


def test_weights_reach_the_last_step_of_a_pipeline(train: pd.DataFrame) -> None:
    """Labels of the other kinds are turned round: who weighs them learns the contrary."""
    turned = train.assign(label=np.where(train["kind"] == "a", train["label"], 1 - train["label"]))
    of_a = turned[turned["kind"] == "a"]

    def auc(model: Estimate) -> float:
        fitted = tuning.fit(model, {"max_iter": 20}, turned)
        return model.metrics(of_a["label"].to_numpy(), model.predict(fitted, model.inputs(of_a)))["roc_auc"]

    assert auc(Weighing()) > 0.9 > auc(Estimate())


@pytest.mark.parametrize("weights", [np.ones(3), np.full(ROWS, np.nan), -np.ones(ROWS), np.zeros(ROWS)])
def test_weights_that_are_none_are_refused(train: pd.DataFrame, weights: np.ndarray) -> None:
    class Wrong(Estimate):
        def weights(self, frame: pd.DataFrame) -> np.ndarray | None:
            return weights

    with pytest.raises(tuning.ModelError, match=r"Model.weights gives no weight of zero or more for each of 240 rows"):
        tuning.fit(Wrong(), {}, train)


def test_weights_for_an_estimator_that_takes_none_are_refused(train: pd.DataFrame) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    class Near(Weighing):
        def build(self, parameters: Any) -> Any:
            return KNeighborsClassifier()

    with pytest.raises(tuning.ModelError, match=r"KNeighborsClassifier.fit takes no sample_weight"):
        tuning.fit(Near(), {}, train)


def cost(labels: np.ndarray, decisions: np.ndarray) -> float:
    """A missed one costs nine times as much as a false alarm."""
    return float(9 * np.sum((labels == 1) & (decisions == 0)) + np.sum((labels == 0) & (decisions == 1)))


def test_the_threshold_is_the_one_that_costs_least_on_rows_not_trained_on(train: pd.DataFrame) -> None:
    class Deciding(Estimate):
        decision = Metric("cost", cost, greater_is_better=False)

    model, folds = Deciding(), parts(train)
    found = tuning.threshold(model, {"max_iter": 20}, train, folds)
    assert found is not None
    scores, labels = [], []
    for past, future in folds:
        fitted = tuning.fit(model, {"max_iter": 20}, train.iloc[past])
        scores.append(model.predict(fitted, model.inputs(train.iloc[future])))
        labels.append(train["label"].iloc[future])
    known, score = np.concatenate(labels), np.concatenate(scores)
    costs = {at: cost(known, (score >= at).astype(float)) for at in np.append(score, 2.0)}
    assert costs[found] == min(costs.values())
    assert found < 0.5, "misses are dear, so more alarms are right"
    assert tuning.threshold(Estimate(), {}, train, folds) is None
