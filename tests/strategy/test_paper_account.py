"""The paper account: the fills of a backtest to the bit, no step lost or doubled, nothing made up after the fact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.timeframe import Timeframe
from tapeline.strategy.backtest import run_backtest, trading_terms
from tapeline.strategy.paper_account import PaperAccount, open_account
from tapeline.strategy.portfolio import simulate_portfolio
from tapeline.strategy.portfolio_report import reconcile
from tapeline.strategy.portfolio_stream import PortfolioStream
from tapeline.strategy.signal_rules import SignalRules
from tapeline.strategy.signal_sources import Surroundings
from tapeline.strategy.signal_validator import SignalValidator
from tapeline.strategy.strategy import parse_strategy
from tests.core.samples import eurusd
from tests.support import make_bars

H1 = Timeframe.parse("H1")
CROSS = {
    "name": "cross",
    "signals": {"source": "moving_average_cross", "fast": 2, "slow": 4},
    "sizing": {"method": "units", "units": 1_000.0},
    "costs": {"half_spread_bps": 0.5},
    "terms": {"commission": {"taker_bps": 0.2}},
}
PROTECTED = {
    **CROSS,
    "name": "protected",
    "protection": {
        "initial": {"kind": "atr", "value": 2.0},
        "trailing": {"kind": "atr", "value": 2.0},
        "atr_window": 3,
    },
    "risk": {"gross_leverage": 3.0, "daily_loss": 0.03, "drawdown": 0.25},
}
NAMES = ("fills", "orders", "trades")


def around(*symbols, scores=None):
    return {name: Surroundings(name, H1, scores=scores) for name in symbols}


def live(strategy, bars, account, nows, seen=None):
    """Run the account at each of the instants, written down and read back in between as by another process."""
    for now in nows:
        known = {name: frame[frame["close_ts"] <= now] for name, frame in bars.items()}
        account = PaperAccount.from_bytes(account.to_bytes())
        account = account.step(strategy, known, seen or around(*bars), now)
    return account


def closes(bars, first, last=None, late="30s"):
    return pd.DatetimeIndex(bars["close_ts"].iloc[first:last]) + pd.Timedelta(late)


@pytest.fixture(scope="module")
def real():
    return eurusd().iloc[:60]


@pytest.fixture(scope="module")
def lived(real):
    """The account of the strategy with a plan after each bar, written down and read back each time."""
    strategy = parse_strategy(PROTECTED)
    account, after = open_account("a", strategy, ["EURUSD"], H1, at=real.index[0]), []
    for now in closes(real, 0):
        account = live(strategy, {"EURUSD": real}, account, [now])
        after.append(account)
    return strategy, after


def same_as_a_backtest(found, strategy, bars):
    reconcile(found)
    expected = run_backtest(strategy, {"EURUSD": bars}, H1).simulation
    assert len(found.fills) >= 3
    for name in NAMES:
        pd.testing.assert_frame_equal(getattr(found, name), getattr(expected, name), check_exact=True)
    pd.testing.assert_frame_equal(found.equity, expected.equity, check_exact=True)


def test_bar_by_bar_it_trades_as_a_backtest_of_real_bars_does(real, lived):
    strategy, after = lived
    same_as_a_backtest(after[-1].simulation(strategy), strategy, real)
    plain = parse_strategy(CROSS)
    account = open_account("p", plain, ["EURUSD"], H1, at=real.index[0])
    account = live(plain, {"EURUSD": real}, account, closes(real, 0, 30))
    same_as_a_backtest(account.simulation(plain), plain, real[:30])


def test_the_stream_and_the_history_give_what_the_account_says_also_where_decisions_come_late(real):
    strategy = parse_strategy(PROTECTED)
    bars = {"EURUSD": real, "GBPUSD": make_bars(60, seed=3).set_axis(real.index).assign(close_ts=real["close_ts"])}
    account = open_account("b", strategy, list(bars), H1, at=real.index[20])
    # Twelve minutes late is beyond the grace: orders act at the open after the next one.
    account = live(strategy, bars, account, closes(real, 20, 45, late="12min"))
    found = account.simulation(strategy)
    settings = strategy.settings(list(bars))
    wanted = {name: book.wanted() for name, book in account.books.items()}
    traded = {name: book.traded for name, book in account.books.items()}
    terms = trading_terms(strategy, traded, settings)
    batch = simulate_portfolio(
        traded,
        {name: frame for name, (frame, _) in wanted.items()},
        settings,
        latency={name: late for name, (_, late) in wanted.items()},
        **terms,
    )
    stream = PortfolioStream(sorted(bars), settings, limits=terms["limits"])
    for place, ts in enumerate(traded["EURUSD"].index):
        pushed, decisions = {}, {}
        for name, frame in traded.items():
            spread = terms["half_spread"][name][place]
            pushed[name] = {"ts": ts, **frame.loc[ts].to_dict(), "half_spread": spread}
            rows, late = wanted[name]
            if ts in rows.index:
                decisions[name] = {**rows.loc[ts].to_dict(), "latency": late[place]}
        stream.push(pushed, decisions)
    assert len(found.fills) > 4
    for name in NAMES:
        pd.testing.assert_frame_equal(getattr(found, name), getattr(batch, name), check_exact=True)
        pd.testing.assert_frame_equal(getattr(found, name), getattr(stream.result(), name), check_exact=True)
    decided = found.orders[found.orders["reason"] == "signal"]
    assert (decided["arrived_at"] - decided["decided_at"]).min() >= pd.Timedelta("2h")


def test_a_step_judges_what_is_new_as_if_all_had_been_judged_again(real, lived, monkeypatch):
    strategy, after = lived
    asked, judge = [], SignalValidator.judge

    def counted(self, signals, at):
        asked.append(len(signals))
        return judge(self, signals, at)

    class Remembering(PaperAccount):
        """An account whose validator is told every signal that ever stood, at its own instant."""

        def _validator(self, strategy):
            validator = SignalValidator(SignalRules(maximum_age=H1.duration, require_probability=False))
            for signal in self.books["EURUSD"].signals:
                if signal["accepted"]:
                    times = {name: pd.Timestamp(signal[name], tz="UTC") for name in ("ts", "known_at", "acted_at")}
                    validator.judge([{**signal, **times}], times["acted_at"])
            return validator

    judged = [len(account.books["EURUSD"].signals) for account in after]
    steps = [place for place in range(1, len(after)) if judged[place] > judged[place - 1]][-3:]
    assert judged[steps[0] - 1] >= 4
    monkeypatch.setattr(SignalValidator, "judge", counted)
    for place in steps:
        asked.clear()
        account, (now,) = after[place - 1], closes(real, place, place + 1)
        found = account.step(strategy, {"EURUSD": real}, around("EURUSD"), now)
        assert sum(asked) <= 2
        told = Remembering(account.terms, account.books, account.reached, account.late_bars)
        assert told.step(strategy, {"EURUSD": real}, around("EURUSD"), now).to_bytes() == found.to_bytes()
        assert sum(asked) > 4


def test_what_happened_stands_and_a_step_twice_changes_nothing(real, lived):
    strategy, after = lived
    fills = after[-1].simulation(strategy).fills
    for account in after[4::11]:
        own = account.simulation(strategy).fills
        pd.testing.assert_frame_equal(own, fills.iloc[: len(own)], check_exact=True)
        at = pd.Timestamp(account.reached, tz="UTC") + pd.Timedelta("1min")
        again = live(strategy, {"EURUSD": real}, account, [at, at + pd.Timedelta("40min")])
        assert again.to_bytes() == account.to_bytes()
    # A correction of a bar that was taken, and a bar that came too late, change nothing that happened.
    account = after[40]
    before = account.simulation(strategy).fills
    corrected = real.assign(close=real["close"].where(np.arange(len(real)) != 20, real["close"] * 1.05))
    moved = live(strategy, {"EURUSD": corrected}, account, closes(real, 41, 42))
    pd.testing.assert_frame_equal(moved.simulation(strategy).fills.iloc[: len(before)], before, check_exact=True)
    held_back = live(strategy, {"EURUSD": real.drop(real.index[42])}, account, closes(real, 41, 44))
    told = live(strategy, {"EURUSD": real}, held_back, closes(real, 44, 46))
    assert real.index[42] not in told.books["EURUSD"].bars.index
    assert real.index[43] in told.books["EURUSD"].bars.index


def test_nothing_of_the_future_is_decided_by(real, lived):
    strategy, after = lived
    future = real.copy()
    future.iloc[50:, :4] *= 3.0
    account = after[44]
    for now in closes(real, 45, 50):
        # The whole frame is offered: the account itself must not look beyond the instant.
        account = account.step(strategy, {"EURUSD": future}, around("EURUSD"), now)
    assert account.to_bytes() == after[49].to_bytes()


def test_after_an_outage_stale_signals_are_refused_and_what_the_strategy_left_is_closed(real):
    strategy = parse_strategy({**CROSS, "signals": {"source": "moving_average_cross", "fast": 3, "slow": 8}})
    signals = run_backtest(strategy, {"EURUSD": real}, H1).decided["EURUSD"].signals
    places = real.index.get_indexer(pd.DatetimeIndex(signals["ts"]))
    # A signal that is acted on, the next one while the machine is off, none at the bar at which it is back.
    n = next(n for n in range(1, len(places) - 1) if places[n] - places[n - 1] > 2 and places[n + 1] - places[n] > 4)
    entered, turn, back = places[n - 1], places[n], places[n] + 2
    account = open_account("e", strategy, ["EURUSD"], H1, at=real.index[entered])
    account = live(strategy, {"EURUSD": real}, account, closes(real, entered, entered + 2))
    held = account.held(strategy)["EURUSD"]
    assert held == 1_000.0 * signals["side"].iloc[n - 1]
    account = live(strategy, {"EURUSD": real}, account, closes(real, back, back + 1))
    noted = {signal["ts"]: signal["reason"] for signal in account.books["EURUSD"].signals}
    assert noted[real.index[turn].value] == "stale"
    last = account.books["EURUSD"].decisions[-1]
    assert (last["target"], last["reason"], last["ts"]) == (0.0, "left", real.index[back].value)
    assert account.held(strategy)["EURUSD"] == held
    account = live(strategy, {"EURUSD": real}, account, closes(real, back + 1, back + 2))
    assert account.held(strategy)["EURUSD"] == 0
    assert account.simulation(strategy).fills["ts"].iloc[-1] == real.index[back + 1]


def test_a_plan_moves_only_what_is_held(real):
    """An account that is opened while the strategy is in a position does not join it by moving its stop."""
    strategy = parse_strategy(PROTECTED)
    decided = run_backtest(strategy, {"EURUSD": real}, H1).decided["EURUSD"]
    moves = decided.steps.index[(decided.steps["signal"] < 0) & (decided.decisions["target"] != 0)]
    first = real.index.get_loc(moves[len(moves) // 2])
    account = open_account("f", strategy, ["EURUSD"], H1, at=real.index[first])
    account = live(strategy, {"EURUSD": real}, account, closes(real, first, first + 1))
    assert account.books["EURUSD"].decisions == ()
    assert account.held(strategy) == {"EURUSD": 0.0}


def test_a_bar_waits_for_its_score_and_for_other_symbols_but_not_for_ever(real):
    values = {**CROSS, "name": "scored", "signals": {"source": "scores", "threshold": 0.6}}
    strategy = parse_strategy(values)
    bars = real.iloc[:40]
    scores = pd.DataFrame({"probability": 0.9, "known_at": bars["close_ts"], "model": "m"}, index=bars.index)
    opened = open_account("g", strategy, ["EURUSD"], H1, at=bars.index[30])
    opened = opened.step(
        strategy, {"EURUSD": bars.iloc[:35]}, around("EURUSD", scores=scores[:35]), closes(bars, 34)[0]
    )
    now = closes(bars, 35)[0]
    waiting = opened.step(strategy, {"EURUSD": bars[:36]}, around("EURUSD", scores=scores[:35]), now)
    assert waiting == opened
    scored = opened.step(strategy, {"EURUSD": bars[:36]}, around("EURUSD", scores=scores[:36]), now)
    assert scored.reached == bars["close_ts"].iloc[35].value
    late = now + pd.Timedelta("31min")
    without = opened.step(strategy, {"EURUSD": bars[:36]}, around("EURUSD", scores=scores[:35]), late)
    assert without.reached == scored.reached
    two = parse_strategy(CROSS)
    pair = open_account("h", two, ["EURUSD", "GBPUSD"], H1, at=bars.index[0])
    frames = {"EURUSD": bars[:20], "GBPUSD": bars[:19]}
    first = pair.step(two, frames, around(*frames), closes(bars, 19)[0])
    assert first.reached == bars["close_ts"].iloc[18].value
    gone = pair.step(two, frames, around(*frames), closes(bars, 20, late="31min")[0])
    assert gone.reached == bars["close_ts"].iloc[19].value


def test_rows_fit_the_tables_and_each_decision_says_why(lived):
    strategy, after = lived
    account = after[-1]
    simulation = account.simulation(strategy)
    made = account.tables(simulation)
    rows = {spec.path: spec.to_arrow(frame).to_pandas() for tables in made.values() for spec, frame in tables}
    assert set(rows) == {f"strategy/{name}" for name in ("signals", "decisions", "orders", "fills", "trades", "equity")}
    assert all(set(frame["run"].astype(str)) == {"paper:a"} for frame in rows.values())
    assert len(rows["strategy/fills"]) == len(simulation.fills)
    decisions = rows["strategy/decisions"]
    assert (decisions["known_at"] - decisions["ts"] == pd.Timedelta("1h") + pd.Timedelta("30s")).all()
    assert decisions["explanation"].str.contains('"why"').all()
    assert set(decisions["strategy"].astype(str)) == {strategy.version}


def test_an_account_keeps_its_strategy_and_damage_is_refused(real):
    strategy = parse_strategy(CROSS)
    account = open_account("k", strategy, ["EURUSD"], H1, at=real.index[10])
    other = parse_strategy({**CROSS, "sizing": {"method": "units", "units": 2_000.0}})
    with pytest.raises(ConfigurationError, match="another strategy"):
        account.step(other, {"EURUSD": real}, around("EURUSD"), real["close_ts"].iloc[20])
    with pytest.raises(DataError, match="no bars"):
        account.step(strategy, {"EURUSD": real[:0]}, around("EURUSD"), real["close_ts"].iloc[20])
    with pytest.raises(DataError, match="no zone"):
        account.step(strategy, {"EURUSD": real}, around("EURUSD"), pd.Timestamp("2017-01-05"))
    with pytest.raises(ConfigurationError, match="name"):
        open_account("../k", strategy, ["EURUSD"], H1, at=real.index[10])
    whole = account.to_bytes()
    for damaged in (b"", whole[:-40], b"PK" + whole[2:50], replace(account, reached=0).to_bytes()[:200]):
        with pytest.raises(DataError, match="paper account"):
            PaperAccount.from_bytes(damaged)


def test_a_signal_to_leave_is_never_judged(real):
    bars = real.iloc[:40]
    wanted = {"require_probability": True, "symbols": ["EURUSD"]}
    values = {**CROSS, "name": "scored", "signals": {"source": "scores", "threshold": 0.6, "leave": 0.5}}
    strategy = parse_strategy({**values, "validator": wanted})
    # The side is taken at the 32nd bar; at the 36th the probability says neither, so the position ends.
    probability = np.where(np.arange(40) < 36, 0.9, 0.45)
    scores = pd.DataFrame({"probability": probability, "known_at": bars["close_ts"], "model": "m"}, index=bars.index)
    account = open_account("leaver", strategy, ["EURUSD"], H1, at=bars.index[31])
    account = live(strategy, {"EURUSD": bars}, account, closes(bars, 31, 40), around("EURUSD", scores=scores))
    left = [signal for signal in account.books["EURUSD"].signals if signal["side"] == 0]
    assert left
    assert all(signal["accepted"] and signal["reason"] is None for signal in left)
    assert account.held(strategy)["EURUSD"] == 0
