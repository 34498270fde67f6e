"""The file of a paper account: what came in, as arrays and JSON, the same bytes for the same account."""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.core.errors import DataError
from tapeline.strategy.paper_terms import PaperBook, PaperTerms

PRICES: Final = ("open", "high", "low", "close", "volume")
_VERSION: Final = 1
_NUMBERS: Final = ("target", "stop", "take", "probability", "confidence", "price")


def content_of(terms: PaperTerms, books: Mapping[str, PaperBook], reached: int, late_bars: int) -> bytes:
    """What is written of an account.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> at = datetime(2024, 1, 1, tzinfo=UTC)
    >>> terms = PaperTerms(name="first", strategy="0" * 16, symbols=("EURUSD",), timeframe="H1", opened_at=at)
    >>> read_content(content_of(terms, {}, 5, 0)) == (terms, {}, 5, 0)
    True
    """
    arrays: dict[str, np.ndarray] = {}
    said: dict[str, Any] = {"version": _VERSION, "terms": terms.model_dump(mode="json"), "books": {}}
    said |= {"reached": reached, "late_bars": late_bars}
    for number, (symbol, book) in enumerate(sorted(books.items())):
        times = (pd.DatetimeIndex(each).as_unit("ns").asi8 for each in (book.bars.index, book.bars["close_ts"]))
        arrays[f"times_{number}"] = np.array(list(times), dtype=np.int64)
        arrays[f"prices_{number}"] = book.bars[list(PRICES)].to_numpy(dtype=np.float64).T
        said["books"][symbol] = {
            "number": number,
            "warm": book.warm,
            "decisions": [_plain(one) for one in book.decisions],
            "signals": [_plain(one) for one in book.signals],
        }
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False)
    arrays["account"] = np.frombuffer(text.encode(), dtype=np.uint8)
    into = io.BytesIO()
    np.savez(into, allow_pickle=False, **arrays)
    return into.getvalue()


def read_content(content: bytes) -> tuple[PaperTerms, dict[str, PaperBook], int, int]:
    """Terms, books, the close that was reached and the number of late bars, as :func:`content_of` took them.

    Raises
    ------
    DataError
        It is no account, or a damaged one.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            said = json.loads(arrays["account"].tobytes())
            if said["version"] != _VERSION:
                raise DataError(f"a paper account of version {said['version']!r} cannot be read")
            books = {symbol: _book(symbol, one, arrays) for symbol, one in said["books"].items()}
        return PaperTerms.model_validate(said["terms"]), books, int(said["reached"]), int(said["late_bars"])
    except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"this is no paper account: {type(error).__name__}: {error}") from error


def _book(symbol: str, one: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> PaperBook:
    times, prices = arrays[f"times_{one['number']}"], arrays[f"prices_{one['number']}"]
    index, closes = (pd.DatetimeIndex(each.view("M8[ns]")).tz_localize("UTC") for each in times)
    bars = pd.DataFrame(dict(zip(PRICES, prices, strict=True)), index=index.rename("ts"))
    decisions, signals = (tuple(map(_number, one[name])) for name in ("decisions", "signals"))
    if not 0 <= one["warm"] <= len(bars):
        raise DataError(f"the account's book of {symbol} has {one['warm']} of {len(bars)} warm bars")
    return PaperBook(bars.assign(close_ts=closes), int(one["warm"]), decisions, signals)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def _number(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it was before NaN became null."""
    return {name: math.nan if value is None and name in _NUMBERS else value for name, value in row.items()}
