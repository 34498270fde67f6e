"""The columns of the library ta, under its names: for users who move over, and as the measure of speed.

Levels and sums since the first bar are among them, as there; what a model should see are the registered features.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from tapeline.core.registry import component_of
from tapeline.features.arrays import Floats, changes, columns, log_changes, talib
from tapeline.features.kernels import rolling_deviation, rolling_mean
from tapeline.features.oscillator_indicators import KNOW_SURE_THING, schaff_cycle
from tapeline.features.recursive_kernels import restarting_ema
from tapeline.features.volatility import ulcer

Columns = dict[str, Floats]
COLUMNS: Final = 86

_TIE: Final = "of equal extremes the newest counts; ta takes the oldest"
_STOP: Final = (
    "the stop stays beyond both bars before, as Wilder has it; ta's looks at the second only if the first did not"
)
_FILLED: Final = "NaN until it is known; ta fills the start with the mean of the whole series, the future included"
_ROUNDED: Final = "what is equal but for rounding may fall on the other side"

DIFFERENCES: Final = {
    "trend_psar_up": _STOP,
    "trend_psar_down": _STOP,
    "trend_psar_up_indicator": _STOP,
    "trend_psar_down_indicator": _STOP,
    "trend_aroon_up": _TIE,
    "trend_aroon_down": _TIE,
    "trend_aroon_ind": _TIE,
    "trend_visual_ichimoku_a": _FILLED,
    "trend_visual_ichimoku_b": _FILLED,
    "trend_dpo": _FILLED,
    "trend_trix": _FILLED,
    "trend_kst": _FILLED,
    "trend_kst_sig": _FILLED,
    "trend_kst_diff": _FILLED,
    "volume_mfi": _ROUNDED,
    "volatility_kchi": _ROUNDED,
    "volatility_kcli": _ROUNDED,
}
"""Where the numbers differ from ta's, and why; the others agree from the end of their warm-up on."""


def ta_columns(bars: pd.DataFrame) -> pd.DataFrame:
    """The 86 columns of ``ta.add_all_ta_features`` with its default parameters, in its order.

    Parameters
    ----------
    bars:
        Open, high, low, close and volume, on any index.

    Returns
    -------
    A float64 frame on the bars' index; NaN in each warm-up. No value reads a later bar. ``DIFFERENCES`` names the
    columns that differ from those of ta, and why.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> ta_columns(example_bars(10, 12))[["others_dr", "others_cr"]].round(1).values.tolist()
    [[nan, 0.0], [20.0, 20.0]]
    """
    # One block, filled part by part, so that the memory of one part serves the next.
    block = np.empty((len(bars), COLUMNS), order="F")
    names: list[str] = []
    for part in (_volume, _volatility, _trend, _momentum, _others):
        for name, values in part(bars).items():
            block[:, len(names)] = values
            names.append(name)
    return pd.DataFrame(block, index=bars.index, columns=names, copy=False)


def _volume(bars: pd.DataFrame) -> Columns:
    high, low, close, volume = columns(bars, "high", "low", "close", "volume")
    change = changes(close)
    before = close - change
    with np.errstate(invalid="ignore", divide="ignore"):
        ease = (changes(high) + changes(low)) * (high - low) / (2.0 * volume) * 1e8
        typical = (high + low + close) / 3.0
        vwap = _mean(typical * volume, 14) / _mean(volume, 14)
        flow = np.where(high > low, (2.0 * close - high - low) / (high - low), 0.0) * volume
        money = _mean(flow, 20) / _mean(volume, 20)
    trend = change / before * volume
    trend[:1] = 0.0
    quiet = np.where(np.diff(volume, prepend=-np.inf) < 0, change / before, 0.0)
    trend = np.cumsum(trend)
    trend[:1] = np.nan
    return {
        "volume_adi": np.cumsum(flow),
        "volume_obv": np.cumsum(np.where(change < 0, -volume, volume)),
        "volume_cmf": money,
        "volume_fi": restarting_ema(change * volume, 13),
        "volume_em": ease,
        "volume_sma_em": _mean(ease, 14),
        "volume_vpt": trend,
        "volume_vwap": vwap,
        "volume_mfi": talib("MFI", high, low, close, volume, timeperiod=14),
        "volume_nvi": 1000.0 * np.cumprod(1.0 + quiet),
    }


def _volatility(bars: pd.DataFrame) -> Columns:
    high, low, close = columns(bars, "high", "low", "close")
    middle, deviation = rolling_deviation(close, 20)
    upper, lower = middle + 2.0 * deviation, middle - 2.0 * deviation
    typical = _mean((high + low + close) / 3.0, 10)
    # The first form of the channel: the ranges' average on both sides.
    reach = 2.0 * _mean(high - low, 10)
    top, bottom = typical + reach / 2.0, typical - reach / 2.0
    highest, lowest = talib("MAX", high, timeperiod=20), talib("MIN", low, timeperiod=20)
    average = _mean(close, 20)
    with np.errstate(invalid="ignore", divide="ignore"):
        places = [(close - down) / (up - down) for up, down in ((upper, lower), (top, bottom), (highest, lowest))]
    return {
        "volatility_bbm": middle,
        "volatility_bbh": upper,
        "volatility_bbl": lower,
        "volatility_bbw": (upper - lower) / middle * 100.0,
        "volatility_bbp": places[0],
        "volatility_bbhi": (close > upper).astype(np.float64),
        "volatility_bbli": (close < lower).astype(np.float64),
        "volatility_kcc": typical,
        "volatility_kch": top,
        "volatility_kcl": bottom,
        "volatility_kcw": (top - bottom) / typical * 100.0,
        "volatility_kcp": places[1],
        "volatility_kchi": (close > top).astype(np.float64),
        "volatility_kcli": (close < bottom).astype(np.float64),
        "volatility_dcl": lowest,
        "volatility_dch": highest,
        "volatility_dcm": (highest + lowest) / 2.0,
        "volatility_dcw": (highest - lowest) / average * 100.0,
        "volatility_dcp": places[2],
        "volatility_atr": talib("ATR", high, low, close, timeperiod=10),
        "volatility_ui": ulcer(bars, 14).to_numpy(),
    }


def _trend(bars: pd.DataFrame) -> Columns:
    high, low, close = columns(bars, "high", "low", "close")
    fast, slow = restarting_ema(close, 12), restarting_ema(close, 26)
    distance = fast - slow
    signal = restarting_ema(distance, 9)
    triple = restarting_ema(restarting_ema(restarting_ema(close, 15), 15), 15)
    single = restarting_ema(high - low, 9)
    with np.errstate(invalid="ignore", divide="ignore"):
        mass = 25.0 * _mean(single / restarting_ema(single, 9), 25)
    sure: Floats = sum(  # type: ignore[assignment]
        weight * _of_known("SMA", talib("ROC", close, timeperiod=change), smoothing)
        for weight, (change, smoothing) in enumerate(KNOW_SURE_THING, start=1)
    )
    smoothed_sure = _mean(sure, 9)
    up, down = _vortex_lines(high, low, close)
    line = {n: _middle(high, low, n) for n in (9, 26, 52)}
    span = (line[9] + line[26]) / 2.0
    old, young = talib("AROON", high, low, timeperiod=25)
    stop = talib("SAR", high, low, acceleration=0.02, maximum=0.2)
    below = stop < (high + low) / 2.0
    turned = np.zeros(close.size, dtype=bool)
    turned[2:] = below[2:] != below[1:-1]
    return {
        "trend_macd": distance,
        "trend_macd_signal": signal,
        "trend_macd_diff": distance - signal,
        "trend_sma_fast": _mean(close, 12),
        "trend_sma_slow": _mean(close, 26),
        "trend_ema_fast": fast,
        "trend_ema_slow": slow,
        "trend_vortex_ind_pos": up,
        "trend_vortex_ind_neg": down,
        "trend_vortex_ind_diff": up - down,
        "trend_trix": 100.0 * changes(triple) / _shifted(triple, 1),
        "trend_mass_index": mass,
        "trend_dpo": _shifted(close, 11) - _mean(close, 20),
        "trend_kst": sure,
        "trend_kst_sig": smoothed_sure,
        "trend_kst_diff": sure - smoothed_sure,
        "trend_ichimoku_conv": line[9],
        "trend_ichimoku_base": line[26],
        "trend_ichimoku_a": span,
        "trend_ichimoku_b": line[52],
        "trend_stc": component_of(schaff_cycle).compute(bars).to_numpy()[:, 0],
        "trend_adx": talib("ADX", high, low, close, timeperiod=14),
        "trend_adx_pos": talib("PLUS_DI", high, low, close, timeperiod=14),
        "trend_adx_neg": talib("MINUS_DI", high, low, close, timeperiod=14),
        "trend_cci": talib("CCI", high, low, close, timeperiod=20),
        "trend_visual_ichimoku_a": _shifted(span, 26),
        "trend_visual_ichimoku_b": _shifted(line[52], 26),
        "trend_aroon_up": young,
        "trend_aroon_down": old,
        "trend_aroon_ind": young - old,
        "trend_psar_up": np.where(below, stop, np.nan),
        "trend_psar_down": np.where(below, np.nan, stop),
        "trend_psar_up_indicator": (turned & below).astype(np.float64),
        "trend_psar_down_indicator": (turned & ~below).astype(np.float64),
    }


def _momentum(bars: pd.DataFrame) -> Columns:
    high, low, close, volume = columns(bars, "high", "low", "close", "volume")
    change = changes(close)
    strength = talib("RSI", close, timeperiod=14)
    place = _place(strength, strength, strength, 14)
    smoothed = _mean(place, 3)
    top = restarting_ema(restarting_ema(change, 25), 13)
    path = restarting_ema(restarting_ema(np.abs(change), 25), 13)
    stochastic = 100.0 * _place(close, high, low, 14)
    middle = (high + low) / 2.0
    price, traded = _percentage(close), _percentage(volume)
    with np.errstate(invalid="ignore", divide="ignore"):
        true_strength = 100.0 * top / path
    return {
        "momentum_rsi": strength,
        "momentum_stoch_rsi": place,
        "momentum_stoch_rsi_k": smoothed,
        "momentum_stoch_rsi_d": _mean(smoothed, 3),
        "momentum_tsi": true_strength,
        "momentum_uo": talib("ULTOSC", high, low, close, timeperiod1=7, timeperiod2=14, timeperiod3=28),
        "momentum_stoch": stochastic,
        "momentum_stoch_signal": _mean(stochastic, 3),
        "momentum_wr": stochastic - 100.0,
        "momentum_ao": _mean(middle, 5) - _mean(middle, 34),
        "momentum_roc": talib("ROC", close, timeperiod=12),
        "momentum_ppo": price[0],
        "momentum_ppo_signal": price[1],
        "momentum_ppo_hist": price[0] - price[1],
        "momentum_pvo": traded[0],
        "momentum_pvo_signal": traded[1],
        "momentum_pvo_hist": traded[0] - traded[1],
        "momentum_kama": talib("KAMA", close, timeperiod=10),
    }


def _others(bars: pd.DataFrame) -> Columns:
    (close,) = columns(bars, "close")
    return {
        "others_dr": 100.0 * (close / _shifted(close, 1) - 1.0),
        "others_dlr": 100.0 * log_changes(close),
        "others_cr": 100.0 * (close / close[:1] - 1.0),
    }


def _vortex_lines(high: Floats, low: Floats, close: Floats) -> tuple[Floats, Floats]:
    path = _mean(talib("TRANGE", high, low, close), 14)
    with np.errstate(invalid="ignore", divide="ignore"):
        rising = _mean(np.abs(high - _shifted(low, 1)), 14) / path
        falling = _mean(np.abs(low - _shifted(high, 1)), 14) / path
    return rising, falling


def _percentage(values: Floats) -> tuple[Floats, Floats]:
    slow = restarting_ema(values, 26)
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = 100.0 * (restarting_ema(values, 12) - slow) / slow
    return distance, restarting_ema(distance, 9)


def _place(values: Floats, high: Floats, low: Floats, window: int) -> Floats:
    lowest = _of_known("MIN", low, window)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (values - lowest) / (_of_known("MAX", high, window) - lowest)


def _mean(values: Floats, window: int) -> Floats:
    # TA-Lib's running sum is the fastest, but a hole in the middle stays in it to the end, where it shows.
    result = _of_known("SMA", values, window)
    return rolling_mean(values, window) if values.size and np.isnan(result[-1]) else result


def _of_known(name: str, values: Floats, window: int) -> Floats:
    # TA-Lib starts where its input does: an unknown start is left out.
    start = int(np.argmin(np.isnan(values))) if values.size and np.isnan(values[0]) else 0
    if start == 0:
        return talib(name, values, timeperiod=window)
    result = np.full(values.size, np.nan)
    result[start:] = talib(name, values[start:], timeperiod=window)
    return result


def _middle(high: Floats, low: Floats, window: int) -> Floats:
    return talib("MIDPRICE", high, low, timeperiod=window)


def _shifted(values: Floats, bars: int) -> Floats:
    result = np.full(values.size, np.nan)
    result[bars:] = values[:-bars] if bars < values.size else values[:0]
    return result
