"""A lint for owners' SQL: it refuses what means something else, in silence, on DuckDB and on Spark."""

import re
from collections.abc import Iterator

_INTEGERS = {"TINYINT", "SMALLINT", "INT", "INTEGER", "BIGINT", "LONG"}
# Each pattern is looked for in the code without comments and texts.
_REFUSED = {
    r"\bQUALIFY\b": "QUALIFY: Spark has none; number the rows in a subquery",
    r"\bASOF\b": "ASOF: joins as of a time are the engine's job",
    r"//": "//: Spark has none; floor the quotient",
    r"::": "::: write CAST, which is checked",
    r"\?|\$\w+|(?<!:):\w+|\{": "parameter: the engine shows each table as it was known, SQL takes none",
    r"\blog\s*\(": "log: natural on Spark, decimal on DuckDB; write ln or log10",
    r"\bto_timestamp\s*\(": "to_timestamp: reads text on Spark, seconds on DuckDB; write to_utc or timestamp_seconds",
}


def problems(sql: str) -> list[str]:
    """What in `sql` gives other results, or none, on the other engine, and what to write instead."""
    code = re.sub(r"--[^\n]*|/\*.*?\*/", " ", sql, flags=re.DOTALL)
    code = re.sub(r"'(?:[^']|'')*'", "''", code)
    found = [message for pattern, message in _REFUSED.items() if re.search(pattern, code, re.IGNORECASE)]
    found += [
        f"ORDER BY {item}: nulls come last on DuckDB and first on Spark; say NULLS FIRST or NULLS LAST"
        for item in _order_items(code)
        if not re.search(r"\bNULLS\s+(FIRST|LAST)\b", item, re.IGNORECASE)
    ]
    found += [
        f"{whole}.{part}: a DECIMAL, whose averages are rounded on Spark; write {int(whole + part)}e-{len(part)}"
        for whole, part in re.findall(r"(?<![\w.])(\d+)\.(\d+)(?![\de])", code)[:1]
    ]
    found += [
        f"CAST({value} AS {kind}): 2.5 becomes 3 on DuckDB and 2 on Spark; floor it first "
        f"(where it is text: floor(TRY_CAST({value} AS DOUBLE)))"
        for value, kind in _casts(code)
        if kind.upper() in _INTEGERS and not re.match(r"floor\s*\(", value, re.IGNORECASE)
    ]
    found += [
        f"CAST({value} AS {kind}): drops an offset or zone on DuckDB and applies it on Spark; write to_utc({value})"
        for value, kind in _casts(code)
        if kind.upper().startswith(("TIMESTAMP", "DATETIME"))
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
