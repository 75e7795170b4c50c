"""Sources in databases: each row is read once, at the time from which it counts, and what goes wrong is told."""

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mlplatform.contract import Database
from mlplatform.environment import Environment
from mlplatform.errors import ContractError, MissingTableError, StorageError, UserError
from mlplatform.pipelines.ingest import ingest
from mlplatform.storage.landing import NAME_FORMAT
from steps import overlay, read
from stores import postgres
from tiny.project import PROJECT

LoadEnv = Callable[..., Environment]
START, DAY = datetime(2025, 1, 10), timedelta(days=1)
TABLE = Database(address="SHOP", table="items", watermark="changed_at")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sa.Engine:
    """A database with a table of items, three of which came within an hour of START."""
    address = f"sqlite:///{tmp_path / 'shop.db'}"
    monkeypatch.setenv("SHOP", address)
    return filled(address, "TIMESTAMP")


def filled(address: str, time: str) -> sa.Engine:
    engine = sa.create_engine(address, poolclass=sa.NullPool)
    execute(
        engine,
        f"CREATE TABLE items (item_id TEXT, kind TEXT, amount NUMERIC(10, 2), published_at TEXT, changed_at {time})",
    )
    zone = UTC if time == "TIMESTAMPTZ" else None
    for number in range(3):
        add(engine, number, (START + number * timedelta(minutes=20)).replace(tzinfo=zone))
    return engine


def execute(engine: sa.Engine, sql: str, **values: object) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(sql), values)


def add(engine: sa.Engine, number: int, at: datetime | None, amount: str = "1.50") -> None:
    values = {"id": f"item-{number:06d}", "amount": amount, "known": "2025-01-09T06:00:00Z", "at": at}
    typed = sa.text("INSERT INTO items VALUES (:id, 'a', :amount, :known, :at)").bindparams(
        sa.bindparam("at", type_=sa.DateTime())
    )
    with engine.begin() as connection:
        connection.execute(typed, values)


@pytest.fixture
def env_of(blank: Path, load_env: LoadEnv) -> Callable[..., Environment]:
    """env_of(database, *overlays): prod of a project whose items are in a database."""

    def make(kind: Database, *overlays: str) -> Environment:
        items, outcomes = PROJECT.sources
        project = replace(PROJECT, sources=(replace(items, format=kind), outcomes))
        return Environment("prod", project, blank, load_env("prod", blank, *overlays).config)

    return make


def ids(env: Environment, table: str = "silver.items") -> list[int]:
    rows = read(env, table)
    return sorted(int(name[-6:]) for name in rows["item_id"]) if rows.height else []


def test_rows_are_read_once_and_count_from_their_watermark_on(
    shop: sa.Engine, env_of: Callable[..., Environment]
) -> None:
    env = env_of(TABLE)
    with pytest.raises(MissingTableError, match=r"`ingest --env prod`, which reads the database at \$SHOP$"):
        env.table("silver.items")
    ingest(env, START + timedelta(minutes=20))
    assert ids(env) == ids(env, "bronze.items") == [0, 1]
    again = ingest(env, START + timedelta(minutes=20))
    assert (again.written, again.notes) == ({}, [f"nothing new in the database at $SHOP, {env.landing}"])
    ingest(env, START + DAY)
    assert ids(env) == [0, 1, 2]
    bronze = read(env, "bronze.items").sort("landed_at")
    assert bronze["landed_at"].to_list() == [START + number * timedelta(minutes=20) for number in range(3)]
    assert bronze["amount"].to_list() in (["1.5"] * 3, ["1.50"] * 3)
    assert bronze.select("source_file", "source_row").is_unique().all()
    add(shop, 3, START + timedelta(minutes=40))  # at the same moment as the newest
    assert ingest(env, START + DAY).written["bronze.items"] == 1
    assert ids(env) == [0, 1, 2, 3]
    assert ingest(env, START + 2 * DAY).written == {}
    assert read(env, "bronze.items").select("source_file", "source_row").is_unique().all()


def test_a_row_that_is_committed_late_is_read_within_the_overlap(
    shop: sa.Engine, env_of: Callable[..., Environment]
) -> None:
    env = env_of(replace(TABLE, overlap=timedelta(hours=1)))
    ingest(env, START + DAY)
    add(shop, 3, START - timedelta(minutes=1))
    add(shop, 4, START - timedelta(hours=1))  # too late even for that
    ingest(env, START + 2 * DAY)
    assert ids(env) == [0, 1, 2, 3]


def test_a_row_that_has_changed_is_another_one_and_the_first_fact_stays(
    shop: sa.Engine, env_of: Callable[..., Environment]
) -> None:
    env = env_of(TABLE)
    ingest(env, START + DAY)
    execute(shop, "DELETE FROM items WHERE item_id = 'item-000001'")
    add(shop, 1, START + DAY, amount="2.50")
    ingest(env, START + DAY)
    assert ids(env, "bronze.items") == [0, 1, 1, 2]
    assert set(read(env, "quarantine.items")["reason"]) == {"already known: item_id"}
    assert sorted(read(env, "silver.items")["amount"]) == [1.5, 1.5, 1.5]


def test_what_came_in_files_before_does_not_hide_rows_of_the_database(
    shop: sa.Engine, env_of: Callable[..., Environment], blank: Path, load_env: LoadEnv
) -> None:
    files = load_env("prod", blank)
    file = files.landing / "items" / f"{START + DAY:{NAME_FORMAT}}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("item_id,kind,amount,published_at\nitem-000009,a,1.0,2025-01-09T06:00:00Z\n")
    ingest(files, START + DAY)
    ingest(env_of(TABLE), START + DAY)
    assert ids(files) == [0, 1, 2, 9]


def test_rows_without_a_time_go_to_quarantine_once(
    shop: sa.Engine, env_of: Callable[..., Environment], blank: Path
) -> None:
    add(shop, 3, None)
    execute(shop, "INSERT INTO items VALUES ('item-000004', 'a', 1, '2025-01-09', 'yesterday')")
    never = sa.text("INSERT INTO items VALUES ('item-000005', 'a', 1, '2025-01-09', '9999-12-31T23:59:59-05:00')")
    with shop.begin() as connection:
        connection.execute(never)
    env = env_of(TABLE)
    for _ in range(2):
        ingest(env, START + DAY)
        assert ids(env) == [0, 1, 2]
        refused = read(env, "quarantine.items")
        assert refused["reason"].to_list() == ["changed_at is no time"] * 3
        assert sorted(raw[13:24] for raw in refused["raw"]) == ["item-000003", "item-000004", "item-000005"]
    for number in range(10, 30):
        add(shop, number, None)
    with pytest.raises(
        ContractError, match=r"bronze\.items: 20 of 20 rows would be refused.*20 x changed_at is no time"
    ):
        ingest(env, START + 2 * DAY)
    ingest(env_of(TABLE, overlay(blank, "tolerant", {"lakehouse": {"max_refused_share": 1.0}})), START + 2 * DAY)
    assert read(env, "quarantine.items").height == 23


def test_a_query_without_a_watermark_is_read_whole_and_as_it_is_now(
    shop: sa.Engine, env_of: Callable[..., Environment]
) -> None:
    query = "SELECT item_id, kind, amount, published_at, 1 AS source_row FROM items"
    with pytest.raises(ContractError, match="source items: it gives a column twice, or as ingest does: source_row"):
        ingest(env_of(Database(address="SHOP", query=query)), now())
    query = "SELECT item_id, kind, amount, published_at FROM items WHERE kind <> ' :b'"
    env = env_of(Database(address="SHOP", query=f"{query} -- of all"))
    (note, *_) = ingest(env, START + DAY).notes
    assert note == (
        f"source items is not read: without a watermark nobody knows what was there at {START + DAY}: "
        "name one, or run without --as-of"
    )
    moment = now()
    ingest(env, moment)
    assert ids(env) == [0, 1, 2]
    assert set(read(env, "bronze.items")["landed_at"]) == {moment}
    add(shop, 3, None)
    env = env_of(Database(address="SHOP", query=f"{query} ;\n"))
    assert ingest(env, moment).written["bronze.items"] == 1
    assert ingest(env, now()).written == {}
    assert ids(env) == [0, 1, 2, 3]


def test_bytes_are_the_same_text_each_time(
    shop: sa.Engine, env_of: Callable[..., Environment], monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite3.register_converter("TEXT", memoryview)  # what other drivers give for bytes
    monkeypatch.setenv("SHOP", f"{shop.url}?detect_types=1")
    env = env_of(Database(address="SHOP", query="SELECT item_id, kind, amount, published_at FROM items"))
    try:
        ingest(env, now())
        assert set(read(env, "bronze.items")["kind"]) == {"61"}
        assert ingest(env, now()).written == {}
    finally:
        sqlite3.converters.pop("TEXT")


def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)


def test_a_run_that_was_killed_between_its_writes_is_made_good_by_the_next(
    shop: sa.Engine, env_of: Callable[..., Environment], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlplatform.storage.delta import DeltaCatalog

    add(shop, 3, None)
    env, append = env_of(TABLE), DeltaCatalog.append

    def die(self: DeltaCatalog, name: str, *arguments: object) -> int:
        if name in dies_at:
            raise KeyboardInterrupt
        return append(self, name, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(DeltaCatalog, "append", die)
    dies_at = ["bronze.items", "silver.items"]
    while dies_at:
        with pytest.raises(KeyboardInterrupt):
            ingest(env, START + DAY)
        dies_at.pop(0)
    ingest(env, START + DAY)
    assert (ids(env), ids(env, "bronze.items")) == ([0, 1, 2], [0, 1, 2])
    assert read(env, "quarantine.items").height == 1


def test_what_cannot_be_asked_is_told_in_one_line(
    shop: sa.Engine, env_of: Callable[..., Environment], monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [
        (StorageError, "no such table: itms", replace(TABLE, table="itms"), None),
        (StorageError, "no such column: changed", replace(TABLE, watermark="changed"), None),
        (ContractError, "source items: its watermark amount holds numbers, such as 1.5",
         replace(TABLE, watermark="amount"), None),
        (ContractError, "its watermark number holds numbers, such as 7",
         Database(address="SHOP", query="SELECT *, 7 AS number FROM items", watermark="number"), None),
        (ContractError, "source items: it lacks amount, published_at: its columns are item_id, kind",
         Database(address="SHOP", query="SELECT item_id, kind, changed_at FROM items", watermark="changed_at"), None),
        (ContractError, "it gives a column twice, or as ingest does: _refused",
         Database(address="SHOP", query="SELECT *, 'x' AS _refused FROM items", watermark="changed_at"), None),
        (ContractError, "it gives a column without a name",
         Database(address="SHOP", query="SELECT *, 'x' AS \"\" FROM items", watermark="changed_at"), None),
        (UserError, "the environment variable SHOP is not set", TABLE, ""),
        (UserError, "SHOP holds no address that SQLAlchemy can read", TABLE, "secret"),
        (UserError, "SHOP needs a driver that is not installed", TABLE, "nosuch://user:secret@host/shop"),
        (StorageError, "unable to open database file", TABLE, "sqlite:////no/such/folder/shop.db"),
    ]  # fmt: skip
    for kind, said, database, address in cases:
        if address is not None:
            monkeypatch.setenv("SHOP", address)
        with pytest.raises(kind) as error:
            ingest(env_of(database), START + DAY)
        assert said in str(error.value)
        assert "secret" not in str(error.value)
        assert len(str(error.value).splitlines()) == 1
    monkeypatch.setenv("SHOP", str(shop.url))
    ingest(env_of(TABLE), START + DAY)
    assert ids(env_of(TABLE)) == [0, 1, 2]


@pytest.mark.storage
def test_a_server_is_asked_for_what_is_new_only(
    env_of: Callable[..., Environment], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg")
    with postgres() as address:
        monkeypatch.setenv("SHOP", address)
        for column in ("TIMESTAMP", "TIMESTAMPTZ"):
            shop = filled(address, column)
            env = env_of(replace(TABLE, table="public.items", watermark="changed_at"))
            ingest(env, START + timedelta(minutes=20))
            assert ids(env) == [0, 1]
            add(shop, 3, None)
            seen = asked(monkeypatch)
            ingest(env, START + DAY)
            assert ids(env) == [0, 1, 2]
            assert ">= " in seen[-1] and "<= " in seen[-1]
            assert read(env, "quarantine.items").height == 1
            assert ingest(env, START + 2 * DAY).written == {}
            assert read(env, "bronze.items")["landed_at"].max() == START + timedelta(minutes=40)
            with pytest.raises(StorageError, match=r'relation "\*\*\*" does not exist'):
                ingest(env_of(replace(TABLE, table="secret")), START + 2 * DAY)
            execute(shop, "DROP TABLE items")
            shutil.rmtree(env.folder / "data")


def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What databases are asked from now on."""
    seen: list[str] = []
    execute = sa.Connection.execute

    def noted(self: sa.Connection, what: Any, *more: Any) -> Any:
        seen.append(str(what))
        return execute(self, what, *more)

    monkeypatch.setattr(sa.Connection, "execute", noted)
    return seen
