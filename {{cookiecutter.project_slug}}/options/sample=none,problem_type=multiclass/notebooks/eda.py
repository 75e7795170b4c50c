# %% [markdown]
# # What do the data say?
#
# A plain script in percent format: editors with notebook support run it cell by cell, `python notebooks/eda.py` as a
# whole. It works on dev's tables, after `make ingest featurize`, and changes nothing. Put your own questions here;
# those about the label and the features hold for any use case.

# %%
from datetime import timedelta

import matplotlib.pyplot as plt
import polars as pl

from mlplatform.environment import Environment
from mlplatform.features.frames import labelled

from {{ cookiecutter.package_name }}.project import PROJECT

pl.Config(tbl_rows=-1, tbl_hide_column_data_types=True, tbl_hide_dataframe_shape=True, fmt_str_lengths=40)
env = Environment.load("dev", PROJECT)


def ask(sql: str) -> pl.DataFrame:
    """The answer to a question about Silver and features: those of `lakehouse.features_from`."""
    return pl.DataFrame(env.engine.query(sql))


# The newest label that is known: "now" for everything below.
now = ask(f"SELECT max(available_at) AS now FROM ({PROJECT.sql('labels.sql')}\n)").item()
print(f"{env.name} reads {env.sources.owner}'s tables, known up to {now:%Y-%m-%d %H:%M}")

# %% [markdown]
# ## The label
# How stable is it? Where it moves, a model trained on last month is asked about another world.

# %%
labels = ask(PROJECT.sql("labels.sql"))
weekly = (
    labels.sort("event_timestamp")
    .group_by_dynamic("event_timestamp", every="1w")
    .agg(pl.len().alias("rows"), *((pl.col("label") == name).mean().alias(name) for name in PROJECT.labels.classes))
)
print(f"{labels.height:,} labels; the share of each class by week:", weekly, sep="\n")

_, axes = plt.subplots()
for name in PROJECT.labels.classes:
    axes.plot(weekly["event_timestamp"], weekly[name], label=name)
axes.set(title="Share of each class by week", ylim=(0, 1))
axes.legend()

# %% [markdown]
# ## The features, as a model would get them
# Joined point in time over the last 30 days: a value that was not available at the prediction time, or had outlived its
# time to live, is missing here exactly as it would be in training.

# %%
frame = pl.DataFrame(labelled(env, now, now - timedelta(days=30), now))
columns = [name for name in PROJECT.model.inputs(frame.to_pandas()).columns if name in frame.columns]
coverage = pl.DataFrame(
    {
        "feature": columns,
        "missing": [frame[name].null_count() / max(frame.height, 1) for name in columns],
        "distinct": [frame[name].n_unique() for name in columns],
        **{
            f"with {label}": [
                frame.select(pl.corr(name, pl.col("label") == label)).item() if frame[name].dtype.is_numeric() else None
                for name in columns
            ]
            for label in PROJECT.labels.classes
        },
    }
).sort("missing", descending=True)
print(f"{frame.height:,} labelled rows of the last 30 days", coverage, sep="\n")

plt.show()
