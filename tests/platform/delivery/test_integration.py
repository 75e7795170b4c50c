"""The integration test fails where a pipeline does, or no model gets through the gates, and its report says so."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from mlplatform.delivery.integration import IntegrationError, integrate
from mlplatform.environment import Environment
from steps import overlay
from tiny.deliveries import DELIVERIES, land

LoadEnv = Callable[..., Environment]


def without_amounts(landing: Path, until: datetime) -> dict[str, int]:
    """The same deliveries, in which no file of items has all columns."""
    landed = land(landing, until)
    for path in (landing / "items").glob("*.csv"):
        path.write_text(path.read_text(encoding="utf-8").replace("amount", "size"), encoding="utf-8")
    return landed


@pytest.mark.parametrize(
    ("deliver", "limit", "says"),
    [
        (without_amounts, 0.6, "ingest as of .*amount"),
        (land, 1.01, "deploy as of .*no version passed the gates, so nothing could be scored"),
    ],
    ids=["a pipeline fails", "no model gets through"],
)
def test_it_fails_and_its_report_says_so(
    blank: Path,
    load_env: LoadEnv,
    tmp_path: Path,
    deliver: Callable[[Path, datetime], dict[str, int]],
    limit: float,
    says: str,
) -> None:
    limits = [{"metric": "roc_auc", "column": "kind", "at_least": limit, "min_rows": 15}]
    name = overlay(
        blank, "strict", {"registry": {"compliance": {"slice_limits": limits}}, "lakehouse": {"features_from": None}}
    )
    env = load_env("staging", blank, name)
    with pytest.raises(IntegrationError, match=says):
        integrate(env, replace(DELIVERIES, deliver=deliver), tmp_path / "report.md")
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert report.startswith("## Integration test: failed")
    assert "| failed |" in report
