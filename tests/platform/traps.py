"""What DuckDB and Spark both take and read differently: what the lint refuses, what to write instead, and its value."""

from datetime import date, datetime

DAY = "TIMESTAMP '2025-01-05 10:11:12.9'"  # a Sunday
NAN = "CAST('NaN' AS DOUBLE)"

TRAPS: list[tuple[str, str, object]] = [
    ("concat('a', CAST(NULL AS STRING))", "concat_ws('', 'a', CAST(NULL AS STRING)) || 'b'", "ab"),
    ("regexp_replace('a1b2', '[0-9]', 'x')", "regexp_replace('a1b2', '[0-9]', 'x', 1)", "axbx"),
    ("regexp_replace('a1', '([0-9])', '<$1>')", "regexp_replace('a1a1', 'a([0-9]{1})', '<$1>', 2)", "a1<1>"),
    ("regexp_extract('a12', '[a-z]([0-9]+)')", "regexp_extract('a12', '[a-z]([0-9]+)', 1)", "12"),
    ("regexp_extract_all('a1', '[a-z]([0-9])')", "regexp_extract_all('a1', '[a-z]([0-9])', 1)", ["1"]),
    ("regexp_extract(' 1', '[[:digit:]]', 0)", "regexp_extract(' 1', '[0-9]', 0)", "1"),
    ("regexp_extract('12', '\\d', 0)", "regexp_extract('12', '[0-9]', 0)", "1"),
    ("'a%c' LIKE 'a\\%c'", "'a%c' LIKE 'a!%c' ESCAPE '!'", True),
    ("split('a|b', '|')", "split('a, b', ', ')", ["a", "b"]),
    ("split('a,b', ',')[1]", "try_element_at(split('a,b', ','), 1) || try_element_at(split('a,b', ','), -1)", "ab"),
    ("split('a.b', '.')", "split_part('a.b', '.', 2)", "b"),
    ("trim('xax', 'x')", "trim(BOTH 'x' FROM 'xax')", "a"),
    ("ltrim('xax', 'x')", "trim(LEADING 'x' FROM 'xax')", "ax"),
    ("substring('abcd', 0, 2)", "substring('abcd', 1, 2)", "ab"),
    ("substr('abcd', 0, 2)", "substr('abcd', -2)", "cd"),
    ("left('abc', -1)", "left('abc', 1)", "a"),
    ("right('abc', -1)", "substr('abc', 2)", "bc"),
    ("2 ^ 3", "power(2, 3)", 8),
    ("round(1005e-3, 2)", "round(1005e-3 * 100) / 100 + round(15, -1)", 21),
    ("ln(0)", "ln(CASE WHEN 0 > 0 THEN 0 END)", None),
    ("log2(-1)", "log2(greatest(-1, 1))", 0),
    ("log10(0)", "log10(10)", 1),
    ("log(10)", "ln(1 + 0)", 0),
    ("isnan(CAST(NULL AS DOUBLE))", "coalesce(isnan(CAST(NULL AS DOUBLE)), false)", False),
    ("TRY_CAST('2025/01/01' AS DATE)", "CAST(to_utc('2025-01-01') AS DATE)", date(2025, 1, 1)),
    ("TRY_CAST('2025' AS DATE)", "CAST(to_utc('2025') AS DATE)", None),
    ("CAST(25e-1 AS DECIMAL)", "CAST(CAST(25e-1 AS DECIMAL(18, 3)) AS DOUBLE)", 2.5),
    ("TIMESTAMP '2025-01-01 00:00:00+02:00'", "TIMESTAMP '2024-12-31 22:00:00'", datetime(2024, 12, 31, 22)),
    (f"date_trunc('d', {DAY})", f"date_trunc('DAY', {DAY})", datetime(2025, 1, 5)),
    (f"extract(dow FROM {DAY})", f"dayofweek({DAY})", 1),
    (f"date_part('second', {DAY})", f"second({DAY}) + extract(hour FROM {DAY})", 22),
    (f"dayname({DAY})", f"weekday({DAY})", 6),
    (f"monthname({DAY})", f"month({DAY})", 1),
    ("hash('a')", "md5('a')", "0cc175b9c0f1b6a831c399e269772661"),
    ("array_position(split('a,b', ','), 'c')", "array_contains(split('a,b', ','), 'c')", False),
]
# Of the columns i and v of a few rows.
ROWS = "VALUES (5, NULL), (1, 2e0), (2, 5e0), (3, 5e0), (4, 2e0) AS t(i, v)"
TRAPS_IN_ROWS: list[tuple[str, str, object]] = [
    ("max_by(v, i)", "max_by(v, i) FILTER (WHERE v IS NOT NULL)", 2),
    ("min_by(v, -i)", "min_by(v, -i) FILTER (WHERE v IS NOT NULL)", 2),
    ("any_value(v)", "max(v)", 5),
    ("array_agg(v)", "cardinality(array_agg(abs(v)) FILTER (WHERE v IS NOT NULL))", 4),
    ("count_if(v > NULL)", "count(*) FILTER (WHERE v > 2)", 2),
    ("string_agg('x' || i)", "concat_ws('', array_sort(array_agg('x' || i) FILTER (WHERE v > 2)))", "x2x3"),
    ("mode(v)", "mode() WITHIN GROUP (ORDER BY v NULLS LAST)", 2),
    ("corr(v, v) FILTER (WHERE i = 1)", f"nullif(corr(v, v) FILTER (WHERE i = 1), {NAN})", None),
    ("regr_slope(v, v) FILTER (WHERE i = 1)", f"nullif(regr_slope(v, v) FILTER (WHERE i = 1), {NAN})", None),
    ("skewness(v * i)", "sum(i)", 15),
    ("kurtosis(i)", "max(regexp_extract(CAST(i AS STRING), '[0-9]{1}', 0))", "5"),
]
