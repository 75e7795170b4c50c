"""The SQL of the use case means the same on DuckDB and on Spark: a lint for what differs in silence, and the macros."""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

import {{ cookiecutter.package_name }} as package
from {{ cookiecutter.package_name }}.lakehouse.duckdb_engine import DuckDb

PACKAGE = Path(package.__file__).parent
# The macros themselves are DuckDB's alone.
FILES = sorted(file for file in PACKAGE.rglob("*.sql") if file.name != "dialect.sql")

INTEGERS = {"TINYINT", "SMALLINT", "INT", "INTEGER", "BIGINT", "LONG"}
REFUSED = {
    r"\bQUALIFY\b": "QUALIFY: Spark has none; number the rows in a subquery",
    r"\bASOF\b": "ASOF: joins as of a time are the engine's job",
    r"//": "//: Spark has none; floor the quotient",
    r"::": "::: write CAST, which is checked",
    r"\?|\$\w+|(?<!:):\w+|\{": "parameter: the engine shows each table as it was known, SQL takes none",
    r"\blog\s*\(": "log: natural on Spark, decimal on DuckDB; write ln or log10",
    r"(?<![\w.])\d+\.\d+(?![\de])": "DECIMAL literal: its averages are rounded on Spark; write 0.5 as 5e-1",
}


def problems(sql: str) -> list[str]:
    """What in `sql` gives other results, or none, on the other engine."""
    code = re.sub(r"--[^\n]*|/\*.*?\*/", " ", sql, flags=re.DOTALL)
    code = re.sub(r"'(?:[^']|'')*'", "''", code)
    found = [message for pattern, message in REFUSED.items() if re.search(pattern, code, re.IGNORECASE)]
    found += [
        f"ORDER BY {item}: nulls come last on DuckDB and first on Spark; say NULLS FIRST or NULLS LAST"
        for item in _order_items(code)
        if not re.search(r"\bNULLS\s+(FIRST|LAST)\b", item, re.IGNORECASE)
    ]
    found += [
        f"CAST({value} AS {kind}): 2.5 becomes 3 on DuckDB and 2 on Spark; floor it first"
        for value, kind in _casts(code)
        if kind.upper() in INTEGERS and not re.match(r"floor\s*\(", value, re.IGNORECASE)
    ]
    found += [
        f"{operator} {divisor}: by zero gives null, infinity or an error; divide by nullif(..., 0) or a number"
        for operator, divisor in re.findall(r"(?<!/)([/%])(?!/)\s*(nullif\s*\(|[^\s,()]*)", code, re.IGNORECASE)
        if not divisor.endswith("(") and not _is_nonzero(divisor)
    ]
    return found


def _is_nonzero(divisor: str) -> bool:
    try:
        return float(divisor) != 0
    except ValueError:
        return False


def _casts(code: str) -> Iterator[tuple[str, str]]:
    for match in re.finditer(r"\b(?:TRY_)?CAST\s*\(", code, re.IGNORECASE):
        *value, kind = re.split(r"\bAS\b", _up_to_close(code[match.end() :]), flags=re.IGNORECASE)
        yield "AS".join(value).strip(), kind.strip()


def _order_items(code: str) -> Iterator[str]:
    for match in re.finditer(r"\bORDER\s+BY\b", code, re.IGNORECASE):
        clause = _up_to_close(code[match.end() :])
        clause = re.split(r"\b(?:ROWS|RANGE|LIMIT|UNION)\b|;", clause, maxsplit=1, flags=re.IGNORECASE)[0]
        yield from (item.strip() for item in _split(clause))


def _up_to_close(text: str) -> str:
    """`text` up to the bracket that closes the one before it, or all of it."""
    depth = 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return text[:position]
    return text


def _split(clause: str) -> Iterator[str]:
    """The parts between commas that are in no brackets."""
    depth, start = 0, 0
    for position, character in enumerate(clause):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            yield clause[start:position]
            start = position + 1
    yield clause[start:]


def test_the_lint_reads_all_sql() -> None:
    assert {file.parent.name for file in FILES} >= {"usecase", "silver_sql", "feature_sql"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_sql_means_the_same_on_both_engines(file: Path) -> None:
    assert problems(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sum(x) OVER (PARTITION BY k ORDER BY t)",
        "SELECT sum(x) OVER (ORDER BY t NULLS LAST, u RANGE BETWEEN INTERVAL 60 SECONDS PRECEDING AND CURRENT ROW)",
        "SELECT array_agg(x ORDER BY coalesce(t, u) DESC)",
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
        "SELECT log(x)",
        "SELECT avg(CASE WHEN late THEN 1.0 ELSE 0.0 END)",
    ],
)
def test_the_lint_refuses(sql: str) -> None:
    assert len(problems(sql)) == 1


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sum(x) OVER (PARTITION BY k ORDER BY t NULLS LAST ROWS UNBOUNDED PRECEDING), y / nullif(z, 0)",
        "SELECT x -- a / b, QUALIFY, what?\nFROM a /* ORDER BY x */ ORDER BY greatest(x, y) DESC NULLS LAST",
        "SELECT CAST(floor(x) AS INT), CAST(x AS DOUBLE), x / 60, x % 7, x / 1e3, 'a / b: ''?''', 5e-1, count(*)",
    ],
)
def test_the_lint_accepts(sql: str) -> None:
    assert problems(sql) == []


def value(expression: str) -> object:
    return DuckDb().query(f"SELECT {expression} AS value")["value"][0].as_py()


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
        ("try_divide(1, 0)", None),
        ("try_divide(1, 4)", 0.25),
    ],
)
def test_a_function_gives_what_spark_gives(expression: str, expected: object) -> None:
    assert value(expression) == expected
