"""The sample's clock: each fact lands once, when it was known."""

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from mlplatform.errors import UserError

from {{ cookiecutter.package_name }} import deliveries
from {{ cookiecutter.package_name }}.deliveries import PUBLISHED, land

NOON = datetime(2013, 1, 2, 12)


def landed(landing: Path, source: str) -> pl.DataFrame:
    files = sorted((landing / source).glob("*.csv"))
    return pl.concat([pl.read_csv(file, infer_schema=False) for file in files])


def flight(landing: Path, source: str) -> dict[str, str | None]:
    """United 1545: due to leave Newark on the first of January at 05:15, left at 05:17, arrived in Houston at 08:30."""
    rows = landed(landing, source).filter(pl.col("flight") == "1545", pl.col("time_hour") == "2013-01-01T10:00:00Z")
    return rows.row(0, named=True)


def test_each_source_lands_one_file_named_after_its_time(tmp_path: Path) -> None:
    rows = land(tmp_path, NOON)
    assert set(rows) == {"schedule", "weather", "departures", "arrivals"}
    assert sorted(file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()) == sorted(
        f"{source}/20130102T120000Z.csv" for source in rows
    )
    assert rows == {source: landed(tmp_path, source).height for source in rows}


def test_nothing_lands_before_it_was_published(tmp_path: Path) -> None:
    land(tmp_path, NOON)
    for source in PUBLISHED:
        newest = max(landed(tmp_path, source)["published_at"].to_list())
        assert "2013-01-02T11:00:00Z" < newest <= "2013-01-02T12:00:00Z"


def test_a_fact_is_published_when_it_was_known(tmp_path: Path) -> None:
    land(tmp_path, NOON)
    published = {s: flight(tmp_path, s)["published_at"] for s in ("schedule", "departures", "arrivals")}
    assert published == {
        "schedule": "2012-12-31T10:15:00Z",
        "departures": "2013-01-01T10:17:00Z",
        "arrivals": "2013-01-01T14:34:00Z",
    }
    observed = landed(tmp_path, "weather").row(0, named=True)
    assert (observed["time_hour"], observed["published_at"]) == ("2013-01-01T06:00:00Z", "2013-01-01T07:00:00Z")


def test_the_schedule_says_nothing_about_the_flight(tmp_path: Path) -> None:
    land(tmp_path, NOON)
    outcomes = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"}
    assert not outcomes & set(flight(tmp_path, "schedule"))
    assert not {"arr_time", "arr_delay", "air_time"} & set(flight(tmp_path, "departures"))


def test_a_cancelled_flight_neither_departs_nor_arrives(tmp_path: Path) -> None:
    rows = land(tmp_path, datetime(2014, 2, 1))
    assert rows == {"schedule": 336_776, "weather": 26_115, "departures": 328_521, "arrivals": 327_346}


def test_many_landings_make_one(tmp_path: Path) -> None:
    stops = [datetime(2013, 1, 1, 10, 17), datetime(2013, 1, 1, 18, 0, 30), NOON]
    land(tmp_path / "once", NOON)
    for stop in stops:
        land(tmp_path / "often", stop)
    for source in PUBLISHED:
        assert len(list((tmp_path / "often" / source).iterdir())) == len(stops)
        assert landed(tmp_path / "often", source).equals(landed(tmp_path / "once", source))


def test_landing_again_changes_nothing(tmp_path: Path) -> None:
    land(tmp_path, NOON)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.csv")}
    assert set(land(tmp_path, NOON).values()) == set(land(tmp_path, datetime(2013, 1, 2)).values()) == {0}
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.csv")} == before


def test_an_interval_without_news_moves_the_clock_on(tmp_path: Path) -> None:
    assert set(land(tmp_path, datetime(2012, 12, 1)).values()) == {0}
    header, *rows = (tmp_path / "arrivals" / "20121201T000000Z.csv").read_text().splitlines()
    assert header == "time_hour,carrier,flight,origin,dest,arr_time,arr_delay,air_time,published_at"
    assert rows == []


def test_a_source_that_is_behind_catches_up_alone(tmp_path: Path) -> None:
    first = land(tmp_path, NOON)
    (tmp_path / "weather" / "20130102T120000Z.csv").unlink()
    assert land(tmp_path, NOON) == dict.fromkeys(first, 0) | {"weather": first["weather"]}


def test_files_of_others_do_not_stop_the_clock(tmp_path: Path) -> None:
    (tmp_path / "weather").mkdir()
    (tmp_path / "weather" / "corrections.csv").write_text("origin\n")
    assert land(tmp_path, NOON)["weather"] > 0


def test_a_missing_value_is_empty(tmp_path: Path) -> None:
    land(tmp_path, NOON)
    lines = (tmp_path / "weather" / "20130102T120000Z.csv").read_text()
    assert ",," in lines and "NA" not in lines


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "find_spec", lambda name: None)
    deliveries._read.cache_clear()
    with pytest.raises(UserError, match="make setup"):
        land(tmp_path, NOON)
