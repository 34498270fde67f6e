"""Cut points by information: where a value best separates the classes, as far as the description length allows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def information_cuts(values: NDArray[np.float64], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """The cuts of the minimum description length principle: entropy splits, each worth its own description.

    A cut lies halfway between two neighbouring values. Of all cuts the one with the smallest class entropy is taken
    where its gain exceeds ``(log2(n - 1) + log2(3 ** k - 2) - k E + k1 E1 + k2 E2) / n``, and both sides are cut
    further. Of cuts that are equally good the lowest is taken. Values that tell nothing of the classes have no cut.

    Parameters
    ----------
    values:
        Finite numbers, in any order.
    classes:
        The class code of each, 0 or more.

    Returns
    -------
    The cuts, ascending.

    References
    ----------
    Fayyad and Irani, Proceedings of IJCAI-93, pages 1022-1027.

    Examples
    --------
    >>> information_cuts(np.arange(20.0), np.repeat([0, 1], 10))
    array([9.5])
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    _, codes = np.unique(classes[order], return_inverse=True)
    counts = np.zeros((ordered.size + 1, int(codes.max(initial=-1)) + 1))
    counts[np.arange(1, ordered.size + 1), codes] = 1.0
    counts = np.cumsum(counts, axis=0)
    found: list[float] = []
    waiting = [(0, ordered.size)]
    while waiting:
        first, last = waiting.pop()
        at = _best_cut(ordered, counts, first, last)
        if at is not None:
            found.append((ordered[at - 1] + ordered[at]) / 2.0)
            waiting += [(first, at), (at, last)]
    return np.sort(np.array(found, dtype=np.float64))


def _best_cut(ordered: NDArray[np.float64], counts: NDArray[np.float64], first: int, last: int) -> int | None:
    """The row that begins the right-hand side of the best cut of the rows ``[first, last)``, if it is worth it."""
    places = np.flatnonzero(ordered[first : last - 1] < ordered[first + 1 : last]) + first + 1
    if not places.size:
        return None
    rows = last - first
    left, right = counts[places] - counts[first], counts[last] - counts[places]
    below, above = _entropy(left), _entropy(right)
    share = (places - first) / rows
    joint = share * below + (1.0 - share) * above
    # Equal but for rounding is equal: the lowest of them.
    best = int((joint <= joint.min() + 1e-12).argmax())
    whole = counts[last] - counts[first]
    entropy = float(_entropy(whole[None, :])[0])
    k, k_below, k_above = (int((c > 0).sum()) for c in (whole, left[best], right[best]))
    # log2(3 ** k - 2) without the power, which overflows for many classes.
    delta = (
        k * np.log2(3.0) + np.log2(1.0 - 2.0 * 3.0**-k) - (k * entropy - k_below * below[best] - k_above * above[best])
    )
    return int(places[best]) if entropy - joint[best] > (np.log2(rows - 1) + delta) / rows else None


def _entropy(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The entropy in bits of each row of class counts."""
    share = counts / counts.sum(axis=1, keepdims=True)
    logs = np.zeros_like(share)
    np.log2(share, out=logs, where=share > 0)
    return -(share * logs).sum(axis=1)
