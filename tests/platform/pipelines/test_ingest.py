"""What a bad delivery comes to: refused, with the reason. Each test makes the bad case for real, in files."""

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlplatform.environment import Environment
from mlplatform.errors import ContractError
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.ingest import ingest
from mlplatform.preparation import silver
from mlplatform.storage.catalog import Window
from mlplatform.storage.landing import NAME_FORMAT
from mlplatform.storage.ops import FILES, RUNS
from steps import Edited, overlay, read
from tiny.deliveries import START, land
from tiny.project import PROJECT

LoadEnv = Callable[..., Environment]
DAY = timedelta(days=1)
FIRST, SECOND = START + 10 * DAY, START + 20 * DAY


@pytest.fixture
def fresh(blank: Path, load_env: LoadEnv) -> Environment:
    """prod of a project in which two files of each source have landed, ten days each, and nothing is ingested."""
    prod = load_env("prod", blank)
    land(prod.landing, FIRST)
    land(prod.landing, SECOND)
    return prod


def landed(env: Environment, source: str, at: datetime = FIRST) -> Path:
    return Path(env.landing, source, f"{at:{NAME_FORMAT}}.csv")


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
    return read(env, table).height


def reasons(env: Environment, table: str) -> dict[int, str]:
    """What a quarantine says, by the line of the file."""
    return {row["source_row"]: row["reason"] for row in read(env, f"quarantine.{table}").to_dicts()}


def content(env: Environment) -> dict[str, list[dict[str, Any]]]:
    """Silver and quarantine, row by row."""
    names = [name for name in env.catalog.names() if name.startswith(("silver.", "quarantine."))]
    return {name: read(env, name).sort("source_file", "source_row").to_dicts() for name in names}


def balance(env: Environment, source: str) -> None:
    """Every line that landed is in Silver or in quarantine, once."""
    files = [path.read_text(encoding="utf-8").splitlines() for path in (env.landing / source).glob("*.csv")]
    lines = sum(len(file) - 1 for file in files)
    assert lines == count(env, f"silver.{source}") + count(env, f"quarantine.{source}")


def test_a_file_that_is_no_table_is_quarantined_whole_and_the_rest_goes_on(fresh: Environment) -> None:
    landed(fresh, "outcomes").write_bytes(bytes(range(256)) * 2 + b"\n")
    name, other = (f"outcomes/{at:{NAME_FORMAT}}.csv" for at in (FIRST, SECOND))
    run = ingest(fresh, SECOND)
    refused = read(fresh, "quarantine.outcomes")
    assert refused.height > 0
    assert set(refused["source_file"]) == {name}
    assert set(refused["available_at"]) == {FIRST}
    (reason,) = set(refused["reason"])
    assert any(note.startswith(f"{name}: {reason}") for note in run.notes)
    assert set(read(fresh, "silver.outcomes")["source_file"]) == {other}
    assert all(count(fresh, table.table) for table in PROJECT.tables)

    before = content(fresh)
    assert ingest(fresh, SECOND + DAY).written == {}
    assert content(fresh) == before


def test_a_line_with_too_many_fields_is_quarantined(fresh: Environment) -> None:
    edit(landed(fresh, "items"), lambda number, row: [*row, "one", "more"] if number == 7 else row)
    ingest(fresh, SECOND)
    ((line, reason),) = reasons(fresh, "items").items()
    assert line == 7
    fields, of = re.findall(r"[0-9]+", reason)
    assert reason == f"{fields} fields where the header has {of}"
    assert int(fields) == int(of) + 2
    balance(fresh, "items")


def test_too_many_malformed_lines_stop_the_pipeline(fresh: Environment) -> None:
    edit(landed(fresh, "items"), lambda number, row: row[:-1] if number % 5 == 0 else row)
    for _ in range(2):
        with pytest.raises(ContractError, match=r"bronze.items: .* more than lakehouse.max_refused_share = 0.02"):
            ingest(fresh, SECOND)
        assert not {"bronze.items", "silver.items", "quarantine.items"} & set(fresh.catalog.names())


def test_a_file_that_lacks_a_column_counts_with_all_its_rows(fresh: Environment, load_env: LoadEnv) -> None:
    ingest(fresh, FIRST)
    before = content(fresh)
    late = landed(fresh, "outcomes", SECOND)
    late.write_text(late.read_text(encoding="utf-8").replace("outcome", "result", 1), encoding="utf-8")
    reason = "the header lacks outcome: it is item_id,kind,result,published_at"
    with pytest.raises(ContractError, match=rf"bronze.outcomes: 99 of 99 rows would be refused, .* 99 x {reason}"):
        ingest(fresh, SECOND)
    assert content(fresh)["silver.outcomes"] == before["silver.outcomes"]
    assert "quarantine.outcomes" not in content(fresh)

    tolerant = overlay(fresh.folder, "tolerant", {"lakehouse": {"max_refused_share": 1.0}})
    ingest(load_env("prod", fresh.folder, tolerant), SECOND)
    assert reasons(fresh, "outcomes") == dict.fromkeys(range(2, 101), reason)
    assert content(fresh)["silver.outcomes"] == before["silver.outcomes"]
    assert f"outcomes/{late.name}" not in set(read(fresh, "bronze.outcomes")["source_file"])


def test_what_is_delivered_again_under_another_name_adds_nothing(fresh: Environment) -> None:
    ingest(fresh, FIRST)
    before = content(fresh)["silver.outcomes"]
    landed(fresh, "outcomes", SECOND).write_bytes(landed(fresh, "outcomes").read_bytes())
    ingest(fresh, SECOND)
    assert content(fresh)["silver.outcomes"] == before
    assert set(reasons(fresh, "outcomes").values()) == {"already known: item_id"}


def test_of_a_fact_that_comes_twice_the_first_is_kept(fresh: Environment) -> None:
    ingest(fresh, FIRST)
    before = content(fresh)["silver.outcomes"]
    again = landed(fresh, "outcomes").read_text(encoding="utf-8").splitlines()[1:3]
    second = landed(fresh, "outcomes", SECOND)
    lines = len(second.read_text(encoding="utf-8").splitlines())
    with second.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in again)
    ingest(fresh, SECOND)
    known = "already known: item_id"
    assert reasons(fresh, "outcomes") == {lines + 1: known, lines + 2: known}
    after = content(fresh)["silver.outcomes"]
    assert after[: len(before)] == before
    assert len({row["item_id"] for row in after}) == len(after)
    balance(fresh, "outcomes")


def test_a_few_bad_rows_are_quarantined_with_the_rule_that_they_break(fresh: Environment) -> None:
    put(landed(fresh, "outcomes"), "outcome", "never", range(2, 4))
    put(landed(fresh, "outcomes"), "kind", "zzz", range(3, 5))
    ingest(fresh, SECOND)
    found = reasons(fresh, "outcomes")
    assert sorted(found) == [2, 3, 4]
    assert found[2].startswith("outcome: ")
    assert "outcome: " in found[3]
    assert "kind: isin" in found[3]
    assert found[4].startswith("kind: isin")
    raw = {row["source_row"]: row["raw"] for row in read(fresh, "quarantine.outcomes").to_dicts()}
    assert "'outcome': 'never'" in raw[2]
    balance(fresh, "outcomes")


def test_a_contract_that_too_many_rows_break_stops_the_pipeline_with_nothing_written(
    fresh: Environment, load_env: LoadEnv
) -> None:
    ingest(fresh, FIRST)
    before = content(fresh)["silver.outcomes"]
    put(landed(fresh, "outcomes", SECOND), "outcome", "99999", range(2, 60))
    for _ in range(2):
        with pytest.raises(ContractError) as caught:
            ingest(fresh, SECOND)
        assert "silver.outcomes: 58 of " in str(caught.value)
        assert "58 x outcome: in_range(-1000, 1000)" in str(caught.value)
        assert content(fresh)["silver.outcomes"] == before
        assert "quarantine.outcomes" not in content(fresh)
    assert sorted(read(fresh, RUNS)["status"]) == ["failed", "failed", "finished"]

    raised = overlay(fresh.folder, "raised", {"lakehouse": {"max_refused_share": 0.6, "tolerated_rows": 0}})
    ingest(load_env("prod", fresh.folder, raised), SECOND)
    assert len(reasons(fresh, "outcomes")) == 58
    balance(fresh, "outcomes")


@pytest.mark.parametrize(("lines", "stops"), [(10, False), (11, True)])
def test_a_few_bad_rows_never_stop_a_small_delivery(fresh: Environment, lines: int, stops: bool) -> None:
    ingest(fresh, FIRST)
    before = count(fresh, "silver.items")
    put(landed(fresh, "items", SECOND), "amount", "999", range(2, 2 + lines))
    assert lines / 100 > fresh.config.lakehouse.max_refused_share
    if stops:
        with pytest.raises(ContractError, match=r"silver\.items: 11 of 100 rows would be refused"):
            ingest(fresh, SECOND)
        assert (count(fresh, "silver.items"), count(fresh, "quarantine.items")) == (before, 0)
    else:
        ingest(fresh, SECOND)
        assert (count(fresh, "silver.items"), len(reasons(fresh, "items"))) == (before + 90, 10)


def test_rows_that_land_after_their_time_are_pointed_out(fresh: Environment) -> None:
    file = landed(fresh, "outcomes", FIRST)
    header, held_back, *others = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join([header, *others]) + "\n", encoding="utf-8")
    for pipeline in (ingest, featurize):
        pipeline(fresh, FIRST)
    assert not any("landed late" in note for note in ingest(fresh, SECOND).notes)
    landed(fresh, "outcomes", SECOND + DAY).write_text(f"{header}\n{held_back}\n", encoding="utf-8")
    assert any("silver.outcomes: 1 rows landed late" in note for note in ingest(fresh, SECOND + DAY).notes)


def test_files_that_have_not_landed_by_as_of_are_not_ingested(fresh: Environment) -> None:
    run = ingest(fresh, SECOND - DAY)
    assert run.written["bronze.items"] == 101
    for table in ("bronze.items", "silver.items"):
        assert set(read(fresh, table)["source_file"]) == {f"items/{FIRST:{NAME_FORMAT}}.csv"}


def test_rows_that_are_in_bronze_already_are_not_in_silver_before_they_landed(fresh: Environment) -> None:
    ingest(fresh, SECOND)
    fresh.catalog.delete("silver.items", Window("available_at"))
    ingest(fresh, SECOND - DAY)
    assert set(read(fresh, "silver.items")["source_file"]) == {f"items/{FIRST:{NAME_FORMAT}}.csv"}


def test_a_column_that_earlier_rows_lack_is_told(fresh: Environment) -> None:
    """As after one was renamed: sums over old and new rows would be of the new ones alone."""
    ingest(fresh, FIRST)
    before = read(fresh, "silver.items")
    sql = PROJECT.sql("silver/items.sql").replace("AS amount", "AS size")
    items, outcomes = PROJECT.tables

    def released(nullable: bool) -> Environment:
        contract = items.contract.rename_columns({"amount": "size"}).update_column("size", nullable=nullable)
        tables = (replace(items, contract=contract), outcomes)
        project = Edited(**{**vars(PROJECT), "tables": tables, "edits": {"silver/items.sql": sql}})
        return Environment("prod", project, fresh.folder, fresh.config)

    with pytest.raises(ContractError, match="earlier rows have no size, and the contract lets none be missing"):
        ingest(released(nullable=False), SECOND)
    assert read(fresh, "silver.items").equals(before)
    rows = pa.table({"n": [1], "x": [1.5]})
    assert silver.cuts(rows.schema, rows.rename_columns(["x", "n"]).schema) == ["n"], "2.5 would become 2"
    (note,) = [note for note in ingest(released(nullable=True), SECOND).notes if "size" in note]
    assert note.startswith("silver.items: earlier rows have no size until the table is made anew")


def test_sql_that_loses_rows_stops_the_pipeline(fresh: Environment) -> None:
    path = "silver/outcomes.sql"
    lossy = Edited(**vars(PROJECT), edits={path: f"SELECT * FROM ({PROJECT.sql(path)}) WHERE outcome > 0"})
    with pytest.raises(ContractError, match="cleaning keeps every row, so that the contract can refuse with a reason"):
        ingest(Environment("prod", lossy, fresh.folder, fresh.config), SECOND)
    assert count(fresh, "silver.outcomes") == 0


def test_files_that_are_ingested_again_add_nothing(fresh: Environment) -> None:
    put(landed(fresh, "outcomes"), "outcome", "never", range(2, 4))
    ingest(fresh, SECOND)
    before, bronze = content(fresh), count(fresh, "bronze.outcomes")
    fresh.catalog.delete(FILES, Window("landed_at"))
    ingest(fresh, SECOND)
    assert content(fresh) == before
    assert count(fresh, "bronze.outcomes") == bronze
