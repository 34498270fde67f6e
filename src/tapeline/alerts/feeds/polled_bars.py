"""Bars as sources that are polled give them: the answers of Alpha Vantage and Yahoo Finance, read as hostile."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tapeline.alerts.feeds.batcher import Tick
from tapeline.alerts.feeds.source_names import LARGEST
from tapeline.core.errors import ProviderError, ThrottledError
from tapeline.core.nanoseconds import SECOND
from tapeline.streams.messages import msgspec

MAXIMUM_BARS: Final = 50_000
"""More than the minutes of a month."""
MAXIMUM_BODY: Final = 8 * 1024 * 1024
INTERVALS: Final = {"1min": 60, "5min": 300, "15min": 900, "30min": 1_800, "60min": 3_600}
"""Of Alpha Vantage, in seconds."""


class PolledBar(NamedTuple):
    """One bar of a source; ``ts`` its open, ``duration`` its length, both nanoseconds."""

    ts: int
    duration: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class Bars(NamedTuple):
    """What an answer held: complete bars in order of time, and why others were refused."""

    bars: list[PolledBar]
    refused: Counter[str]


def bar_ticks(symbol: str, bar: PolledBar) -> list[Tick]:
    """A complete bar as four trades: open, low and high (the high first where it fell), close.

    Each has a quarter of the volume. Their sequences rise from bar to bar, and are the same whenever the bar is asked
    for. Of the way between the four prices a bar says nothing: this one is a convention.

    Examples
    --------
    >>> bar = PolledBar(60_000_000_000, 60_000_000_000, 10.0, 12.0, 9.0, 11.0, 8.0)
    >>> [(tick.price, tick.size, tick.sequence) for tick in bar_ticks("MSFT", bar)]
    [(10.0, 2.0, 240), (9.0, 2.0, 241), (12.0, 2.0, 242), (11.0, 2.0, 243)]
    """
    second, third = (bar.low, bar.high) if bar.close >= bar.open else (bar.high, bar.low)
    size, first, step = bar.volume / 4, bar.ts // SECOND * 4, bar.duration // 3
    times = (bar.ts, bar.ts + step, bar.ts + 2 * step, bar.ts + bar.duration - 1)
    prices = (bar.open, second, third, bar.close)
    return [
        Tick(symbol, ts, price, size, first + part) for part, (ts, price) in enumerate(zip(times, prices, strict=True))
    ]


def parse_alpha_vantage(body: bytes) -> Bars:
    """The bars of an answer to ``TIME_SERIES_INTRADAY``.

    A bar's stamp is read as its open, in the zone that the answer names. Where the service meant the close, the bar is
    known one interval later than it could be, never earlier.

    Raises
    ------
    ThrottledError
        The service says, with status 200, that the quota is spent.
    ProviderError
        It says that it refuses, or the body is not of its form.
    """
    answer = decoded(_ALPHA_VANTAGE, body, "Alpha Vantage")
    for name in ("Note", "Information"):
        if name in answer:
            raise ThrottledError(f"Alpha Vantage: {said(answer[name])}", retry_after=60.0)
    if "Error Message" in answer:
        raise ProviderError(f"Alpha Vantage: {said(answer['Error Message'])}")
    series = [name for name in answer if name.startswith("Time Series (")]
    about = answer.get("Meta Data")
    if len(series) != 1 or not isinstance(about, dict) or not isinstance(answer[series[0]], dict):
        raise ProviderError(f"Alpha Vantage: no time series among {sorted(answer)[:5]}")
    step = INTERVALS.get(series[0][len("Time Series (") : -1])
    if step is None:
        raise ProviderError(f"Alpha Vantage: {series[0][:40]!r} is no intraday series")
    zone = _zone(next((text for name, text in about.items() if name.endswith("Time Zone")), ""))
    rows = answer[series[0]]
    if len(rows) > MAXIMUM_BARS:
        raise ProviderError(f"Alpha Vantage: {len(rows)} bars, more than {MAXIMUM_BARS}")
    found: list[PolledBar] = []
    refused = Counter[str]()
    for stamp, cells in rows.items():
        try:
            instant = datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S").replace(tzinfo=zone)
        except ValueError:
            refused["a time that cannot be read"] += 1
            continue
        fields = {name.split(". ", 1)[-1]: cell for name, cell in cells.items()} if isinstance(cells, dict) else {}
        values = [fields.get(name) for name in ("open", "high", "low", "close", "volume")]
        _add(found, refused, int(instant.timestamp()), step, values)
    return Bars(sorted(found), refused)


def parse_yahoo(body: bytes) -> Bars:
    """The bars of a chart answer (``/v8/finance/chart``) in seconds since 1970, UTC.

    Null cells are minutes without a trade and are passed over.

    Raises
    ------
    ProviderError
        The service refuses, or the body is not of its form.
    """
    answer = decoded(_YAHOO, body, "Yahoo")
    if answer.chart.error is not None or not answer.chart.result:
        raise ProviderError(f"Yahoo: {said(answer.chart.error)}")
    chart = answer.chart.result[0]
    step = _YAHOO_STEPS.get(chart.meta.dataGranularity)
    if step is None:
        raise ProviderError(
            f"Yahoo: granularity {chart.meta.dataGranularity[:20]!r} is not of {', '.join(_YAHOO_STEPS)}"
        )
    if not chart.indicators.quote:
        return Bars([], Counter())
    quote = chart.indicators.quote[0]
    columns = (quote.open, quote.high, quote.low, quote.close, quote.volume)
    if any(len(column) != len(chart.timestamp) for column in columns):
        raise ProviderError(
            f"Yahoo: columns of {[len(column) for column in columns]} cells for {len(chart.timestamp)} bars"
        )
    found: list[PolledBar] = []
    refused = Counter[str]()
    for stamp, *cells in zip(chart.timestamp, *columns, strict=True):
        if all(cell is None for cell in cells[:4]):
            continue
        _add(found, refused, stamp, step, [*cells[:4], 0 if cells[4] is None else cells[4]])
    return Bars(sorted(found), refused)


def _add(found: list[PolledBar], refused: Counter[str], opened: int, step: int, values: Sequence[Any]) -> None:
    """Take a bar, or count why not."""
    numbers = [_number(value) for value in values]
    if any(math.isnan(number) for number in numbers):
        refused["a cell that is no number"] += 1
    elif not all(0 < number <= LARGEST for number in numbers[:4]) or not 0 <= numbers[4] <= LARGEST:
        refused["a price or volume out of bounds"] += 1
    elif not numbers[2] <= min(numbers[0], numbers[3]) or not max(numbers[0], numbers[3]) <= numbers[1]:
        refused["a high or low that does not hold the bar"] += 1
    elif not 0 <= opened < 1 << 33:
        refused["a time that cannot be read"] += 1
    else:
        found.append(PolledBar(opened * SECOND, step * SECOND, *numbers))


def _number(value: Any) -> float:
    """A cell as a number; NaN where it is none. Infinity stays, to be refused by its bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > 40:
        return math.nan
    try:
        return float(value)
    except ValueError:
        return math.nan


def _zone(name: Any) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError) as error:
        raise ProviderError(f"Alpha Vantage: {str(name)[:40]!r} is no time zone") from error


def said(text: Any) -> str:
    """What a service said, as one short line; its key may stand in it, after a word that says so."""
    words = " ".join(str(text).split())
    return words.split("API key as", 1)[0][:200]


def decoded(reader: Any, body: bytes, who: str) -> Any:
    """A body read by a decoder; ProviderError where it is too long or not of the form."""
    if len(body) > MAXIMUM_BODY:
        raise ProviderError(f"{who}: an answer of {len(body)} bytes, more than {MAXIMUM_BODY}")
    try:
        return reader.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProviderError(f"{who}: {str(error)[:200]}") from error


_Cells = Annotated[list[Any], msgspec.Meta(max_length=MAXIMUM_BARS)]


class _Meta(msgspec.Struct):
    dataGranularity: str = ""  # noqa: N815 - the service's spelling


class _Quote(msgspec.Struct):
    open: _Cells = msgspec.field(default_factory=list)
    high: _Cells = msgspec.field(default_factory=list)
    low: _Cells = msgspec.field(default_factory=list)
    close: _Cells = msgspec.field(default_factory=list)
    volume: _Cells = msgspec.field(default_factory=list)


class _Indicators(msgspec.Struct):
    quote: list[_Quote] = msgspec.field(default_factory=list)


class _Chart(msgspec.Struct):
    meta: _Meta
    indicators: _Indicators
    timestamp: Annotated[list[int], msgspec.Meta(max_length=MAXIMUM_BARS)] = msgspec.field(default_factory=list)


class _Charts(msgspec.Struct):
    result: list[_Chart] | None = None
    error: Any = None


class _Answer(msgspec.Struct):
    chart: _Charts


_YAHOO_STEPS: Final[Mapping[str, int]] = {
    "1m": 60,
    "2m": 120,
    "5m": 300,
    "15m": 900,
    "30m": 1_800,
    "60m": 3_600,
    "1h": 3_600,
    "1d": 86_400,
}
_YAHOO: Final = msgspec.json.Decoder(_Answer)
_ALPHA_VANTAGE: Final = msgspec.json.Decoder(dict[str, Any])
