"""Performance of registered models over time: what each version said, joined with what then happened.

A row counts in the period in which its outcome became known (the label's ``t_end``), so that a period that has ended
is final: nothing that is learnt later changes its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.evaluation import metrics as metric
from tapeline.models.block_metrics import BlockMetrics, interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Period = Literal["day", "week", "month", "whole"]
Array = npt.NDArray[np.float64]

ORIGINS: Final = ("live", "shadow", "holdout", "backtest", "out_of_fold")
"""How a score came to be, the strongest evidence first; of one row and version the first of them counts.

``live``: the champion's, written before the outcome was known. ``shadow``: the same of a challenger, which nothing
acted on. ``holdout``: of the training's one look at rows set aside. ``backtest``: written after the outcome was known,
of rows that the model was not trained on. ``out_of_fold``: of the training's folds, by models not trained on the row.
"""
PERIODS: Final[tuple[Period, ...]] = ("month", "whole")
METRICS: Final = ("log_loss", "brier", "auc", "accuracy", "calibration_error", "bias")
COLUMNS: Final = (
    "ts", "known_at", "period", "model", "model_version", "origin", "metric", "rows", "value", "low", "high"
)  # fmt: skip
JUDGED_COLUMNS: Final = (
    "ts", "symbol", "known_at", "t_end", "y", "probability", "model", "model_version", "origin"
)  # fmt: skip
SMALLEST: Final = 20
"""Fewer rows than this have a value and no interval."""
_CODES: Final = {"day": "D", "week": "W-SUN", "month": "M"}
_EDGE: Final = 1e-12


def judged_rows(
    scores: pd.DataFrame, labels: pd.DataFrame, *, symbol: str, shadow: bool = False, now: pd.Timestamp | None = None
) -> pd.DataFrame:
    """Join the scores of one symbol with the labels that are known by now.

    Parameters
    ----------
    scores:
        Rows of ``scores/scores`` or ``scores/shadow``, of any versions; index ``ts``.
    labels:
        ``value`` and ``t_end``; a label of 0 (ambiguous) or without a value judges nothing.
    symbol:
        Whose rows these are.
    shadow:
        The scores are a challenger's.
    now:
        Labels that become known later do not count; all that are given without.

    Returns
    -------
    Columns :data:`JUDGED_COLUMNS`, ordered by ``t_end``: ``y`` is 1 where the label was above 0, ``origin`` says
    whether the score was written before the outcome was known.

    Raises
    ------
    DataError
        A column is absent, or a label ends before its decision.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=2, freq="1h", tz="UTC", name="ts")
    >>> said = pd.DataFrame({"known_at": ts, "scored_at": ts + pd.to_timedelta([0, 9], "h"), "probability": 0.6,
    ...                      "model": "m", "model_version": "1"}, index=ts)
    >>> came = pd.DataFrame({"value": [1.0, -1.0], "t_end": ts + pd.Timedelta("2h")}, index=ts)
    >>> judged_rows(said, came, symbol="EURUSD")[["y", "origin"]].values.tolist()
    [[1, 'live'], [0, 'backtest']]
    """
    needed = {"known_at", "probability", "model", "model_version", "scored_at"}
    for frame, columns, name in ((scores, needed, "scores"), (labels, {"value", "t_end"}, "labels")):
        absent = columns - set(frame.columns)
        if absent:
            raise DataError(f"the {name} of {symbol} lack the columns {sorted(absent)}")
    known = labels.loc[labels["value"].notna() & (labels["value"] != 0), ["value", "t_end"]]
    if now is not None:
        known = known[known["t_end"] <= now]
    rows = scores[sorted(needed)].join(known, how="inner").rename_axis("ts").reset_index()
    if (rows["t_end"] < rows["known_at"]).any():
        raise DataError(f"a label of {symbol} ends before its decision", hint="read labels of the same timeframe")
    early = (rows["scored_at"] < rows["t_end"]).to_numpy()
    return rows.assign(
        symbol=symbol,
        y=(rows["value"] > 0).astype(np.int8),
        origin=np.where(early, "shadow" if shadow else "live", "backtest"),
        model=rows["model"].astype(str),
        model_version=rows["model_version"].astype(str),
    )[list(JUDGED_COLUMNS)].sort_values(["t_end", "ts"], kind="stable", ignore_index=True)


def merge_judged(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put judged rows together: of one row and version the strongest origin of :data:`ORIGINS` stays.

    A holdout is scored again by whoever scores a stretch of history; it is one look all the same and counts once.
    """
    held = [part for part in parts if len(part)]
    if not held:
        return pd.DataFrame({name: pd.Series(dtype=object) for name in JUDGED_COLUMNS})
    whole = pd.concat([part[list(JUDGED_COLUMNS)] for part in held], ignore_index=True)
    unknown = set(whole["origin"]) - set(ORIGINS)
    if unknown:
        raise DataError(f"rows of unknown origin {sorted(map(str, unknown))}", hint=f"one of {', '.join(ORIGINS)}")
    rank = whole["origin"].map({name: place for place, name in enumerate(ORIGINS)})
    whole = whole.assign(rank=rank).sort_values(["rank", "t_end", "ts"], kind="stable")
    kept = whole.drop_duplicates(["ts", "symbol", "model", "model_version"], keep="first").drop(columns="rank")
    return kept.sort_values(["t_end", "ts", "symbol"], kind="stable", ignore_index=True)


def track_performance(
    rows: pd.DataFrame, *, periods: Sequence[Period] = PERIODS, samples: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Metrics of every model version by period and origin, one row a metric.

    Parameters
    ----------
    rows:
        As :func:`merge_judged` gives them; several symbols are pooled, and rows of one instant are drawn together.
    periods:
        ``day``, ``week`` (from Monday), ``month`` of the instant at which the outcome became known, and ``whole``.
    samples, seed:
        Of the block bootstrap behind each 95 % interval; a block is twice as long as a label lasts, at least the cube
        root of the number of decision times.

    Returns
    -------
    Columns :data:`COLUMNS`. ``ts`` is where the period begins (of ``whole``, the period of the first outcome),
    ``known_at`` the newest outcome in it. ``log_loss`` (nats), ``brier``, ``auc``, ``accuracy`` and
    ``calibration_error`` are those of :mod:`tapeline.evaluation.metrics`; ``bias`` is the mean of outcome less
    probability, above 0 where rises came more often than was said. Below :data:`SMALLEST` rows the interval is NaN,
    and so is ``auc`` where one class is absent. Same rows and seed, same numbers.

    Raises
    ------
    ConfigurationError
        A period is unknown.

    Examples
    --------
    >>> end = pd.date_range("2017-01-30", periods=4, freq="1D", tz="UTC")
    >>> judged = pd.DataFrame({"ts": end, "symbol": "EURUSD", "known_at": end, "t_end": end, "y": [1, 0, 1, 1],
    ...     "probability": [0.6, 0.4, 0.6, 0.4], "model": "m", "model_version": "1", "origin": "live"})
    >>> table = track_performance(judged, periods=("month",))
    >>> table[table["metric"] == "accuracy"][["rows", "value"]].values.tolist()
    [[2.0, 1.0], [2.0, 0.5]]
    """
    unknown = [name for name in periods if name not in (*_CODES, "whole")]
    if unknown:
        raise ConfigurationError(f"period {unknown[0]!r} is unknown", hint=f"one of {', '.join(_CODES)}, whole")
    out: list[tuple[object, ...]] = []
    for (name, version, origin), mine in rows.groupby(["model", "model_version", "origin"], sort=True):
        for period in periods:
            begins = _begins(mine["t_end"], period)
            for begin, part in mine.groupby(begins, sort=True):
                lead = (begin, part["t_end"].max(), period, name, version, origin)
                out.extend((*lead, *measured) for measured in _measure(part, samples, seed))
    table = pd.DataFrame(out, columns=list(COLUMNS))
    for column in ("ts", "known_at"):
        table[column] = pd.to_datetime(table[column], utc=True).dt.as_unit("ns")
    return table.astype({"rows": "int64", "value": "float64", "low": "float64", "high": "float64"})


def mean_block(rows: pd.DataFrame) -> float:
    """The mean block of a bootstrap of judged rows, in decision times: twice a label's reach, at least their cube root.

    Examples
    --------
    >>> at = pd.date_range("2017-01-02", periods=27, freq="1h", tz="UTC")
    >>> mean_block(pd.DataFrame({"known_at": at, "t_end": at + pd.Timedelta("30min")}))
    3.0
    """
    t0, t_end = (pd.DatetimeIndex(rows[name]).as_unit("ns").asi8 for name in ("known_at", "t_end"))
    instants = np.unique(t0)
    spans = np.searchsorted(instants, t_end, side="right") - np.searchsorted(instants, t0)
    return max(2.0 * float(spans.mean()), instants.size ** (1 / 3), 1.0)


def log_losses(y: npt.ArrayLike, probability: npt.ArrayLike) -> Array:
    """The log loss of each row in nats, probabilities kept 1e-12 from 0 and 1."""
    came = np.asarray(y, dtype=np.float64)
    p = np.clip(np.asarray(probability, dtype=np.float64), _EDGE, 1 - _EDGE)
    return np.asarray(-(came * np.log(p) + (1 - came) * np.log1p(-p)))


def plot_performance(
    table: pd.DataFrame, *, which: str = "log_loss", period: Period = "month", title: str = ""
) -> Figure:
    """One metric by period, a line a version and origin with its interval; dotted is the version's holdout.

    Parameters
    ----------
    table:
        As :func:`track_performance` gives it.
    """
    from matplotlib.figure import Figure

    chosen = table[(table["metric"] == which) & (table["period"] == period)]
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    versions = sorted(set(chosen["model_version"]), key=lambda text: (len(text), text))
    markers = dict(zip(ORIGINS, "os^Dx", strict=True))
    for place, version in enumerate(versions):
        colour = f"C{place % 10}"
        for origin, part in chosen[chosen["model_version"] == version].groupby("origin", sort=True):
            times = pd.DatetimeIndex(part["ts"]).tz_localize(None)
            around = np.abs(part[["low", "high"]].to_numpy().T - part["value"].to_numpy())
            axes.errorbar(
                times, part["value"], yerr=np.nan_to_num(around), color=colour, marker=markers[str(origin)],
                capsize=3, linewidth=1, label=f"version {version}, {origin}",
            )  # fmt: skip
        judged = table[(table["metric"] == which) & (table["period"] == "whole") & (table["model_version"] == version)]
        for value in judged.loc[judged["origin"] == "holdout", "value"]:
            axes.axhline(value, color=colour, linestyle=":", linewidth=1)
    axes.set_ylabel(which.replace("_", " "))
    axes.set_xlabel(f"{period} in which the outcome became known (UTC)")
    axes.set_title(title)
    if versions:
        axes.legend(fontsize=8)
    return figure


def _begins(t_end: pd.Series, period: Period) -> pd.Series:
    instants = pd.DatetimeIndex(t_end).tz_convert("UTC").tz_localize(None)
    code = _CODES["month" if period == "whole" else period]
    begins = instants.to_period(code).start_time.tz_localize("UTC").as_unit("ns")
    return pd.Series(begins.min() if period == "whole" else begins, index=t_end.index)


def _measure(rows: pd.DataFrame, samples: int, seed: int) -> list[tuple[str, int, float, float, float]]:
    y, p = rows["y"].to_numpy(dtype=np.float64), rows["probability"].to_numpy(dtype=np.float64)
    values = {
        "log_loss": metric.log_loss(y, p),
        "brier": metric.brier_score(y, p),
        "auc": metric.auc(y, p),
        "accuracy": metric.accuracy(y, p),
        "calibration_error": metric.expected_calibration_error(y, p),
        "bias": float((y - p).mean()),
    }
    around = _intervals(rows, y, p, samples, seed) if len(rows) >= SMALLEST else {}
    return [(name, len(rows), values[name], *around.get(name, (math.nan, math.nan))) for name in METRICS]


def _intervals(rows: pd.DataFrame, y: Array, p: Array, samples: int, seed: int) -> dict[str, tuple[float, float]]:
    instants = pd.DatetimeIndex(rows["known_at"]).as_unit("ns").asi8
    blocks = BlockMetrics(instants, mean_block=mean_block(rows), samples=samples, seed=seed)
    means = np.column_stack([log_losses(y, p), (p - y) ** 2, (p > 0.5) == (y > 0.5), y - p]).astype(np.float64)
    drawn = blocks.means(means, np.ones_like(means))
    bins = np.eye(metric.CALIBRATION_BINS)[metric.equal_mass_bins(p, metric.CALIBRATION_BINS)]
    gaps = np.nan_to_num(blocks.means(np.repeat((y - p)[:, None], bins.shape[1], axis=1), bins))
    shares = blocks.means(bins, np.ones_like(bins))
    found = {name: interval(drawn[:, place]) for place, name in enumerate(("log_loss", "brier", "accuracy", "bias"))}
    found["auc"] = interval(blocks.auc(y, p, np.ones(len(y), dtype=bool)))
    found["calibration_error"] = interval((np.abs(gaps) * shares).sum(axis=1))
    return found
