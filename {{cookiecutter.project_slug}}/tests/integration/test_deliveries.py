"""Bad deliveries are refused with the reason: single rows go to quarantine, too many of them stop the pipeline."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from {{ cookiecutter.package_name }}.environment import RUNS, Environment
from {{ cookiecutter.package_name }}.lakehouse.contracts import ContractError
from {{ cookiecutter.package_name }}.lakehouse.landing import NAME_FORMAT
from {{ cookiecutter.package_name }}.lakehouse.settings import Settings
from {{ cookiecutter.package_name }}.pipelines.ingest import ingest
from {{ cookiecutter.package_name }}.usecase.replay import START, land

FIRST, SECOND = START + timedelta(days=10), START + timedelta(days=20)


@pytest.fixture
def prod(blank: Path, load_env: Callable[..., Environment]) -> Environment:
    """prod of a project in which ten days are ingested, and ten more have landed."""
    env = load_env("prod", blank)
    land(landing(env), FIRST)
    ingest(env, FIRST)
    land(landing(env), SECOND)
    return env


def landing(env: Environment) -> Path:
    return env.project / env.settings(Settings).landing


def spoil(env: Environment, lines: int) -> None:
    """Give the first lines of the newest delivery of items a kind that the contract does not know."""
    file = landing(env) / "items" / f"{SECOND:{NAME_FORMAT}}.csv"
    header, *rows = file.read_text(encoding="utf-8").splitlines()
    bad = [",".join([item, "zzz", *rest]) for item, _, *rest in (row.split(",") for row in rows[:lines])]
    file.write_text("\n".join([header, *bad, *rows[lines:]]) + "\n", encoding="utf-8")


def count(env: Environment, table: str) -> int:
    return int(env.tables.read(table).num_rows) if env.tables.exists(table) else 0


def test_a_bad_row_is_quarantined_and_the_rest_goes_on(prod: Environment) -> None:
    before = count(prod, "silver.items")
    spoil(prod, 1)
    ingest(prod, SECOND)
    (refused,) = prod.tables.read("quarantine.items").to_pylist()
    assert refused["source_row"] == 2
    assert refused["reason"].startswith("kind: isin")
    assert count(prod, "silver.items") == before + 99


def test_too_many_bad_rows_stop_the_pipeline_with_nothing_written(prod: Environment) -> None:
    before = count(prod, "silver.items")
    spoil(prod, 11)
    with pytest.raises(ContractError, match=r"silver\.items: 11 of 100 rows would be refused"):
        ingest(prod, SECOND)
    assert (count(prod, "silver.items"), count(prod, "quarantine.items")) == (before, 0)
    assert sorted(prod.tables.read(RUNS)["status"].to_pylist()) == ["failed", "finished"]


def test_a_file_that_is_no_table_is_quarantined_whole(prod: Environment) -> None:
    (landing(prod) / "items" / f"{SECOND:{NAME_FORMAT}}.csv").write_bytes(bytes(range(256)) * 20)
    ingest(prod, SECOND)
    (refused,) = prod.tables.read("quarantine.items").to_pylist()
    assert refused["reason"].startswith("unreadable: ")


def test_what_is_delivered_again_adds_nothing(prod: Environment) -> None:
    ingest(prod, SECOND)
    before = count(prod, "silver.items")
    file = landing(prod) / "items" / f"{SECOND:{NAME_FORMAT}}.csv"
    later = SECOND + timedelta(days=1)
    file.with_name(f"{later:{NAME_FORMAT}}.csv").write_bytes(file.read_bytes())
    ingest(prod, later)
    assert count(prod, "silver.items") == before
    assert set(prod.tables.read("quarantine.items")["reason"].to_pylist()) == {"already known: item_id"}
