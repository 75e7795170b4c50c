"""Tables, deliveries and the lease at addresses: as on a disk, on servers that stand for S3, Azure and Google."""

import gzip
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from mlplatform.contract import Csv, JsonLines, Parquet, Source
from mlplatform.engine.duckdb import DuckDb
from mlplatform.errors import MissingTableError, StorageError
from mlplatform.storage import lease
from mlplatform.storage.address import Remote
from mlplatform.storage.catalog import Among, Window, open_catalog
from mlplatform.storage.delta import DeltaCatalog
from mlplatform.storage.landing import LandedFile, changed, delivering, forget, inspect, look
from stores import Store, environment

pytestmark = pytest.mark.storage
NAME = "silver.items"
ITEMS = Source("items", ("a",))
APRIL, MAY = datetime(2013, 4, 1), datetime(2013, 5, 1)

on_every_store = pytest.mark.parametrize("store", ["s3", "azure", "google"], indirect=True)


def catalog(root: str, reader: str = "prod") -> DeltaCatalog:
    opened = open_catalog(Path.cwd(), root, owner="prod", reader=reader)
    assert isinstance(opened, DeltaCatalog)
    return opened


def items(*rows: tuple[str, int]) -> pa.Table:
    times = [APRIL + timedelta(days=amount) for _, amount in rows]
    return pa.table(
        {"item": [r[0] for r in rows], "amount": [r[1] for r in rows], "at": pa.array(times, pa.timestamp("us"))}
    )


def put(place: Remote, tmp_path: Path, content: str) -> Remote:
    (tmp_path / "content").write_text(content, encoding="utf-8")
    place.copy_from(tmp_path / "content")
    return place


@on_every_store
def test_each_write_does_what_it_does_on_a_disk(store: Store, tmp_path: Path) -> None:
    told = []
    for root in (str(tmp_path / "tables"), store.fresh()):
        tables = catalog(root)
        assert tables.names() == []
        with tables.lease("a test"):
            tables.append(NAME, items(("a", 1), ("b", 2)))
            tables.append(NAME, items(("c", 3)).append_column("note", pa.array(["new"])))
            tables.replace(NAME, items(("d", 2)), Window("at", APRIL + timedelta(days=1), APRIL + timedelta(days=2)))
            tables.upsert(
                "ops.releases", pa.table({"as_of": pa.array([APRIL], pa.timestamp("us")), "code": ["x"]}), ["as_of"]
            )
            tables.upsert(
                "ops.releases", pa.table({"as_of": pa.array([APRIL], pa.timestamp("us")), "code": ["y"]}), ["as_of"]
            )
            tables.delete(NAME, Among("item", ["a"]))
            tables.compact(NAME, timedelta(days=7))
        rows = sorted(tables.read(NAME).to_pylist(), key=lambda row: str(row["item"]))
        later = tables.read(NAME, ["item"], Window("at", APRIL + timedelta(days=2))).to_pylist()
        history = [commit["operation"] for commit in tables.history(NAME)]
        told.append((tables.names(), rows, later, history, tables.count(NAME), tables.read("ops.releases").to_pylist()))
        with pytest.raises(MissingTableError, match=r"prod has no table silver\.other yet"):
            tables.snapshot("silver.other")
    assert told[0] == told[1]
    assert [row["item"] for row in told[0][1]] == ["c", "d"]


@on_every_store
def test_a_query_reads_the_columns_and_rows_that_it_asks_for(store: Store) -> None:
    tables = catalog(store.fresh())
    tables.append(NAME, items(*((f"item {number}", number) for number in range(1000))))
    tables.append(NAME, items(("late", 5000)).append_column("note", pa.array(["new"])))
    engine = DuckDb(tables.snapshot)
    found = engine.query(f"SELECT item, note FROM {NAME} WHERE amount >= 999 ORDER BY amount").arrow().to_pylist()
    assert found == [{"item": "item 999", "note": None}, {"item": "late", "note": "new"}]
    query = engine.query(f"SELECT sum(amount) FROM {NAME} WHERE amount > 990")
    with query._run(f"EXPLAIN {query._sql}") as plan:
        text = str(plan.fetchall())
    assert 'Filters: "amount" > 990' in text
    assert "item" not in text.replace("silver.items", "")


@on_every_store
def test_no_commit_of_several_processes_is_lost(store: Store) -> None:
    root = store.fresh()
    code = """
import sys, pyarrow as pa
from pathlib import Path
from mlplatform.storage.catalog import open_catalog
tables = open_catalog(Path("."), sys.argv[1], owner="prod", reader="prod")
for number in range(6):
    tables.append("silver.items", pa.table({"item": [f"{sys.argv[2]}-{number}"]}))
"""
    catalog(root).append(NAME, pa.table({"item": ["first"]}))
    command = [sys.executable, "-c", code, root]
    writers = [
        subprocess.Popen([*command, str(number)], env=environment(), stderr=subprocess.PIPE) for number in range(3)
    ]
    said = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0], said
    found = catalog(root).read(NAME)["item"].to_pylist()
    assert sorted(found) == sorted(["first", *(f"{writer}-{number}" for writer in range(3) for number in range(6))])
    assert DeltaTable(f"{root}/silver/items").version() == 18


@on_every_store
def test_one_holder_at_a_time_has_the_lease(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    root, inside = store.fresh(), []

    def hold(number: int) -> None:
        with catalog(root).lease(f"holder {number}"):
            inside.append(number)
            assert len(inside) == 1
            time.sleep(0.2)
            inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(hold, range(4)))
    assert "has the tables of prod" in capsys.readouterr().err


@on_every_store
def test_what_failed_with_the_lease_leaves_no_lease_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "EXPIRES", 1.0)
    tables = catalog(store.fresh())
    with pytest.raises(KeyError), tables.lease("featurize"):
        raise KeyError
    time.sleep(1.5)
    tables.append(NAME, items(("a", 1)))
    assert tables.read(NAME).num_rows == 1


@on_every_store
def test_tables_that_were_copied_from_a_disk_with_its_lock_have_a_lease(store: Store, tmp_path: Path) -> None:
    root = store.fresh()
    with catalog(str(tmp_path / "tables")).lease("maintain"):
        pass
    Remote(root).copy_from(tmp_path / "tables")
    with catalog(root).lease("maintain"):
        catalog(root).append(NAME, items(("a", 1)))


@on_every_store
def test_the_lease_of_a_holder_who_died_is_free_when_it_expires(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    root = store.fresh()
    code = """
import os, sys
from pathlib import Path
from mlplatform.storage.catalog import open_catalog
held = open_catalog(Path("."), sys.argv[1], owner="prod", reader="prod").lease("the dead")
held.__enter__()
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code, root], env=environment(), check=True)
    monkeypatch.setattr(lease, "EXPIRES", 2.0)
    clock = time.monotonic()
    with catalog(root).lease("the next"):
        assert time.monotonic() - clock > 2


@on_every_store
def test_a_holder_that_renews_its_lease_keeps_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "EXPIRES", 1.5)
    root, order = store.fresh(), []

    def hold() -> None:
        with catalog(root).lease("second"):
            order.append("second")

    with catalog(root).lease("first"):
        other = threading.Thread(target=hold)
        other.start()
        time.sleep(4)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


def test_a_holder_that_was_stopped_for_too_long_writes_nothing_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = store.fresh()
    monkeypatch.setattr(lease, "EXPIRES", 1.0)
    monkeypatch.setattr(lease.Lease, "_renew", lambda self: None)
    stopped = catalog(root)
    with stopped.lease("the sleeper"):
        stopped.append(NAME, items(("a", 1)))
        with catalog(root).lease("the next"), pytest.raises(StorageError, match="the sleeper could not renew"):
            stopped.append(NAME, items(("b", 2)))
    assert catalog(root).count(NAME) == 1
    with catalog(root).lease("one more"):  # the sleeper has not given back what was not its own
        pass


@on_every_store
def test_deliveries_are_listed_read_and_told_when_they_change(store: Store, tmp_path: Path) -> None:
    landing = Remote(store.fresh())
    assert look(landing, [ITEMS], MAY).files == {"items": []}
    first = put(landing / "items" / "20130401T000000Z.csv", tmp_path, "a,b\n1,é\n2,x\n")
    put(landing / "items" / "20130402T000000Z.csv", tmp_path, "a,b\n3,x\n4")
    put(landing / "items" / "20130601T000000Z.csv", tmp_path, "a,b\n")
    for name in ("items/a.CSV", "items/more/a.csv", "itmes/a.csv", "stray.csv", ".hidden/a.csv", "items/.b.csv"):
        put(landing / name, tmp_path, "a\n1\n")
    found = look(landing, [ITEMS], MAY)
    assert [(file.name, file.landed_at) for file in found.files["items"]] == [
        ("items/20130401T000000Z.csv", APRIL),
        ("items/20130402T000000Z.csv", APRIL + timedelta(days=1)),
    ]
    assert sorted(found.strangers) == ["items/a.CSV", "items/more", "itmes", "stray.csv"]
    whole, cut = (inspect(file, ITEMS, timedelta(hours=1)) for file in found.files["items"])
    assert whole is not None and cut is not None  # an object appears whole: none waits
    assert [row["b"] for batch in whole.batches() for row in batch.to_pylist()] == ["é", "x"]
    assert [line[2] for line in cut.refused_lines()] == ["4"]
    entry = (whole.size, whole.modified, whole.digest)
    assert not changed(LandedFile(first.again(), APRIL), *entry)
    put(first, tmp_path, "a,b\n1,é\n2,x\n3,y\n")
    assert changed(LandedFile(first.again(), APRIL), *entry)


@on_every_store
def test_each_format_is_read_at_an_address_and_put_back_without_what_is_forgotten(store: Store, tmp_path: Path) -> None:
    landing, parquet = Remote(store.fresh()), pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1, 2]}), parquet)
    contents: dict[Csv | JsonLines | Parquet, bytes] = {
        Csv(encoding="utf-16", compression="gzip"): gzip.compress("a\n1\n2\n".encode("utf-16")),
        JsonLines(): b'{"a": 1}\n{"a": 2}',
        Parquet(): parquet.getvalue().to_pybytes(),
    }
    for kind, content in contents.items():
        known = replace(ITEMS, format=kind)
        (tmp_path / "content").write_bytes(content)
        (landing / "items" / f"20130401T000000Z{kind.suffix}").copy_from(tmp_path / "content")
        for values in (["1", "2"], ["2"]):
            (file,) = look(landing, [known], MAY).files["items"]
            found = inspect(file, known, timedelta(hours=1))
            assert found is not None
            assert [row["a"] for batch in found.batches() for row in batch.to_pylist()] == values
            forget(file, known, lambda _, row: bool(row and row["a"] == "1"), timedelta(), write=True)


def test_an_object_that_changes_while_it_is_read_waits(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing = Remote(store.fresh())
    place = put(landing / "items" / "20130401T000000Z.csv", tmp_path, "a\n1\n")
    (file,) = look(landing, [ITEMS], MAY).files["items"]
    copy = Remote.copy_to

    def late(self: Remote, target: Path) -> None:
        copy(self, target)
        put(place, tmp_path, "a\n1\n2\n")

    with monkeypatch.context() as patch:
        patch.setattr(Remote, "copy_to", late)
        assert inspect(file, ITEMS, timedelta()) is None
    (file,) = look(landing, [ITEMS], MAY).files["items"]
    delivery = inspect(file, ITEMS, timedelta())
    assert delivery is not None and delivery.rows == 2


@on_every_store
def test_what_is_delivered_into_a_copy_lands_in_the_landing_zone(store: Store, tmp_path: Path) -> None:
    landing = Remote(store.fresh())
    for text in ("a\n1\n", "a\n1\n2\n"):
        with delivering(landing) as folder:
            (folder / "items").mkdir(exist_ok=True)
            assert [path.read_text(encoding="utf-8") for path in folder.rglob("*.csv")] in ([], ["a\n1\n"])
            (folder / "items" / "a b.csv").write_text(text, encoding="utf-8")
    (file,) = landing.files()
    file.copy_to(tmp_path / "back")
    assert (str(file), (tmp_path / "back").read_text(encoding="utf-8")) == (f"{landing}/items/a b.csv", text)


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_a_store_that_refuses_is_told_in_one_line(store: Store, tmp_path: Path) -> None:
    nowhere = "s3://no-such-bucket/tables"
    for act in (
        lambda: catalog(nowhere).read(NAME),
        lambda: catalog(nowhere).append(NAME, items(("a", 1))),
        lambda: catalog(nowhere).lease("a test").__enter__(),
        lambda: Remote(f"{nowhere}/a.csv").copy_to(tmp_path / "a.csv"),
    ):
        with pytest.raises(StorageError, match=r"s3://no-such-bucket/tables") as error:
            act()
        assert len(str(error.value).splitlines()) == 1
        assert "\x1b" not in str(error.value)  # Delta's kernel speaks in colours


def test_a_store_that_ignores_conditions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind(BaseHTTPRequestHandler):
        """Keeps whatever comes last."""

        def do_GET(self) -> None:
            self.send_error(404)

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("ETag", '"same"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Blind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        access = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
        for name, value in {**access, "AWS_ALLOW_HTTP": "true"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        with (
            pytest.raises(StorageError, match="does not honour conditional writes"),
            catalog("s3://blind/prod").lease("a"),
        ):
            pass
        server.shutdown()
