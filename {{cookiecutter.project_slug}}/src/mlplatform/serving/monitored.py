"""What monitoring knows of a server from its request log: the inputs of what it answered, and how well it answered."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal

import polars as pl

from mlplatform.environment import Environment
from mlplatform.monitoring import metrics
from mlplatform.monitoring.metrics import Volume
from mlplatform.serving.champion import joined_schema
from mlplatform.storage import ops
from mlplatform.storage.catalog import Span, Window

SERVER = "serve"  # the column of the server's metrics


def asked(env: Environment, predictions: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """The joined rows from which those predictions were made that are of requests, as the log has kept them.

    None where the entity has sensitive fields, which the log has not kept.
    """
    rows = predictions.filter(pl.col("inference") == "online")
    if env.project.entity.sensitive or "features" not in rows.columns:
        return rows.clear()
    schema = pl.DataFrame(joined_schema(env, as_of).empty_table()).schema
    kept = {name: kind for name, kind in schema.items() if name not in rows.columns and name != "available_at"}
    features = {name for name in kept if any(name.startswith(f"{view.name}__") for view in env.project.views)}
    texts = {"features": features, "request": set(kept) - features}
    values = [
        pl.col(text).str.json_decode(pl.Struct({name: _wire(kept[name]) for name in names})).struct.unnest()
        for text, names in texts.items()
        if names
    ]
    known = rows.filter(pl.col("features").is_not_null()).with_columns(available_at="prediction_time")
    return known.with_columns(values).with_columns(pl.col(name).cast(kind) for name, kind in kept.items())


def _wire(kind: pl.DataType) -> pl.DataType | type[pl.DataType]:
    """As what `features.online.plain` writes values of a type into JSON."""
    if isinstance(kind, pl.Datetime):
        return pl.Int64
    return pl.String if kind.to_python() in (date, Decimal) else kind


def measured(env: Environment, window: Span, predictions: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """What a window shows of the online store (the values that were published, and how old the newest are) and of
    servers. Nothing of what there has never been."""
    streamed = "online" in getattr(getattr(env.config, "streaming", None), "sinks", ())  # where there are streams
    publishers, known = ("materialize", *["stream"] * streamed), window.end + timedelta.resolution
    times = [time for name in publishers if (time := env.last_finished(name, before=known))]
    if published := max(times, default=None):
        runs = pl.DataFrame(env.catalog.read(ops.RUNS, where=Window("as_of", *window)))
        mine = runs.filter(pl.col("pipeline") == "materialize", pl.col("status") == "finished")
        yield metrics.volumes(window, {"online": Volume(int(mine["rows"].sum()), published)})
    if env.catalog.exists(ops.REQUESTS):
        named = [(name, SERVER, "all", value) for name, value in _answered(env, window, predictions)]
        yield metrics.rows_of(window, named, None, window.end)


def _answered(env: Environment, window: Span, predictions: pl.DataFrame) -> Iterator[tuple[str, float]]:
    """Requests, their rate, the shares that were refused (4xx) and failed (5xx), and of the answered ones latency (the
    seconds of look-up and scoring) and the share of rows with a stale feature."""
    counts = pl.DataFrame(env.catalog.read(ops.REQUESTS, ["status", "requests"], Window("until", *window)))
    total, seconds = float(counts["requests"].sum()), (window.end - window.start).total_seconds()
    yield "requests", total
    yield "requests_per_second", total / seconds
    for name, hundred in (("refused_share", 4), ("failed_share", 5)) if total else ():
        yield name, float(counts.filter(pl.col("status") // 100 == hundred)["requests"].sum()) / total
    if predictions.is_empty():
        return
    inside = (pl.col("prediction_time") > window.start) & (pl.col("prediction_time") <= window.end)
    rows = predictions.filter(pl.col("inference") == "online", inside)
    if rows.height:
        one = rows.unique("request_id")["seconds"]
        for share in (50, 99):
            yield f"latency_p{share}", float(one.quantile(share / 100, "nearest") or 0)
        yield "stale_share", float((rows["features_stale"] > 0).sum()) / rows.height
