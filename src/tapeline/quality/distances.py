"""Distances between two samples of one number: Kolmogorov-Smirnov, Wasserstein, and maximum mean discrepancy.

One side is a reference that was sorted once; the other is a window of newer values. All three are computed from the
values themselves, not from bins.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.core.errors import DataError

Floats = NDArray[np.float64]

FARTHEST: Final = 13.0
"""Kernel widths from the reference's median beyond which all values count as lying there."""
_PERIOD: Final = 32.0
_HIGHEST: Final = 6.0
"""The kernel repeats after this many widths, and its spectrum is cut at this frequency; both errors are below 1e-7."""
_SAMPLED: Final = 1000
"""Values, evenly spaced in the sorted reference, whose distances set the width of the kernel."""


def kolmogorov_smirnov(reference: Floats, batch: Floats) -> float:
    """The largest distance between two empirical distribution functions, from 0 to 1.

    Parameters
    ----------
    reference, batch:
        Sorted finite values. (N. Smirnov, Annals of Mathematical Statistics 19, 1948.)

    Raises
    ------
    DataError
        One of them is empty.

    Examples
    --------
    >>> kolmogorov_smirnov(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0]))
    0.5
    """
    _require(reference, batch)
    return float(_walk(reference, batch)[0])


def wasserstein(reference: Floats, batch: Floats) -> float:
    """The first Wasserstein distance of two samples, in the unit of the values: the area between their distributions.

    Parameters
    ----------
    reference, batch:
        Sorted finite values. (S. S. Vallender, Theory of Probability and its Applications 18, 1974: in one dimension
        the cost of moving one sample to the other is that area.)

    Raises
    ------
    DataError
        One of them is empty.

    Examples
    --------
    >>> wasserstein(np.array([0.0, 1.0]), np.array([2.0, 3.0]))
    2.0
    """
    _require(reference, batch)
    return float(_walk(reference, batch)[1])


def kernel_width(reference: Floats) -> float:
    """The median distance between two values of a sorted reference: the width of the Gaussian kernel.

    (A. Gretton et al., Journal of Machine Learning Research 13, 2012, section 8.) Where half of all pairs are equal,
    the standard deviation stands in; 1 where nothing varies.

    Examples
    --------
    >>> kernel_width(np.array([0.0, 1.0, 2.0]))
    1.0
    """
    if not len(reference):
        return 1.0
    places = np.linspace(0, len(reference) - 1, min(len(reference), _SAMPLED)).round().astype(np.int64)
    some = reference[places]
    upper = np.triu_indices(len(some), 1)
    width = float(np.median(some[upper[1]] - some[upper[0]])) if len(some) > 1 else 0.0
    return width or float(np.std(reference)) or 1.0


def kernel_means(values: Floats, width: float) -> Floats:
    """The mean of the Gaussian kernel's feature map over some finite values: what two samples are compared by.

    Sums of the map over parts add up, so that the discrepancy can be had from parts as well.
    """
    return np.asarray(kernel_map(values, width).mean(axis=0))


def kernel_map(values: Floats, width: float) -> Floats:
    """The feature map of ``exp(-(x - y)^2 / (2 width^2))``, one row a value, so that a kernel is a scalar product.

    The kernel is the mean of ``cos(w (x - y))`` over normal frequencies ``w`` (A. Rahimi and B. Recht, Random Features
    for Large-Scale Kernel Machines, 2007). In one dimension that mean is taken by the trapezoidal rule instead of by
    drawing, so that it is exact to 1e-7 and the same each time, for values up to 13 widths from 0; those beyond are
    moved there, where the kernel to nearly everything is 0 in any case.

    Examples
    --------
    >>> one, other = kernel_map(np.array([0.0, 3.0]), 2.0)
    >>> bool(abs(one @ other - np.exp(-9 / 8)) < 1e-7)
    True
    """
    step = 2 * np.pi / _PERIOD
    frequencies = np.arange(step, _HIGHEST, step)
    root = np.sqrt(2 * step * np.exp(-(frequencies**2) / 2) / np.sqrt(2 * np.pi))
    constant = np.sqrt(step / np.sqrt(2 * np.pi))
    places = np.clip(np.asarray(values, dtype=np.float64) / width, -FARTHEST, FARTHEST)
    angles = places[:, None] * frequencies
    return np.hstack([np.full((len(places), 1), constant), root * np.cos(angles), root * np.sin(angles)])


def mean_discrepancy(reference: Floats, batch: Floats, *, width: float | None = None) -> float:
    """The squared maximum mean discrepancy of two samples under a Gaussian kernel, from 0 to 2.

    The biased estimate (A. Gretton et al., Journal of Machine Learning Research 13, 2012, equation 5): all pairs count,
    those of a value with itself too.

    Parameters
    ----------
    reference, batch:
        Finite values; the reference sorted.
    width:
        Of the kernel; :func:`kernel_width` of the reference without.

    Raises
    ------
    DataError
        One of them is empty.

    Examples
    --------
    >>> same = np.array([1.0, 2.0, 3.0])
    >>> mean_discrepancy(same, same), mean_discrepancy(same, same + 1) > 0.2
    (0.0, True)
    """
    _require(reference, batch)
    scale = kernel_width(reference) if width is None else width
    # From the middle of the reference, so that a price of 60,000 leaves the angles small.
    middle = reference[len(reference) // 2]
    difference = kernel_means(reference - middle, scale) - kernel_means(batch - middle, scale)
    return float(difference @ difference)


def _require(reference: Floats, batch: Floats) -> None:
    if not len(reference) or not len(batch):
        raise DataError("no finite value on one side of a comparison", hint="leave columns out that have none")


@njit(cache=True)
def _walk(reference: np.ndarray, batch: np.ndarray) -> tuple[float, float]:
    """Walk both sorted samples at once: the largest distance of their distribution functions, and the area between."""
    n, m = reference.size, batch.size
    i = j = 0
    largest = area = 0.0
    x = min(reference[0], batch[0])
    while i < n or j < m:
        following = reference[i] if i < n and (j == m or reference[i] <= batch[j]) else batch[j]
        apart = abs(i / n - j / m)
        largest = max(largest, apart)
        area += apart * (following - x)
        x = following
        while i < n and reference[i] == x:
            i += 1
        while j < m and batch[j] == x:
            j += 1
    return max(largest, abs(i / n - j / m)), area
