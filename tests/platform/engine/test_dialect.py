"""The SQL of an owner means the same on DuckDB and on Spark: a lint for what differs in silence, and the macros."""

from datetime import datetime
from pathlib import Path

import pytest

import tiny
from mlplatform.engine.duckdb import DuckDb
from mlplatform.engine.lint import problems
from traps import ROWS, TRAPS, TRAPS_IN_ROWS

TINY = Path(str(tiny.__file__)).parent
# In the template also the SQL of its samples, each of which some owner starts from.
SAMPLES = TINY.parents[2] / "{{cookiecutter.project_slug}}" / "options"
FILES = sorted([*TINY.rglob("*.sql"), *SAMPLES.rglob("*.sql")])


def test_the_lint_reads_all_sql() -> None:
    assert {file.parent.name for file in FILES} == {"sql", "silver", "features"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: "/".join(file.parts[-6:]))
def test_sql_means_the_same_on_both_engines(file: Path) -> None:
    assert problems(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sum(x) OVER (PARTITION BY k ORDER BY t)",
        "SELECT sum(x) OVER (ORDER BY t NULLS LAST, u RANGE BETWEEN INTERVAL 60 SECONDS PRECEDING AND CURRENT ROW)",
        "SELECT sum(x ORDER BY coalesce(t, u) DESC)",
        "SELECT * FROM a ORDER BY t LIMIT 3",
        "SELECT CAST(x * 2 AS INT)",
        "SELECT TRY_CAST(substr(x, 1, 2) AS BIGINT)",
        "SELECT cast(coalesce(floor(x), y) AS integer)",
        "SELECT CAST(CAST(x AS DOUBLE) AS\n    INT)",
        "SELECT x::INT",
        "SELECT a / b",
        "SELECT a / (b + 1)",
        "SELECT a / sum(b) OVER ()",
        "SELECT a / 0",
        "SELECT a % b",
        "SELECT a // 2",
        "SELECT * FROM a QUALIFY row_number() OVER (ORDER BY t NULLS LAST) = 1",
        "SELECT * FROM a ASOF JOIN b ON a.t >= b.t",
        "SELECT * FROM a WHERE t > $since",
        "SELECT * FROM a WHERE t > :since",
        "SELECT * FROM a WHERE t > ?",
        "SELECT * FROM a WHERE t > {since}",
        "SELECT CAST(published_at AS TIMESTAMP)",
        "SELECT TRY_CAST(a || ' ' || b AS timestamp_ntz)",
        "SELECT to_timestamp(published_at)",
        "SELECT datediff(current_date, t)",
        "SELECT x FROM a WHERE random() < 5e-1",
        "SELECT k, first(x) FROM a GROUP BY k",
        "SELECT split(x, y)",
        "SELECT x FROM a WHERE y = 'C:\\'",
        "SELECT coalesce(x, (SELECT CONCAT (a, b) FROM c))",
        "SELECT avg(CASE WHEN late THEN 1.0 ELSE 0.0 END)",
    ],
)
def test_the_lint_refuses(sql: str) -> None:
    assert len(problems(sql)) == 1


def test_the_lint_quotes_what_stands_there() -> None:
    cast, order = problems("SELECT TRY_CAST( `No. 1` AS INT),\n'x' FROM b ORDER BY c NULLS LAST, lower('D''s e')")
    assert cast[1].startswith("CAST(`No. 1` AS INT): ")
    assert order[0] == 2 and order[1].startswith("ORDER BY lower('D''s e'): nulls ")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sum(x) OVER (PARTITION BY k ORDER BY t NULLS LAST ROWS UNBOUNDED PRECEDING), y / nullif(z, 0)",
        "SELECT x -- a / b, QUALIFY, what?\nFROM a /* ORDER BY x */ ORDER BY greatest(x, y) DESC NULLS LAST",
        "SELECT CAST(floor(x) AS INT), CAST(x AS DOUBLE), x / 60, x % 7, x / 1e3, 'a / b: ''?''', 5e-1, count(*)",
        "SELECT x['a'], split(x, ':'), `concat(x)`, left(x, 2), '2^3', concat_ws(',', x) -- concat(x), '\\d'",
        "SELECT first(x) OVER (ORDER BY t NULLS LAST), now, t.current_date, 'now()', `random()` FROM a",
        "SELECT round(x), date_trunc('hour', t), TIMESTAMP '2025-01-01 00:00:00Z', CAST(x AS DECIMAL(9, 2))",
        "SELECT `a / b`, `c::d`, `it's // 1.5?`, `log (x)`, `qualify`, t.\"order by x\", '\"' FROM a",
    ],
)
def test_the_lint_accepts(sql: str) -> None:
    assert problems(sql) == []


def value(expression: str) -> object:
    return DuckDb().query(f"SELECT {expression} AS value").arrow()["value"][0].as_py()


@pytest.mark.parametrize(
    ("refused", "instead", "expected"),
    [*TRAPS, *((*(f"(SELECT {sql} FROM {ROWS})" for sql in pair), given) for *pair, given in TRAPS_IN_ROWS)],
)
def test_the_lint_refuses_what_differs_and_says_what_does_not(refused: str, instead: str, expected: object) -> None:
    assert len(problems(f"SELECT {refused}")) == 1
    assert problems(f"SELECT {instead}") == []
    assert value(instead) == expected


@pytest.mark.parametrize(
    ("local", "utc"),
    [
        ("2013-01-01 05:00:00", datetime(2013, 1, 1, 10)),
        ("2013-07-01 05:00:00", datetime(2013, 7, 1, 9)),
        ("2013-03-10 01:59:59", datetime(2013, 3, 10, 6, 59, 59)),
        ("2013-03-10 02:30:00", datetime(2013, 3, 10, 7, 30)),
        ("2013-03-10 03:00:00", datetime(2013, 3, 10, 7)),
        ("2013-11-03 00:59:59", datetime(2013, 11, 3, 4, 59, 59)),
        ("2013-11-03 01:30:00", datetime(2013, 11, 3, 5, 30)),
        ("2013-11-03 02:00:00", datetime(2013, 11, 3, 7)),
    ],
)
def test_local_time_becomes_utc_as_on_spark(local: str, utc: datetime) -> None:
    """02:30 does not exist on the tenth of March and means 03:30; of two 01:30 in November the first is meant."""
    assert value(f"to_utc_timestamp(TIMESTAMP '{local}', 'America/New_York')") == utc


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2025-01-01T06:00:00-05:00", datetime(2025, 1, 1, 11)),
        ("2025-01-01 06:00:00+0530", datetime(2025, 1, 1, 0, 30)),
        ("2025-01-01T06:00-05", datetime(2025, 1, 1, 11)),
        ("2025-01-01T06:00:00.123456789Z", datetime(2025, 1, 1, 6, 0, 0, 123456)),
        (" 2025-01-01 06:00:00 ", datetime(2025, 1, 1, 6)),
        ("2025-01-01", datetime(2025, 1, 1)),
        ("2025-01-01T06:00:00+18:00", datetime(2024, 12, 31, 12)),
    ],
)
def test_text_with_an_offset_becomes_utc(text: str, utc: datetime) -> None:
    assert value(f"to_utc('{text}')") == utc


@pytest.mark.parametrize(
    "text",
    [
        *("2025-01-01T06:00:00 America/New_York", "2025-01-01T06:00:00+19:00", "2025-01-01T06:00:00 +02:00"),
        *("2025-01-01T0", "2025-01-01T06:0", "2025-01-01T24:00:00", "2025-02-30", "20250101", "06:00"),
        *("infinity", "epoch", "now", "today", "", "1735711200"),
    ],
)
def test_text_that_the_engines_read_differently_is_no_time(text: str) -> None:
    assert value(f"to_utc('{text}')") is None


def test_utc_becomes_local_time() -> None:
    for hour in (5, 6):
        moment = f"TIMESTAMP '2013-11-03 0{hour}:30:00'"
        assert value(f"from_utc_timestamp({moment}, 'America/New_York')") == datetime(2013, 11, 3, 1, 30)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("dayofweek(TIMESTAMP '2013-03-10 00:00:00')", 1),
        ("dayofweek(TIMESTAMP '2013-03-09 23:59:59')", 7),
        ("weekday(TIMESTAMP '2013-03-10 00:00:00')", 6),
        ("unix_timestamp(TIMESTAMP '2013-03-10 00:00:01.9')", 1362873601),
        ("timestamp_seconds(1362873601.5)", datetime(2013, 3, 10, 0, 0, 1, 500000)),
        ("datediff(TIMESTAMP '2013-03-10 00:00:00', TIMESTAMP '2013-03-08 23:00:00')", 2),
        ("unix_timestamp(TIMESTAMP '1969-12-31 23:59:58.5')", -1),
        ("regexp_replace('aa', 'a', 'b')", "ba"),
        ("regexp_replace('aA', 'a', 'b', 'gi')", "bb"),
        ("try_divide(1, 0)", None),
        ("try_divide(1, 4)", 0.25),
    ],
)
def test_a_function_gives_what_spark_gives(expression: str, expected: object) -> None:
    assert value(expression) == expected


def test_what_to_write_instead_is_said_in_terms_of_what_is_there() -> None:
    ((line, literal),) = problems("SELECT 'a\n--b' -- 1.5 / c\n, avg(a) * 12.50 AS a FROM t")
    assert line == 3
    assert literal.startswith("12.50: ") and literal.endswith("write 1250e-2")
    ((_, cast),) = problems("SELECT TRY_CAST(id AS BIGINT) AS id FROM bronze.t")
    assert "floor(TRY_CAST(id AS DOUBLE))" in cast
    assert problems("SELECT TRY_CAST(floor(TRY_CAST(id AS DOUBLE)) AS BIGINT) AS id, 1250e-2 AS a FROM bronze.t") == []
