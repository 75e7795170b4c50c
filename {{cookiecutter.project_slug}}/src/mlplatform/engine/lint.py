"""A lint for owners' SQL: it refuses what means something else, in silence, on DuckDB and on Spark."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import duckdb

_Node = dict[str, Any]  # of DuckDB's parse tree

_INTEGERS = {"TINYINT", "SMALLINT", "INT", "INTEGER", "BIGINT", "LONG"}
_DECIMALS = {"DECIMAL", "NUMERIC", "DEC"}
_DATES = "'2025/01/01' is a date on DuckDB only, '2025' on Spark only"
_ZONED = re.compile(r"\bTIMESTAMP\s*'[^']*:\d\d(\.\d+)?\s*([+-]|[a-z]{2})[^']*'", re.IGNORECASE)
_DROPS = "drops an offset or zone on DuckDB and applies it on Spark"
# Comments, texts and quoted names.
_QUOTED = re.compile(r"--[^\n]*|/\*.*?\*/|(['`\"])(?:(?!\1).|\1\1)*\1", re.DOTALL)
_IN_TEXTS = {
    r"\\": "stays a backslash on DuckDB, begins an escape on Spark; write [0-9], [.], ESCAPE '!' or chr(92)",
    r"\[:\w+:\]": "a class of characters on DuckDB only; write [0-9], [a-z], [ ]",
}
# Each pattern is looked for in the code without comments and texts.
_REFUSED = {
    r"(?<![`\"])\bQUALIFY\b": "QUALIFY: Spark has none; number the rows in a subquery",
    r"(?<![`\"])\bASOF\b": "ASOF: joins as of a time are the engine's job",
    r"//": "//: Spark has none; floor the quotient",
    r"::": "::: write CAST, which is checked",
    r"\?|\$\w+|(?<!:):\w+|\{": "parameter: the engine shows each table as it was known, SQL takes none",
    r"(?<![`\".\w])(current_(date|time|timestamp)\b|(now|today|random|uuid)\s*\()": (
        "the clock, or chance: a run for a time that is past would give something else; say by event_timestamp"
    ),
    r"\^": "^: a power on DuckDB, exclusive or on Spark; write power",
    r"[\w)\]`\"]\[(?!')": "[]: counts from 1 on DuckDB, from 0 on Spark; write try_element_at, from 1, or split_part",
}


class _Call(NamedTuple):
    at: int
    name: str
    arguments: list[str]
    before: str
    after: str


def _takes(number: int) -> Callable[[_Call], bool]:
    return lambda call: len(call.arguments) == number


def _argument(number: int, pattern: str, *, matches: bool = True) -> Callable[[_Call], bool]:
    """Whether a call has that argument, which then matches, or does not."""
    found = re.compile(pattern, re.IGNORECASE)
    return lambda call: len(call.arguments) > number and bool(found.match(call.arguments[number])) is matches


def _always(call: _Call) -> bool:
    return True


def _without(word: str) -> Callable[[_Call], bool]:
    return lambda call: not re.match(rf"\s*{word}\b", call.after, re.IGNORECASE)


def _outside(function: str) -> Callable[[_Call], bool]:
    return lambda call: not re.search(rf"\b{function}\s*\(\s*$", call.before, re.IGNORECASE)


_UNITS = "year|quarter|month|mon|week|day|hour|minute|second|millisecond|microsecond"
# Functions of both engines with another meaning: in which calls, and what to write instead. What differs by values and
# their types is not seen here: README.md names it.
_CALLS: dict[str, tuple[Callable[[_Call], bool], str]] = {
    "concat": (_always, "skips nulls on DuckDB only; write a || b, or concat_ws('', a, b), which skips them"),
    "regexp_replace": (_takes(3), "replaces one match on DuckDB, each on Spark; write (text, pattern, by, 1)"),
    "regexp_extract(_all)?": (_takes(2), "gives the whole match on DuckDB, a group on Spark; say 0 or a group"),
    "split": (
        _argument(1, r"'[^\\.|*+?()\[\]{}^$']+'$", matches=False),
        "takes a text on DuckDB, a regular expression on Spark; split at a text without signs of those, or split_part",
    ),
    "[lr]?trim": (_takes(2), "takes what to trim last on DuckDB, first on Spark; write trim(BOTH 'x' FROM text)"),
    "substr(ing)?": (_argument(1, "0$"), "begins before the text on DuckDB, with it on Spark; begin at 1"),
    "left|right": (_argument(1, "-"), "leaves characters out on DuckDB, is empty on Spark; write substr"),
    "round": (_argument(1, "-|0$", matches=False), "takes 1.005 for less on DuckDB; write round(x * 100) / 100"),
    "ln|log2|log10": (
        _argument(0, r"CASE\b|greatest\s*\(|[1-9]\d*\s*(\+|$)", matches=False),
        "of 0 and less gives -Infinity or NaN on DuckDB, null on Spark; let it take CASE WHEN x > 0 THEN x END",
    ),
    "log": (_always, "natural on Spark, decimal on DuckDB; write ln or log10"),
    "isnan": (_outside("coalesce"), "of null is null on DuckDB, false on Spark; write coalesce(isnan(x), false)"),
    "corr|regr_slope": (_outside("nullif"), "can be NaN on DuckDB; write nullif(..., CAST('NaN' AS DOUBLE))"),
    "to_timestamp": (_always, "reads text on Spark, seconds on DuckDB; write to_utc or timestamp_seconds"),
    "date_trunc": (
        _argument(0, f"'({_UNITS})'$", matches=False),
        f"is null on Spark for a unit that it does not know; write one of {_UNITS.replace('|', ', ')}",
    ),
    "extract|date_part|datepart": (
        _argument(0, r"'?(dow|dayofweek|s|secs?|seconds?)\b"),
        "counts days from 0 and seconds whole on DuckDB; write dayofweek(t), from 1, or second(t), whole",
    ),
    "dayname|monthname": (_always, "whole on DuckDB, three letters on Spark; write dayofweek or month"),
    "hash": (_always, "another number on each engine; write md5"),
    "array_position": (_always, "is null on DuckDB and 0 on Spark where there is none; write array_contains"),
    "max_by|min_by": (_without("FILTER"), "skips nulls on DuckDB only; add FILTER (WHERE x IS NOT NULL)"),
    "array_agg": (_without("FILTER"), "skips nulls on Spark only; add FILTER (WHERE x IS NOT NULL)"),
    "first|last|any_value": (_without("OVER"), "of any row on Spark, null or not; write max, or max_by(x, time)"),
    "count_if": (_always, "of no row is null on DuckDB, 0 on Spark; write count(*) FILTER (WHERE ...)"),
    "listagg|string_agg": (
        _always,
        "in any order on Spark; write concat_ws(',', array_sort(array_agg(x) FILTER (WHERE x IS NOT NULL)))",
    ),
    "mode": (_takes(1), "may take another of equals on Spark; write mode() WITHIN GROUP (ORDER BY x NULLS LAST)"),
    "skewness|kurtosis": (_always, "of a sample on DuckDB, of a population on Spark; write it with avg and power"),
}


def problems(sql: str) -> list[tuple[int, str]]:
    """What in `sql` gives other results, or none, on the other engine, by line, and what to write instead."""
    code = plain(sql)
    found = [(m.start(), why) for pattern, why in _REFUSED.items() if (m := re.search(pattern, code, re.IGNORECASE))]
    told = plain(sql, texts=True)
    found += [(m.start(), f"{m[0]}: {_DROPS}; write it in UTC") for m in _ZONED.finditer(told)]
    for call in _calls(code, told):
        rules = [rule for names, rule in _CALLS.items() if re.fullmatch(names, call.name)]
        found += [(call.at, f"{call.name}: {why}") for differs, why in rules if differs(call)]
    found += [
        (m.start(), f"{m[0]}: {why}")
        for m in _QUOTED.finditer(sql)
        for pattern, why in _IN_TEXTS.items()
        if m[1] == "'" and re.search(pattern, m[0])
    ]
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
        if kind.upper() in _DECIMALS:
            found.append((at, f"CAST({value} AS {kind}): has 3 decimals on DuckDB, none on Spark; write {kind}(18, 3)"))
        if kind.upper() == "DATE" and code[at:].upper().startswith("TRY"):
            found.append((at, f"TRY_CAST({value} AS {kind}): {_DATES}; write CAST(to_utc({value}) AS {kind})"))
        if kind.upper().startswith(("TIMESTAMP", "DATETIME")):
            found.append((at, f"CAST({value} AS {kind}): {_DROPS}; write to_utc({value})"))
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


def plain(sql: str, *, texts: bool = False) -> str:
    """The SQL without comments, texts and what is odd in quoted names: each other character stands where it stood."""

    def blot(match: re.Match[str]) -> str:
        text = match[0]
        if texts and text[0] == "'":
            return text
        if text[0] in "'`\"":
            return text[0] + re.sub(r"[^\n]" if text[0] == "'" else r"[^\w\n]", "_", text[1:-1]) + text[0]
        return re.sub(r"[^\n]", " ", text)

    return _QUOTED.sub(blot, sql)


def line_of(sql: str, position: int) -> int:
    return sql.count("\n", 0, position) + 1


def _is_nonzero(divisor: str) -> bool:
    try:
        return float(divisor) != 0
    except ValueError:
        return False


def _calls(code: str, told: str) -> Iterator[_Call]:
    """Each call of a function in the code, its arguments with their texts."""
    for match in re.finditer(r"(?<![\w.`\"])([a-z]\w*)\s*\(", code, re.IGNORECASE):
        begin, inside, arguments = match.end(), _up_to_close(code[match.end() :]), []
        after = code[begin + len(inside) + 1 :]
        for part in _split(inside) if inside.strip() else ():
            arguments.append(told[begin : begin + len(part)].strip())
            begin += len(part) + 1
        yield _Call(match.start(), match[1].lower(), arguments, code[: match.start()], after)


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
