"""The training set: features and labels of several symbols in one table, ordered by the time of decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import DataError, LookAheadError
from tapeline.core.versions import digest, digest_bytes

_LABEL_COLUMNS: Final = ("value", "t_end", "outcome", "weight")


@dataclass(frozen=True)
class Dataset:
    """Rows to learn from, sorted by decision time, then symbol.

    Parameters
    ----------
    X:
        float32, shape (rows, columns); NaN where a feature is in its warm-up or undefined.
    y:
        1 where the label's value was above 0, else 0.
    ts, t0, t_end:
        UTC instants: the bar's open, the decision (the bar's ``known_at``), and when the label became known.
    weight:
        Sample weight of each row.
    outcome:
        Return of a long trade from the next open to ``t_end``; NaN where the label gives none.
    symbol:
        The row's symbol.
    columns:
        Feature names, in the order of X's columns.
    dropped:
        A row a symbol: ``rows_in``, ``unlabelled``, ``ambiguous``, ``warm_up``, ``rows_out``.
    """

    X: npt.NDArray[np.float32]
    y: npt.NDArray[np.int8]
    ts: pd.DatetimeIndex
    t0: pd.DatetimeIndex
    t_end: pd.DatetimeIndex
    weight: npt.NDArray[np.float64]
    outcome: npt.NDArray[np.float64]
    symbol: npt.NDArray[np.str_]
    columns: tuple[str, ...]
    dropped: pd.DataFrame

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: npt.NDArray[Any]) -> Dataset:
        """The given rows (positions or a mask), in the order given."""
        return Dataset(
            self.X[rows],
            self.y[rows],
            self.ts[rows],
            self.t0[rows],
            self.t_end[rows],
            self.weight[rows],
            self.outcome[rows],
            self.symbol[rows],
            self.columns,
            self.dropped,
        )

    @property
    def digest(self) -> str:
        """The content hash of everything a fit reads, so that a resumed study never mixes two sets of rows."""
        arrays = (
            np.ascontiguousarray(self.X),
            self.y,
            self.t0.asi8,
            self.t_end.asi8,
            self.weight,
            self.outcome,
        )
        names = digest([list(self.columns), self.symbol.tolist()])
        return digest_bytes(names.encode(), *(array.tobytes() for array in arrays))

    @property
    def frame(self) -> pd.DataFrame:
        """The rows without their features: ``ts``, ``symbol``, ``t0``, ``t_end``, ``y``, ``outcome``, ``weight``."""
        return pd.DataFrame(
            {
                "ts": self.ts,
                "symbol": self.symbol,
                "t0": self.t0,
                "t_end": self.t_end,
                "y": self.y,
                "outcome": self.outcome,
                "weight": self.weight,
            }
        )


def assemble(parts: Mapping[Any, tuple[pd.DataFrame, pd.DataFrame]]) -> Dataset:
    """Pool the features and labels of several symbols.

    Parameters
    ----------
    parts:
        By symbol: a features frame (index ``ts``, ``known_at``, float columns) and a labels frame (index ``ts``,
        ``value``, ``t_end``, ``outcome``, ``weight``). All features frames have the same columns in the same order.

    Returns
    -------
    The rows that have both features and a decided label. Left out, and counted in ``dropped``: rows without a label
    (the last bars, whose label is not known yet), ambiguous ones (value 0: neither barrier was touched, or both), and
    rows on which every feature is NaN (warm-up). A single NaN stays: trees take it as a value of its own.

    Raises
    ------
    DataError
        Times are not UTC or repeat, columns differ between symbols, a column is not numeric, a feature is infinite, a
        label or weight is not a number, or no row is left.
    LookAheadError
        A label became known before its decision was due, so the two belong to different times.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts")
    >>> features = pd.DataFrame({"known_at": ts + pd.Timedelta("1h"), "rsi_14": [np.nan, 55.0, 48.0]}, index=ts)
    >>> labels = pd.DataFrame(
    ...     {"value": [1.0, 1.0, -1.0], "t_end": ts + pd.Timedelta("4h"), "outcome": 0.0, "weight": 1.0}, index=ts)
    >>> assemble({"EURUSD": (features, labels)}).y.tolist()
    [1, 0]
    """
    if not parts:
        raise DataError("there is nothing to train on: no symbol was given")
    columns: tuple[str, ...] | None = None
    pieces, counts = [], []
    for symbol, (features, labels) in parts.items():
        piece, own, count = _one(str(symbol), features, labels)
        if columns is not None and own != columns:
            different = sorted(set(own) ^ set(columns)) or "their order"
            raise DataError(f"the features of {symbol} differ from those of the symbols before it: {different}")
        columns = own
        pieces.append(piece)
        counts.append(count)
    assert columns is not None  # noqa: S101 - parts is not empty; for the type checker
    rows = pd.concat([piece[0] for piece in pieces], ignore_index=True)
    matrix = np.concatenate([piece[1] for piece in pieces])
    dropped = pd.DataFrame(counts)
    if rows.empty:
        raise DataError(
            f"no row is left to train on, of {int(dropped['rows_in'].sum())} feature rows",
            hint="see how many were unlabelled, ambiguous or in their warm-up; ask for a longer range",
        )
    order = rows.sort_values(["t0", "symbol", "ts"], kind="stable").index.to_numpy()
    rows = rows.loc[order]
    return Dataset(
        X=matrix[order],
        y=(rows["value"].to_numpy() > 0).astype(np.int8),
        ts=_instants(rows["ts"]),
        t0=_instants(rows["t0"]),
        t_end=_instants(rows["t_end"]),
        weight=rows["weight"].to_numpy(dtype=np.float64),
        outcome=rows["outcome"].to_numpy(dtype=np.float64),
        symbol=rows["symbol"].to_numpy(dtype=np.str_),
        columns=columns,
        dropped=dropped,
    )


def feature_matrix(features: pd.DataFrame, columns: tuple[str, ...], owner: str) -> npt.NDArray[np.float32]:
    """The named columns as one float32 matrix; what is missing, not numeric or infinite raises DataError."""
    absent = [name for name in columns if name not in features.columns]
    if absent:
        raise DataError(f"the features of {owner} lack the columns {absent[:5]}")
    chosen = features[list(columns)]
    wrong = [str(name) for name, kind in chosen.dtypes.items() if kind.kind not in "fiub"]
    if wrong:
        raise DataError(f"the features of {owner} are not numeric in {wrong[:5]}")
    matrix = chosen.to_numpy(dtype=np.float32)
    if np.isinf(matrix).any():
        column = columns[int(np.isinf(matrix).any(axis=0).argmax())]
        raise DataError(f"the feature '{column}' of {owner} is infinite", hint="give NaN where it is undefined")
    return np.ascontiguousarray(matrix)


def _one(
    symbol: str, features: pd.DataFrame, labels: pd.DataFrame
) -> tuple[tuple[pd.DataFrame, npt.NDArray[np.float32]], tuple[str, ...], dict[str, Any]]:
    for frame, name in ((features, "features"), (labels, "labels")):
        index = frame.index
        if not isinstance(index, pd.DatetimeIndex) or str(index.tz) != "UTC":
            raise DataError(f"the {name} of {symbol} are not indexed by UTC times")
        if not index.is_unique:
            raise DataError(f"the {name} of {symbol} repeat a time", hint="read one revision of them")
    if "known_at" not in features.columns:
        raise DataError(f"the features of {symbol} lack 'known_at'")
    absent = [name for name in _LABEL_COLUMNS if name not in labels.columns]
    if absent:
        raise DataError(f"the labels of {symbol} lack the columns {absent}")
    columns = tuple(str(name) for name in features.columns if name != "known_at")
    if not columns:
        raise DataError(f"the features of {symbol} have no column beside 'known_at'")
    matrix = feature_matrix(features, columns, symbol)
    position = labels.index.get_indexer(features.index)
    labelled = position >= 0
    known = labels.iloc[position[labelled]]
    rows = pd.DataFrame(
        {
            "ts": features.index[labelled],
            "symbol": symbol,
            "t0": _instants(features["known_at"])[labelled],
            "t_end": _instants(known["t_end"]),
            "value": known["value"].to_numpy(dtype=np.float64),
            "outcome": known["outcome"].to_numpy(dtype=np.float64, na_value=np.nan),
            "weight": known["weight"].to_numpy(dtype=np.float64),
        }
    )
    _check_labels(symbol, rows)
    ambiguous = rows["value"].to_numpy() == 0
    warm_up = np.isnan(matrix[labelled]).all(axis=1) & ~ambiguous
    keep = ~ambiguous & ~warm_up
    count = {
        "symbol": symbol,
        "rows_in": len(features),
        "unlabelled": int((~labelled).sum()),
        "ambiguous": int(ambiguous.sum()),
        "warm_up": int(warm_up.sum()),
        "rows_out": int(keep.sum()),
    }
    return (rows[keep], matrix[labelled][keep]), columns, count


def _check_labels(symbol: str, rows: pd.DataFrame) -> None:
    if not np.isfinite(rows["value"]).all():
        raise DataError(f"{int((~np.isfinite(rows['value'])).sum())} labels of {symbol} are not a number")
    weight = rows["weight"].to_numpy()
    if not (np.isfinite(weight) & (weight >= 0)).all():
        raise DataError(f"a weight of {symbol} is negative or not a number")
    if rows["t0"].isna().any() or rows["t_end"].isna().any():
        raise DataError(f"a row of {symbol} has no decision time or no label end")
    early = (rows["t_end"] < rows["t0"]).to_numpy()
    if early.any():
        first = rows.loc[early].iloc[0]
        raise LookAheadError(
            f"{int(early.sum())} labels of {symbol} end before their decision; the first at {first['ts']}",
            hint="features and labels must come from the same bars and timeframe",
        )


def _instants(column: pd.Series) -> pd.DatetimeIndex:
    index = pd.DatetimeIndex(column).as_unit("ns")
    return index.tz_localize("UTC") if index.tz is None else index.tz_convert("UTC")
