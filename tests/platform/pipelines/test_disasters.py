"""Disks that are full or read-only, damaged files, a locked registry, a clock set back: one message, nothing lost, and
the same command works once the cause is gone."""

import resource
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from mlplatform.environment import Environment
from mlplatform.errors import StorageError, UserError
from mlplatform.monitoring.dashboard import publish
from mlplatform.pipelines.deploy import deploy
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.ingest import ingest
from mlplatform.storage.ops import RUNS
from steps import advance, forbidden, read
from tiny.deliveries import land

LoadEnv = Callable[..., Environment]
Duplicate = Callable[[Path, Path], Path]
DAY = timedelta(days=1)
BY_THE_WAY = ("ingested_at", "scored_at", "run_id", "source_file", "source_row")
TABLES = ("silver.items", "silver.outcomes", "features.kind_history", "features.kind_arrivals", "predictions.tiny")


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may be larger than `size` bytes."""
    before, said = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, said)


@pytest.fixture
def undisturbed(project: Path, tmp_path: Path, duplicate: Duplicate, load_env: LoadEnv, now: datetime) -> Environment:
    """What prod holds a day later, where nothing goes wrong."""
    env = load_env("prod", duplicate(project, tmp_path / "undisturbed"))
    advance(env, now + DAY)
    infer(env, now + DAY)
    return env


def assert_mended(env: Environment, undisturbed: Environment, until: datetime) -> None:
    """The same commands end as if nothing had been."""
    ingest(env, until)
    featurize(env, until)
    infer(env, until)
    for name in TABLES:
        ours, theirs = (read(of, name).drop(*BY_THE_WAY, strict=False) for of in (env, undisturbed))
        assert_frame_equal(ours, theirs, check_row_order=False)


@pytest.mark.parametrize("size", [10, 400, 1500, 4000])
def test_a_full_disk_loses_nothing(prod: Environment, undisturbed: Environment, now: datetime, size: int) -> None:
    later = now + DAY
    land(prod.landing, later)
    prod.code  # noqa: B018 git writes no file of ours
    with full_disk(size), pytest.raises(StorageError, match=r"The disk is full\. Nothing is lost: make room"):
        for pipeline in (ingest, featurize, infer):
            pipeline(prod, later)
    assert_mended(prod, undisturbed, later)


def test_what_went_wrong_first_is_told_also_where_the_run_cannot_be_recorded(prod: Environment, now: datetime) -> None:
    with full_disk(10), pytest.raises(ZeroDivisionError, match="the cause"), prod.run("ingest", now):
        raise ZeroDivisionError("the cause")


def test_a_folder_that_is_read_only_loses_nothing(
    prod: Environment, undisturbed: Environment, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(prod.landing, now + DAY)
    assert prod.code
    with monkeypatch.context() as patch, pytest.raises(StorageError, match=r"^temporary files: .*\. Let TMPDIR name"):
        patch.setattr("tempfile.tempdir", str(prod.folder / "nowhere"))
        ingest(prod, now + DAY)
    with forbidden(prod.reports), pytest.raises(StorageError, match=r"Its rights or its mount forbid it\. Nothing"):
        ingest(prod, now + DAY)
    with full_disk(400), pytest.raises(StorageError, match=r"dashboard\.html: .*The disk is full"):
        publish(prod)
    assert_mended(prod, undisturbed, now + DAY)


@pytest.mark.parametrize("how", ["cut", "emptied", "deleted"])
@pytest.mark.parametrize("what", ["*.parquet", "_delta_log/*.json"])
def test_a_damaged_table_is_named_and_works_once_its_file_is_back(
    prod: Environment, undisturbed: Environment, now: datetime, what: str, how: str
) -> None:
    later, table = now + DAY, prod.reports / "silver" / "items"
    advance(prod, now + DAY / 2)
    land(prod.landing, later)
    damaged = min(table.glob(what)) if how == "deleted" else max(table.glob(what))
    content = damaged.read_bytes()
    if how == "deleted":
        damaged.unlink()
    else:
        damaged.write_bytes(content[: len(content) // 2] if how == "cut" else b"")
    with pytest.raises(UserError, match="silver/items"):
        ingest(prod, later)
    damaged.write_bytes(content)
    assert_mended(prod, undisturbed, later)


def test_a_registry_that_is_locked_or_read_only_loses_nothing(
    trained: Path, tmp_path: Path, duplicate: Duplicate, load_env: LoadEnv, now: datetime
) -> None:
    prod = load_env("prod", duplicate(trained, tmp_path / "locked"))
    (database,) = (prod.folder / "data" / "mlflow").glob("*.db")
    with closing(sqlite3.connect(database)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match=r"MLflow's database: database is locked. Nothing is lost"):
            deploy(prod, now)
    assert prod.code
    for path in [prod.reports, *prod.reports.rglob("*")]:
        path.chmod(0o777)  # tables may be written, models may not
    told = r"MLflow's database: .*Permission denied: .*Nothing is lost"
    with forbidden(database.parent), pytest.raises(StorageError, match=told):
        deploy(prod, now)
    assert "version 1 promoted" in "".join(deploy(load_env("prod", prod.folder), now).notes)


def test_a_clock_that_is_set_back_changes_nothing(prod: Environment, now: datetime) -> None:
    before = {name: read(prod, name) for name in prod.catalog.names() if name != RUNS}
    advance(prod, now - DAY)
    infer(prod, now - DAY)
    for name, rows in before.items():
        assert_frame_equal(read(prod, name), rows, check_row_order=False)
