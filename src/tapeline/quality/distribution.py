"""The distribution monitor: whether the newest rows of each column still look like a frozen reference.

Five distances a column (population stability index, Kolmogorov-Smirnov, Wasserstein, Jensen-Shannon, maximum mean
discrepancy) and the share of absent values. What each would be if nothing had changed is found by drawing windows of
the reference in blocks (:mod:`tapeline.quality.block_bootstrap`), and one limit covers all columns and distances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.versions import digest_bytes
from tapeline.quality import block_bootstrap as bootstrap
from tapeline.quality.distances import kernel_map, kernel_width, kolmogorov_smirnov, mean_discrepancy, wasserstein
from tapeline.quality.histogram import (
    BINS,
    Counts,
    Floats,
    bin_counts,
    counts_of_sorted,
    equal_share_edges,
    jensen_shannon,
    stability,
)

STATISTICS: Final = ("psi", "ks", "wasserstein", "jensen_shannon", "mmd", "missing")
"""The distances: the Wasserstein distance in standard deviations of the reference, ``mmd`` squared, ``missing`` the
difference of the shares of absent values."""
COLUMNS: Final = ("column", "statistic", "value", "typical", "limit", "p_value", "changed", "alarm", "before", "after")
MINIMUM_REFERENCE: Final = 200
"""Rows without which a reference says too little."""
MINIMUM_WINDOW: Final = 30
ALPHA: Final = 0.01
"""Chance of any alarm at all in a report while nothing has changed."""
REPEATS: Final = 499
SMALLEST_STABILITY: Final = 0.1
"""Below this index nothing has happened that matters, however sure it is, unless the next bound is reached."""
SMALLEST_KS: Final = 0.15
"""About what a shift makes of a normal column whose index is 0.1; it sees values beyond the outermost bins as well."""
SMALLEST_MISSING: Final = 0.05


@dataclass(frozen=True)
class ReferenceColumn:
    """One column of a reference: its sorted finite values, the frozen bins, and the width of the kernel."""

    name: str
    ordered: Floats
    edges: Floats
    counts: Counts
    width: float
    spread: float


@dataclass(frozen=True)
class Reference:
    """A stretch of rows that newer ones are held against. Made once by :meth:`freeze`; nothing changes it.

    Parameters
    ----------
    start, end:
        The times of its first and last row.
    values:
        One line a row, one column a name; NaN where absent or not finite.
    version:
        The hash of names, times and values.
    """

    columns: tuple[ReferenceColumn, ...]
    start: pd.Timestamp
    end: pd.Timestamp
    values: Floats
    version: str

    @classmethod
    def freeze(cls, frame: pd.DataFrame, *, columns: Sequence[str] | None = None, bins: int = BINS) -> Reference:
        """Freeze a stretch of rows.

        Parameters
        ----------
        frame:
            Rows in the order of time, indexed by it; numeric columns, NaN where absent.
        columns:
            Which; all but the times and texts without. Columns without a finite value are left out.
        bins:
            Of equal share in the reference.

        Raises
        ------
        DataError
            Fewer than 200 rows, rows out of order, a column that is no number, or no column with a value.
        """
        index = _times(frame)
        if len(frame) < MINIMUM_REFERENCE:
            raise DataError(
                f"a reference of {len(frame)} rows says too little",
                hint=f"at least {MINIMUM_REFERENCE} rows are needed",
            )
        names = [str(name) for name in frame.columns if pd.api.types.is_numeric_dtype(frame[name].dtype)]
        matrix = _matrix(frame, names if columns is None else list(columns))
        held = tuple(names if columns is None else columns)
        parts = []
        kept = []
        for place, name in enumerate(held):
            ordered = np.sort(matrix[:, place][np.isfinite(matrix[:, place])])
            if not len(ordered):
                continue
            edges = equal_share_edges(ordered, bins)
            spread = float(np.std(ordered)) or 1.0
            counts = counts_of_sorted(ordered, edges)
            parts.append(ReferenceColumn(name, ordered, edges, counts, kernel_width(ordered), spread))
            kept.append(place)
        if not parts:
            raise DataError("no column of the reference has a value")
        values = np.ascontiguousarray(matrix[:, kept])
        values.flags.writeable = False
        names_of_parts = "\n".join(part.name for part in parts).encode()
        # Zeros have two signs and NaN many forms; what compares as equal must have one hash.
        plain = np.where(np.isnan(values), np.nan, values + 0.0)
        version = digest_bytes(names_of_parts + index.asi8.tobytes() + plain.tobytes())
        return cls(tuple(parts), index[0], index[-1], values, version)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns by name."""
        return tuple(part.name for part in self.columns)

    def resampled(
        self, window: int, *, repeats: int = REPEATS, block: int | None = None, seed: int = 0
    ) -> NDArray[np.float64]:
        """The distances of windows of so many rows that were drawn of the reference itself.

        A window of the reference is compared with a reference that is known without error, yet the true one is a
        sample as well. The variance of a difference being the sum of both, distances are widened by
        ``sqrt(1 + window / rows)``, squared ones by its square.

        Returns
        -------
        Columns by statistics by repeats.
        """
        rows = len(self.values)
        length = bootstrap.block_length(self.values, window) if block is None else block
        drawn = bootstrap.draw_rows(rows, window, length, repeats, seed)
        more = 1 + window / rows
        out = np.full((len(self.columns), len(STATISTICS), repeats), np.nan)
        for place, (part, values) in enumerate(zip(self.columns, self.values.T, strict=True)):
            present = np.isfinite(values)
            cells, first = np.unique(part.ordered, return_index=True)
            ranks = np.where(present, np.searchsorted(cells, values), -1)
            bins = np.where(present, np.searchsorted(part.edges, values, side="right"), -1)
            below = np.r_[first[1:], len(part.ordered)]
            largest, area, absent, counts = bootstrap.resampled_distances(drawn, ranks, cells, below, bins, part.counts)
            out[place, 0] = more * stability(part.counts.astype(np.float64), counts)
            out[place, 1] = np.sqrt(more) * largest
            out[place, 2] = np.sqrt(more) * area / part.spread
            out[place, 3] = np.sqrt(more) * jensen_shannon(part.counts.astype(np.float64), counts)
            mapped = np.zeros((rows, 1 + len(_map(part, part.ordered[:1])[0])))
            mapped[present, :-1] = _map(part, values[present])
            mapped[present, :-1] -= mapped[present, :-1].mean(axis=0)
            mapped[present, -1] = 1.0
            running = np.vstack([np.zeros(mapped.shape[1]), np.cumsum(np.vstack([mapped, mapped]), axis=0)])
            out[place, 4] = more * bootstrap.resampled_discrepancies(
                drawn, np.ascontiguousarray(running[:, :-1]), running[:, -1].round().astype(np.int64), length
            )
            out[place, 5] = np.sqrt(more) * np.abs(absent - (1 - len(part.ordered) / rows))
        return out


class DistributionMonitor:
    """Rows since a reference: their counts on its bins and their values, of all or of the last ``window`` rows.

    Rows are given in the order of time, in pieces of any size; what comes out does not depend on the pieces.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> hours = pd.date_range("2017-01-02", periods=1300, freq="h", tz="UTC", name="ts", unit="ns")
    >>> rows = pd.DataFrame({"one": generator.normal(size=1300), "two": generator.normal(size=1300)}, index=hours)
    >>> rows.iloc[1000:, 1] *= 2
    >>> monitor = DistributionMonitor(Reference.freeze(rows[:1000]))
    >>> for piece in (rows[1000:1100], rows[1100:]):
    ...     monitor.update(piece)
    >>> found = monitor.report(repeats=99, alpha=0.02)
    >>> sorted(found[found["alarm"]]["column"].unique())
    ['two']
    """

    def __init__(self, reference: Reference, *, window: int | None = None) -> None:
        if window is not None and window < MINIMUM_WINDOW:
            raise ConfigurationError(f"window = {window} rows, at least {MINIMUM_WINDOW} are needed")
        self.reference = reference
        self.window = window
        self._pieces: list[Floats] = []
        self._stamps: list[NDArray[np.int64]] = []
        self._counts = [np.zeros(len(part.counts), dtype=np.int64) for part in reference.columns]

    def __len__(self) -> int:
        """Rows held."""
        return sum(map(len, self._pieces))

    @property
    def counts(self) -> Mapping[str, Counts]:
        """What was counted on each column's bins; parts add up."""
        return {part.name: held.copy() for part, held in zip(self.reference.columns, self._counts, strict=True)}

    def update(self, rows: pd.DataFrame) -> None:
        """Add the next rows.

        Raises
        ------
        DataError
            A column of the reference is missing, or the rows are not later than those before and sorted.
        """
        index = _times(rows)
        self._add(_matrix(rows, self.reference.names), index.asi8)

    def merge(self, later: DistributionMonitor) -> None:
        """Add what another monitor of the same reference has seen of later rows."""
        if later.reference.version != self.reference.version:
            raise DataError("the two monitors have different references")
        for values, stamps in zip(later._pieces, later._stamps, strict=True):
            self._add(values, stamps)

    def report(
        self, *, alpha: float = ALPHA, repeats: int = REPEATS, block: int | None = None, seed: int = 0
    ) -> pd.DataFrame:
        """Compare the rows held with the reference.

        Returns
        -------
        One row a column and distance of :data:`STATISTICS`:

        - ``value``; ``typical`` and ``limit``: its mean over windows drawn of the reference, and what it must exceed;
        - ``p_value``: the chance that, with nothing changed, ANY of the report's distances lies as many standard
          deviations above its mean (P. H. Westfall and S. S. Young, Resampling-Based Multiple Testing, 1993, p. 50:
          the single-step maximum). It is at least ``1 / (repeats + 1)``;
        - ``changed``: that chance is no more than ``alpha``;
        - ``alarm``: changed, and by enough to matter: the column's stability index is 0.1 or more or its KS
          distance 0.15 or more; of absent values, their share has changed by 0.05 or more;
        - ``before`` and ``after``: the column's mean in the reference and in the window (of ``missing``, the shares).

        Distances of a column without a value are NaN and ``changed`` only by its absent values.

        Raises
        ------
        DataError
            Fewer than 30 rows are held.
        """
        if not 1 / (repeats + 1) <= alpha < 1:
            raise ConfigurationError(
                f"alpha = {alpha} with {repeats} repeats", hint=f"from 1 / {repeats + 1} to 1, or more repeats"
            )
        rows = len(self)
        if rows < MINIMUM_WINDOW:
            raise DataError(f"a window of {rows} rows says too little", hint=f"{MINIMUM_WINDOW} rows are needed")
        values = np.vstack(self._pieces)
        observed = np.array([self._distances(place, values[:, place]) for place in range(len(self._counts))])
        null = self.reference.resampled(rows, repeats=repeats, block=block, seed=seed)
        typical, spread = np.nanmean(null, axis=2), np.nanstd(null, axis=2)
        highest = np.max(np.nan_to_num(_standard(null, typical, spread), nan=-np.inf), axis=(0, 1))
        scores = _standard(observed[:, :, None], typical, spread)[:, :, 0]
        exceeded = (highest >= np.nan_to_num(scores, nan=-np.inf)[:, :, None]).sum(axis=2)
        p_values = np.where(np.isnan(scores), np.nan, (1 + exceeded) / (1 + repeats))
        # The smallest score whose chance is at most alpha lies above all but so many of the highest ones.
        allowed = int(np.floor(alpha * (1 + repeats))) - 1
        critical = np.sort(highest)[repeats - allowed - 1]
        limits = typical + critical * spread
        out = []
        for place, part in enumerate(self.reference.columns):
            held = values[:, place][np.isfinite(values[:, place])]
            missing = 1 - len(part.ordered) / len(self.reference.values), 1 - len(held) / rows
            means = float(part.ordered.mean()), float(held.mean()) if len(held) else np.nan
            for which, name in enumerate(STATISTICS):
                changed = bool(p_values[place, which] <= alpha)
                matters = (
                    abs(missing[1] - missing[0]) >= SMALLEST_MISSING
                    if name == "missing"
                    else observed[place, 0] >= SMALLEST_STABILITY or observed[place, 1] >= SMALLEST_KS
                )
                out.append(
                    (part.name, name, observed[place, which], typical[place, which], limits[place, which],
                     p_values[place, which], changed, bool(changed and matters),
                     *(missing if name == "missing" else means))
                )  # fmt: skip
        return pd.DataFrame(out, columns=list(COLUMNS))

    def _distances(self, place: int, values: Floats) -> list[float]:
        part = self.reference.columns[place]
        held = np.sort(values[np.isfinite(values)])
        absent = abs((1 - len(held) / len(values)) - (1 - len(part.ordered) / len(self.reference.values)))
        if not len(held):
            return [np.nan] * (len(STATISTICS) - 1) + [absent]
        reference, counted = part.counts.astype(np.float64), self._counts[place].astype(np.float64)
        return [
            float(stability(reference, counted)),
            kolmogorov_smirnov(part.ordered, held),
            wasserstein(part.ordered, held) / part.spread,
            float(jensen_shannon(reference, counted)),
            mean_discrepancy(part.ordered, held, width=part.width),
            absent,
        ]

    def _add(self, values: Floats, stamps: NDArray[np.int64]) -> None:
        if not len(values):
            return
        last = self._stamps[-1][-1] if self._stamps else np.iinfo(np.int64).min
        if stamps[0] <= last:
            raise DataError("rows are given in the order of time, each once", hint="give only what is newer")
        self._pieces.append(values)
        self._stamps.append(stamps)
        self._count(values, 1)
        surplus = len(self) - self.window if self.window is not None else 0
        while surplus > 0:
            leaving = self._pieces[0][:surplus]
            self._count(leaving, -1)
            self._pieces[0], self._stamps[0] = self._pieces[0][len(leaving) :], self._stamps[0][len(leaving) :]
            if not len(self._pieces[0]):
                del self._pieces[0], self._stamps[0]
            surplus -= len(leaving)

    def _count(self, values: Floats, sign: int) -> None:
        for place, part in enumerate(self.reference.columns):
            self._counts[place] += sign * bin_counts(values[:, place], part.edges)


def _map(part: ReferenceColumn, values: Floats) -> Floats:
    return kernel_map(values - part.ordered[len(part.ordered) // 2], part.width)


def _standard(values: Floats, typical: Floats, spread: Floats) -> Floats:
    away = values - typical[:, :, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        score = away / spread[:, :, None]
    # A distance that never varies, as the share of absent values of a column without any, is exceeded by any more.
    rigid = (spread <= 1e-12)[:, :, None]
    return np.where(rigid & ~np.isnan(away), np.where(away > 1e-9, np.inf, 0.0), score)


def _times(frame: pd.DataFrame) -> pd.DatetimeIndex:
    index = frame.index
    if not isinstance(index, pd.DatetimeIndex) or index.tz is None:
        raise DataError("the rows are not indexed by instants", hint="read them through the lake")
    if not (index.is_monotonic_increasing and index.is_unique):
        raise DataError("the rows are not sorted by time, each time once")
    return index.as_unit("ns")


def _matrix(frame: pd.DataFrame, names: Sequence[str]) -> Floats:
    absent = [name for name in names if name not in frame.columns]
    if absent:
        raise DataError(f"the rows lack the columns {absent[:5]}")
    try:
        matrix = frame[list(names)].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise DataError(f"a column is no number: {error}") from error
    return np.where(np.isfinite(matrix), matrix, np.nan)
