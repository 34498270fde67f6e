"""The sample: real market data that ships inside three packages Tapeline depends on.

The files are found without importing those packages, and each is held against a SHA-256, because their content is not
part of any promise of the packages. Vendor rights in the data are not stated by them; see docs/sources.md.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, TapelineError
from tapeline.core.schemas import OHLCV
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.sources.base import (
    Adjustment,
    BarRequest,
    Clock,
    Data,
    Empty,
    Failed,
    Outcome,
    VolumeKind,
    unknown_symbol,
)
from tapeline.sources.frame import as_record, cut, make_bars, make_rejected

Read = tuple[pd.DataFrame, pd.DataFrame]


@dataclass(frozen=True)
class SampleFile:
    """One file of the sample: where it lies, what it must hash to, and how it is read.

    ``recorded_at`` is the instant at which the file was made; bars that had not closed by then were unfinished.
    """

    symbol: Symbol
    timeframe: Timeframe
    package: str
    distribution: str
    version: str
    path: str
    sha256: str
    read: Callable[[bytes], Read]
    recorded_at: pd.Timestamp
    adjustment: Adjustment
    volume_kind: VolumeKind
    description: str

    @property
    def provenance(self) -> str:
        """Package, version, path and hash in one line."""
        return (
            f"{self.description}; {self.distribution}=={self.version}, {self.package}/{self.path}, sha256:{self.sha256}"
        )

    def load(self) -> bytes:
        """The file's bytes, exactly as pinned.

        Raises
        ------
        ConfigurationError
            The package is not installed, or its file is not the one that was pinned.
        """
        hint = f"pip install '{self.distribution}=={self.version}'"
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            raise ConfigurationError(f"the sample needs the package '{self.distribution}', which is absent", hint=hint)
        path = Path(spec.origin).parent / self.path
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"the sample file '{self.path}' of {self.distribution}=={self.version} cannot be read: {error}",
                hint=hint,
            ) from error
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise ConfigurationError(
                f"the sample file '{self.path}' of {self.distribution} is not the one of version {self.version}: its "
                f"SHA-256 is {found}, pinned is {self.sha256}",
                hint=hint,
            )
        return content


class SampleSource:
    """Serves the packaged files: EURUSD H1, SP500, NASDAQ and VIX D1, AAPL D1, H1 and M1.

    Parameters
    ----------
    clock:
        Replays the past: bars that had not closed by it are held back. Default: the instant at which each file was
        recorded, so that the answer never depends on the day on which it is asked for.

    Examples
    --------
    >>> SampleSource().symbols()
    [Symbol('AAPL'), Symbol('EURUSD'), Symbol('NASDAQ'), Symbol('SP500'), Symbol('VIX')]
    """

    name = "sample"

    def __init__(self, clock: Clock | None = None, files: tuple[SampleFile, ...] | None = None) -> None:
        self._clock = clock
        self._files = SAMPLE_FILES if files is None else files

    def symbols(self) -> list[Symbol]:
        """The five instruments."""
        return sorted({file.symbol for file in self._files})

    def timeframes(self, symbol: Symbol) -> list[Timeframe]:
        """The timeframes in which a symbol is packaged, shortest first."""
        return sorted(file.timeframe for file in self._files if file.symbol == symbol)

    def fetch(self, request: BarRequest) -> Outcome:
        """Read one file; a wrong hash or an absent package is ``Failed`` with a ConfigurationError."""
        try:
            file = self._find(request)
            bars, rejected = file.read(file.load())
        except TapelineError as error:
            return Failed(error)
        now = file.recorded_at if self._clock is None else min(self._clock(), file.recorded_at)
        bars, unfinished = cut(bars, request, now)
        if bars.empty:
            return Empty(f"the sample's {request.symbol} {request.timeframe} has no complete bar in the range")
        return Data(
            bars,
            rejected,
            source_id=f"sample:{file.distribution}-{file.version}",
            provenance=file.provenance,
            adjustment=file.adjustment,
            volume_kind=file.volume_kind,
            unfinished=unfinished,
            ts_origin="provider",
        )

    def _find(self, request: BarRequest) -> SampleFile:
        frames = self.timeframes(request.symbol)
        if not frames:
            raise ConfigurationError(
                f"the sample has no symbol {str(request.symbol)!r}",
                hint=unknown_symbol(request.symbol, [str(s) for s in self.symbols()], "the sample"),
            )
        for file in self._files:
            if (file.symbol, file.timeframe) == (request.symbol, request.timeframe):
                return file
        raise ConfigurationError(
            f"the sample has no {request.timeframe} bars of {request.symbol}",
            hint=f"it has {', '.join(map(str, frames))}",
        )


def read_eurusd(content: bytes) -> Read:
    """Dukascopy's export: ``dd.mm.yyyy HH:MM:SS.fff``, ask prices, volume in units of the base currency.

    The clock is UTC: the week opens at 22:00 in winter and at 21:00 from 2017-03-12 to 2017-10-29, which is 17:00 in
    New York all year.
    """
    table = pd.read_csv(io.BytesIO(content), dtype={"Time": "str"})
    ts = pd.to_datetime(table["Time"], format="%d.%m.%Y %H:%M:%S.%f", utc=True)
    return _bars(ts, table), make_rejected()


def read_index(content: bytes) -> Read:
    """Daily OHLCV of an index; ``m/d/yyyy`` is the session's date."""
    table = pd.read_csv(io.BytesIO(content), compression="gzip", dtype={"Date": "str"})
    return _bars(pd.to_datetime(table["Date"], format="%m/%d/%Y", utc=True), table), make_rejected()


def read_vix(content: bytes) -> Read:
    """Daily closes of the VIX; days without a fixing carry a ``.`` and are rejected with that reason.

    Only the close is known, so open, high and low are set to it: the one choice that invents no range and no gap. A
    range feature on these bars is 0 and says so; ``volume_kind`` is ``none``.
    """
    table = pd.read_csv(io.BytesIO(content), compression="gzip", dtype="str", keep_default_na=False)
    close = pd.to_numeric(table["vix"], errors="coerce")
    bad = np.flatnonzero(close.isna())
    records = [as_record(row) for row in table.iloc[bad].to_dict("records")]
    rejected = make_rejected(bad, records, [[f"no value for the day: vix is {table['vix'][i]!r}"] for i in bad])
    good = table[close.notna()]
    ts = pd.to_datetime(good["Date"], format="%m/%d/%Y", utc=True)
    price = close[close.notna()].to_numpy()
    values = dict.fromkeys(OHLCV, price) | {"volume": np.zeros(len(price))}
    return make_bars(_nanoseconds(ts), values), rejected


def read_daily_equity(content: bytes) -> Read:
    """Daily bars of one share; the date is the New York session's and becomes 00:00 UTC of that date.

    The session ends at 16:00 New York (20:00 or 21:00 UTC), so a bar that counts as known at the next 00:00 UTC is
    never used too early.
    """
    table = pd.read_csv(io.BytesIO(content), dtype={"date": "str"})
    return _bars(pd.to_datetime(table["date"], format="%Y-%m-%d", utc=True), table), make_rejected()


def read_intraday_equity(content: bytes) -> Read:
    """Intraday bars of one share; times carry New York's offset and become UTC."""
    table = pd.read_csv(io.BytesIO(content), dtype={"datetime": "str"})
    return _bars(pd.to_datetime(table["datetime"], format="ISO8601", utc=True), table), make_rejected()


def _bars(ts: pd.Series, table: pd.DataFrame) -> pd.DataFrame:
    lower = {str(name).lower(): name for name in table.columns}
    return make_bars(_nanoseconds(ts), {name: table[lower[name]].to_numpy(np.float64) for name in OHLCV})


def _nanoseconds(ts: pd.Series) -> np.ndarray:
    return pd.DatetimeIndex(ts).as_unit("ns").asi8


def _utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


# What each file itself says about when it was made. The EURUSD and arch files end with complete bars: any instant
# after the last close serves, the end of the last day is named. The three AAPL files end inside the session of
# 2026-08-06: the day's and the hour's last close is 314.260009765625, which is also all four prices of the minute bar
# of 10:05 New York, whose volume is still 0. They were recorded together just as that minute began: 14:05 UTC.
_MINTALIB_RECORDED: Final = _utc("2026-08-06 14:05")


def _arch(symbol: str, path: str, sha256: str, description: str) -> SampleFile:
    is_vix = symbol == "VIX"
    return SampleFile(
        symbol=Symbol.parse(symbol),
        timeframe=Timeframe.parse("D1"),
        package="arch",
        distribution="arch",
        version="8.0.0",
        path=path,
        sha256=sha256,
        read=read_vix if is_vix else read_index,
        recorded_at=_utc("2019-01-04") if is_vix else _utc("2019-01-01"),
        adjustment="none",
        volume_kind="none" if is_vix else "traded",
        description=description,
    )


def _mintalib(timeframe: str, name: str, sha256: str, adjustment: Adjustment) -> SampleFile:
    return SampleFile(
        symbol=Symbol.parse("AAPL"),
        timeframe=Timeframe.parse(timeframe),
        package="mintalib",
        distribution="mintalib",
        version="0.1.13",
        path=f"samples/{name}-prices.csv",
        sha256=sha256,
        read=read_daily_equity if timeframe == "D1" else read_intraday_equity,
        recorded_at=_MINTALIB_RECORDED,
        adjustment=adjustment,
        volume_kind="traded",
        description=f"AAPL {name} bars, regular session",
    )


SAMPLE_FILES: Final = (
    SampleFile(
        symbol=Symbol.parse("EURUSD"),
        timeframe=Timeframe.parse("H1"),
        package="gym_anytrading",
        distribution="gym-anytrading",
        version="2.0.0",
        path="datasets/data/FOREX_EURUSD_1H_ASK.csv",
        sha256="28398b7edff9f74860d35a6f3c263f08e15c55264316dc07737d459d8688d7aa",
        read=read_eurusd,
        recorded_at=_utc("2017-12-30"),
        adjustment="none",
        volume_kind="traded",
        description="EURUSD hourly ask prices of 2017 in Dukascopy's export format",
    ),
    _arch(
        "SP500",
        "data/sp500/sp500.csv.gz",
        "1e028cbb9c400cc018c816ccc439b33c919387e726c3ed5ca2c05c82746059de",
        "S&P 500 index, daily",
    ),
    _arch(
        "NASDAQ",
        "data/nasdaq/nasdaq.csv.gz",
        "b2009535343ebb14e0aa11ed086788d2997a416ffe4f9450eed9a561ae30ac59",
        "NASDAQ Composite index, daily",
    ),
    _arch(
        "VIX",
        "data/vix/vix.csv.gz",
        "410bd07360dc798f7206d681b8347c6150e7fbd8b05fb1ae29bbe2c9985d66ef",
        "CBOE volatility index, daily close",
    ),
    # Its 2024-08-06 close is 205.45 where the hourly file's last bar of that day closed at 207.125: dividends are out.
    _mintalib(
        "D1", "daily", "a6bd27723737dc541095fd443dd243891d10f753fe191e242de690ba6398508e", "splits and dividends"
    ),
    _mintalib("H1", "hourly", "5caf37781e44d8ec59c41bc6599437c345d24a181a32cb536dcf342cbeebfea3", "splits"),
    _mintalib("M1", "minute", "38d437edab63e377e6c9d1793d0a14ad27244e9dc8b6760b6198084f0ab2c512", "splits"),
)
"""Every file of the sample."""
