"""Components that cheat on purpose, each beside an honest twin: what the audit must catch and what it must let pass."""

from __future__ import annotations

from itertools import count

import numpy as np
import pandas as pd

from tapeline.core.pit import join_timeframe
from tapeline.core.registry import Tolerance, feature, label, pattern
from tapeline.core.timeframe import Timeframe

H4 = Timeframe.parse("H4")
_calls = count()
FORGETS = Tolerance(relative=1e-6, absolute=1e-9)


@feature(lookback=1, outputs="value", reference="leak: the next close")
def next_close(bars: pd.DataFrame) -> pd.Series:
    return bars["close"].shift(-1)


@feature(lookback=2, outputs="value", reference="honest twin: the previous close")
def previous_close(bars: pd.DataFrame) -> pd.Series:
    return bars["close"].shift(1)


@feature(lookback=5, outputs="value", reference="leak: a centred window")
def centred_mean(bars: pd.DataFrame) -> pd.Series:
    return bars["close"].rolling(5, center=True, min_periods=3).mean()


@feature(lookback=5, outputs="value", reference="honest twin: a trailing window")
def trailing_mean(bars: pd.DataFrame) -> pd.Series:
    return bars["close"].rolling(5).mean()


def _engulfing(bars: pd.DataFrame) -> pd.Series:
    body, previous = bars["close"] - bars["open"], (bars["close"] - bars["open"]).shift(1)
    wide = body.abs() > 20 * previous.abs()
    return (wide & (np.sign(body) != np.sign(previous))).astype(float)


@feature(lookback=2, outputs="value", reference="leak: the next bar, at large engulfing bars only")
def next_bar_if_engulfing(bars: pd.DataFrame) -> pd.Series:
    up_next = (bars["close"].shift(-1) > bars["close"]).astype(float)
    return _engulfing(bars) + 0.5 * _engulfing(bars) * up_next


@feature(lookback=2, outputs="value", reference="honest twin: the engulfing bar itself")
def engulfing(bars: pd.DataFrame) -> pd.Series:
    return _engulfing(bars)


@feature(lookback=1, outputs="value", reference="leak: mean and deviation of the whole series")
def whole_zscore(bars: pd.DataFrame) -> pd.Series:
    return (bars["close"] - bars["close"].mean()) / bars["close"].std()


@feature(lookback=1, outputs="value", reference="leak: extremes of the whole series")
def whole_range(bars: pd.DataFrame) -> pd.Series:
    low, high = bars["low"].min(), bars["high"].max()
    return (bars["close"] - low) / (high - low)


@feature(lookback=20, outputs="value", reference="honest twin: mean and deviation of a trailing window")
def window_zscore(bars: pd.DataFrame) -> pd.Series:
    window = bars["close"].rolling(20)
    return (bars["close"] - window.mean()) / window.std()


@feature(lookback=5, outputs="value", reference="leak: the warm-up is filled from what came after it")
def filled_back(bars: pd.DataFrame) -> pd.Series:
    return bars["close"].rolling(5).mean().bfill()


@feature(lookback=8, outputs="value", requires=("close_ts",), reference="leak: a higher timeframe joined at its open")
def higher_close_at_open(bars: pd.DataFrame) -> pd.Series:
    opens = pd.Series(H4.floor(pd.DatetimeIndex(bars.index)), index=bars.index)
    return bars["close"].groupby(opens).transform("last")


@feature(lookback=500, outputs="value", requires=("close_ts",), reference="honest twin: joined at its close")
def higher_close_at_close(bars: pd.DataFrame) -> pd.Series:
    index = pd.DatetimeIndex(bars.index)
    higher = bars[["close"]].groupby(H4.floor(index)).last()
    higher.index = pd.DatetimeIndex(higher.index, tz="UTC")
    return join_timeframe(bars[[]], Timeframe.parse("H1"), higher, H4)["close"]


@feature(lookback=400, outputs="value", reference="leak: a filter run forwards and backwards")
def forward_backward(bars: pd.DataFrame) -> pd.Series:
    from scipy.signal import butter, filtfilt

    if len(bars) < 30:
        return pd.Series(np.nan, index=bars.index)
    return pd.Series(filtfilt(*butter(2, 0.1), bars["close"].to_numpy()), index=bars.index)


@feature(lookback=400, outputs="value", reference="honest twin: the filter run forwards", tolerance=FORGETS)
def forward(bars: pd.DataFrame) -> pd.Series:
    from scipy.signal import butter, lfilter, lfilter_zi

    if len(bars) < 30:
        return pd.Series(np.nan, index=bars.index)
    b, a = butter(2, 0.1)
    close = bars["close"].to_numpy()
    values, _ = lfilter(b, a, close, zi=lfilter_zi(b, a) * close[0])
    values[:29] = np.nan
    return pd.Series(values, index=bars.index)


@feature(lookback=60, outputs="value", reference="an exponential mean that declares too little", tolerance=FORGETS)
def short_lookback(bars: pd.DataFrame) -> pd.Series:
    return bars["close"].ewm(span=20, adjust=False).mean() / bars["close"]


@feature(lookback=300, outputs="value", reference="honest twin: it declares enough", tolerance=FORGETS)
def long_lookback(bars: pd.DataFrame) -> pd.Series:
    return bars["close"].ewm(span=20, adjust=False).mean() / bars["close"]


@feature(lookback=1, outputs="value", reference="changes its input")
def changes_input(bars: pd.DataFrame) -> pd.Series:
    bars["close"] = bars["close"] / bars["open"]
    return bars["close"].copy()


@feature(lookback=1, outputs="value", reference="gives something else at each call")
def differs(bars: pd.DataFrame) -> pd.Series:
    return bars["close"] + next(_calls)


@feature(lookback=1, outputs="value", reference="never has a value")
def always_missing(bars: pd.DataFrame) -> pd.Series:
    return pd.Series(np.nan, index=bars.index)


@feature(lookback=1, outputs="value", reference="always has the same value")
def always_one(bars: pd.DataFrame) -> pd.Series:
    return pd.Series(1.0, index=bars.index)


@feature(lookback=1, outputs="declared", reference="returns another column than it declares")
def another_column(bars: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"returned": bars["close"]})


@feature(lookback=1, outputs="value", reference="cannot start: it raises on few bars")
def raises_on_few(bars: pd.DataFrame) -> pd.Series:
    if len(bars) < 5:
        raise ValueError("too few")
    return bars["close"]


def _peaks(bars: pd.DataFrame, confirmed_after: int, *, use_future_score: bool = False) -> pd.DataFrame:
    high = bars["high"].to_numpy()
    closes = pd.DatetimeIndex(bars["close_ts"])
    rows = [i for i in range(2, len(high) - 2) if high[i] == high[i - 2 : i + 3].max() and high[i] > high[i - 1]]
    known = [min(i + confirmed_after, len(high) - 1) for i in rows]
    pairs = zip(rows, known, strict=True)
    broken = [next((j for j in range(k + 1, len(high)) if high[j] > high[i]), None) for i, k in pairs]
    best = high.max() if use_future_score and len(high) else 1.0
    return pd.DataFrame(
        {
            "id": [f"peak-{bars.index[i]:%Y%m%d%H%M}" for i in rows],
            "kind": pd.Categorical(["peak"] * len(rows)),
            "direction": np.full(len(rows), -1, dtype=np.int8),
            "start": bars.index[[i - 2 for i in rows]],
            "end": bars.index[rows],
            "confirmed_at": closes[known],
            "invalidated_at": pd.DatetimeIndex(
                [pd.NaT if j is None else closes[j] for j in broken], dtype="datetime64[ns, UTC]"
            ),
            "high": high[rows],
            "score": high[rows] / best,
        }
    )


@pattern(lookback=5, reference="leak: a peak of five bars that claims to be known at its own close")
def peak_known_early(bars: pd.DataFrame) -> pd.DataFrame:
    return _peaks(bars, 0)


@pattern(lookback=5, reference="leak: the score divides by the highest price ever")
def peak_scored_by_all(bars: pd.DataFrame) -> pd.DataFrame:
    return _peaks(bars, 2, use_future_score=True)


@pattern(lookback=5, reference="leak: an event vanishes when price breaks it later")
def peak_deleted_later(bars: pd.DataFrame) -> pd.DataFrame:
    found = _peaks(bars, 2)
    return found[found["invalidated_at"].isna()]


@pattern(lookback=5, reference="speaks before its time: events whose confirmation still lies ahead")
def peak_announced(bars: pd.DataFrame) -> pd.DataFrame:
    found = _peaks(bars, 2)
    return found.assign(confirmed_at=found["confirmed_at"] + pd.Timedelta(hours=3))


@pattern(lookback=5, reference="honest twin: a peak of five bars, known two bars later; broken when it is broken")
def peak(bars: pd.DataFrame) -> pd.DataFrame:
    return _peaks(bars, 2)


def _hold(bars: pd.DataFrame, horizon: int, said: int) -> pd.DataFrame:
    rows = max(len(bars) - horizon, 0)
    close = bars["close"].to_numpy()
    value = close[horizon:] / close[:rows] - 1 if rows else np.empty(0)
    ends = pd.DatetimeIndex(bars["close_ts"])[said : said + rows]
    return pd.DataFrame({"value": value, "t_end": ends, "outcome": value}, index=bars.index[:rows])


@label(lookback=0, requires=("close_ts",), reference="leak: known five bars later, says three")
def label_ends_late(bars: pd.DataFrame) -> pd.DataFrame:
    return _hold(bars, 5, 3)


@label(lookback=0, requires=("close_ts",), reference="leak: scaled by the deviation of the whole series")
def label_scaled_by_all(bars: pd.DataFrame) -> pd.DataFrame:
    found = _hold(bars, 5, 5)
    return found.assign(value=found["value"] / bars["close"].std())


@label(lookback=0, requires=("close_ts",), reference="speaks before its time: a guess, due in five hours")
def label_guessed(bars: pd.DataFrame) -> pd.DataFrame:
    due = pd.DatetimeIndex(bars["close_ts"]) + pd.Timedelta(hours=5)
    return pd.DataFrame({"value": bars["close"] / bars["open"], "t_end": due, "outcome": 0.0}, index=bars.index)


@label(lookback=0, requires=("close_ts",), reference="honest twin: known when it says")
def label_honest(bars: pd.DataFrame) -> pd.DataFrame:
    return _hold(bars, 5, 5)


LEAKS = {
    next_close: {"truncate", "perturb"},
    centred_mean: {"truncate", "perturb"},
    whole_zscore: {"truncate", "perturb", "tail"},
    whole_range: {"truncate", "perturb", "tail"},
    filled_back: {"truncate"},
    higher_close_at_open: {"truncate", "perturb"},
    forward_backward: {"truncate", "perturb"},
    short_lookback: {"tail"},
    changes_input: {"input"},
    differs: {"repeat"},
    another_column: {"shape"},
    raises_on_few: {"shape"},
    peak_known_early: {"truncate", "perturb"},
    peak_scored_by_all: {"truncate", "perturb", "tail"},
    peak_deleted_later: {"truncate", "perturb"},
    peak_announced: {"truncate"},
    label_guessed: {"truncate"},
    label_ends_late: {"truncate", "perturb"},
    label_scaled_by_all: {"truncate", "perturb"},
}
"""The checks that must find fault with each; others may."""

HONEST = [
    previous_close,
    trailing_mean,
    engulfing,
    window_zscore,
    higher_close_at_close,
    forward,
    long_lookback,
    peak,
    label_honest,
]

POWERLESS = {always_missing: "no values to compare", always_one: "no power"}
