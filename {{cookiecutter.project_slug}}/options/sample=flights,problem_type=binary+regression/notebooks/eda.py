# %% [markdown]
# # What do the data say?
#
# A plain script in percent format: editors with notebook support run it cell by cell, `python notebooks/eda.py` as a
# whole. It works as dev, which looks at prod's tables and never changes them.

# %%
from datetime import timedelta

import matplotlib.pyplot as plt
import polars as pl

from mlplatform.environment import Environment
from mlplatform.features.frames import labelled

from {{ cookiecutter.package_name }}.features import CATEGORICAL, NUMERIC
from {{ cookiecutter.package_name }}.project import PROJECT

pl.Config(tbl_rows=-1, tbl_hide_column_data_types=True, tbl_hide_dataframe_shape=True, fmt_str_lengths=40)
env = Environment.load("dev", PROJECT)


def ask(sql: str) -> pl.DataFrame:
    """The answer to a question about Silver and features: those of `lakehouse.features_from`."""
    return pl.DataFrame(env.engine.query(sql))


# The newest fact that is known: "now" for everything below.
now = ask("SELECT max(available_at) AS now FROM silver.arrivals").item()
print(f"{env.name} reads {env.sources.owner}'s tables, known up to {now:%Y-%m-%d %H:%M}")

# %% [markdown]
# ## The label
# How stable is it? Where it moves, a model trained on last month is asked about another world.

# %%
labels = ask(PROJECT.sql("labels.sql"))
weekly = (
    labels.sort("event_timestamp")
    .group_by_dynamic("event_timestamp", every="1w")
    .agg(pl.len().alias("rows"), pl.col("label").mean().alias("mean"))
)
print(f"{labels.height:,} labels; by week:", weekly, sep="\n")

_, axes = plt.subplots()
axes.plot(weekly["event_timestamp"], weekly["mean"])
axes.set(title="Mean label by week", ylabel="label")

# %% [markdown]
# ## Delay by hour of the day and by carrier
# Delays pile up over the day: the hour alone is a strong heuristic, and the baseline that a model has to beat uses it.

# %%
local_hour = "hour(from_utc_timestamp(time_hour, 'America/New_York'))"
by_hour = ask(
    f"SELECT {local_hour} AS local_hour, median(arr_delay) AS median, quantile_cont(arr_delay, 0.9) AS worst_tenth, "
    "count(*) AS flights FROM silver.arrivals GROUP BY local_hour HAVING count(*) >= 100 ORDER BY local_hour"
)
by_carrier = ask(
    "SELECT carrier, count(*) AS flights, avg(arr_delay) AS mean_delay, "
    "avg(CASE WHEN arr_delay > 15 THEN 1e0 ELSE 0e0 END) AS late_share "
    "FROM silver.arrivals GROUP BY carrier ORDER BY late_share DESC"
)
print(by_hour, by_carrier, sep="\n")

_, (left, right) = plt.subplots(ncols=2, figsize=(11, 4))
left.plot(by_hour["local_hour"], by_hour["median"], label="median")
left.plot(by_hour["local_hour"], by_hour["worst_tenth"], label="worst tenth")
left.set(title="Arrival delay by scheduled hour", xlabel="hour, New York", ylabel="minutes")
left.legend()
right.bar(by_carrier["carrier"], by_carrier["late_share"])
right.set(title="Share more than 15 minutes late", xlabel="carrier")

# %% [markdown]
# ## The features, as a model would get them
# Joined point in time over the last 30 days: a value that was not available at the prediction time, or had outlived its
# time to live, is missing here exactly as it would be in training.

# %%
frame = pl.DataFrame(labelled(env, now, now - timedelta(days=30), now))
columns = [*NUMERIC, *CATEGORICAL]
coverage = pl.DataFrame(
    {
        "feature": columns,
        "missing": [frame[name].null_count() / max(frame.height, 1) for name in columns],
        "distinct": [frame[name].n_unique() for name in columns],
        "correlation": [frame.select(pl.corr(name, "label")).item() if name in NUMERIC else None for name in columns],
    }
).sort("missing", descending=True)
print(f"{frame.height:,} labelled rows of the last 30 days", coverage, sep="\n")

plt.show()
