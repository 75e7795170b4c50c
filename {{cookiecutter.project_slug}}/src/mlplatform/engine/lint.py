"""A lint for owners' SQL: it refuses what means something else, in silence, on DuckDB and on Spark."""

import json
import re
from collections.abc import Iterator
from typing import Any

import duckdb

_Node = dict[str, Any]  # of DuckDB's parse tree

_INTEGERS = {"TINYINT", "SMALLINT", "INT", "INTEGER", "BIGINT", "LONG"}
# Each pattern is looked for in the code without comments and texts.
_REFUSED = {
    r"(?<![`\"])\bQUALIFY\b": "QUALIFY: Spark has none; number the rows in a subquery",
    r"(?<![`\"])\bASOF\b": "ASOF: joins as of a time are the engine's job",
    r"//": "//: Spark has none; floor the quotient",
    r"::": "::: write CAST, which is checked",
    r"\?|\$\w+|(?<!:):\w+|\{": "parameter: the engine shows each table as it was known, SQL takes none",
    r"\blog\s*\(": "log: natural on Spark, decimal on DuckDB; write ln or log10",
    r"\bto_timestamp\s*\(": "to_timestamp: reads text on Spark, seconds on DuckDB; write to_utc or timestamp_seconds",
}


def problems(sql: str) -> list[tuple[int, str]]:
    """What in `sql` gives other results, or none, on the other engine, by line, and what to write instead."""
    code = plain(sql)
    found = [(m.start(), why) for pattern, why in _REFUSED.items() if (m := re.search(pattern, code, re.IGNORECASE))]
    found += [
        (at, f"ORDER BY {sql[begin:end]}: nulls come last on DuckDB and first on Spark; say NULLS FIRST or NULLS LAST")
        for at, begin, end in _order_items(code)
        if not re.search(r"\bNULLS\s+(FIRST|LAST)\b", code[begin:end], re.IGNORECASE)
    ]
    found += [
        (m.start(), f"{m[0]}: a DECIMAL, whose averages are rounded on Spark; write {int(m[1] + m[2])}e-{len(m[2])}")
        for m in list(re.finditer(r"(?<![\w.])(\d+)\.(\d+)(?![\de])", code))[:1]
    ]
    for at, begin, end, kind in _casts(code):
        value = sql[begin:end].strip()
        if kind.upper() in _INTEGERS and not re.match(r"floor\s*\(", value, re.IGNORECASE):
            floored = f"floor it first (where it is text: floor(TRY_CAST({value} AS DOUBLE)))"
            found.append((at, f"CAST({value} AS {kind}): 2.5 becomes 3 on DuckDB and 2 on Spark; {floored}"))
        if kind.upper().startswith(("TIMESTAMP", "DATETIME")):
            drops = "drops an offset or zone on DuckDB and applies it on Spark"
            found.append((at, f"CAST({value} AS {kind}): {drops}; write to_utc({value})"))
    found += [
        (m.start(), f"{m[1]} {m[2]}: by zero gives null, infinity or an error; divide by nullif(..., 0) or a number")
        for m in re.finditer(r"(?<!/)([/%])(?!/)\s*(nullif\s*\(|[^\s,()]*)", code, re.IGNORECASE)
        if not m[2].endswith("(") and not _is_nonzero(m[2])
    ]
    return [(line_of(sql, at), message) for at, message in sorted(found)]


def texts(sql: str, column: str) -> Iterator[tuple[int, str]]:
    """Texts that a query itself gives as values of a column, each with its line: by CASE, if, COALESCE, UNION or a CTE.

    Where rows are filtered by the column, nothing is said; where they are joined, only of the outermost query.
    """
    tree = list(_nodes(json.loads(duckdb.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()[0][0])))
    items = [item for node in tree for item in node.get("select_list", [])]
    items = [item for item in items if (item["alias"] or item.get("column_names", [""])[-1]) == column]
    filtering = ("where_clause", "having", "qualify", "condition", "using_columns")
    filters = [node.get(part) for node in tree for part in filtering]
    if f'"{column}"' in json.dumps(filters):
        return
    if {"JOIN", "EXCEPT", "INTERSECT"} & {node.get(part) for node in tree for part in ("type", "setop_type")}:
        items = items[:1]
    for text in _values(items):
        yield sql.encode().count(b"\n", 0, text["query_location"]) + 1, text["literal"]["text"]


def _nodes(tree: Any) -> Iterator[_Node]:
    if isinstance(tree, dict):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(part)


def _values(expressions: list[_Node]) -> Iterator[_Node]:
    """The texts among what expressions may turn out to be."""
    for value in expressions:
        match value["type"]:
            case "VALUE_CONSTANT" if value["literal"]["kind"] == "STRING":
                yield value
            case "CASE_EXPR":
                yield from _values([*(check["then_expr"] for check in value["case_checks"]), value["else_expr"]])
            case "OPERATOR_COALESCE":
                yield from _values(value["children"])
            case "FUNCTION" if value["function_name"] == "if":
                yield from _values([argument["expression"] for argument in value["arguments"][1:]])


def plain(sql: str) -> str:
    """The SQL without comments, texts and what is odd in quoted names: each other character stands where it stood."""

    def blot(match: re.Match[str]) -> str:
        text = match[0]
        if text[0] in "'`\"":
            return text[0] + re.sub(r"[^\n]" if text[0] == "'" else r"[^\w\n]", "_", text[1:-1]) + text[0]
        return re.sub(r"[^\n]", " ", text)

    return re.sub(r"--[^\n]*|/\*.*?\*/|(['`\"])(?:(?!\1).|\1\1)*\1", blot, sql, flags=re.DOTALL)


def line_of(sql: str, position: int) -> int:
    return sql.count("\n", 0, position) + 1


def _is_nonzero(divisor: str) -> bool:
    try:
        return float(divisor) != 0
    except ValueError:
        return False


def _casts(code: str) -> Iterator[tuple[int, int, int, str]]:
    """Where each cast is, where its value begins and ends, and the type."""
    for match in re.finditer(r"\b(?:TRY_)?CAST\s*\(\s*", code, re.IGNORECASE):
        inside = _up_to_close(code[match.end() :])
        for last in list(re.finditer(r"\s*(?<![`\"])\bAS\b", inside, re.IGNORECASE))[-1:]:
            yield match.start(), match.end(), match.end() + last.start(), inside[last.end() :].strip()


def _order_items(code: str) -> Iterator[tuple[int, int, int]]:
    """Where each ORDER BY is, and where an item of it begins and ends."""
    for match in re.finditer(r"(?<![`\"])\bORDER\s+BY\b", code, re.IGNORECASE):
        clause = _up_to_close(code[match.end() :])
        clause = re.split(r"\b(?:ROWS|RANGE|LIMIT|UNION)\b|;", clause, maxsplit=1, flags=re.IGNORECASE)[0]
        begin = match.end()
        for item in _split(clause):
            start = begin + len(item) - len(item.lstrip())
            yield match.start(), start, start + len(item.strip())
            begin += len(item) + 1


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
