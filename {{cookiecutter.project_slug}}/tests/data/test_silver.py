"""What is in Silver: nothing lost on the way, each fact once, and known when it can be known."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from {{ cookiecutter.package_name }}.environment import Environment
from {{ cookiecutter.package_name }}.lakehouse.contracts import SilverTable
from {{ cookiecutter.package_name }}.lakehouse.settings import Settings
from {{ cookiecutter.package_name }}.usecase.tables import SILVER

pytestmark = pytest.mark.xdist_group("gates")

Read = Callable[[str], pl.DataFrame]


@pytest.fixture(scope="module")
def prod(world: Path, load_env: Callable[..., Environment]) -> Environment:
    return load_env("prod", world)


@pytest.fixture(scope="module")
def read(prod: Environment) -> Read:
    """A table as a frame; without rows where it is not there."""
    return lambda name: pl.DataFrame(prod.tables.read(name)) if prod.tables.exists(name) else pl.DataFrame()


@pytest.mark.parametrize("table", SILVER, ids=lambda table: table.name)
def test_every_line_that_landed_is_in_silver_or_in_quarantine(
    prod: Environment, read: Read, table: SilverTable
) -> None:
    files = (prod.project / prod.settings(Settings).landing / table.source).glob("*.csv")
    lines = sum(pl.read_csv(file, infer_schema=False).height for file in files)
    assert lines > 100
    assert read(f"bronze.{table.source}").height == lines
    assert read(f"silver.{table.name}").height + read(f"quarantine.{table.name}").height == lines


@pytest.mark.parametrize("table", SILVER, ids=lambda table: table.name)
def test_facts_have_one_row_each_and_come_from_one_line(read: Read, table: SilverTable) -> None:
    rows = read(f"silver.{table.name}")
    assert not rows.select(table.keys).is_duplicated().any()
    assert not rows.select("source_file", "source_row").is_duplicated().any()


@pytest.mark.parametrize("table", SILVER, ids=lambda table: table.name)
def test_nothing_is_available_before_it_landed_or_after_now(read: Read, table: SilverTable) -> None:
    landed = read(f"bronze.{table.source}").select("source_file", "source_row", "landed_at")
    rows = read(f"silver.{table.name}").join(landed, on=["source_file", "source_row"], how="left")
    assert rows["landed_at"].null_count() == 0
    assert rows.filter(pl.col("available_at") > pl.col("landed_at")).is_empty()
