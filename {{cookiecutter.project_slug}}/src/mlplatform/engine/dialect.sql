-- Spark SQL's functions that DuckDB lacks, or has with another meaning. Times are naive UTC, in and out.

CREATE MACRO from_utc_timestamp(ts, zone) AS timezone(zone, timezone('UTC', ts));

-- When the clocks go back an hour happens twice: Spark means the first one, DuckDB the second.
CREATE MACRO to_utc_timestamp(ts, zone) AS
    CASE
        WHEN from_utc_timestamp(timezone('UTC', timezone(zone, ts)) - INTERVAL 1 HOUR, zone) = ts
            THEN timezone('UTC', timezone(zone, ts)) - INTERVAL 1 HOUR
        ELSE timezone('UTC', timezone(zone, ts))
    END;

-- Text as a time in UTC: `2025-01-01 06:00`, with T, seconds, Z or an offset where it has them; without, it is taken for
-- UTC. Anything else is null, for the contract to refuse: a bare CAST drops the offset here, and Spark's applies it.
CREATE MACRO to_utc(text) AS
    CASE
        WHEN regexp_full_match(
            trim(CAST(text AS VARCHAR)),
            '\d{4}-\d\d-\d\d([ T]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?(Z|[+-]((0\d|1[0-7])(:?[0-5]\d)?|18(:?00)?))?)?'
        )
            THEN timezone('UTC', TRY_CAST(trim(CAST(text AS VARCHAR)) AS TIMESTAMPTZ))
    END;

CREATE MACRO unix_timestamp(ts) AS CAST(trunc(epoch(ts)) AS BIGINT);
CREATE MACRO timestamp_seconds(seconds) AS
    TIMESTAMP '1970-01-01' + to_microseconds(CAST(round(seconds * 1000000) AS BIGINT));

-- Sunday is 1; DuckDB's own begins with 0.
CREATE MACRO dayofweek(ts) AS isodow(ts) % 7 + 1;
-- Monday is 0; DuckDB's own begins with Sunday.
CREATE MACRO weekday(ts) AS isodow(ts) - 1;
-- Whole days from the second to the first.
CREATE MACRO datediff(later, earlier) AS date_diff('day', CAST(earlier AS DATE), CAST(later AS DATE));

CREATE MACRO try_divide(dividend, divisor) AS dividend / nullif(divisor, 0);

-- With a position Spark's meaning, which replaces each match from there on and names groups $1; without one, or with
-- options, DuckDB's own, for what was written before the lint refused it.
CREATE MACRO regexp_replace(text, pattern, replacement) AS
    system.main.regexp_replace(text, pattern, replacement),
(text, pattern, replacement, options) AS
    system.main.regexp_replace(text, pattern, replacement, options),
(text, pattern, replacement, position INTEGER) AS
    substr(text, 1, position - 1) || system.main.regexp_replace(
        substr(text, position),
        pattern,
        system.main.regexp_replace(replacement, '[$]([0-9])', '\\\1', 'g'),
        'g'
    );

-- Lists begin at 1, and are counted from their end below 0.
CREATE MACRO try_element_at(list, position) AS list[position];
