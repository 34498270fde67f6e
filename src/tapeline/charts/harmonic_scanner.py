"""Harmonic patterns of many symbols and timeframes at once, formed and forming, ranked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any, Final, cast

import numpy as np
import pandas as pd

from tapeline.charts.bar_arrays import BarArrays, Rows, mean_true_range
from tapeline.charts.events import Findings, event_records, event_seed
from tapeline.charts.harmonics import FORMING, forming_harmonic, harmonic_pattern, published_targets
from tapeline.charts.swings import Unit
from tapeline.core.errors import ConfigurationError, DataError, TapelineError
from tapeline.core.registry import component_of
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe

COLUMNS: Final[Mapping[str, str]] = {
    "rank": "int64",
    "symbol": "str",
    "timeframe": "str",
    "state": "str",
    "kind": "str",
    "direction": "int8",
    "confirmed_at": "datetime64[ns, UTC]",
    "age": "int64",
    "completion": "float64",
    "low": "float64",
    "high": "float64",
    "target": "float64",
    "first_target": "float64",
    "second_target": "float64",
    "stop": "float64",
    "close": "float64",
    "distance": "float64",
    "score": "float64",
    "weight": "float64",
    "id": "str",
}
"""What a scan gives, and as what."""

_TIES: Final = ("symbol", "timeframe", "kind", "confirmed_at", "id")

Progress = Callable[[int, int, Symbol, Timeframe], None]
"""Called with how many frames are done, how many there are, and which was done last."""


def scan_harmonics(
    frames: Mapping[tuple[str, str | Timeframe], pd.DataFrame],
    *,
    tolerance: float = 0.05,
    size: float = 3.0,
    unit: Unit = "atr",
    window: int = 14,
    max_age: int = 200,
    half_life: float = 20.0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Every harmonic pattern that stands at the last bar of each frame, the most pressing first.

    Formed ones stand until target or stop is traded or they expire, forming ones until they complete, are violated or
    expire: see ``harmonic_pattern`` and ``forming_harmonic``. Frames are searched in threads (the kernels release the
    interpreter); what comes out depends on neither their order nor their number.

    Parameters
    ----------
    frames:
        Bars with ``close_ts`` by (symbol, timeframe). They are fetched by the threads that search them, so a mapping
        that reads a frame when it is asked for it holds few of them at a time. A frame without rows gives none.
    tolerance, size, unit, window, max_age:
        As in ``harmonic_pattern``.
    half_life:
        Bars since the confirmation in which a finding's weight falls by half.
    workers:
        Threads; as many as ``ThreadPoolExecutor`` takes where absent.
    progress:
        Called in the caller's thread after each frame.

    Returns
    -------
    One row a finding, by ``rank`` from 1 on, with ``state`` (``formed``, ``forming``), ``kind`` (without the prefix of
    forming ones), ``age`` (bars since the confirmation), ``completion`` (the price of D, as it was or as projected),
    ``low`` and ``high`` (the potential reversal zone), ``target`` (the published one still ahead when it was confirmed,
    beside ``first_target`` and ``second_target``), ``stop``, ``close`` (the last), ``distance`` (from the last close to
    the completion, in mean true ranges over ``window`` bars), ``score`` and ``weight``. Ranked by

        weight = score * 0.5 ** (age / half_life) / (1 + distance)

    so by how exact, how fresh and how near it is; equal weights by symbol, timeframe, kind, time and id. The rank says
    nothing of the odds: those are measured, not assumed.

    Raises
    ------
    ConfigurationError
        A name is no symbol or timeframe, two keys mean the same frame, or a number is out of bounds.
    DataError
        A frame is no bars: the message says which.

    Examples
    --------
    >>> from tapeline.charts.synthetic import bars_through
    >>> points = [(0, 108.0), (20, 100.0), (40, 110.0), (55, 103.82), (65, 107.64), (80, 102.14), (84, 103.7)]
    >>> sooner = bars_through([*points[:5], (70, 106.0)])
    >>> found = scan_harmonics({("EURUSD", "M1"): bars_through(points), ("GBPUSD", "M1"): sooner})
    >>> found[["symbol", "state", "kind"]].iloc[0].tolist()
    ['EURUSD', 'formed', 'gartley']
    >>> other = found[(found["symbol"] == "GBPUSD") & (found["kind"] == "gartley")]
    >>> other[["state", "completion"]].to_numpy().tolist()
    [['forming', 102.14]]
    """
    keys = _keys(frames)
    if not half_life > 0.0:
        raise ConfigurationError(f"half_life {half_life} must be above 0 bars")
    if workers is not None and workers < 1:
        raise ConfigurationError(f"workers {workers} must be at least 1")
    options = {"tolerance": tolerance, "size": size, "unit": unit, "window": window, "max_age": max_age}
    for detector in (harmonic_pattern, forming_harmonic):
        component_of(detector).parameters(options)
    found: list[dict[str, Any]] = []
    with ThreadPoolExecutor(workers, thread_name_prefix="harmonics") as pool:
        running: dict[Future[list[dict[str, Any]]], tuple[Symbol, Timeframe]] = {
            pool.submit(_standing, frames, original, name, timeframe, options): (name, timeframe)
            for (name, timeframe), original in keys.items()
        }
        try:
            for done, future in enumerate(as_completed(running), 1):
                found += future.result()
                if progress is not None:
                    progress(done, len(running), *running[future])
        except BaseException:
            # What has not begun is not begun any more; the first fault ends the scan.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return _ranked(found, half_life)


def _keys(
    frames: Mapping[tuple[str, str | Timeframe], pd.DataFrame],
) -> dict[tuple[Symbol, Timeframe], tuple[str, str | Timeframe]]:
    """The keys as given, by what they mean."""
    keys: dict[tuple[Symbol, Timeframe], tuple[str, str | Timeframe]] = {}
    for key in frames:
        if not isinstance(key, tuple) or len(key) != 2:
            raise ConfigurationError(f"{key!r} is no (symbol, timeframe)", hint='for instance ("EURUSD", "H1")')
        meant = Symbol.parse(key[0]), Timeframe.parse(key[1])
        if meant in keys:
            raise ConfigurationError(f"{key!r} and {keys[meant]!r} mean the same bars")
        keys[meant] = key
    return keys


def _standing(
    frames: Mapping[tuple[str, str | Timeframe], pd.DataFrame],
    key: tuple[str, str | Timeframe],
    symbol: Symbol,
    timeframe: Timeframe,
    options: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """What stands at the last bar of one frame."""
    try:
        arrays = _checked(frames[key])
        rows = []
        for state, detector in (("formed", harmonic_pattern), ("forming", forming_harmonic)):
            for part in detector.found(arrays, **options) if len(arrays) else ():
                # Both detectors say when each of their findings ended.
                standing = part.take(cast("Rows", part.invalidated) < 0)
                if len(standing):
                    seed = event_seed(part.kind, detector.identity(**options))
                    rows += _rows(arrays, standing, seed, {"symbol": str(symbol), "timeframe": str(timeframe)}, state)
    except TapelineError as error:
        error.message = f"{symbol} {timeframe}: {error.message}"
        raise
    usual = arrays.once(mean_true_range, options["window"])[-1] if rows else np.nan
    for row in rows:
        away = abs(row["close"] - row["completion"])
        # In a market without movement, or too young to have a range, any other price is out of reach.
        row["distance"] = away / usual if usual > 0.0 else np.inf
    return rows


def _checked(bars: Any) -> BarArrays:
    if not isinstance(bars, pd.DataFrame):
        raise DataError(f"expected a frame of bars, not {type(bars).__name__}")
    absent = [name for name in ("open", "high", "low", "close", "close_ts") if name not in bars.columns]
    if absent:
        raise DataError(f"bars lack the columns {absent}")
    arrays = BarArrays(bars)
    if np.any(np.diff(arrays.opened) <= 0):
        raise DataError("bars are not sorted by time or repeat one", hint="sort them by ts and keep one of each")
    try:
        _ = arrays.high, arrays.low, arrays.close
    except (TypeError, ValueError) as error:
        raise DataError(f"prices are no numbers: {error}") from error
    return arrays


def _rows(
    arrays: BarArrays, part: Findings, seed: np.uint64, frame: Mapping[str, str], state: str
) -> list[dict[str, Any]]:
    rows = []
    for event, known in zip(event_records(arrays, part, seed), part.confirmed, strict=True):
        first, second = published_targets(event.kind, [price for _, price in event.points])
        row = {
            **frame,
            "state": state,
            "kind": event.kind.removeprefix(FORMING),
            "direction": event.direction,
            "confirmed_at": event.confirmed_at,
            "age": len(arrays) - 1 - int(known),
            "completion": event.points[-1][1],
            "low": event.low,
            "high": event.high,
            "target": event.target,
            "first_target": first,
            "second_target": second,
            "stop": event.stop,
            "close": float(arrays.close[-1]),
            "score": event.score,
            "id": event.id,
        }
        rows.append(row)
    return rows


def _ranked(found: list[dict[str, Any]], half_life: float) -> pd.DataFrame:
    if not found:
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})
    for row in found:
        row["weight"] = row["score"] * 0.5 ** (row["age"] / half_life) / (1.0 + row["distance"])
    found.sort(key=lambda row: (-row["weight"], *(row[name] for name in _TIES)))
    ranked = pd.DataFrame([{"rank": rank, **row} for rank, row in enumerate(found, 1)])
    return ranked[list(COLUMNS)].astype(dict(COLUMNS))
