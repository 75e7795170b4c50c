"""What a bad delivery of flights, or a feature table that cannot be joined, comes to: refused, with the reason.

Each test makes the bad case for real, in files and tables.
"""

import csv
import re
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from {{ cookiecutter.package_name }}.config import ConfigError
from {{ cookiecutter.package_name }}.environment import RUNS, Environment
from {{ cookiecutter.package_name }}.lakehouse import feature_store
from {{ cookiecutter.package_name }}.lakehouse.contracts import ContractError, SilverTable
from {{ cookiecutter.package_name }}.lakehouse.feature_store import FeatureView
from {{ cookiecutter.package_name }}.lakehouse.landing import LEDGER
from {{ cookiecutter.package_name }}.lakehouse.settings import Settings as LakehouseSettings
from {{ cookiecutter.package_name }}.pipelines.featurize import featurize
from {{ cookiecutter.package_name }}.pipelines.ingest import ingest, refresh_silver
from {{ cookiecutter.package_name }}.training import data
from {{ cookiecutter.package_name }}.usecase.replay import land
from {{ cookiecutter.package_name }}.usecase.tables import SILVER

pytestmark = pytest.mark.xdist_group("gates")

LoadEnv = Callable[..., Environment]
Duplicate = Callable[[Path, Path], Path]
DAY = timedelta(days=1)


def overlay(project: Path, name: str, settings: dict[str, Any]) -> str:
    """Write conf/<name>.yml, to load on top of the other layers. Returns its name."""
    (project / "conf" / f"{name}.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return name


# Ingest: rows in are rows good and rows quarantined; too many bad ones stop the pipeline.

FIRST, SECOND = datetime(2013, 1, 3), datetime(2013, 1, 4)


@pytest.fixture
def fresh(blank: Path, load_env: LoadEnv) -> Environment:
    """prod of a project in which three days of the sample have landed, and nothing is ingested."""
    prod = load_env("prod", blank)
    land(landing(prod), FIRST)
    land(landing(prod), SECOND)
    return prod


def landing(env: Environment) -> Path:
    return env.project / env.settings(LakehouseSettings).landing


def landed(env: Environment, source: str, at: datetime = FIRST) -> Path:
    return landing(env) / source / f"{at:%Y%m%dT%H%M%SZ}.csv"


def edit(file: Path, change: Callable[[int, list[str]], list[str]]) -> None:
    """Write a CSV file again: `change` is given each line's number, from 2 on, and its values."""
    with file.open(encoding="utf-8", newline="") as lines:
        header, *rows = csv.reader(lines)
    with file.open("w", encoding="utf-8", newline="") as lines:
        csv.writer(lines, lineterminator="\n").writerows(
            [header, *(change(number, row) for number, row in enumerate(rows, start=2))]
        )


def put(file: Path, column: str, value: str, lines: range) -> None:
    """Put a value into a column of some lines of a CSV file."""
    with file.open(encoding="utf-8", newline="") as text:
        at = next(csv.reader(text)).index(column)
    edit(file, lambda number, row: [*row[:at], value, *row[at + 1 :]] if number in lines else row)


def count(env: Environment, table: str) -> int:
    return int(env.tables.read(table).num_rows) if env.tables.exists(table) else 0


def reasons(env: Environment, table: str) -> dict[int, str]:
    """What a quarantine says, by the line of the file."""
    return {row["source_row"]: row["reason"] for row in env.tables.read(f"quarantine.{table}").to_pylist()}


def content(env: Environment) -> dict[str, list[dict[str, Any]]]:
    """Silver and quarantine, row by row."""
    names = [name for name in env.tables.names() if name.startswith(("silver.", "quarantine."))]
    return {
        name: sorted(env.tables.read(name).to_pylist(), key=lambda row: (row["source_file"], row["source_row"]))
        for name in names
    }


def balance(env: Environment, source: str) -> None:
    """Every line that landed is in Silver or in quarantine, once."""
    files = [path.read_text(encoding="utf-8").splitlines() for path in (landing(env) / source).glob("*.csv")]
    lines = sum(len(file) - 1 for file in files)
    assert lines == count(env, f"silver.{source}") + count(env, f"quarantine.{source}")


def test_a_corrupt_file_is_quarantined_with_the_reason_and_the_rest_goes_on(fresh: Environment) -> None:
    landed(fresh, "departures").write_bytes(bytes(range(256)) * 20)
    run = ingest(fresh, SECOND)
    (refused,) = fresh.tables.read("quarantine.departures").to_pylist()
    assert refused["source_file"] == "departures/20130103T000000Z.csv"
    assert refused["reason"].startswith("unreadable: ")
    assert refused["available_at"] == FIRST
    assert any("departures/20130103T000000Z.csv: unreadable" in note for note in run.notes)
    assert set(fresh.tables.read("silver.departures")["source_file"].to_pylist()) == {"departures/20130104T000000Z.csv"}
    assert all(count(fresh, f"silver.{table.name}") for table in SILVER)

    before = content(fresh)
    assert ingest(fresh, SECOND + DAY).written == {}
    assert content(fresh) == before


def test_a_line_with_too_many_fields_is_quarantined(fresh: Environment) -> None:
    edit(landed(fresh, "schedule"), lambda number, row: [*row, "one", "more"] if number == 7 else row)
    ingest(fresh, SECOND)
    ((line, reason),) = reasons(fresh, "schedule").items()
    assert line == 7
    fields, of = re.findall(r"[0-9]+", reason)
    assert reason == f"{fields} fields where the header has {of}"
    assert int(fields) == int(of) + 2
    balance(fresh, "schedule")


def test_too_many_malformed_lines_stop_the_pipeline(fresh: Environment) -> None:
    edit(landed(fresh, "schedule"), lambda number, row: row[:-1] if number % 10 == 0 else row)
    for _ in range(2):
        with pytest.raises(ContractError, match=r"bronze.schedule: .* more than lakehouse.max_refused_share = 0.02"):
            ingest(fresh, SECOND)
        assert not {"bronze.schedule", "silver.schedule", "quarantine.schedule"} & set(fresh.tables.names())


def test_a_file_that_lacks_a_column_is_quarantined(fresh: Environment) -> None:
    ingest(fresh, FIRST)
    before = count(fresh, "silver.departures")
    late = landed(fresh, "departures", SECOND)
    late.write_text(late.read_text(encoding="utf-8").replace("dep_delay", "delay", 1), encoding="utf-8")
    ingest(fresh, SECOND)
    assert reasons(fresh, "departures") == {0: "departures/20130104T000000Z.csv lacks the columns dep_delay"}
    assert count(fresh, "silver.departures") == before
    assert all(file != late.stem for file in fresh.tables.read("bronze.departures")["source_file"].to_pylist())


def test_a_file_that_is_delivered_again_under_another_name_is_harmless(fresh: Environment) -> None:
    ingest(fresh, FIRST)
    before = content(fresh)["silver.departures"]
    landed(fresh, "departures", SECOND).write_bytes(landed(fresh, "departures").read_bytes())
    ingest(fresh, SECOND)
    assert content(fresh)["silver.departures"] == before
    assert set(reasons(fresh, "departures").values()) == {"already known: flight_id"}


def test_of_a_fact_that_comes_twice_the_first_is_kept(fresh: Environment) -> None:
    ingest(fresh, FIRST)
    before = content(fresh)["silver.departures"]
    again = landed(fresh, "departures").read_text(encoding="utf-8").splitlines()[1:3]
    second = landed(fresh, "departures", SECOND)
    lines = len(second.read_text(encoding="utf-8").splitlines())
    with second.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in again)
    ingest(fresh, SECOND)
    known = "already known: flight_id"
    assert reasons(fresh, "departures") == {lines + 1: known, lines + 2: known}
    after = content(fresh)["silver.departures"]
    assert after[: len(before)] == before
    assert len({row["flight_id"] for row in after}) == len(after)
    balance(fresh, "departures")


def test_a_few_bad_rows_are_quarantined_with_the_rule_that_they_break(fresh: Environment) -> None:
    put(landed(fresh, "arrivals"), "arr_delay", "never", range(2, 4))
    put(landed(fresh, "arrivals"), "origin", "LHR", range(3, 5))
    ingest(fresh, SECOND)
    found = reasons(fresh, "arrivals")
    assert sorted(found) == [2, 3, 4]
    assert found[2].startswith("arr_delay: ")
    assert "arr_delay: " in found[3]
    assert "origin: isin" in found[3]
    assert found[4].startswith("origin: isin")
    raw = {row["source_row"]: row["raw"] for row in fresh.tables.read("quarantine.arrivals").to_pylist()}
    assert "'arr_delay': 'never'" in raw[2]
    balance(fresh, "arrivals")


def test_a_contract_that_too_many_rows_break_stops_the_pipeline_with_nothing_written(
    fresh: Environment, load_env: LoadEnv
) -> None:
    ingest(fresh, FIRST)
    before = content(fresh)["silver.departures"]
    put(landed(fresh, "departures", SECOND), "dep_delay", "99999", range(2, 60))
    for _ in range(2):
        with pytest.raises(ContractError) as caught:
            ingest(fresh, SECOND)
        assert "silver.departures: 58 of " in str(caught.value)
        assert "58 x dep_delay: in_range(-120, 2000)" in str(caught.value)
        assert content(fresh)["silver.departures"] == before
        assert "quarantine.departures" not in content(fresh)
    statuses = [row["status"] for row in fresh.tables.read(RUNS).to_pylist()]
    assert sorted(statuses) == ["failed", "failed", "finished"]

    raised = overlay(fresh.project, "raised", {"lakehouse": {"max_refused_share": 0.5}})
    ingest(load_env("prod", fresh.project, raised), SECOND)
    assert len(reasons(fresh, "departures")) == 58
    balance(fresh, "departures")


def test_a_few_bad_rows_never_stop_a_small_delivery(fresh: Environment) -> None:
    put(landed(fresh, "weather", SECOND), "temp", "999", range(2, 9))
    ingest(fresh, SECOND)
    assert 7 / (count(fresh, "silver.weather") + 7) > 0.02
    assert len(reasons(fresh, "weather")) == 7


def test_rows_that_land_after_their_time_are_pointed_out(fresh: Environment) -> None:
    file = landed(fresh, "weather", FIRST)
    header, held_back, *others = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join([header, *others]) + "\n", encoding="utf-8")
    for pipeline in (ingest, featurize):
        pipeline(fresh, FIRST)
    assert not any("landed late" in note for note in ingest(fresh, SECOND).notes)
    landed(fresh, "weather", SECOND + DAY).write_text(f"{header}\n{held_back}\n", encoding="utf-8")
    assert any("silver.weather: 1 rows landed late" in note for note in ingest(fresh, SECOND + DAY).notes)


def test_sql_that_loses_rows_stops_the_pipeline(fresh: Environment) -> None:
    class Lossy(SilverTable):
        @property
        def sql(self) -> str:
            return f"SELECT * FROM ({super().sql}) WHERE dep_delay > 0"

    ingest(fresh, SECOND)
    fresh.tables.delete("silver.departures", "true")
    table = next(table for table in SILVER if table.name == "departures")
    with (
        pytest.raises(ContractError, match="cleaning keeps every row, so that the contract can refuse with a reason"),
        fresh.run("ingest", SECOND) as run,
    ):
        refresh_silver(fresh, run, Lossy(table.name, table.source, table.keys, table.contract))
    assert count(fresh, "silver.departures") == 0


def test_files_that_are_ingested_again_add_nothing(fresh: Environment) -> None:
    put(landed(fresh, "arrivals"), "arr_delay", "never", range(2, 4))
    ingest(fresh, SECOND)
    before, bronze = content(fresh), count(fresh, "bronze.arrivals")
    fresh.tables.delete(LEDGER, "true")
    ingest(fresh, SECOND)
    assert content(fresh) == before
    assert count(fresh, "bronze.arrivals") == bronze


# Feature tables: one row per entity and time, and none that belongs to another team is written.


class Made(FeatureView):
    """A feature view with SQL of the test's own."""

    made = ""

    @property
    def sql(self) -> str:
        return self.made


def made(sql: str) -> FeatureView:
    view = Made("made", ("origin",), DAY, DAY, ("silver.weather",), "made up")
    type(view).made = sql
    return view


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        (
            "SELECT origin, date_trunc('DAY', event_timestamp) AS event_timestamp, available_at FROM silver.weather",
            "feature_sql/made.sql gives more than one row for ",
        ),
        ("SELECT origin, event_timestamp, temp FROM silver.weather", "features.made lacks available_at"),
        ("SELECT event_timestamp, available_at, temp FROM silver.weather", "features.made lacks origin"),
    ],
    ids=["two rows for one key", "no time of availability", "no key"],
)
def test_a_feature_table_that_cannot_be_joined_is_refused(
    prod: Environment, now: datetime, sql: str, says: str
) -> None:
    with pytest.raises(ContractError, match=says):
        feature_store.refresh(prod, made(sql), now, None)
    assert not prod.tables.exists("features.made")


def test_a_feature_table_of_another_team_is_read_and_never_written(
    project: Path, now: datetime, load_env: LoadEnv
) -> None:
    theirs, ours = project / "data" / "theirs" / "features", project / "data" / "prod" / "features"
    theirs.mkdir(parents=True)
    shutil.move(ours / "origin_weather", theirs / "weather")
    external = {"view": "origin_weather", "path": "data/theirs/features/weather"}
    prod = load_env("prod", project, overlay(project, "external", {"lakehouse": {"external_views": [external]}}))
    before = {path: path.stat().st_mtime_ns for path in theirs.rglob("*")}
    run = featurize(prod, now, backfill=True)
    assert any("features.origin_weather is external" in note for note in run.notes)
    assert "features.origin_weather" not in run.written
    assert not (ours / "origin_weather").exists()
    assert {path: path.stat().st_mtime_ns for path in theirs.rglob("*")} == before
    assert "origin_weather__temp" in data.load(prod, now).train.columns


def test_a_view_that_is_declared_external_and_does_not_exist_is_refused(
    project: Path, now: datetime, load_env: LoadEnv
) -> None:
    external = {"view": "origin_wether", "path": "data/theirs/features/weather"}
    prod = load_env("prod", project, overlay(project, "external", {"lakehouse": {"external_views": [external]}}))
    with pytest.raises(ConfigError, match="has no view origin_wether"):
        featurize(prod, now)
