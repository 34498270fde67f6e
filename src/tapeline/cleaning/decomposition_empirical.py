"""Empirical mode decomposition: a signal taken apart into oscillations of its own making, by the package EMD-signal.

The sifting interpolates between extremes that lie in the future of most bars, so all of it reads the future; only
``rolling_emd``, which decomposes each window of the past anew, does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tapeline.cleaning.signal_array import Floats, as_floats, require
from tapeline.core.errors import DataError, MissingExtraError
from tapeline.core.registry import research

LEAST = 16


@research
def emd_whole(values: Any, highest: int = -1) -> Floats:
    """Empirical mode decomposition of a whole series.

    Parameters
    ----------
    highest:
        At most this many modes; -1 for as many as there are.

    Returns
    -------
    ``[modes + 1, bars]``: the modes from the fastest on, then the residue. They add up to the series to rounding. Near
    the ends the envelopes rest on mirrored extremes and are not to be trusted for about one wave of each mode.

    Raises
    ------
    MissingExtraError
        The extra ``decomposition`` is not installed.
    DataError
        Fewer than 16 values, or a NaN.

    References
    ----------
    N. E. Huang et al., Proceedings of the Royal Society A 454 (1998), 903-995.

    Examples
    --------
    >>> steps = np.arange(200.0)
    >>> parts = emd_whole(np.sin(steps / 2) + np.sin(steps / 20))
    >>> bool(np.allclose(parts.sum(axis=0), np.sin(steps / 2) + np.sin(steps / 20)))
    True
    """
    return _emd(_complete(values), highest)


@research
def ceemdan_whole(values: Any, trials: int = 50, noise: float = 0.05, seed: int = 0) -> Floats:
    """Complete ensemble empirical mode decomposition with adaptive noise, which keeps modes from mixing.

    Deterministic: the noise is drawn from ``seed``. A trial costs about one ``emd_whole``.

    Parameters
    ----------
    trials:
        Noisy copies to average over.
    noise:
        Their noise in standard deviations of what is left of the signal.

    Returns
    -------
    As ``emd_whole``.

    References
    ----------
    M. E. Torres, M. A. Colominas, G. Schlotthauer and P. Flandrin, ICASSP 2011, 4144-4147.

    Examples
    --------
    >>> steps = np.arange(100.0)
    >>> parts = ceemdan_whole(np.sin(steps / 2) + steps / 50, trials=5)
    >>> bool(np.allclose(parts.sum(axis=0), np.sin(steps / 2) + steps / 50))
    True
    """
    require("trials", trials, 1, whole=True)
    require("noise", noise, 1e-9)
    require("seed", seed, 0, 2**32 - 1, whole=True)
    x = _complete(values)
    engine = _package().CEEMDAN(trials=trials, epsilon=float(noise), parallel=False)
    engine.noise_seed(seed)
    return _with_residue(x, engine(x))


def rolling_emd(values: Any, window: int = 128, modes: int = 3, every: int = 1) -> Floats:
    """Last values of the fastest modes of each window of the past, and of what they leave.

    The causal form. Slow, some milliseconds a window: for research and coarse bars; ``every`` leaves bars between NaN.
    The end of a window is where sifting is least sure: expect the modes to be noisy.

    Returns
    -------
    ``[modes + 1, bars]``: they add up to the signal. A mode that a window lacks is 0. NaN before the first full window
    and where one holds a NaN.

    Examples
    --------
    >>> parts = rolling_emd(np.sin(np.arange(70.0)), window=64, modes=2)
    >>> parts.shape, bool(np.allclose(parts[:, -1].sum(), np.sin(69.0)))
    ((3, 70), True)
    """
    require("window", window, LEAST, whole=True)
    require("modes", modes, 1, whole=True)
    require("every", every, 1, whole=True)
    x = as_floats(values)
    result = np.full((modes + 1, x.size), np.nan)
    for last in range(window - 1, x.size, every):
        part = x[last - window + 1 : last + 1]
        if np.isnan(part).any():
            continue
        found = _emd(part, modes)[:-1, -1][:modes]
        result[:modes, last] = 0.0
        result[: found.size, last] = found
        result[modes, last] = x[last] - found.sum()
    return result


def _emd(x: Floats, highest: int) -> Floats:
    require("highest", highest, -1, whole=True)
    return _with_residue(x, _package().EMD()(x, max_imf=highest))


def _with_residue(x: Floats, modes: np.ndarray) -> Floats:
    """The modes with the residue as the last row; the package gives it with them or leaves it out."""
    modes = np.atleast_2d(modes)
    residue = x - modes.sum(axis=0)
    if len(modes) > 1 and np.abs(residue).max() <= 1e-9 * max(np.abs(x).max(), 1e-300):
        return np.vstack((modes[:-1], modes[-1] + residue))
    return np.vstack((modes, residue))


def _complete(values: Any) -> Floats:
    x = as_floats(values)
    if x.size < LEAST:
        raise DataError(f"{x.size} values are too few to decompose, {LEAST} are the least")
    if np.isnan(x).any():
        raise DataError(f"row {int(np.argmax(np.isnan(x)))} is NaN: the decomposition needs every value")
    return x


def _package() -> Any:
    try:
        import PyEMD
    except ImportError:
        raise MissingExtraError("EMD-signal", "decomposition") from None
    return PyEMD
