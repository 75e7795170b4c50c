"""Addresses, and which rows a write is about: neither can mean more than it says."""

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from mlplatform.errors import ConfigError
from mlplatform.storage.address import Remote, place
from mlplatform.storage.catalog import Among, Window, load, open_catalog

NOON = datetime(2013, 4, 1, 12)
DAY = timedelta(days=1)


def test_a_window_has_the_limits_that_it_is_given() -> None:
    assert Window("at").predicate() == "true"
    assert Window("at", after=NOON).predicate() == "at > '2013-04-01 12:00:00'"
    both = Window("at", NOON, NOON + DAY)
    assert both.predicate("TIMESTAMP ") == (
        "at > TIMESTAMP '2013-04-01 12:00:00' AND at <= TIMESTAMP '2013-04-02 12:00:00'"
    )


@pytest.mark.parametrize("after", [None, NOON - 400 * DAY, NOON - 3 * DAY, NOON - DAY], ids=str)
def test_backwards_a_window_comes_in_parts_that_grow_and_follow_one_another(after: datetime | None) -> None:
    parts = list(Window("at", after, NOON).backwards())
    assert parts[0].until == NOON
    assert parts[-1].after == after
    assert all(newer.after == older.until for newer, older in pairwise(parts))
    if after != NOON - DAY:
        assert parts[0].after == NOON - DAY
    spans = [part.until - part.after for part in parts if part.until and part.after]
    assert spans[:-1] == sorted(spans[:-1])


def test_backwards_a_window_without_an_end_stays_whole() -> None:
    assert list(Window("at").backwards()) == [Window("at")]


def test_values_are_quoted_and_none_means_no_row() -> None:
    assert Among("item", ["a", "it's"]).predicate() == "item IN ('a', 'it''s')"
    assert Among("item", []).predicate() == "false"


@pytest.mark.parametrize(
    "address", ["s3://bucket/prod", "abfss://box@account.dfs.core.windows.net/prod", "gs://bucket"]
)
def test_an_address_is_a_place_on_an_object_store(tmp_path: Path, address: str) -> None:
    assert place(tmp_path, f"{address}/", "lakehouse.root") == Remote(address)
    assert str(Remote(address) / "items.csv") == f"{address}/items.csv"


@pytest.mark.parametrize("address", ["http://host/prod", "wasbs://box@account/prod", "hdfs://host/prod"])
def test_an_address_that_is_not_supported_is_refused_with_its_setting(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match=r"lakehouse\.root: \w+:// is not supported \(choose from: a folder, s3://"):
        open_catalog(tmp_path, address, owner="prod", reader="prod")


@pytest.mark.parametrize(
    "address", ["s3://key:secret@bucket/prod", "gs://me@bucket", "abfss://box@a:b@c/prod", "s3://b/c?sig=d"]
)
def test_an_address_with_credentials_is_refused_and_not_repeated(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match=r"lakehouse\.landing: an address holds no credentials") as error:
        place(tmp_path, address, "lakehouse.landing")
    assert address not in str(error.value)


@pytest.mark.parametrize("name", ["a[b]", "it's", "a|b", "a^b", "a\\b", "a%20b", "a\nb"])
def test_a_folder_below_which_nothing_can_be_stored_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="Delta and MLflow store nothing below"):
        open_catalog(tmp_path / name, "data/prod", owner="prod", reader="prod")


def test_a_member_is_loaded_by_its_name_and_an_unknown_one_refused_with_those_there_are() -> None:
    assert load({"windows": "mlplatform.storage.catalog:Window"}, "windows", "lakehouse.engine") is Window
    with pytest.raises(ConfigError, match=r"lakehouse\.engine: 'fast' is not supported here \(choose from: windows\)"):
        load({"windows": "mlplatform.storage.catalog:Window"}, "fast", "lakehouse.engine")
