"""The monitoring section: what is accepted, and that a rule which cannot work is refused."""

import json
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from mlplatform.config.sections import MonitoringSettings, Rule

DRIFT = {"name": "drift", "metric": "ks", "above": 0.2}


def rule(**given: Any) -> Rule:
    return Rule.model_validate_json(json.dumps(DRIFT | given))


def settings_of(section: dict[str, Any]) -> MonitoringSettings:
    """Read as the configuration is: from what YAML and JSON can hold."""
    return MonitoringSettings.model_validate_json(json.dumps(section))


def test_a_section_as_yaml_gives_it_is_accepted() -> None:
    settings = settings_of(
        {
            "window": "7d",
            "label_delay": "2d",
            "rules": [
                {"name": "a", "metric": "psi", "above": 0.25, "windows": "2 of 3", "except_columns": ["t*"]},
                {"name": "b", "metric": "roc_auc", "below": 0.6, "slices": ["*"], "action": "retrain"},
            ],
            "notify": ["ALERTS_URL"],
        }
    )
    assert settings.window == timedelta(days=7)
    assert settings.rules[0].windows == (2, 3)
    assert settings.rules[1].slices == ("*",)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"above": None}, "can never fire"),
        ({"below": 0.3}, "always fires"),
        ({"columns": []}, "at least 1 item"),
        ({"slices": []}, "at least 1 item"),
        ({"columns": ["a"], "except_columns": ["a", "b"]}, "can never fire"),
        ({"windows": "3 of 2"}, "is not 'N of M'"),
        ({"windows": "0 of 2"}, "is not 'N of M'"),
        ({"windows": "often"}, "is not 'N of M'"),
        ({"action": "panic"}, "'notify' or 'retrain'"),
        ({"treshold": 0.1}, "Extra inputs"),
    ],
    ids=str,
)
def test_a_rule_that_cannot_work_is_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        rule(**given)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"rules": [DRIFT, DRIFT]}, "rule names must differ; repeated: drift"),
        ({"notify": ["mailto://me:secret@example.org"]}, "environment variable"),
        ({"window": "0d"}, "longer than zero"),
        ({"psi_bins": 1}, "greater than or equal to 2"),
    ],
    ids=["same name twice", "an address", "no window", "one bin"],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        settings_of(given)
