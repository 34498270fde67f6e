"""A first look at the lake, as a researcher would take it: pandas, polars and DuckDB on the same Parquet files.

Run it after `make demo`:  .venv/bin/python docs/research/first_look.py [path of the lake, default data]
Needs the `research` extra for polars. The tests run it too.
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl

lake = Path(sys.argv[1] if len(sys.argv) > 1 else "data")

# 1. pandas: one symbol's clean bars. `ts` is the open; a bar was known at `known_at`, not before.
bars = pd.read_parquet(
    lake / "clean" / "bars", filters=[("symbol", "==", "EURUSD"), ("timeframe", "==", "H1")]
).set_index("ts")
print(f"{len(bars)} bars from {bars.index[0]} to {bars.index[-1]}")
assert (bars["known_at"] >= bars["close_ts"]).all(), "a bar cannot be known before it closes"

# 2. polars: realised volatility by hour of the day, straight from the files, only the columns that are needed.
by_hour = (
    pl.scan_parquet(lake / "clean" / "bars" / "**/*.parquet", hive_partitioning=True)
    .filter((pl.col("symbol") == "EURUSD") & (pl.col("timeframe") == "H1"))
    .sort("ts")
    .with_columns(pl.col("close").log().diff().alias("log_return"))
    .group_by(pl.col("ts").dt.hour().alias("hour"))
    .agg((pl.col("log_return").std() * 1e4).alias("volatility_bps"), pl.len().alias("bars"))
    .sort("hour")
    .collect()
)
print(by_hour)

# 3. DuckDB: did what the champion was confident about come true? Scores meet labels on the bar they speak of.
#    Only bars that the champion was not trained on have scores, so this is out of sample. It is still one look at one
#    stretch of history: read the interval in the report before you believe the number.
scores, labels = lake / "scores" / "scores", sorted((lake / "labels").iterdir())[-1]
hits = duckdb.execute(
    """
    select round(confidence, 1) as confidence, count(*) as bars,
           avg(case when (probability > 0.5) = (value > 0) then 1.0 else 0.0 end) as hit_rate,
           avg(case when probability > 0.5 then outcome else -outcome end) * 1e4 as mean_outcome_bps
    from read_parquet(?, hive_partitioning = true) scored
    join read_parquet(?, hive_partitioning = true) labelled using (symbol, timeframe, ts)
    where value <> 0
    group by 1 order by 1
    """,
    [f"{scores}/**/*.parquet", f"{labels}/**/*.parquet"],
).df()
print(hits.to_string(index=False))
