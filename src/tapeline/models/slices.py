"""How good a model is part by part: by regime, calendar period, hour and symbol, each with intervals and a fair test.

A model that is good on average may be bad where it is needed. But of many slices one is always worst by luck: each is
compared with the whole, on the same resampled blocks, and the p-values are corrected for their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import DataError
from tapeline.core.multiple_testing import holm
from tapeline.evaluation.metrics import accuracy, auc, brier_score, expected_calibration_error, log_loss
from tapeline.models.block_metrics import BlockMetrics, interval

Array = npt.NDArray[np.float64]
Names = npt.NDArray[np.object_]

FEWEST_ROWS: Final = 100
FEWEST_BLOCKS: Final = 8.0
ROWS_PER_BIN: Final = 50
_MOST_BINS: Final = 15
_SMALLEST: Final = 1e-12
SLICE_COLUMNS: Final = (
    "slicing", "slice", "rows", "blocks", "rises", "auc", "auc_low", "auc_high", "log_loss", "log_loss_low",
    "log_loss_high", "skill", "skill_low", "skill_high", "accuracy", "accuracy_low", "accuracy_high", "brier", "ece",
    "ece_by_chance", "bias", "bias_low", "bias_high", "trades", "mean_trade_bps", "mean_trade_bps_low",
    "mean_trade_bps_high", "difference", "p_value", "p_holm", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Slicing:
    """A way to cut rows into parts.

    Parameters
    ----------
    name:
        Such as ``volatility``.
    part:
        The part of each row, by name; None where it is not known, and the row then belongs to none.
    """

    name: str
    part: Names

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts, in the order in which they should be read."""
        known = {value for value in self.part.tolist() if value is not None}
        return tuple(sorted(known, key=lambda name: (_ORDER.get(name, 0), name)))


_ORDER: Final[Mapping[str, int]] = {"low": -3, "middle": -2, "high": -1, "ranging": -3, "mixed": -2, "trending": -1}


_PERIODS: Final[Mapping[str, Callable[[pd.DatetimeIndex], pd.Index]]] = {
    "week": lambda t0: t0.strftime("%G-W%V"),
    "month": lambda t0: t0.strftime("%Y-%m"),
    "quarter": lambda t0: t0.strftime("%Y-Q") + ((t0.month - 1) // 3 + 1).astype(str),
    "year": lambda t0: t0.strftime("%Y"),
}


def by_period(t0: pd.DatetimeIndex, every: str | None = None, *, fewest: float = 0.0) -> Slicing:
    """By calendar period of the decision, UTC.

    Parameters
    ----------
    every:
        ``week``, ``month``, ``quarter`` or ``year``; where absent, the finest that has at most twelve parts and, in
        most of them, enough decision times.
    fewest:
        How many decision times are enough.

    Examples
    --------
    >>> by_period(pd.date_range("2017-01-30", periods=3, freq="1D", tz="UTC"), "month").part.tolist()
    ['2017-01', '2017-01', '2017-02']
    """
    if every is not None and every not in _PERIODS:
        raise DataError(f"no period is called {every!r}", hint=", ".join(_PERIODS))
    for name in _PERIODS if every is None else (every,):
        part = _PERIODS[name](t0).to_numpy(dtype=object)
        sizes = pd.Series(t0, index=part).groupby(level=0).nunique()
        if len(sizes) <= 12 and (sizes.median() if len(sizes) else 0) >= fewest:
            break
    return Slicing(name, part)


def by_hour(t0: pd.DatetimeIndex, hours: int = 4) -> Slicing:
    """By hours of the day of the decision, UTC.

    Examples
    --------
    >>> by_hour(pd.DatetimeIndex(["2017-01-02 07:30", "2017-01-02 23:00"], tz="UTC")).part.tolist()
    ['04-08 UTC', '20-24 UTC']
    """
    first = t0.hour.to_numpy() // hours * hours
    return Slicing("hour", np.array([f"{one:02d}-{min(one + hours, 24):02d} UTC" for one in first], dtype=object))


def by_symbol(symbol: npt.ArrayLike) -> Slicing:
    """By symbol."""
    return Slicing("symbol", np.asarray(symbol).astype(str).astype(object))


def by_column(
    name: str,
    past: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    parts: Sequence[str] = ("low", "middle", "high"),
) -> Slicing:
    """By a column, cut where its past is cut into parts of equal mass: no border knows anything of the rows themselves.

    A column of at most eight whole numbers, such as the level of a regime, is not cut but taken as it is.

    Parameters
    ----------
    name:
        Of the column.
    past:
        Its values in the rows that the model was developed on.
    values:
        Its values in the rows to slice, known at each decision as every feature is. NaN belongs to no part.
    parts:
        Names, from low to high.

    Examples
    --------
    >>> by_column("atr", np.arange(9.0), [0.0, 4.0, np.nan, 99.0]).part.tolist()
    ['low', 'middle', None, 'high']
    >>> by_column("volatility_level", [0, 1, 2, 3], [3.0, 1.0]).part.tolist()
    ['3', '1']
    """
    known, now = np.asarray(past, dtype=np.float64), np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    result = np.full(now.size, None, dtype=object)
    finite = np.isfinite(now)
    if known.size and np.unique(known).size <= 8 and (known == np.round(known)).all():
        result[finite] = [f"{value:g}" for value in now[finite]]
        return Slicing(name, result)
    if not known.size:
        return Slicing(name, result)
    borders = np.unique(np.quantile(known, np.arange(1, len(parts)) / len(parts)))
    names = np.array(parts if borders.size == len(parts) - 1 else [str(i) for i in range(borders.size + 1)], object)
    result[finite] = names[np.searchsorted(borders, now[finite], side="left")]
    return Slicing(name, result)


def measure_slices(
    rows: pd.DataFrame,
    slicings: Sequence[Slicing],
    *,
    base_rate: float,
    mean_block: float,
    trades: pd.DataFrame | None = None,
    fewest_rows: int = FEWEST_ROWS,
    seed: int = 0,
) -> pd.DataFrame:
    """What the model is worth in each part of the rows, and whether that differs from what it is worth in all.

    Parameters
    ----------
    rows:
        ``symbol``, ``ts``, ``t0``, ``y`` and ``probability`` (calibrated), such as the holdout of a training result.
    slicings:
        From :func:`by_column` and the like, each with a part for every row.
    base_rate:
        The share of rises among the rows that the model was developed on: what ``skill`` is measured against.
    mean_block:
        Mean block length of the bootstrap, in decision times.
    trades:
        ``symbol``, ``ts`` and ``net`` of the trades that were made of these rows.
    fewest_rows:
        A slice of fewer rows, or of less than eight blocks, gets no interval and no test, and says so in ``note``.
    seed:
        Of the bootstrap.

    Returns
    -------
    A row a part, the whole first, with the columns ``SLICE_COLUMNS``: ``blocks`` (how many independent stretches the
    rows amount to: decision times over the mean block), ``rises`` (share of them), the metrics with their 95 % block
    bootstrap intervals, ``skill`` (log loss of the base rate less the model's, nats; above 0 the model tells
    something), ``ece`` over bins of at least 50 rows beside ``ece_by_chance`` (what a perfectly calibrated model would
    show on so few), ``bias`` (mean probability less share of rises), ``difference`` (skill of the part less that of
    the whole), its two-sided ``p_value`` by the bootstrap's standard error, and ``p_holm``, corrected for all parts
    of all slicings (Holm 1979).

    Raises
    ------
    DataError
        There is no row, a column is missing, or a slicing has another number of rows.
    """
    absent = [name for name in ("symbol", "ts", "t0", "y", "probability") if name not in rows.columns]
    if absent or rows.empty:
        raise DataError(f"no slice can be measured: the rows lack {absent}" if absent else "there is no row to slice")
    for one in slicings:
        if one.part.size != len(rows):
            raise DataError(f"the slicing '{one.name}' has {one.part.size} rows, the scores {len(rows)}")
    instant = pd.DatetimeIndex(rows["t0"]).asi8
    masks = [("all", "all", np.ones(len(rows), dtype=bool))]
    masks += [(one.name, part, one.part == part) for one in slicings for part in one.parts]
    drawn = BlockMetrics(instant, mean_block=mean_block, seed=seed)
    columns = _per_row(rows, base_rate, trades)
    member = np.column_stack([mask for _, _, mask in masks]).astype(np.float64)
    resampled = {
        name: drawn.means(np.broadcast_to(value[:, None], member.shape), member * mass[:, None])
        for name, (value, mass) in columns.items()
    }
    y, probability = rows["y"].to_numpy(), rows["probability"].to_numpy(dtype=np.float64)
    records: list[dict[str, Any]] = []
    for position, (slicing, part, mask) in enumerate(masks):
        record: dict[str, Any] = {
            "slicing": slicing,
            "slice": part,
            **_values(y, probability, mask, columns),
            "blocks": np.unique(instant[mask]).size / max(mean_block, 1.0),
        }
        record["note"] = _too_small(record, fewest_rows)
        if not record["note"]:
            samples = {name: values[:, position] for name, values in resampled.items()}
            samples["auc"] = drawn.auc(y, probability, mask)
            for name, values in samples.items():
                record[f"{name}_low"], record[f"{name}_high"] = interval(values)
            if position:
                record |= _compared(record["skill"], records[0]["skill"], samples["skill"] - resampled["skill"][:, 0])
        records.append(record)
    table = pd.DataFrame(records).reindex(columns=list(SLICE_COLUMNS))
    tested = table["p_value"].notna().to_numpy()
    table.loc[tested, "p_holm"] = holm(table.loc[tested, "p_value"].to_numpy(dtype=np.float64))
    return table


def _per_row(rows: pd.DataFrame, base_rate: float, trades: pd.DataFrame | None) -> dict[str, tuple[Array, Array]]:
    """By metric that is a mean: its value of each row, and the row's mass in it."""
    y, p = rows["y"].to_numpy(dtype=np.float64), rows["probability"].to_numpy(dtype=np.float64)
    every = np.ones(y.size)
    loss, base = _log_losses(y, p), _log_losses(y, np.full(y.size, base_rate))
    made = {
        "log_loss": (loss, every),
        "skill": (base - loss, every),
        "accuracy": (((p > 0.5) == (y > 0.5)).astype(np.float64), every),
        "bias": (p - y, every),
    }
    if trades is not None:
        key = pd.MultiIndex.from_frame(rows[["symbol", "ts"]])
        net = pd.Series(trades["net"].to_numpy(), index=pd.MultiIndex.from_frame(trades[["symbol", "ts"]]))
        found = net.reindex(key).to_numpy(dtype=np.float64)
        made["mean_trade_bps"] = (np.nan_to_num(found) * 1e4, np.isfinite(found).astype(np.float64))
    return made


def _log_losses(y: Array, p: Array) -> Array:
    kept = np.clip(p, _SMALLEST, 1 - _SMALLEST)
    return -(y * np.log(kept) + (1 - y) * np.log1p(-kept))


def _values(
    y: npt.NDArray[Any], p: Array, mask: npt.NDArray[np.bool_], columns: Mapping[str, tuple[Array, Array]]
) -> dict[str, Any]:
    target, said = y[mask], p[mask]
    bins = int(np.clip(target.size // ROWS_PER_BIN, 1, _MOST_BINS))
    found: dict[str, Any] = {
        "rows": int(target.size),
        "rises": float(target.mean()),
        "auc": auc(target, said),
        "log_loss": log_loss(target, said),
        "accuracy": accuracy(target, said),
        "brier": brier_score(target, said),
        "ece": expected_calibration_error(target, said, bins=bins),
        "ece_by_chance": 0.4 * math.sqrt(bins / target.size),
        "skill": float(columns["skill"][0][mask].mean()),
        "bias": float(columns["bias"][0][mask].mean()),
    }
    if "mean_trade_bps" in columns:
        net, made = columns["mean_trade_bps"]
        count = made[mask].sum()
        found["trades"] = int(count)
        found["mean_trade_bps"] = float(net[mask].sum() / count) if count else math.nan
    return found


def _too_small(record: Mapping[str, Any], fewest_rows: int) -> str:
    if record["rows"] < fewest_rows:
        return f"too small to judge: fewer than {fewest_rows} rows"
    if record["blocks"] < FEWEST_BLOCKS:
        return f"too small to judge: its overlapping labels amount to {record['blocks']:.1f} blocks"
    return ""


def _compared(skill: float, whole: float, drawn: Array) -> dict[str, float]:
    finite = drawn[np.isfinite(drawn)]
    difference = skill - whole
    error = float(finite.std(ddof=1)) if finite.size > 1 else 0.0
    if error <= _SMALLEST:
        return {"difference": difference, "p_value": 1.0}
    return {"difference": difference, "p_value": math.erfc(abs(difference) / error / math.sqrt(2))}
