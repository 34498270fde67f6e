"""Protective stops: a plan worked out by hand, a slow reading of the rules, the simulator, a stream of bars."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tapeline.charts.swings import find_swings
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.example import example_bars
from tapeline.features.arrays import average_true_range
from tapeline.features.kernels import wilder_mean
from tapeline.strategy.protective_plan import (
    BreakEven,
    InitialStop,
    ProtectivePlan,
    TakeProfit,
    TimeStop,
    TrailingStop,
)
from tapeline.strategy.protective_stop_kernels import true_range_history
from tapeline.strategy.protective_stops import ProtectiveStops, protect
from tapeline.strategy.simulator import SimulationSettings, simulate
from tapeline.strategy.slippage import FixedSlippage, VolumeShareSlippage
from tests.core.samples import eurusd
from tests.support import make_bars

NAN = math.nan
BARS = 240
DISTANCE = InitialStop(kind="distance", value=4)
PLANS = [
    ProtectivePlan(initial=InitialStop(value=1.5), take=TakeProfit(value=1.5)),
    ProtectivePlan(initial=InitialStop(kind="structure", buffer=0.1), trailing=TrailingStop(window=8, value=2)),
    ProtectivePlan(
        initial=InitialStop(kind="share", value=0.002),
        trailing=TrailingStop(kind="atr", value=1.5, after_r=0.5),
        break_even=BreakEven(after_r=0.7, cost_share=1e-5),
        time=TimeStop(bars=12),
        take=TakeProfit(kind="structure", buffer=0.1),
    ),
    ProtectivePlan(
        initial=InitialStop(kind="distance", value=0.002),
        trailing=TrailingStop(kind="structure", value=0.2),
        time=TimeStop(hours=30),
        take=TakeProfit(kind="atr", value=4),
    ),
    ProtectivePlan(trailing=TrailingStop(kind="distance", value=0.0015), take=TakeProfit(kind="share", value=0.003)),
    ProtectivePlan(trailing=TrailingStop(kind="share", value=0.001), take=TakeProfit(kind="distance", value=0.004)),
]


def wishes(index: pd.Index, seed: int, often: float = 0.12) -> pd.Series:
    """A strategy that decides at random bars."""
    generator = np.random.default_rng(seed)
    chosen = generator.choice([-2.0, -1.0, 0.0, 1.0, 2.0], len(index))
    return pd.Series(np.where(generator.random(len(index)) < often, chosen, NAN), index=index)


def one_by_one(bars, targets, plan, settings=None, **told) -> np.ndarray:
    stops, rows = ProtectiveStops(plan, settings), []
    for row, bar in enumerate(bars.reset_index().to_dict("records")):
        extra = {name: values.iloc[row] for name, values in told.items()}
        decided = stops.update(bar, float(targets.iloc[row]), **extra) or {}
        rows.append([decided.get(name, NAN) for name in ("target", "stop", "take")])
    return np.array(rows)


def slow(bars, targets, plan) -> list[tuple[float, float]]:
    """Position and stop after each close, read off the page without state kept between rules: no spread, no delay."""
    high, low, close = (bars[name].tolist() for name in ("high", "low", "close"))
    opened, wanted = bars["open"].tolist(), targets.tolist()
    before = [NAN, *close[:-1]]
    ranges = np.array([max(h, b) - min(low_, b) for h, low_, b in zip(high, low, before, strict=True)])
    ranges[0] = NAN
    atr = wilder_mean(ranges, plan.atr_window).tolist()
    swings = find_swings(bars, "fractal", left=plan.reach, right=plan.reach)
    found, order, trade = [], None, None
    for t in range(len(bars)):
        # The market: protection at the open, the order, protection in the rest.
        for lowest, highest in ((opened[t], opened[t]), (low[t], high[t])):
            if trade and highest == opened[t] == lowest and out(trade, lowest, highest):
                order, trade = (order if order and order["side"] == -trade["side"] else None), None
            if order and lowest == highest == opened[t]:
                if order["side"] == 0:
                    trade = None
                elif trade and trade["side"] == order["side"]:
                    trade["units"] = order["units"]
                else:
                    side, risk = order["side"], order["risk"]
                    trade = {**order, "entry": opened[t], "at": t, "best": opened[t], "stop": opened[t] - side * risk}
                    trade["take"] = opened[t] + side * order["reward"]
                order = None
            elif trade and lowest != highest and out(trade, lowest, highest):
                trade = None
        # The close.
        level = {}
        for side in (-1, 1):
            known = swings.price[(swings.side == side) & (swings.confirmed <= t)]
            level[side] = known[-1] if len(known) else NAN
        if trade:
            extreme = high[t] if trade["side"] > 0 else low[t]
            trade["best"] = max(trade["best"] * trade["side"], extreme * trade["side"]) * trade["side"]
        if wanted[t] == 0:
            order = {"side": 0} if trade else None
        elif not math.isnan(wanted[t]) and not (trade and trade["side"] * wanted[t] > 0):
            side = 1 if wanted[t] > 0 else -1
            risk, reward, support = distances(plan, side, close[t], atr[t], level)
            if risk > 0:
                order = {"side": side, "units": abs(wanted[t]), "risk": risk, "reward": reward, "support": support}
            else:
                order = {"side": 0} if trade else None
        elif trade and not order:
            if not math.isnan(wanted[t]):
                order = {"side": trade["side"], "units": abs(wanted[t])}
            held = t - trade["at"] + 1
            hours = (bars["close_ts"].iloc[t] - bars.index[trade["at"]]).total_seconds() / 3600
            late = plan.time and (held >= (plan.time.bars or 10**9) or hours >= (plan.time.hours or 10**9))
            stop = max([trade["stop"] * trade["side"], *candidates(plan, bars, t, trade, atr, level)]) * trade["side"]
            if late or trade["side"] * (close[t] - stop) <= 0:
                order = {"side": 0}
            else:
                trade["stop"] = stop
        found.append((trade["side"] * trade["units"], trade["stop"]) if trade else (0.0, NAN))
    return found


def out(trade, lowest, highest) -> bool:
    if trade["side"] > 0:
        return lowest <= trade["stop"] or highest >= trade["take"]
    return highest >= trade["stop"] or lowest <= trade["take"]


def distances(plan, side, close, atr, level):
    initial, take = plan.initial, plan.take
    support = NAN
    risk = {"distance": initial.value, "share": initial.value * close}.get(initial.kind, initial.value * atr)
    if initial.kind == "structure" and side * (close - (level[-side] - side * initial.buffer * atr)) > 0:
        support = level[-side] - side * initial.buffer * atr
        risk = side * (close - support)
    if take is None:
        return risk, NAN, support
    reward = {
        "r": take.value * risk,
        "atr": take.value * atr,
        "share": take.value * close,
        "distance": take.value,
        "structure": side * (level[side] - side * take.buffer * atr - close),
    }[take.kind]
    return risk, reward if reward > 0 else NAN, support


def candidates(plan, bars, t, trade, atr, level):
    """Stops that the rules would have, times the side, so that the highest is the tightest."""
    side, best, entry = trade["side"], trade["best"], trade["entry"]
    yield trade["support"] * side
    gained, trailing, even = side * (best - entry) / trade["risk"], plan.trailing, plan.break_even
    if even and gained >= even.after_r:
        yield (entry + side * even.cost_share * entry) * side
    if trailing and gained >= trailing.after_r:
        first = max(0, t - trailing.window + 1)
        top, bottom = bars["high"].iloc[first : t + 1].max(), bars["low"].iloc[first : t + 1].min()
        yield (
            side
            * {
                "distance": best - side * trailing.value,
                "share": best * (1 - side * trailing.value),
                "atr": best - side * trailing.value * atr[t],
                "chandelier": (top if side > 0 else bottom) - side * trailing.value * atr[t],
                "structure": level[-side] - side * trailing.value * atr[t],
            }[trailing.kind]
        )


def test_a_chandelier_worked_out_by_hand() -> None:
    bars = example_bars(100, 102, 106, 108, 108, 106)
    targets = pd.Series([NAN, NAN, 1.0, NAN, NAN, NAN], index=bars.index)
    plan = ProtectivePlan(
        initial=InitialStop(value=2), trailing=TrailingStop(value=1, window=3), take=TakeProfit(value=3), atr_window=2
    )
    found = protect(bars, targets, plan)
    # The ranges that have a close before them are 4 and 6, their mean 5: R is 2 x 5 = 10 and the target 30 away.
    assert found.decisions.iloc[2].tolist() == [1.0, 10.0, 30.0]
    # The highest high of three bars is 109. The range is (5 + 4) / 2 = 4.5: 104.5; then (4.5 + 2) / 2 = 3.25: 105.75.
    assert found.held["stop_price"].iloc[3:5].tolist() == [104.5, 105.75]
    assert found.held["reason"].tolist() == [None, None, "entry", "trailing", "trailing", None]


@pytest.mark.parametrize("plan", PLANS, ids=range(len(PLANS)))
def test_position_and_stop_are_those_of_a_slow_reading(plan) -> None:
    bars = make_bars(BARS, seed=5)
    targets = wishes(bars.index, 6)
    found = protect(bars, targets, plan).held
    told = np.array(slow(bars, targets, plan))
    assert found["position"].tolist() == told[:, 0].tolist()
    np.testing.assert_allclose(found["stop_price"], told[:, 1], rtol=1e-12)
    assert (told[:, 0] != 0).sum() > 30


@pytest.mark.parametrize("plan", PLANS, ids=range(len(PLANS)))
def test_the_simulator_holds_what_was_worked_out_and_single_bars_say_the_same(plan) -> None:
    bars = make_bars(BARS, seed=7)
    bars.iloc[60:62, :4] = NAN
    bars.iloc[150, bars.columns.get_loc("open")] *= 1.1
    targets = wishes(bars.index, 8)
    account = SimulationSettings(
        protect_by_distance=True, slippage=FixedSlippage(bps=0.5), bars_in_force=2, limit_through=1e-5
    )
    found = protect(bars, targets, plan, account, half_spread=2e-5)
    simulation = simulate(bars, found.decisions, account, half_spread=2e-5)
    position = simulation.fills.groupby("ts")["quantity"].sum().reindex(bars.index).fillna(0.0).cumsum()
    assert position.tolist() == found.held["position"].tolist()
    assert len(simulation.trades) > 5
    singles = one_by_one(bars.assign(half_spread=2e-5), targets, plan, account)
    np.testing.assert_array_equal(singles, found.decisions.to_numpy())
    # Told what the account holds and paid, it decides the same without knowing how fills come about.
    told = one_by_one(
        bars, targets, plan, position=found.held["position"], entry_price=found.held["entry_price"].fillna(0.0)
    )
    np.testing.assert_array_equal(told, found.decisions.to_numpy())


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), which=st.integers(0, len(PLANS) - 1), cut=st.integers(20, BARS - 1))
def test_stops_never_loosen_lie_on_the_losing_side_and_know_no_future(seed, which, cut) -> None:
    bars = make_bars(BARS, seed=seed)
    targets = wishes(bars.index, seed + 1)
    found = protect(bars, targets, PLANS[which])
    held = found.held
    side = np.sign(held["position"])
    protected = side != 0
    assert held.loc[protected, "stop_price"].notna().all()
    assert (side * (bars["close"] - held["stop_price"]))[protected].gt(0).all()
    same = protected & (held["entry_price"] == held["entry_price"].shift()) & (side == side.shift())
    assert (side * held["stop_price"].diff())[same].ge(0).all()
    assert (found.decisions["stop"][held["reason"] == "entry"] > 0).all()
    changed = bars.copy()
    changed.iloc[cut:, :4] *= 1.37
    later = protect(changed, targets, PLANS[which])
    pd.testing.assert_frame_equal(later.decisions.iloc[:cut], found.decisions.iloc[:cut])
    pd.testing.assert_frame_equal(later.held.iloc[:cut], held.iloc[:cut])
    shorter = protect(bars.iloc[:cut], targets.iloc[:cut], PLANS[which])
    pd.testing.assert_frame_equal(shorter.decisions, found.decisions.iloc[:cut])


def test_the_range_is_wilders(bars) -> None:
    prices = np.ascontiguousarray(bars[["open", "high", "low", "close"]].to_numpy().T)
    np.testing.assert_allclose(true_range_history(14, prices), average_true_range(bars, 14)[0], rtol=1e-9)


def test_what_cannot_be_protected_is_not_entered_but_left() -> None:
    bars = example_bars(*range(100, 120))
    targets = pd.Series(NAN, index=bars.index)
    targets.iloc[[3, 16]] = 1.0, -1.0
    found = protect(bars, targets, ProtectivePlan(atr_window=14))
    assert found.held["reason"].iloc[3] == "withheld"
    assert math.isnan(found.decisions["target"].iloc[3])
    assert found.held["reason"].iloc[16] == "entry"
    nothing = pd.DataFrame({"below": NAN, "above": NAN}, index=bars.index)
    plan = ProtectivePlan(
        initial=InitialStop(kind="structure", buffer=0), atr_window=2, take=TakeProfit(kind="structure")
    )
    fallen_back = protect(bars, targets, plan, structure=nothing)
    assert fallen_back.decisions["stop"].iloc[3] == 6.0
    assert math.isnan(fallen_back.decisions["take"].iloc[3])
    levels = pd.DataFrame({"below": 99.0, "above": 109.0}, index=bars.index)
    assert protect(bars, targets, plan, structure=levels).decisions.iloc[3].tolist() == [1.0, 4.0, 6.0]


def test_a_position_found_without_a_stop_gets_one() -> None:
    bars = example_bars(100, 101, 102).reset_index().to_dict("records")
    stops = ProtectiveStops(ProtectivePlan(initial=DISTANCE, take=TakeProfit(value=2)))
    first = stops.update(bars[0], position=-3.0, entry_price=100.0)
    assert first is not None
    assert first == {"target": -3.0, "stop": 4.0, "take": 8.0, "reason": "adopted"}
    assert stops.stop_price == 104.0
    assert stops.take_price == 92.0


def test_real_bars_trail_a_breakout() -> None:
    bars = eurusd()
    entries = (bars["close"] > bars["high"].rolling(48).max().shift()).to_numpy()
    targets = pd.Series(np.where(entries, 1_000.0, NAN), index=bars.index)
    plan = ProtectivePlan(
        trailing=TrailingStop(), break_even=BreakEven(after_r=1), time=TimeStop(bars=120), take=TakeProfit(value=6)
    )
    account = SimulationSettings(protect_by_distance=True)
    found = protect(bars, targets, plan, account)
    trades = simulate(bars, found.decisions, account).trades
    assert len(trades) > 50
    assert {"stop", "signal", "target"} <= set(trades["reason"].astype(str))
    # No trade lost more than R of its entry, but for a gap over the stop.
    risk = found.decisions["stop"].shift().reindex(pd.DatetimeIndex(trades["entry_at"])).to_numpy()
    lost = (trades["entry_price"] - trades["exit_price"]).to_numpy()
    assert (lost <= risk * (1 + 1e-9)).mean() > 0.97
    held = found.held
    assert (held["reason"] == "trailing").sum() > 200


def test_wrong_input_is_named(bars) -> None:
    targets = pd.Series(1.0, index=bars.index)
    with pytest.raises(ConfigurationError, match="limit of volume"):
        protect(bars, targets, PLANS[0], SimulationSettings(slippage=VolumeShareSlippage()))
    with pytest.raises(DataError, match="index of the bars"):
        protect(bars, targets.iloc[1:], PLANS[0])
    with pytest.raises(DataError, match=r"lack the columns \['close_ts'\]"):
        protect(bars.drop(columns="close_ts"), targets, PLANS[0])
    with pytest.raises(DataError, match="order of time"):
        protect(bars.iloc[::-1], targets.iloc[::-1], PLANS[0])
    with pytest.raises(DataError, match="half_spread"):
        protect(bars, targets, PLANS[0], half_spread=[-1.0])
    with pytest.raises(DataError, match="'below' and 'above'"):
        protect(bars, targets, PLANS[0], structure=pd.DataFrame(index=bars.index))
    stops, first = ProtectiveStops(PLANS[0]), bars.reset_index().iloc[0].to_dict()
    stops.update(first)
    with pytest.raises(DataError, match="overlaps"):
        stops.update(first)
    with pytest.raises(DataError, match="lacks"):
        stops.update({})
    with pytest.raises(ValidationError, match="needs bars or hours"):
        TimeStop()
