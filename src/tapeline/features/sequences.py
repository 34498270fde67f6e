"""Sequences for models that read several bars at once: windows with labels, by symbol, drawn lazily, split cleanly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError, DataError, LookAheadError
from tapeline.core.timeframe import Timeframe
from tapeline.features.windows import Stamps, slice_windows
from tapeline.quality.calendars import MarketCalendar

Rows = NDArray[np.intp]


class Batch(NamedTuple):
    """A mini-batch: ``X`` ``(k, window, channels)`` float32, oldest row first; ``y``, ``weight`` ``(k,)``; its rows."""

    X: NDArray[np.float32]
    y: NDArray[np.float64]
    weight: NDArray[np.float64]
    rows: Rows


@dataclass(frozen=True)
class SequenceSet:
    """Labelled windows of several symbols, sorted by decision time, then symbol. Made by :func:`build_sequences`.

    Each symbol's features are held once; a window is a place in them until it is drawn. ``len``, ``set[i]`` and
    :meth:`batches` are what a training loop, or a map-style data set of PyTorch, asks for.

    Parameters
    ----------
    tables:
        By symbol, its features ``(rows, channels)``, float32.
    start:
        The row of its symbol's table at which each window begins.
    reach:
        When each window begins to know anything: the open of its first bar.
    t0, t_end:
        The decision (``known_at`` of the window's last bar) and when the label became known.
    y, weight:
        The label's value and sample weight.
    symbol:
        The symbol of each window.
    columns:
        The channels' names.
    """

    tables: Mapping[str, NDArray[np.float32]]
    window: int
    start: NDArray[np.int64]
    reach: pd.DatetimeIndex
    t0: pd.DatetimeIndex
    t_end: pd.DatetimeIndex
    y: NDArray[np.float64]
    weight: NDArray[np.float64]
    symbol: NDArray[np.str_]
    columns: tuple[str, ...]

    def __len__(self) -> int:
        return self.start.size

    @property
    def shape(self) -> tuple[int, int, int]:
        """Windows, rows a window, channels: of what is never made as a whole."""
        return len(self), self.window, len(self.columns)

    def __getitem__(self, row: int) -> tuple[NDArray[np.float32], float]:
        """One window, a view ``(window, channels)``, and its label."""
        table, first = self.tables[str(self.symbol[row])], int(self.start[row])
        return table[first : first + self.window], float(self.y[row])

    def gather(self, rows: Rows) -> NDArray[np.float32]:
        """The windows of these rows in their order, ``(k, window, channels)``: the one place that copies."""
        rows = np.asarray(rows)
        result = np.empty((rows.size, self.window, len(self.columns)), dtype=np.float32)
        for name in np.unique(self.symbol[rows]):
            own = np.flatnonzero(self.symbol[rows] == name)
            view = np.lib.stride_tricks.sliding_window_view(self.tables[str(name)], self.window, axis=0)
            result[own] = view[self.start[rows[own]]].transpose(0, 2, 1)
        return result

    def batches(self, rows: Rows, size: int, *, seed: int | None = None) -> Iterator[Batch]:
        """Mini-batches of ``size`` windows, the last one smaller; shuffled by ``seed``, in order where it is None."""
        if size < 1:
            raise ConfigurationError(f"size = {size} is below 1")
        order = np.asarray(rows, dtype=np.intp)
        if seed is not None:
            order = np.random.default_rng(seed).permutation(order)
        for first in range(0, order.size, size):
            chosen = order[first : first + size]
            yield Batch(self.gather(chosen), self.y[chosen], self.weight[chosen], chosen)

    def purge(self, train: Rows, test: Rows, *, embargo: pd.Timedelta | None = None) -> Rows:
        """The training rows that share nothing with what decides the test rows' labels.

        A training row stays if its closed interval from the open of its window's first bar to its label's end meets no
        test row's ``[t0, t_end]``, and if that interval does not begin within ``embargo`` after one. Splitters purge
        labels against labels; this also drops the windows that look back into a test label, of whatever symbol.
        """
        wait = 0 if embargo is None else embargo.value
        if wait < 0:
            raise ConfigurationError(f"embargo = {embargo} is negative")
        train, test = np.asarray(train, dtype=np.intp), np.asarray(test, dtype=np.intp)
        first, last = _union(_nanoseconds(self.t0)[test], _nanoseconds(self.t_end)[test] + wait)
        begin, end = _nanoseconds(self.reach)[train], _nanoseconds(self.t_end)[train]
        # Of the test stretches that begin by the row's end only the last can meet it: they are disjoint.
        place = np.searchsorted(first, end, side="right") - 1
        met = (place >= 0) & (last[np.maximum(place, 0)] >= begin) if first.size else np.zeros(train.size, np.bool_)
        return train[~met]

    def splits(self, splitter: Any, *, embargo: pd.Timedelta | None = None) -> Iterator[tuple[Rows, Rows]]:
        """The splits of any splitter with scikit-learn's ``split``, each with its training rows purged once more.

        Raises DataError where a split has nothing left to train on.
        """
        for train, test in splitter.split(self):
            kept = self.purge(train, test, embargo=embargo)
            if not kept.size:
                raise DataError(
                    f"purging windows of {self.window} bars leaves none of {len(train)} rows to train on",
                    hint="use a shorter window, fewer folds or more data",
                )
            yield kept, test


def build_sequences(
    parts: Mapping[Any, tuple[pd.DataFrame, pd.DataFrame]],
    window: int,
    timeframe: Timeframe,
    *,
    calendar: MarketCalendar | None = None,
) -> SequenceSet:
    """Pair every unbroken window of features with the label of its last bar.

    Parameters
    ----------
    parts:
        By symbol: a features frame (sorted index ``ts``, ``known_at``, float columns, the same for every symbol) and a
        labels frame (index ``ts``, ``value``, ``t_end``, ``weight``).
    calendar:
        What counts as a gap, as in :func:`tapeline.features.windows.slice_windows`.

    Returns
    -------
    The windows of one symbol each that cross no gap, hold no NaN, and whose last bar has a label.

    Raises
    ------
    DataError
        No part was given, columns differ or are missing, a label is not a number, or no window is left.
    LookAheadError
        A label became known before its decision was due.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=5, freq="1h", tz="UTC", name="ts")
    >>> features = pd.DataFrame({"known_at": ts + pd.Timedelta("1h"), "x": np.arange(5.0)}, index=ts)
    >>> labels = pd.DataFrame({"value": 1.0, "t_end": ts + pd.Timedelta("2h"), "weight": 1.0}, index=ts)
    >>> found = build_sequences({"EURUSD": (features, labels)}, 3, Timeframe.parse("H1"))
    >>> found.shape, found.gather(np.array([2]))[0, :, 0].tolist()
    ((3, 3, 1), [2.0, 3.0, 4.0])
    >>> found.purge(np.array([0]), np.array([2])).tolist(), found.purge(np.array([0]), np.array([1])).tolist()
    ([0], [])
    """
    if not parts:
        raise DataError("there is no symbol to build sequences of")
    tables: dict[str, NDArray[np.float32]] = {}
    pieces: list[pd.DataFrame] = []
    columns: tuple[str, ...] | None = None
    for key, (features, labels) in parts.items():
        name = str(key)
        own = _channels(name, features, labels)
        if columns is not None and own != columns:
            different = sorted(set(own) ^ set(columns)) or "their order"
            raise DataError(f"the features of {name} differ from those of the symbols before it: {different}")
        columns = own
        tables[name] = np.ascontiguousarray(features[list(own)].to_numpy(dtype=np.float32))
        index = pd.DatetimeIndex(features.index)
        windows = slice_windows(tables[name], window, timeframe=timeframe, ts=index, calendar=calendar, complete=True)
        last = windows.starts + window - 1
        place = pd.DatetimeIndex(labels.index).get_indexer(index[last])
        labelled = place >= 0
        known = labels.iloc[place[labelled]]
        piece = pd.DataFrame(
            {
                "start": windows.starts[labelled],
                "reach": windows.first_ts[labelled],
                "t0": pd.DatetimeIndex(features["known_at"])[last[labelled]],
                "t_end": pd.DatetimeIndex(known["t_end"]),
                "y": known["value"].to_numpy(dtype=np.float64),
                "weight": known["weight"].to_numpy(dtype=np.float64),
            }
        ).assign(symbol=name)
        _check(name, piece)
        pieces.append(piece)
    rows = pd.concat(pieces, ignore_index=True)
    if rows.empty:
        raise DataError(
            f"no unbroken, labelled window of {window} bars is left",
            hint="use a shorter window, or a calendar if pauses of the market are counted as gaps",
        )
    rows = rows.sort_values(["t0", "symbol"], kind="stable")
    return SequenceSet(
        tables=tables,
        window=window,
        start=rows["start"].to_numpy(dtype=np.int64),
        reach=pd.DatetimeIndex(rows["reach"]),
        t0=pd.DatetimeIndex(rows["t0"]),
        t_end=pd.DatetimeIndex(rows["t_end"]),
        y=rows["y"].to_numpy(dtype=np.float64),
        weight=rows["weight"].to_numpy(dtype=np.float64),
        symbol=rows["symbol"].to_numpy(dtype=np.str_),
        columns=columns or (),
    )


def _channels(name: str, features: pd.DataFrame, labels: pd.DataFrame) -> tuple[str, ...]:
    if "known_at" not in features.columns:
        raise DataError(f"the features of {name} lack 'known_at'")
    absent = [column for column in ("value", "t_end", "weight") if column not in labels.columns]
    if absent:
        raise DataError(f"the labels of {name} lack the columns {absent}")
    if not labels.index.is_unique:
        raise DataError(f"the labels of {name} repeat a time")
    own = tuple(str(column) for column in features.columns if column != "known_at")
    wrong = [column for column in own if features[column].dtype.kind not in "fiub"]
    if wrong or not own:
        raise DataError(f"the features of {name} hold no numbers in {wrong[:5] or 'any column'}")
    return own


def _check(name: str, piece: pd.DataFrame) -> None:
    if not (np.isfinite(piece["y"]).all() and np.isfinite(piece["weight"]).all()):
        raise DataError(f"a label or a weight of {name} is not a number")
    if piece["t0"].isna().any() or piece["t_end"].isna().any():
        raise DataError(f"a window of {name} has no decision time or no label end")
    early = piece["t_end"] < piece["t0"]
    if early.any():
        raise LookAheadError(
            f"{int(early.sum())} labels of {name} end before their decision; the first at {piece['t0'][early].iloc[0]}",
            hint="features and labels must come from the same bars and timeframe",
        )


def _union(first: Stamps, last: Stamps) -> tuple[Stamps, Stamps]:
    """Closed intervals as disjoint ones, ascending."""
    order = np.argsort(first, kind="stable")
    first, last = first[order], np.maximum.accumulate(last[order])
    opens = np.flatnonzero(np.r_[True, first[1:] > last[:-1]][: first.size])
    return first[opens], last[np.r_[opens[1:], first.size][: opens.size] - 1]


def _nanoseconds(index: pd.DatetimeIndex) -> Stamps:
    return index.as_unit("ns").asi8
