"""Yahoo Finance, through yfinance: prices without dividend adjustment, one typed outcome for each kind of answer."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, ProviderError, TapelineError, TemporaryError
from tapeline.core.schemas import OHLCV
from tapeline.core.settings import NetworkSettings
from tapeline.core.symbol import Symbol
from tapeline.sources.base import BarRequest, Clock, Data, Empty, Failed, Outcome, Throttled, utc_now
from tapeline.sources.frame import as_record, cut, make_bars, make_rejected
from tapeline.sources.retry import Retry

INTERVALS: Final = {
    "M1": "1m", "M2": "2m", "M5": "5m", "M15": "15m", "M30": "30m", "H1": "1h", "D1": "1d", "W1": "1wk",
}  # fmt: skip
_WINDOW: Final = {"M1": pd.Timedelta(days=7)}
"""Yahoo refuses more than eight days of minutes in one request."""
_DAY: Final = pd.Timedelta(days=1)
_REACH: Final = {
    "M1": pd.Timedelta(days=7),
    **dict.fromkeys(("M2", "M5", "M15", "M30"), pd.Timedelta(days=59)),
    "H1": pd.Timedelta(days=729),
}
"""How far back one answer reaches, a day inside Yahoo's own bounds; daily bars have none."""
_FIRST_DAY: Final = pd.Timestamp("1927-01-01", tz="UTC")
"""The oldest series that Yahoo quotes, the S&P 500, begins in the last days of 1927."""
_BEYOND_REACH: Final = ("must be within the last", "days worth of", "not available for starttime", "invalid input")
_NO_BARS: Final = ("data doesn't exist for startdate", "no data found for this date range")


class YahooSource:
    """Bars of whatever Yahoo Finance quotes: shares, indices (``^GSPC``), currencies (``EURUSD=X``), crypto.

    Prices are asked for with ``auto_adjust=False``: dividends are not taken out and ``Adj Close`` is not read, so
    adjusted and paid prices never share a column. Yahoo applies splits to all history before it answers; that cannot
    be undone here and is stated as ``adjustment="splits"``.

    Daily and weekly bars carry the session's (first) date at 00:00 UTC, so that they count as known at the next 00:00
    UTC at the earliest. Thirty-minute bars are made by yfinance from fifteen-minute ones.

    Parameters
    ----------
    ticker:
        Makes the object with yfinance's ``Ticker.history`` for a symbol; injected in tests.
    """

    name = "yahoo"

    def __init__(
        self,
        network: NetworkSettings,
        *,
        clock: Clock = utc_now,
        sleep: Callable[[float], None] = time.sleep,
        ticker: Callable[[str], Any] | None = None,
    ) -> None:
        self._timeout = network.timeout_seconds
        self._clock = clock
        self._retry = Retry.of(network, sleep)
        self._ticker = ticker or _new_ticker

    def symbols(self) -> list[Symbol]:
        """Yahoo offers no list of what it quotes, so this is empty."""
        return []

    def fetch(self, request: BarRequest) -> Outcome:
        """Fetch one range; an unknown symbol is ``Failed``, a known one without bars in the range ``Empty``."""
        interval = INTERVALS.get(request.timeframe.name)
        if interval is None:
            return Failed(
                ConfigurationError(f"yahoo serves no {request.timeframe} bars", hint=f"it has {', '.join(INTERVALS)}")
            )
        now = self._clock()
        frames = []
        # Making a ticker may already ask the network (an ISIN is looked up).
        ticker = self._retry.run(lambda: self._ticker(str(request.symbol)), _classify)
        if isinstance(ticker, Throttled | Failed):
            return ticker
        for bounds in _windows(request, now):
            frame = self._retry.run(lambda: self._history(ticker, interval, bounds), _classify)  # noqa: B023 - run at once
            if isinstance(frame, Throttled | Failed):
                return frame
            if frame is not None:
                frames.append(frame)
        try:
            bars, rejected = _as_bars(frames, request)
        except TapelineError as error:
            return Failed(error)
        bars, unfinished = cut(bars, request, now)
        if bars.empty and rejected.empty:
            held = f"; {unfinished} had not closed yet" if unfinished else ""
            return Empty(f"yahoo knows {request.symbol} but has no complete {request.timeframe} bar in the range{held}")
        return Data(
            bars,
            rejected,
            source_id=self.name,
            provenance=f"Yahoo Finance chart of {request.symbol}, interval {interval}, through yfinance, not adjusted "
            "for dividends",
            adjustment="splits",
            volume_kind="traded" if bool((bars["volume"] > 0).any()) else "none",
            unfinished=unfinished,
            ts_origin="provider",
        )

    def _history(self, ticker: Any, interval: str, bounds: dict[str, Any]) -> pd.DataFrame | None:
        """One call; None where Yahoo says in so many words that the range holds no bar."""
        from yfinance.exceptions import YFPricesMissingError

        try:
            with warnings.catch_warnings():
                # The argument is deprecated in favour of a process-wide switch, which is not ours to set.
                warnings.simplefilter("ignore", DeprecationWarning)
                frame = ticker.history(
                    interval=interval,
                    auto_adjust=False,
                    actions=False,
                    prepost=False,
                    repair=False,
                    keepna=True,
                    timeout=self._timeout,
                    raise_errors=True,
                    **bounds,
                )
        except YFPricesMissingError as error:
            if _says_empty(error):
                return None
            raise
        if not isinstance(frame, pd.DataFrame):
            raise ProviderError(f"yahoo: the answer is a {type(frame).__name__}, not a table")
        return frame


def _windows(request: BarRequest, now: pd.Timestamp) -> list[dict[str, Any]]:
    """The bounds of each call. Daily bars begin at local midnight, so a day more on both sides is asked for."""
    margin = _DAY if request.timeframe.duration >= _DAY else pd.Timedelta(0)
    end = (request.end or now) + margin
    # Not yfinance's period "max": it is refused for symbols whose answer does not list it among the valid ranges.
    reach = _REACH.get(request.timeframe.name)
    earliest = _FIRST_DAY if reach is None else now - reach
    start = earliest if request.start is None else request.start - margin
    if start >= end:
        return []
    step = _WINDOW.get(request.timeframe.name)
    if step is None:
        return [{"start": start, "end": end}]
    edges = [*pd.date_range(start, end, freq=step, inclusive="left"), end]
    return [{"start": left, "end": right} for left, right in pairwise(edges)]


def _as_bars(frames: list[pd.DataFrame], request: BarRequest) -> tuple[pd.DataFrame, pd.DataFrame]:
    frames = [frame for frame in frames if len(frame)]
    if not frames:
        empty = np.empty(0)
        return make_bars(empty.astype(np.int64), dict.fromkeys(OHLCV, empty)), make_rejected()
    table = pd.concat(frames)
    index = table.index
    wanted = {name: name.capitalize() for name in OHLCV}
    absent = [column for column in wanted.values() if column not in table.columns]
    if absent or not isinstance(index, pd.DatetimeIndex) or index.tz is None:
        raise ProviderError(
            f"yahoo: the table of {request.symbol} lacks {absent or 'times with a zone'}",
            hint="its layout may have changed; update yfinance",
        )
    # A day is named by its date where it trades; its midnight there is another instant in UTC.
    index = index.tz_localize(None).normalize() if request.timeframe.duration >= _DAY else index.tz_convert("UTC")
    cells = {name: pd.to_numeric(table[column], errors="coerce") for name, column in wanted.items()}
    unread = np.zeros(len(table), dtype=bool)
    for name, column in wanted.items():
        unread |= (cells[name].isna() & table[column].notna()).to_numpy()
    bad = unread | np.asarray(index.isna())
    ts = np.where(bad, 0, index.as_unit("ns").asi8)
    bars = make_bars(ts[~bad], {name: cell.to_numpy(np.float64)[~bad] for name, cell in cells.items()})
    where = np.flatnonzero(bad)
    records = [as_record({"Date": table.index[int(i)], **table.iloc[i].to_dict()}) for i in where]
    return bars, make_rejected(where, records, [["a cell is no number or the time is missing"]] * len(where))


def _says_empty(error: Any) -> bool:
    """A range without bars, told from an unknown symbol.

    Before it asks for prices yfinance asks for the exchange's time zone, and an unknown symbol fails there. Prices
    that are missing without a stated reason are therefore those of a known symbol.
    """
    reason = getattr(error, "yahoo_reason", None)
    return (reason is None and "status_code" not in str(error)) or (
        reason is not None and any(words in reason.lower() for words in _NO_BARS)
    )


def _classify(error: Exception) -> Throttled | Failed:
    """What an exception of yfinance, of its HTTP client or of its parsers means."""
    from yfinance import exceptions as yf

    if isinstance(error, TapelineError):
        return Failed(error)
    text = " ".join(str(error).split())[:300]
    message = f"yahoo: {type(error).__name__}: {text}"
    if isinstance(error, yf.YFRateLimitError):
        return Throttled(None, message)
    if isinstance(error, yf.YFPricesMissingError):
        if any(words in text.lower() for words in _BEYOND_REACH):
            hint = "minutes reach back 30 days, 2 to 30 minutes 60 days, hours 730 days; days have no bound"
            return Failed(ConfigurationError(message, hint=hint))
        return Failed(ProviderError(message, hint="look the symbol up on finance.yahoo.com"))
    if isinstance(error, yf.YFTickerMissingError):
        return Failed(ProviderError(message, hint="look the symbol up on finance.yahoo.com"))
    if isinstance(error, yf.YFInvalidPeriodError):
        return Failed(ConfigurationError(message))
    if isinstance(error, yf.YFDataException):
        down = "currently down" in text.lower()
        return Failed(TemporaryError(message) if down else ProviderError(message))
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 429:
        return Throttled(None, message)
    if isinstance(status, int) and 400 <= status < 500:
        return Failed(ProviderError(message, hint=f"the server refused with HTTP status {status}"))
    if isinstance(error, ValueError):
        # JSON decoders raise subclasses of it: the body was a web page, or cut off.
        return Failed(ProviderError(message, hint="the answer is no JSON: a consent or block page may stand between"))
    if _is_connection_error(error):
        return Failed(TemporaryError(message, hint="the network or Yahoo; try again"))
    return Failed(ProviderError(message, hint="its layout may have changed; update yfinance"))


def _is_connection_error(error: Exception) -> bool:
    if isinstance(error, OSError):  # requests' exceptions, curl_cffi's and the system's own are all OSErrors
        return True
    return any(word in type(error).__name__.lower() for word in ("timeout", "connection"))


def _new_ticker(symbol: str) -> Any:
    import yfinance

    # Without this yfinance logs a lost connection and goes on as if the symbol did not exist.
    yfinance.config.debug.hide_exceptions = False
    return yfinance.Ticker(symbol)
