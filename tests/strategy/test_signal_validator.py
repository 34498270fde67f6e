"""Signals: each reason by an example, batch and live alike, and nothing known before its time."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tapeline.core.errors import DataError
from tapeline.strategy.signal_rules import REASONS, SignalRules
from tapeline.strategy.signal_validator import SignalValidator, acting_at, validate_signals
from tests.core.samples import eurusd

HOUR = pd.Timedelta(hours=1)
TS = pd.Timestamp("2017-03-15 09:00", tz="UTC")
KNOWN = TS + HOUR
RULES = SignalRules(symbols=["EURUSD", "GBPUSD"], calendar="24x5", spread_window=60, spread_minimum=10)


def signal(**changes):
    made = {"ts": TS, "known_at": KNOWN, "symbol": "EURUSD", "source": "model", "side": 1, "probability": 0.6}
    return {**made, "confidence": 0.5, "expires_at": pd.NaT, "price": 1.06, **changes}


def frame(*signals) -> pd.DataFrame:
    table = pd.DataFrame(list(signals), index=[f"row {i}" for i in range(len(signals))])
    for name in ("ts", "known_at", "expires_at"):
        table[name] = pd.to_datetime(table[name], utc=True)
    return table


def reasons(*signals, at=KNOWN, rules=RULES, quotes=None):
    return validate_signals(frame(*signals), rules, at=at, quotes=quotes)["reasons"].tolist()


def hourly_quotes(spread: float = 1e-4) -> pd.DataFrame:
    """Thirty days in which the spread is usual, ten times as wide at 22:00, and the one of ``KNOWN``."""
    known = pd.date_range(end=KNOWN, periods=30 * 24, freq="h")
    usual = np.where(known.hour == 22, 1e-3, 1e-4) * np.linspace(0.9, 1.1, len(known))
    usual[-1] = spread
    return pd.DataFrame({"known_at": known, "symbol": "EURUSD", "spread": usual, "price": 1.06})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ()),
        ({"side": 0}, ()),
        ({"side": 2}, ("malformed",)),
        ({"side": math.nan}, ("malformed",)),
        ({"source": ""}, ("malformed",)),
        ({"known_at": TS - HOUR}, ("malformed", "stale")),
        ({"ts": pd.NaT}, ("malformed",)),
        ({"symbol": "XAUUSD"}, ("unknown_symbol", "no_quote")),
        ({"known_at": KNOWN + timedelta(seconds=1)}, ()),
        ({"known_at": KNOWN + timedelta(seconds=2)}, ("future",)),
        ({"ts": KNOWN + HOUR, "known_at": KNOWN + 2 * HOUR}, ("future",)),
        ({"probability": math.nan}, ("probability",)),
        ({"probability": math.inf}, ("probability",)),
        ({"probability": -0.1}, ("probability",)),
        ({"confidence": 1.1}, ("probability",)),
        ({"confidence": math.nan}, ()),
        ({"expires_at": KNOWN}, ("stale",)),
        ({"expires_at": KNOWN + timedelta(seconds=1)}, ()),
        ({"price": 1.09}, ("price",)),
        ({"price": math.nan}, ()),
        ({"symbol": "GBPUSD"}, ("no_quote",)),
    ],
)
def test_each_reason_has_its_example(changes, expected) -> None:
    assert reasons(signal(**changes), quotes=hourly_quotes()) == [expected]


def test_age_sessions_and_what_has_no_bar_yet() -> None:
    assert reasons(signal(), at=KNOWN + HOUR) == [()]
    assert reasons(signal(), at=KNOWN + HOUR + pd.Timedelta(1)) == [("stale",)]
    friday = pd.Timestamp("2017-03-17 21:00", tz="UTC")  # New York closes at 17:00, which is 21:00 in March
    late = signal(ts=friday - HOUR, known_at=friday)
    assert reasons(late, at=friday - pd.Timedelta(1), rules=RULES.model_copy(update={"clock_tolerance": HOUR})) == [()]
    assert reasons(late, at=friday) == [("out_of_session",)]
    assert reasons(signal(), at=pd.DatetimeIndex([pd.NaT], tz="UTC")) == [("no_bar",)]
    opens = pd.DataFrame(index=pd.DatetimeIndex([TS, KNOWN, KNOWN + HOUR]))
    both = frame(signal(), signal(known_at=KNOWN + pd.Timedelta(1)), signal(known_at=KNOWN + 2 * HOUR))
    assert acting_at(both, opens).tolist() == [KNOWN, KNOWN + HOUR, pd.NaT]
    assert reasons(signal(probability=math.nan), rules=SignalRules(require_probability=False)) == [()]


@pytest.mark.parametrize(
    ("spread", "hour", "abnormal"),
    [(2.9e-4, 10, False), (3.5e-4, 10, True), (math.nan, 10, True), (-1e-4, 10, True), (2.9e-3, 22, False)],
)
def test_a_spread_is_held_against_those_of_its_hour(spread, hour, abnormal) -> None:
    quotes = hourly_quotes()
    at = KNOWN.replace(hour=hour)
    known = quotes["known_at"].where(quotes["known_at"] < at, at)
    quotes = quotes.assign(known_at=known).iloc[: len(quotes)]
    quotes.loc[quotes.index[-1], ["known_at", "spread"]] = at, spread
    found = reasons(signal(ts=at - HOUR, known_at=at), at=at, quotes=quotes.sort_values("known_at", kind="stable"))
    assert found == [("spread",) if abnormal else ()]


def test_one_mad_quote_does_not_make_the_next_usual() -> None:
    quotes = hourly_quotes(4e-4)
    quotes.loc[100:110, "spread"] = 5.0
    assert reasons(signal(), quotes=quotes) == [("spread",)]
    assert reasons(signal(), quotes=quotes.iloc[-5:]) == [()]  # too few to say what is usual


def test_a_repeat_is_refused_within_the_window_and_only_after_an_accepted_one() -> None:
    rules = RULES.model_copy(update={"window": 2 * HOUR, "maximum_age": pd.Timedelta(days=1).to_pytimedelta()})
    at = pd.DatetimeIndex([KNOWN, KNOWN, KNOWN + HOUR, KNOWN + 2 * HOUR, KNOWN + 3 * HOUR])
    assert reasons(*[signal()] * 5, at=at, rules=rules) == [
        (), ("duplicate",), ("duplicate",), ("duplicate",), (),
    ]  # fmt: skip
    wide = signal(probability=math.nan)
    assert reasons(wide, signal(), wide, at=at[:3], rules=rules) == [
        ("probability",), (), ("probability", "duplicate"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("reject_both", ["contradictory"] * 4),
        ("higher_confidence", ["contradictory", "contradictory", "contradictory", None]),
        ("net", [None, None, None, "contradictory"]),
    ],
)
def test_contradictions_by_policy(policy, expected) -> None:
    given_ = [signal(source=name, confidence=value) for name, value in (("a", 0.4), ("b", 0.3), ("c", 0.2))]
    given_ += [
        signal(source="d", side=-1, confidence=0.8),
        signal(source="e", side=0),
        signal(symbol="GBPUSD", side=-1),
    ]
    rules = RULES.model_copy(update={"contradiction": policy})
    judged = validate_signals(frame(*given_), rules, at=KNOWN)
    assert judged["reason"].tolist() == [*expected, None, None]
    assert judged.index.tolist() == frame(*given_).index.tolist()
    tie = [signal(source="a"), signal(source="b", side=-1)]
    assert reasons(*tie, rules=rules) == [("contradictory",)] * 2


def test_what_was_accepted_earlier_stands_against_what_comes_later() -> None:
    at = pd.DatetimeIndex([KNOWN, KNOWN + timedelta(minutes=1)])
    pair = signal(source="a", confidence=0.4), signal(source="b", side=-1, confidence=0.6)
    assert reasons(*pair, at=at) == [(), ("contradictory",)]
    assert reasons(*pair, at=at, rules=RULES.model_copy(update={"contradiction": "higher_confidence"})) == [(), ()]


def random_day(seed: int, rows: int = 40):
    """Signals of a day, many of them odd, with quotes of two symbols."""
    draw = np.random.default_rng(seed)
    minutes = pd.to_timedelta(np.sort(draw.integers(0, 600, rows)), unit="min")
    known = KNOWN + minutes
    table = pd.DataFrame(
        {
            "ts": (known - pd.to_timedelta(draw.choice([0, 60, 61], rows), unit="min")).floor("h"),
            "known_at": known,
            "symbol": draw.choice(["EURUSD", "GBPUSD", "DOGE"], rows, p=[0.6, 0.3, 0.1]),
            "source": draw.choice(["a", "b", "c"], rows),
            "side": draw.choice([1, -1, 0, 5], rows, p=[0.45, 0.35, 0.15, 0.05]),
            "probability": draw.choice([0.55, 0.7, math.nan], rows, p=[0.5, 0.4, 0.1]),
            "confidence": draw.choice([0.2, 0.5, math.nan], rows),
            "price": draw.choice([1.06, 1.2, math.nan], rows, p=[0.7, 0.1, 0.2]),
        }
    )
    at = pd.DatetimeIndex((known + pd.to_timedelta(draw.choice([0, 5, 90], rows), unit="min")).floor("15min"))
    at = at.where(draw.random(rows) > 0.05)
    times = pd.date_range(KNOWN - 40 * HOUR, KNOWN + 12 * HOUR, freq="20min")
    quotes = pd.concat(
        [
            pd.DataFrame(
                {"known_at": times, "symbol": name, "spread": draw.lognormal(-9, 1.2, len(times)), "price": 1.06}
            )
            for name in ("EURUSD", "GBPUSD")
        ]
    ).iloc[: -int(draw.integers(1, 60))]
    return table, at, quotes


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000), policy=st.sampled_from(["reject_both", "higher_confidence", "net"]))
def test_live_verdicts_are_those_of_the_batch_and_know_no_future(seed, policy) -> None:
    table, at, quotes = random_day(seed)
    rules = RULES.model_copy(
        update={"contradiction": policy, "window": timedelta(minutes=45), "quote_age": timedelta(minutes=50)}
    )
    judged = validate_signals(table, rules, at=at, quotes=quotes)
    assert len(judged) == len(table)
    assert (judged["accepted"] == judged["reason"].isna()).all()
    assert all(list(found) == sorted(found, key=REASONS.index) for found in judged["reasons"])
    validator = SignalValidator(rules, quoted=True)
    feed = iter(quotes.sort_values("known_at", kind="stable").to_dict("records"))
    waiting = next(feed, None)
    live = {}
    for instant, rows in judged.groupby("at").indices.items():
        while waiting and waiting["known_at"] <= instant:
            validator.quote(waiting["symbol"], waiting["known_at"], waiting["spread"], waiting["price"])
            waiting = next(feed, None)
        verdicts = validator.judge(table.iloc[rows].to_dict("records"), instant)
        live.update(dict(zip(rows, [verdict.reasons for verdict in verdicts], strict=True)))
    acting = np.flatnonzero(at.notna())
    assert [live[row] for row in acting] == judged["reasons"].iloc[acting].tolist()
    middle = KNOWN + 5 * HOUR
    early = np.flatnonzero(at <= middle)
    known = validate_signals(table.iloc[early], rules, at=at[early], quotes=quotes[quotes["known_at"] <= middle])
    assert known["reasons"].tolist() == judged["reasons"].iloc[early].tolist()


def test_memory_stays_bounded_and_remembers_what_it_must() -> None:
    rules = SignalRules(window=timedelta(minutes=10))
    validator = SignalValidator(rules)
    for minute in range(0, 160, 2):
        now = KNOWN + timedelta(minutes=minute)
        fresh = signal(ts=now, known_at=now)
        before = signal(ts=now - pd.Timedelta(minutes=2), known_at=now - pd.Timedelta(minutes=2))
        told = validator.judge([fresh, fresh, before], now)
        assert [verdict.reason for verdict in told] == [None, "duplicate", "duplicate" if minute else None]
    assert validator._memory.bound.size == 64


def test_hostile_rows_come_back_malformed_and_hostile_frames_are_refused() -> None:
    validator = SignalValidator(RULES)
    odd = [{}, signal(ts="soon"), signal(known_at=pd.Timestamp("2017-03-15 10:00")), signal(symbol=["EURUSD"]),
           signal(side="buy"), signal(source="a\n"), signal(side=[1]),
           signal(side=10**400), signal(ts=10**30)]  # fmt: skip
    assert [verdict.reason for verdict in validator.judge(odd, KNOWN)] == ["malformed"] * len(odd)
    assert validator.judge([signal()], KNOWN)[0].accepted
    with pytest.raises(DataError, match="lies before"):
        validator.judge([], KNOWN - HOUR)
    validator.quote("EURUSD", KNOWN, 1e-4, 1.0)
    with pytest.raises(DataError, match="older than"):
        validator.quote("EURUSD", TS, 1e-4, 1.0)
    with pytest.raises(DataError, match="no instant with a zone"):
        validator.judge([], pd.Timestamp("2017-03-15"))
    with pytest.raises(DataError, match=r"lack the columns \['side'\]"):
        validate_signals(frame(signal()).drop(columns="side"), RULES, at=KNOWN)
    with pytest.raises(DataError, match="expected UTC instants"):
        validate_signals(frame(signal()).assign(ts=pd.Timestamp("2017-03-15")), RULES, at=KNOWN)
    with pytest.raises(DataError, match="for 1 signals"):
        validate_signals(frame(signal()), RULES, at=pd.DatetimeIndex([KNOWN] * 2))
    with pytest.raises(ValidationError, match="calendar 'MARS' is unknown"):
        SignalRules(calendar="MARS")
    nullable = frame(signal(), signal()).astype({"probability": "Float64", "side": "Int64"})
    nullable.iloc[1, nullable.columns.get_loc("probability")] = pd.NA
    assert validate_signals(nullable, RULES, at=KNOWN)["reason"].tolist() == [None, "probability"]
    empty = validate_signals(frame(signal()).iloc[:0], RULES, at=KNOWN, quotes=hourly_quotes())
    assert empty["accepted"].tolist() == []


def test_a_year_of_real_bars() -> None:
    bars = eurusd()
    crossed = np.sign(bars["close"] - bars["close"].rolling(50).mean())
    chosen = crossed.diff().abs().gt(0).to_numpy()
    signals = pd.DataFrame({"ts": bars.index, "known_at": pd.DatetimeIndex(bars["close_ts"]), "symbol": "EURUSD"})
    signals = signals.assign(source="cross", side=crossed.to_numpy(), probability=0.55, price=bars["close"].to_numpy())
    signals = signals[chosen & crossed.notna().to_numpy()]
    quotes = pd.DataFrame(
        # No spread was recorded: the bar's range is quoted in its place, which is wild where the market is.
        {"known_at": pd.DatetimeIndex(bars["close_ts"]), "symbol": "EURUSD",
         "spread": (bars["high"] - bars["low"]).to_numpy(), "price": bars["close"].to_numpy()}
    )  # fmt: skip
    judged = validate_signals(signals, RULES, at=acting_at(signals, bars), quotes=quotes)
    counts = judged["reason"].value_counts(dropna=False)
    assert judged["accepted"].mean() > 0.9
    assert 0 < counts.get("spread", 0) < 0.1 * len(judged)
    again = validate_signals(pd.concat([signals, signals]), RULES, at=acting_at(pd.concat([signals] * 2), bars))
    assert again["reason"].iloc[len(signals) :].eq("duplicate").mean() > 0.9
