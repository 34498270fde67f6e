"""Which symbols the sources follow: as long as somebody needs them, and a while longer."""

from __future__ import annotations

from collections.abc import Collection, Iterable


class Subscriptions:
    """Which symbols the sources follow: what is needed at once, what is no longer needed after a grace.

    Parameters
    ----------
    followed:
        Symbols that are followed already.
    grace:
        Nanoseconds for which a symbol that nobody needs is still followed, so that a reference that comes and goes
        makes no subscription come and go.

    Examples
    --------
    >>> known = Subscriptions(["A"], grace=10)
    >>> known.update({"B"}, 0), known.update({"B"}, 9), known.update({"B"}, 10)
    ((('B',), ()), ((), ()), ((), ('A',)))
    """

    def __init__(self, followed: Iterable[str] = (), *, grace: int) -> None:
        self.followed: dict[str, None] = dict.fromkeys(followed)
        self._grace = grace
        self._unneeded: dict[str, int] = {}

    def update(self, needed: Collection[str], now: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What to follow from now on, and what no longer."""
        coming = tuple(sorted(one for one in needed if one not in self.followed))
        for one in [one for one in self._unneeded if one in needed]:
            del self._unneeded[one]
        for one in self.followed:
            if one not in needed:
                self._unneeded.setdefault(one, now)
        going = tuple(one for one, since in self._unneeded.items() if now - since >= self._grace)
        for one in going:
            del self._unneeded[one], self.followed[one]
        self.followed.update(dict.fromkeys(coming))
        return coming, going
