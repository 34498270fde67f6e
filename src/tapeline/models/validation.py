"""Splits that no label crosses: purged k-fold, combinatorial purged k-fold, walk-forward and a final holdout.

A label is an interval: from its decision ``t0`` to the instant ``t_end`` at which it became known. Two rows share
information where their closed intervals meet, however many rows lie between them, so purging reads times, never
row counts (Lopez de Prado 2018, Advances in Financial Machine Learning, section 7.4).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError

Rows = npt.NDArray[np.intp]
Stamps = npt.NDArray[np.int64]


class PurgedKFold:
    """K-fold in time order whose training rows share no label interval with the test block.

    A splitter as scikit-learn expects one (``cross_val_score(..., cv=PurgedKFold(...))``). Test blocks are borders in
    time: all rows with one decision time, of whatever symbol, fall into one block. For each test block, with ``first``
    the earliest ``t0`` and ``last`` the latest ``t_end`` in it, a row may train only if its closed interval
    ``[t0, t_end]`` does not meet ``[first, last]`` and its ``t0`` does not lie within the embargo after ``last``.

    Parameters
    ----------
    t0, t_end:
        Decision and label end of each row that will be split, in the rows' order, which is free.
    folds:
        Number of blocks, at least 2.
    embargo:
        Share of the rows to leave out after each test block, turned into time: that share of the whole span. Serial
        correlation of features reaches further than label intervals do; 0 switches it off.

    Raises
    ------
    ConfigurationError
        ``folds`` below 2 or ``embargo`` not in [0, 1).
    DataError
        A label ends before its decision, there are fewer decision times than folds, or purging leaves a fold nothing
        to train on.

    Examples
    --------
    >>> t0 = pd.date_range("2017-01-02", periods=6, freq="1h", tz="UTC")
    >>> splitter = PurgedKFold(t0, t0 + pd.Timedelta("1h"), folds=3, embargo=0)
    >>> [(train.tolist(), test.tolist()) for train, test in splitter.split(t0)]
    [([3, 4, 5], [0, 1]), ([0, 5], [2, 3]), ([0, 1, 2], [4, 5])]
    """

    def __init__(self, t0: pd.DatetimeIndex, t_end: pd.DatetimeIndex, *, folds: int = 5, embargo: float = 0.01) -> None:
        if folds < 2:
            raise ConfigurationError(f"folds = {folds} is below 2")
        if not 0 <= embargo < 1:
            raise ConfigurationError(f"embargo = {embargo} is not in [0, 1)")
        self.folds = folds
        self.embargo = embargo
        self._t0, self._t_end = _intervals(t0, t_end)
        self._block = time_blocks(self._t0, folds)
        span = int(self._t0.max() - self._t0.min())
        self._wait = round(span * embargo)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:  # noqa: N803 - scikit-learn's
        """The number of folds."""
        return self.folds

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Rows, Rows]]:  # noqa: N803
        """Yield (training rows, test rows) as positions, in time order of the test blocks."""
        self._check(X)
        for fold in range(self.folds):
            yield self._pair((fold,))

    def _check(self, X: Any) -> None:  # noqa: N803
        rows = X.shape[0] if hasattr(X, "shape") else len(X)
        if rows != self._t0.size:
            raise DataError(f"the splitter knows {self._t0.size} label intervals, but was given {rows} rows")

    def _pair(self, blocks: tuple[int, ...]) -> tuple[Rows, Rows]:
        test = np.isin(self._block, blocks)
        allowed = ~test
        # Blocks side by side are purged one by one all the same: a block's last label may end after the next's.
        for block in blocks:
            inside = self._block == block
            first, last = self._t0[inside].min(), self._t_end[inside].max()
            meets = (self._t0 <= last) & (self._t_end >= first)
            embargoed = (self._t0 > last) & (self._t0 - last <= self._wait)
            allowed &= ~(meets | embargoed)
        if not allowed.any():
            raise DataError(
                f"purging around the test blocks {blocks} leaves no row to train on",
                hint="labels overlap too far for so few rows: use a shorter horizon, fewer folds or more data",
            )
        return np.flatnonzero(allowed), np.flatnonzero(test)


class CombinatorialPurgedKFold(PurgedKFold):
    """Every choice of ``test_folds`` of the blocks as the test set, purged and embargoed around each of them.

    ``folds`` over ``test_folds`` splits give ``test_folds / folds * splits`` whole backtest paths, hence a
    distribution of a metric instead of one number (Lopez de Prado 2018, chapter 12).

    Examples
    --------
    >>> t0 = pd.date_range("2017-01-02", periods=12, freq="1h", tz="UTC")
    >>> splitter = CombinatorialPurgedKFold(t0, t0, folds=6, test_folds=2, embargo=0)
    >>> splitter.get_n_splits(), splitter.paths
    (15, 5)
    """

    def __init__(
        self,
        t0: pd.DatetimeIndex,
        t_end: pd.DatetimeIndex,
        *,
        folds: int = 6,
        test_folds: int = 2,
        embargo: float = 0.01,
    ) -> None:
        super().__init__(t0, t_end, folds=folds, embargo=embargo)
        if not 1 <= test_folds < folds:
            raise ConfigurationError(f"test_folds = {test_folds} is not in [1, {folds - 1}]")
        self.test_folds = test_folds

    @property
    def paths(self) -> int:
        """How many whole backtest paths the splits make up."""
        return comb(self.folds, self.test_folds) * self.test_folds // self.folds

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:  # noqa: N803
        """The number of choices of test blocks."""
        return comb(self.folds, self.test_folds)

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Rows, Rows]]:  # noqa: N803
        """Yield (training rows, test rows) for each choice of test blocks, in lexicographic order."""
        self._check(X)
        for blocks in combinations(range(self.folds), self.test_folds):
            yield self._pair(blocks)


class PurgedWalkForward(PurgedKFold):
    """Train on the past only: each block but the first is the test set of a model trained before it.

    A training row's label must have been known before the block's first decision. ``window`` blocks are trained on
    (rolling), or all of them (anchored) where it is None. There is nothing after a test block, so no embargo.

    Examples
    --------
    >>> t0 = pd.date_range("2017-01-02", periods=6, freq="1h", tz="UTC")
    >>> splitter = PurgedWalkForward(t0, t0, folds=3)
    >>> [(train.tolist(), test.tolist()) for train, test in splitter.split(t0)]
    [([0, 1], [2, 3]), ([0, 1, 2, 3], [4, 5])]
    """

    def __init__(
        self, t0: pd.DatetimeIndex, t_end: pd.DatetimeIndex, *, folds: int = 5, window: int | None = None
    ) -> None:
        super().__init__(t0, t_end, folds=folds, embargo=0)
        if window is not None and window < 1:
            raise ConfigurationError(f"window = {window} is below 1 block")
        self.window = window

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:  # noqa: N803
        """One fewer than there are blocks."""
        return self.folds - 1

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Rows, Rows]]:  # noqa: N803
        """Yield (training rows, test rows), the test blocks in time order."""
        self._check(X)
        for fold in range(1, self.folds):
            test = self._block == fold
            begin = 0 if self.window is None else max(0, fold - self.window)
            allowed = (self._block < fold) & (self._block >= begin) & (self._t_end < self._t0[test].min())
            if not allowed.any():
                raise DataError(f"no label before walk-forward block {fold} was known in time to train on it")
            yield np.flatnonzero(allowed), np.flatnonzero(test)


class PurgedGroupKFold(PurgedKFold):
    """Purged k-fold that also holds a group out, to see whether what other symbols teach holds for one never seen.

    Each split tests one group (a symbol) in one time block and trains on the other groups' rows, purged and embargoed
    around that block as :class:`PurgedKFold` does: symbols move together, so a row of another symbol at the same time
    would tell the answer. A group without a row in a block has no split there.

    Examples
    --------
    >>> t0 = pd.date_range("2017-01-02", periods=4, freq="1h", tz="UTC").repeat(2)
    >>> splitter = PurgedGroupKFold(t0, t0, groups=["EURUSD", "GBPUSD"] * 4, folds=2, embargo=0)
    >>> [(train.tolist(), test.tolist()) for train, test in splitter.split(t0)][:2]
    [([5, 7], [0, 2]), ([1, 3], [4, 6])]
    """

    def __init__(
        self,
        t0: pd.DatetimeIndex,
        t_end: pd.DatetimeIndex,
        *,
        groups: Any,
        folds: int = 5,
        embargo: float = 0.01,
    ) -> None:
        super().__init__(t0, t_end, folds=folds, embargo=embargo)
        names, self._group = np.unique(np.asarray(groups).astype(str), return_inverse=True)
        if self._group.size != self._t0.size:
            raise DataError(f"{self._group.size} groups and {self._t0.size} label intervals do not belong together")
        if names.size < 2:
            raise DataError(f"there is only the group {names.tolist()}", hint="without a second one use PurgedKFold")
        pairs = {(int(group), int(block)) for group, block in zip(self._group, self._block, strict=True)}
        self._pairs = sorted(pairs)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:  # noqa: N803
        """Groups times folds, less the blocks in which a group has no row."""
        return len(self._pairs)

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Rows, Rows]]:  # noqa: N803
        """Yield (training rows, test rows), group by group in the order of their names, each in time order."""
        self._check(X)
        for group, block in self._pairs:
            train, test = self._pair((block,))
            train, test = train[self._group[train] != group], test[self._group[test] == group]
            if not train.size:
                raise DataError(f"no row of another group is left to train on beside block {block}")
            yield train, test


def time_holdout(t0: pd.DatetimeIndex, t_end: pd.DatetimeIndex, share: float) -> tuple[Rows, Rows]:
    """Set the last ``share`` of the rows aside, by time.

    Returns
    -------
    (development rows, holdout rows) as positions. The holdout begins at one instant for all symbols; a development
    row's label was known before it. Rows whose label crosses the border are in neither.

    Raises
    ------
    ConfigurationError
        ``share`` is not in (0, 1).
    DataError
        One of the two sides is empty.

    Examples
    --------
    >>> t0 = pd.date_range("2017-01-02", periods=5, freq="1h", tz="UTC")
    >>> [rows.tolist() for rows in time_holdout(t0, t0 + pd.Timedelta("1h"), 0.4)]
    [[0, 1], [3, 4]]
    """
    if not 0 < share < 1:
        raise ConfigurationError(f"holdout = {share} is not in (0, 1)")
    start, end = _intervals(t0, t_end)
    border = np.sort(start)[min(start.size - 1, int(np.ceil(start.size * (1 - share) - 1e-9)))]
    holdout = start >= border
    development = end < border
    if not development.any():
        raise DataError(
            f"a holdout of {share:.0%} leaves no row to develop on: every label crosses its border",
            hint="ask for a longer range",
        )
    return np.flatnonzero(development), np.flatnonzero(holdout)


def time_blocks(t0: Stamps, blocks: int) -> Rows:
    """Number each row by its block: about equally many rows a block, rows of one instant together.

    Raises DataError where there are fewer distinct instants than blocks.
    """
    instants, inverse, counts = np.unique(t0, return_inverse=True, return_counts=True)
    if instants.size < blocks:
        raise DataError(
            f"{instants.size} distinct decision times do not make {blocks} blocks", hint="use fewer folds or more data"
        )
    middle = np.cumsum(counts) - counts / 2
    block = np.minimum((middle / t0.size * blocks).astype(np.intp), blocks - 1)
    # An instant with very many rows may jump over a block, but every block must hold one: numbers rise by one at most
    # from 0, and not so late that the last instants cannot reach the last block.
    place = np.arange(instants.size)
    block = place + np.minimum.accumulate(np.minimum(block - place, 0))
    block = np.maximum(block, blocks - (instants.size - place))
    return block[inverse]


def _intervals(t0: pd.DatetimeIndex, t_end: pd.DatetimeIndex) -> tuple[Stamps, Stamps]:
    start, end = _nanoseconds(t0), _nanoseconds(t_end)
    if start.size != end.size:
        raise DataError(f"{start.size} decision times and {end.size} label ends do not belong together")
    if start.size == 0:
        raise DataError("there is no row to split")
    if (end < start).any():
        raise DataError(f"{int((end < start).sum())} labels end before their decision")
    return start, end


def _nanoseconds(index: Any) -> Stamps:
    instants = pd.DatetimeIndex(index)
    if instants.hasnans:
        raise DataError("a row has no decision time or no label end")
    return instants.as_unit("ns").asi8
