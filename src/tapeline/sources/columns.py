"""Which column of a user's file means what: the well-known names of bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tapeline.core.errors import DataError

_PRICES: Final = {
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c", "last", "closelast"),
}
_OTHERS: Final = {
    "volume": ("volume", "vol", "v", "realvolume"),
    "tick_count": ("tickvol", "tickvolume", "ticks", "tickcount", "trades", "count"),
    "spread": ("spread",),
}
# In the order of preference, where a file has several.
_TIMES: Final = ("ts", "timestamp", "opentime", "datetime", "unix", "epoch", "gmttime", "utc", "time", "date", "index")


@dataclass(frozen=True)
class ColumnRoles:
    """The column names behind each role; ``clock`` is a second column with the time of day, where there is one."""

    time: str
    clock: str | None
    prices: dict[str, str]
    volume: str | None
    tick_count: str | None
    spread: str | None


def recognise(names: list[str], file_name: str) -> ColumnRoles:
    """Find the roles by name; upper and lower case, spaces, dots, underscores and ``<>`` do not matter.

    Raises
    ------
    DataError
        A price or the time is missing, or two columns claim one role.

    Examples
    --------
    >>> roles = recognise(["<DATE>", "<TIME>", "<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<TICKVOL>"], "x.csv")
    >>> roles.time, roles.clock, roles.volume, roles.tick_count
    ('<DATE>', '<TIME>', None, '<TICKVOL>')
    """
    plain = {name: "".join(letter for letter in name.lower() if letter.isalnum()) for name in names}
    # pandas names an index without a name like this in Parquet and Feather.
    plain |= {name: "index" for name in names if name.startswith("__index_level_")}

    def claim(role: str, words: tuple[str, ...]) -> str | None:
        found = [name for name in names if plain[name] in words]
        if len({plain[name] for name in found}) < len(found):
            raise DataError(f"'{file_name}': the columns {found} all look like '{role}'", hint="keep one of them")
        return min(found, key=lambda name: words.index(plain[name]), default=None)

    prices = {role: claim(role, words) for role, words in _PRICES.items()}
    time = claim("time", _TIMES)
    missing = [role for role, name in prices.items() if name is None] + ([] if time else ["time"])
    if missing or time is None:
        raise DataError(
            f"'{file_name}' has no column for {', '.join(missing)}; its columns are {names[:20]}",
            hint="the first line must name them: Time (or Date), Open, High, Low, Close, and if known Volume",
        )
    clock = None
    if plain[time] in ("time", "date"):
        date = next((name for name in names if plain[name] == "date"), None)
        clock = next((name for name in names if plain[name] == "time"), None) if date else None
        time = date if date and clock else time
    return ColumnRoles(
        time=time,
        clock=clock,
        prices={role: name for role, name in prices.items() if name is not None},
        volume=claim("volume", _OTHERS["volume"]),
        tick_count=claim("tick_count", _OTHERS["tick_count"]),
        spread=claim("spread", _OTHERS["spread"]),
    )
