"""What people's accidents with landing files come to: each line ends in Silver or in quarantine, and each is told."""

import gzip
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandera.polars as pandera
import polars as pl
import pyarrow as pa
import pytest

from mlplatform.contract import JsonLines, Parquet
from mlplatform.environment import Environment
from mlplatform.errors import ContractError
from mlplatform.pipelines.ingest import ingest
from mlplatform.storage import ops
from mlplatform.storage.landing import NAME_FORMAT
from steps import overlay, read
from tiny.deliveries import START, land
from tiny.project import PROJECT

LoadEnv = Callable[..., Environment]
DAY = timedelta(days=1)
SILVER = ("silver.items", "silver.outcomes")
FIRST, SECOND, THIRD = START + 10 * DAY, START + 20 * DAY, START + 30 * DAY


@pytest.fixture
def env(blank: Path, load_env: LoadEnv) -> Environment:
    """prod of a project in which one file of each source has landed, of ten days, and nothing is ingested."""
    prod = load_env("prod", blank)
    land(prod.landing, FIRST)
    return prod


@pytest.fixture
def tolerant(env: Environment, load_env: LoadEnv) -> Environment:
    """The same, where any share of bad rows goes to quarantine."""
    return load_env("prod", env.folder, overlay(env.folder, "tolerant", {"lakehouse": {"max_refused_share": 1.0}}))


def items(env: Environment, at: datetime = FIRST) -> Path:
    return Path(env.landing, "items", f"{at:{NAME_FORMAT}}.csv")


def count(env: Environment, table: str) -> int:
    return read(env, table).height


def spoil(file: Path, change: Callable[[str], str]) -> int:
    """Change the text of a file; returns the number of its data lines."""
    text = file.read_text(encoding="utf-8")
    file.write_text(change(text), encoding="utf-8")
    return len(text.splitlines()) - 1


def open_quote(text: str) -> str:
    """A quote that begins a value in line 11 and is never closed."""
    lines = text.splitlines(keepends=True)
    return "".join([*lines[:10], lines[10].replace(",", ',"', 1), *lines[11:]])


MANNERS = {
    "an open quote": open_quote,
    "another delimiter": lambda text: text.replace(",", ";"),
    "another header": lambda text: text.replace("amount", "amuont", 1),
    "no header": lambda text: text.split("\n", 1)[1],
    "not UTF-8": lambda text: text,
}


@pytest.mark.parametrize("manner", MANNERS)
def test_a_bad_first_file_counts_with_all_its_rows_and_stops_before_anything_is_written(
    env: Environment, manner: str
) -> None:
    rows = spoil(items(env), MANNERS[manner])
    if manner == "not UTF-8":
        items(env).write_bytes(items(env).read_bytes().replace(b"item-000050", b"item-\xe9"))
    rows -= manner == "no header"
    with pytest.raises(ContractError, match=rf"bronze\.items: {rows} of {rows} rows would be refused"):
        ingest(env, FIRST)
    assert [name for name in env.catalog.names() if "items" in name] == []


@pytest.mark.parametrize("manner", MANNERS)
def test_a_bad_first_file_is_quarantined_whole_and_good_ones_that_follow_are_read(
    tolerant: Environment, manner: str
) -> None:
    rows = spoil(items(tolerant), MANNERS[manner])
    if manner == "not UTF-8":
        items(tolerant).write_bytes(items(tolerant).read_bytes().replace(b"item-000050", b"item-\xe9"))
    rows -= manner == "no header"
    assert any(items(tolerant).name in note for note in ingest(tolerant, FIRST).notes)
    refused = read(tolerant, "quarantine.items")
    assert refused["source_row"].sort().to_list() == list(range(2, rows + 2))
    assert all(refused["raw"])
    land(tolerant.landing, SECOND)
    ingest(tolerant, SECOND)
    assert count(tolerant, "silver.items") == 100
    assert count(tolerant, "quarantine.items") == rows


def test_a_time_with_an_offset_is_the_same_moment_and_one_that_cannot_be_read_is_refused(env: Environment) -> None:
    def elsewhere(match: re.Match[str]) -> str:
        return (datetime.fromisoformat(match[1]) - timedelta(hours=5)).isoformat() + "-05:00"

    lines = items(env).read_text(encoding="utf-8").splitlines(keepends=True)
    moved = [re.sub(r"(2025-.*)Z$", elsewhere, line) for line in lines]
    odd = moved[1].replace("-05:00", " America/New_York")
    assert len({lines[2], moved[2], odd}) == 3
    items(env).write_text("".join([*lines[:50], *moved[50:-1], odd]), encoding="utf-8")
    ingest(env, FIRST)
    assert read(env, "silver.items")["available_at"].sort().to_list() == [
        START + number * timedelta(minutes=144) for number in range(100)
    ]
    (refused,) = read(env, "quarantine.items").to_dicts()
    assert "available_at: not_nullable" in refused["reason"]


def test_text_that_became_null_where_null_may_be_is_told(env: Environment) -> None:
    items_table, *others = PROJECT.tables
    amount = pandera.Column(float, pandera.Check.in_range(0, 100), nullable=True)
    lenient = pandera.DataFrameSchema({**items_table.contract.columns, "amount": amount}, strict=True)
    project = replace(PROJECT, tables=(replace(items_table, contract=lenient), *others))
    lenient_env = Environment("prod", project, env.folder, env.config)
    lines = items(env).read_text(encoding="utf-8").splitlines(keepends=True)
    for number, value in ((3, '"1,5"'), (7, "NA"), (9, ""), (11, "  ")):
        lines[number] = re.sub(r",[\d.]+,", f",{value},", lines[number])
    items(env).write_text("".join(lines), encoding="utf-8")
    assert ingest(lenient_env, FIRST).notes == [
        f"silver.items: 2 values of amount are text that is no double, such as in items/{items(env).name} row 4: they "
        "became null, which the contract allows (README, Silver)"
    ]
    assert read(env, "silver.items")["amount"].null_count() == 4
    assert ingest(lenient_env, FIRST).notes == [f"nothing new in {env.landing}"]


def test_what_no_sql_needs_may_come_and_go(env: Environment) -> None:
    spoil(items(env), lambda text: text.replace("\n", ",note\n", 1).replace("Z\n", "Z,hello\n"))
    ingest(env, FIRST)
    land(env.landing, SECOND)
    ingest(env, SECOND)
    land(env.landing, THIRD)
    odd = ',Note (EUR),"a ""b",_Reason,\n'
    spoil(items(env, THIRD), lambda text: text.replace("\n", odd, 1).replace("Z\n", "Z,5,6,7,\n"))
    ingest(env, THIRD)
    for days, header in ((40, ",Note\n"), (50, ",NOTE\n")):
        land(env.landing, START + days * DAY)
        text = (
            items(env, START + days * DAY).read_text(encoding="utf-8").replace("\n", header, 1).replace("Z\n", "Z,hi\n")
        )
        items(env, START + days * DAY).write_text(text, encoding="utf-8")
    ingest(env, START + 50 * DAY)
    assert count(env, "silver.items") == 501
    assert sorted(read(env, "bronze.items")["note"].drop_nulls()) == ["hello"] * 101 + ["hi"] * 200


def test_half_an_upload_is_read_again_when_it_is_whole_and_nothing_of_it_is_lost(env: Environment) -> None:
    whole = items(env).read_bytes()
    cut = whole[: len(whole) // 2]
    items(env).write_bytes(cut + b"item-00")
    assert [note for note in ingest(env, FIRST).notes if "it waits" in note]
    assert count(env, "bronze.items") == 0

    old = items(env).stat().st_mtime - 3600  # whoever wrote it has gone away
    os.utime(items(env), (old, old))
    ingest(env, FIRST)
    before = count(env, "silver.items")
    assert 0 < before < 60
    (refused,) = read(env, "quarantine.items").to_dicts()
    assert refused["reason"] == "the last line has no line break: it may not be whole"

    items(env).write_bytes(whole)
    name = f"items/{items(env).name}"
    run = ingest(env, FIRST)
    assert f"{name} has changed since it was read: it is read again, as {name}#2" in run.notes
    assert count(env, "silver.items") == 101
    assert read(env, "silver.items")["item_id"].n_unique() == 101
    assert ingest(env, FIRST).written == {}


def test_a_row_that_is_put_into_a_file_later_is_not_lost(env: Environment) -> None:
    lines = items(env).read_text(encoding="utf-8").splitlines(keepends=True)
    items(env).write_text("".join([lines[0], *lines[2:]]), encoding="utf-8")
    ingest(env, FIRST)
    assert count(env, "silver.items") == 100
    items(env).write_text("".join(lines), encoding="utf-8")
    ingest(env, FIRST)
    assert count(env, "silver.items") == 101


def test_a_file_that_was_only_touched_is_not_read_again(env: Environment) -> None:
    ingest(env, FIRST)
    items(env).touch()
    run = ingest(env, FIRST)
    assert run.written == {}
    assert run.notes == [f"nothing new in {env.landing}"]


def test_files_that_an_earlier_release_has_read_are_not_read_again(env: Environment) -> None:
    old = {"source_file": f"items/{items(env).name}", "landed_at": FIRST, "rows": 101, "malformed": 0, "error": ""}
    schema = pa.schema([ops.SCHEMAS[ops.FILES].field(name) for name in old])
    env.catalog.append(ops.FILES, pa.Table.from_pylist([old], schema))
    ingest(env, FIRST)
    assert count(env, "bronze.items") == 0
    assert count(env, "silver.outcomes") > 0
    land(env.landing, SECOND)
    ingest(env, SECOND)
    assert count(env, "silver.items") == 100
    assert len(env.catalog.read(ops.FILES)) == 4


def test_what_ingest_does_not_take_is_named_once_and_stops_nothing(env: Environment) -> None:
    folder = items(env).parent
    for name in ("a.CSV", "b.xlsx"):
        (folder / name).write_bytes(items(env).read_bytes())
    (folder / "c.csv").mkdir()
    (folder / "d.csv").symlink_to("nowhere")
    (env.landing / "itmes").mkdir()
    (env.landing / "outcomes").rename(env.landing / "old")
    (env.landing / "outcomes").write_bytes(b"")
    notes = ingest(env, FIRST).notes
    assert [note for note in notes if "not taken" in note] == [
        "items/a.CSV is not taken: only <name>.csv is taken",
        "items/b.xlsx is not taken: only <name>.csv is taken",
        "items/c.csv is not taken: a folder",
        "items/d.csv is not taken: a link to nothing",
        "itmes is not taken: no source has this name (sources: items, outcomes)",
        "old is not taken: no source has this name (sources: items, outcomes)",
        "outcomes is not taken: no folder",
    ]
    assert count(env, "silver.items") == 101
    assert ingest(env, FIRST).notes == [f"nothing new in {env.landing}"]

    soon = datetime.now(UTC).replace(tzinfo=None, microsecond=0) + DAY
    items(env, soon).write_bytes(items(env).read_bytes())
    note = f"items/{items(env, soon).name} is not taken: it counts from {soon} UTC on, which is still to come"
    assert [ingest(env, soon - by).notes[-1] == note for by in (2 * DAY, DAY, DAY)] == [False, True, False]
    assert ingest(env, soon).written["bronze.items"] == 101
    (folder / "nowhere").write_bytes(items(env).read_bytes().replace(b"item-0", b"item-1"))
    now = datetime.max
    assert any("nowhere is not taken" in note for note in ingest(env, now.replace(year=2100)).notes)
    assert count(env, "silver.items") == 202


def test_a_source_of_another_format_ends_in_the_same_rows(env: Environment, tmp_path: Path) -> None:
    ingest(env, FIRST)
    plain = {name: read(env, name).drop("source_row", "source_file").sort("item_id") for name in SILVER}
    formats: dict[str, Parquet | JsonLines] = {"items": Parquet(), "outcomes": JsonLines(compression="gzip")}
    sources = tuple(replace(source, format=formats[source.name]) for source in PROJECT.sources)
    other = Environment("prod", replace(PROJECT, sources=sources), env.folder, env.config)
    shutil.rmtree(env.folder / "data" / "prod")
    for name, kind in formats.items():
        path = items(env).parents[1] / name / items(env).name
        rows = pl.read_csv(path, infer_schema=False)
        target = path.with_suffix("").with_suffix(kind.suffix)
        if name == "items":
            known = pl.col("published_at").str.strip_chars("Z").str.to_datetime().dt.replace_time_zone("UTC")
            rows.with_columns(pl.col("amount").cast(float), known).write_parquet(target)
        else:
            target.write_bytes(gzip.compress(rows.write_ndjson().encode()))
        path.unlink()
    ingest(other, FIRST)
    for name in SILVER:
        assert read(other, name).drop("source_row", "source_file").sort("item_id").equals(plain[name])
        assert not other.catalog.exists(f"quarantine.{name.removeprefix('silver.')}")
    assert ingest(other, FIRST).notes == [f"nothing new in {env.landing}"]

    bad = items(env).with_name(f"{SECOND:{NAME_FORMAT}}.parquet")
    pl.read_parquet(items(env).with_suffix(".parquet")).drop("amount").write_parquet(bad)
    with pytest.raises(
        ContractError, match=r"bronze\.items: 101 of 101 rows would be refused.*the header lacks amount"
    ):
        ingest(other, SECOND)
    bad.write_bytes(items(env).with_suffix(".parquet").read_bytes()[:-7])
    assert [f"items/{bad.name} is still being written, or its end is missing: it waits"] == ingest(other, SECOND).notes
    os.utime(bad, (0, 0))
    assert any(note.startswith(f"items/{bad.name}: unreadable: ") for note in ingest(other, SECOND).notes)
    (refused,) = read(other, "quarantine.items").to_dicts()
    assert refused["source_file"] == f"items/{bad.name}"


@pytest.mark.parametrize("name", ["a b", "100%", "é", "#1", "q?z", "a*b", "{x}", "日本"])
def test_a_project_below_a_folder_of_any_name_works(tmp_path: Path, blank: Path, load_env: LoadEnv, name: str) -> None:
    env = load_env("prod", blank.rename(tmp_path / name))
    (tmp_path / "axb" / "data").mkdir(parents=True)
    land(env.landing, FIRST)
    ingest(env, FIRST)
    land(env.landing, SECOND)
    items(env, SECOND).rename(items(env, SECOND).with_name("it's 100% é.csv"))
    ingest(env, datetime(2100, 1, 1))
    assert env.engine.query("SELECT DISTINCT item_id FROM silver.items").count() == 201


@pytest.mark.parametrize("name", ["[x]", "a|b", "a^b", "a\\b", "%20", "it's"])
def test_a_folder_that_delta_cannot_use_is_refused_in_one_line(
    tmp_path: Path, blank: Path, load_env: LoadEnv, name: str
) -> None:
    from mlplatform.errors import ConfigError

    with pytest.raises(ConfigError, match=r"Delta and MLflow store nothing below .*: rename or move it$"):
        load_env("prod", blank.rename(tmp_path / name))


@pytest.mark.parametrize("setting", ["root", "landing"])
def test_an_address_of_another_scheme_is_refused(env: Environment, load_env: LoadEnv, setting: str) -> None:
    from mlplatform.errors import ConfigError

    away = overlay(env.folder, "away", {"lakehouse": {setting: "hdfs://bucket/place"}})
    with pytest.raises(ConfigError, match=rf"lakehouse\.{setting}: hdfs:// is not supported"):
        ingest(load_env("prod", env.folder, away), FIRST)
