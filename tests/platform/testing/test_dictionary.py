"""The data dictionary names what a project declares, with the types that its SQL gives."""

from pathlib import Path

import pytest

from mlplatform.testing.dictionary import dictionary, grain, span
from mlplatform.testing.dry_run import DryRun
from tiny.project import PROJECT


@pytest.fixture(scope="module")
def lines() -> list[str]:
    run = DryRun(PROJECT, Path(__file__).resolve().parents[1])
    assert list(run.problems()) == []
    return dictionary(PROJECT, run).splitlines()


def test_every_table_and_every_column_has_a_line(lines: list[str]) -> None:
    headings = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    tables = ["silver.items", "silver.outcomes", "features.kind_history", "features.kind_arrivals"]
    assert headings == ["Source items", "Source outcomes", *tables, "Entities", "Labels"]
    assert "| amount | double | no | in_range(0, 100) |" in lines
    assert "| outcome_7d | double |" in lines
    assert "| prediction_time | timestamp[us] |" in lines


def test_a_view_is_told_with_its_row_its_key_and_its_spans(lines: list[str]) -> None:
    assert "What became of items of the same kind over the last week." in lines
    assert f"{grain(PROJECT, 'features/kind_history.sql')}." in lines
    assert "Key: kind. A value counts for 7d; it comes from the 7d before." in lines


def test_a_span_reads_as_in_the_settings() -> None:
    view = PROJECT.views[0]
    assert [span(view.ttl * factor) for factor in (1, 1 / 14, 1 / 336, 1 / 10080, 0)] == [
        "7d",
        "12h",
        "30m",
        "1m",
        "0d",
    ]
