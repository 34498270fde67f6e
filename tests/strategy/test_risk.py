"""Limits of risk: no fill breaks one, no reduction is refused, and nothing later changes what was permitted."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.strategy.risk import RiskLimits, correlated_groups, parse_risk_limits
from tapeline.strategy.risk_kernels import (
    CLOSE_ALL,
    NO_NEW_RISK,
    OPEN,
    PERMITTED,
    RISK_REASONS,
    begin_risk,
    mark_risk,
    note_fill,
    permitted_quantity,
    reset_kill_switch,
)
from tapeline.strategy.risk_manager import RiskManager
from tapeline.strategy.risk_tail import BEYOND_SHORTFALL, within_tail
from tests.core.samples import eurusd

SYMBOLS = ("AAA", "BBB", "CCC", "DDD")
GROUPS = {"front": ("AAA", "BBB"), "middle": ("BBB", "CCC")}
HOUR = 3_600_000_000_000
START = pd.Timestamp("2024-01-01", tz="UTC")
SLACK = 1 + 1e-6

maybe = st.none()
some_limits = st.fixed_dictionaries(
    {
        "risk_per_trade": maybe | st.floats(0.002, 0.05),
        "notional_per_trade": maybe | st.floats(0.1, 1.5),
        "symbol_exposure": maybe | st.floats(0.1, 1.5),
        "group_exposure": st.floats(0.2, 2),
        "gross_leverage": maybe | st.floats(0.2, 3),
        "net_leverage": maybe | st.floats(0.1, 2),
        "open_positions": maybe | st.integers(1, 3),
        "trades_per_day": maybe | st.integers(1, 6),
        "daily_loss": maybe | st.floats(0.005, 0.1),
        "drawdown": maybe | st.floats(0.02, 0.3),
        "value_at_risk": maybe | st.floats(0.005, 0.05),
        "expected_shortfall": maybe | st.floats(0.005, 0.05),
        "groups": st.just(GROUPS),
        "confidence": st.sampled_from([0.9, 0.95]),
        "window": st.just(60),
        "least_history": st.just(30),
    }
)


def past_returns(rows: int = 120, seed: int = 0, symbols: tuple[str, ...] = SYMBOLS) -> pd.DataFrame:
    """Hourly returns with a common part, known from 60 hours before the start on."""
    generator = np.random.default_rng(seed)
    values = generator.normal(0, 0.01, (rows, len(symbols))) + generator.normal(0, 0.01, (rows, 1))
    return pd.DataFrame(values, pd.date_range(START - pd.Timedelta(hours=60), periods=rows, freq="h"), list(symbols))


class Shadow:
    """What the limits say, told again without the kernels: days, trades, losses and exposures of an account."""

    def __init__(self, limits: RiskLimits, capital: float) -> None:
        self.limits, self.last, self.high, self.day_start = limits, capital, capital, capital
        self.day, self.trades, self.stopped, self.killed = None, 0, False, False

    def mark(self, at: pd.Timestamp, equity: float) -> None:
        if at.date() != self.day:
            self.day, self.day_start, self.trades, self.stopped = at.date(), self.last, 0, False
        self.last, self.high = equity, max(self.high, equity)
        limits = self.limits
        if limits.daily_loss and self.day_start - equity > limits.daily_loss * self.day_start * SLACK:
            self.stopped = True
        if limits.drawdown and self.high - equity > limits.drawdown * self.high * SLACK:
            self.killed = True

    def broken(self, which, before, after, prices, equity, stop, opened, scenarios) -> list[str]:
        """Names of the limits that a fill which opens risk breaks."""
        limits, values, was = self.limits, after * prices, before * prices
        sizes = np.abs(values)
        grouped = [
            sizes[[SYMBOLS.index(name) for name in members]].sum()
            for members in limits.groups.values()
            if SYMBOLS[which] in members
        ]
        losses = np.sort(-(scenarios @ values))
        count = len(losses)
        border = math.ceil(round(count * limits.confidence, 9)) - 1
        tail = count * (1 - limits.confidence)
        worst = (losses[border + 1 :].sum() + (tail - (count - border - 1)) * losses[border]) / tail
        begun = before[which] * after[which] <= 0
        checks = {
            "risk_per_trade": abs(after[which]) * stop / equity,
            "notional_per_trade": opened * prices[which] / equity,
            "symbol_exposure": sizes[which] / equity,
            "group_exposure": max(grouped, default=0.0) / equity,
            "gross_leverage": sizes.sum() / equity,
            "net_leverage": abs(values.sum()) / equity if abs(values.sum()) > abs(was.sum()) else 0.0,
            "open_positions": int((after != 0).sum()),
            "trades_per_day": self.trades + begun,
            "daily_loss": math.inf if self.stopped else (self.day_start - equity) / self.day_start,
            "drawdown": math.inf if self.killed else (self.high - equity) / self.high,
            "value_at_risk": losses[border] / equity,
            "expected_shortfall": worst / equity,
        }
        return [
            name
            for name, value in checks.items()
            if getattr(limits, name) is not None and value > getattr(limits, name) * SLACK
        ]


@given(values=some_limits, seed=st.integers(0, 2**32 - 1), lot=st.sampled_from([None, 1.0]))
@settings(max_examples=30, deadline=None)
def test_no_sequence_of_signals_breaks_a_limit_and_no_reduction_is_refused(values, seed, lot) -> None:
    generator = np.random.default_rng(seed)
    limits, returns = RiskLimits(**values), past_returns()
    lots = None if lot is None else dict.fromkeys(SYMBOLS, lot)
    rules = limits.compiled(SYMBOLS, lots=lots, returns=returns)
    state, shadow = begin_risk(rules, 4, 10_000.0), Shadow(limits, 10_000.0)
    positions, prices, cash = np.zeros(4), np.full(4, 20.0), 10_000.0
    for hour in range(50):
        at = START + pd.Timedelta(hours=hour)
        prices *= 1 + generator.normal(0, 0.03, 4)
        equity = cash + float(positions @ prices)
        told = mark_risk(rules, state, at.value, equity)
        shadow.mark(at, equity)
        if shadow.killed:
            assert told == CLOSE_ALL
        elif shadow.stopped:
            assert told == NO_NEW_RISK
        which, side = int(generator.integers(4)), int(generator.choice([-1, 1]))
        wanted = float(np.round(generator.exponential(300), 2)) + 1.0
        if generator.random() < 0.2 and positions[which]:
            side, wanted = -int(np.sign(positions[which])), abs(float(positions[which]))
        stop = float(generator.uniform(0.1, 3))
        values_now = positions * prices
        decided, _ = permitted_quantity(
            rules, state, which, *map(float, (positions[which], side, wanted, prices[which])), stop, values_now, equity
        )
        # The order is filled later, at another price, and maybe in two parts; it is asked for again each time.
        prices[which] *= 1 + generator.normal(0, 0.02)
        left = decided
        while left > 0:
            part = left if generator.random() < 0.7 else min(left, max(math.floor(left / 2), 1.0))
            equity = cash + float(positions @ prices)
            position, values_now = float(positions[which]), positions * prices
            filled, reason = permitted_quantity(
                rules, state, which, position, float(side), part, float(prices[which]), stop, values_now, equity
            )
            reducing = min(part, abs(position)) if position * side < 0 else 0.0
            assert reducing <= filled <= part
            assert (filled == part) == (reason == PERMITTED)
            if not filled:
                break
            before = positions.copy()
            positions[which] += side * filled
            if filled > reducing:
                known = returns[returns.index <= at].to_numpy()[-60:]
                assert not shadow.broken(which, before, positions, prices, equity, stop, filled - reducing, known), (
                    RISK_REASONS[reason]
                )
                shadow.trades += bool(before[which] * positions[which] <= 0)
            note_fill(state, position, side * filled)
            cash -= side * filled * float(prices[which])
            left -= part


@pytest.mark.parametrize(
    ("limit", "bound", "reason"),
    [
        ("risk_per_trade", 0.01, "trade_risk"),
        ("notional_per_trade", 0.3, "trade_notional"),
        ("symbol_exposure", 0.4, "symbol_exposure"),
        ("group_exposure", 0.7, "group_exposure"),
        ("gross_leverage", 0.9, "gross_leverage"),
        ("net_leverage", 0.2, "net_leverage"),
        ("value_at_risk", 0.012, "value_at_risk"),
        ("expected_shortfall", 0.015, "expected_shortfall"),
    ],
)
def test_a_trade_is_cut_to_the_limit_and_no_further(limit, bound, reason) -> None:
    limits = RiskLimits(**{limit: bound}, **({"groups": GROUPS} if limit == "group_exposure" else {}))
    limits = limits.model_copy(update={"confidence": 0.9, "window": 60, "least_history": 30})
    returns = past_returns()
    rules = limits.compiled(SYMBOLS, returns=returns)
    state = begin_risk(rules, 4, 10_000.0)
    mark_risk(rules, state, START.value, 10_000.0)
    positions, prices = np.array([100.0, 0.0, -60.0, 0.0]), np.full(4, 20.0)
    quantity, code = permitted_quantity(rules, state, 0, 100.0, 1.0, 5_000.0, 20.0, 0.7, positions * prices, 10_000.0)
    assert RISK_REASONS[code] == reason
    assert quantity > 0
    shadow = Shadow(
        RiskLimits(**{**limits.model_dump(), "groups": GROUPS, "group_exposure": limits.group_exposure or 9}), 10_000.0
    )
    known = returns[returns.index <= START].to_numpy()[-60:]
    for factor, expected in ((1.0, []), (1.001, [limit])):
        after = positions.copy()
        after[0] += quantity * factor
        assert shadow.broken(0, positions, after, prices, 10_000.0, 0.7, quantity * factor, known) == expected


@pytest.mark.parametrize("lot", [1.0, 7.0])
def test_the_tail_leaves_the_most_whole_lots_that_a_search_finds(lot) -> None:
    returns, held = past_returns(80), np.array([3_000.0, -1_000.0, 0.0, 500.0])
    losses, own = -(returns.to_numpy() @ held), -20.0 * returns["CCC"].to_numpy()
    for bound in (90.0, 150.0, 400.0):
        fitting = [
            lots * lot for lots in range(int(900 / lot) + 1) if np.sort(losses + lots * lot * own)[-8:].mean() <= bound
        ]
        found, code = within_tail(np.array(returns), 30, 0.9, math.inf, bound, held, 2, 0.0, 20.0, 900.0, lot)
        assert found == (max(fitting) if fitting else 0.0)
        assert code == BEYOND_SHORTFALL


def test_a_day_that_lost_too_much_ends_at_midnight_utc() -> None:
    rules = RiskLimits(daily_loss=0.02).compiled(["AAA"])
    state = begin_risk(rules, 1, 10_000.0)
    day = 24 * HOUR
    assert mark_risk(rules, state, 0, 10_000.0) == OPEN
    assert mark_risk(rules, state, HOUR, 9_799.0) == NO_NEW_RISK
    assert mark_risk(rules, state, day - 1, 10_500.0) == NO_NEW_RISK
    assert mark_risk(rules, state, day, 10_400.0) == OPEN
    # The new day began with the last equity of the old: 10,500.
    assert mark_risk(rules, state, day + HOUR, 10_290.0) == NO_NEW_RISK
    assert mark_risk(rules, state, 5 * day, math.nan) == OPEN


def test_the_kill_switch_stays_on_until_it_is_reset() -> None:
    for action, told in (("close", CLOSE_ALL), ("hold", NO_NEW_RISK)):
        rules = RiskLimits(drawdown=0.1, on_drawdown=action).compiled(["AAA"])
        state = begin_risk(rules, 1, 1_000.0)
        marks = [
            mark_risk(rules, state, at * 24 * HOUR, equity)
            for at, equity in enumerate((1_200.0, 1_081.0, 1_080.0, 2_000.0))
        ]
        assert marks == [OPEN, OPEN, told, told]
        quantity, reason = permitted_quantity(rules, state, 0, 5.0, 1.0, 1.0, 1.0, math.nan, np.array([5.0]), 2_000.0)
        assert (quantity, RISK_REASONS[reason]) == (0.0, "kill_switch")
        # Turning a position: the part that closes passes, the part that opens does not.
        assert permitted_quantity(rules, state, 0, 5.0, -1.0, 9.0, 1.0, math.nan, np.array([5.0]), 2_000.0)[0] == 5.0
        reset_kill_switch(state)
        assert mark_risk(rules, state, 4 * 24 * HOUR, 1_801.0) == OPEN


def test_returns_and_groups_that_are_not_known_yet_change_nothing() -> None:
    returns = past_returns()
    limits = RiskLimits(
        value_at_risk=0.01, group_exposure=0.5, group_correlation=0.4, group_window=20, window=60, least_history=30
    )
    changed = returns.copy()
    changed[changed.index > START] *= -30.0
    answers = []
    for table in (returns, changed):
        rules = limits.compiled(SYMBOLS, returns=table)
        state = begin_risk(rules, 4, 10_000.0)
        mark_risk(rules, state, START.value, 10_000.0)
        held = np.array([1_000.0, 0.0, 0.0, 0.0])
        answers.append(permitted_quantity(rules, state, 1, 0.0, 1.0, 900.0, 20.0, math.nan, held, 10_000.0))
        mark_risk(rules, state, (START + pd.Timedelta(hours=50)).value, 10_000.0)
        answers.append(permitted_quantity(rules, state, 1, 0.0, 1.0, 900.0, 20.0, math.nan, held, 10_000.0))
    assert answers[0] == answers[2]
    assert answers[1] != answers[3]
    # Nothing is known before the first mark: a limit that needs a history refuses.
    fresh = begin_risk(rules, 4, 10_000.0)
    quantity, code = permitted_quantity(rules, fresh, 1, 0.0, 1.0, 9.0, 20.0, math.nan, np.zeros(4), 10_000.0)
    assert (quantity, RISK_REASONS[code]) == (0.0, "no_history")


def test_correlated_groups_are_the_components_of_a_graph_of_the_past() -> None:
    generator = np.random.default_rng(3)
    factors = generator.normal(size=(80, 2))
    table = pd.DataFrame(
        {
            "A": factors[:, 0],
            "B": -factors[:, 0] + 0.4 * generator.normal(size=80),
            "C": factors[:, 1],
            "D": factors[:, 1] + 0.7 * generator.normal(size=80),
            "E": generator.normal(size=80),
        }
    )
    table.iloc[10:18, 4] = np.nan
    found = correlated_groups(table, 0.8, window=20)
    sizes = set()
    for row in range(25, 80):
        correlations = table.iloc[row - 19 : row + 1].corr().abs()
        count, labels = connected_components((correlations >= 0.8).to_numpy(), directed=False)
        groups = {frozenset(table.columns[labels == number]) for number in range(count)}
        assert groups == {frozenset(found.columns[found.iloc[row] == number]) for number in set(found.iloc[row])}
        sizes.add(len(groups))
    assert len(sizes) > 1
    # Until half a window is known, all are one group.
    assert (found.iloc[:9] == 0).all(axis=None)
    pd.testing.assert_frame_equal(correlated_groups(table[:50], 0.8, window=20), found[:50])


def test_a_manager_explains_counts_and_goes_on_after_a_restart() -> None:
    limits = RiskLimits(
        risk_per_trade=0.01,
        trades_per_day=2,
        daily_loss=0.05,
        drawdown=0.2,
        expected_shortfall=0.04,
        confidence=0.9,
        window=40,
        least_history=30,
    )
    returns = past_returns(60)
    manager = RiskManager(limits, SYMBOLS, capital=10_000, lots={"AAA": 1.0}, returns=returns)
    assert manager.mark(START, 10_000.0, dict.fromkeys(SYMBOLS, 20.0)) == "open"
    verdict = manager.check("AAA", 1, 500, 20.0, stop_distance=0.3)
    assert (verdict.permitted, verdict.limit, verdict.bound, verdict.value) == (333.0, "trade_risk", 100.0, 150.0)
    assert verdict.explanation == "buy 500 AAA: 333 permitted; trade_risk would be 150, its bound is 100"
    assert manager.check("AAA", 1, 500, 20.0).limit == "no_stop"
    manager.fill("AAA", 333.0, 20.0)
    more = manager.check("BBB", 1, 2_000.0, 20.0, stop_distance=0.04)
    assert more.limit == "expected_shortfall"
    assert more.bound == pytest.approx(400.0)
    assert more.value > more.bound
    manager.fill("BBB", more.permitted, 20.0)
    third = manager.check("CCC", -1, 1.0, 20.0, stop_distance=0.1)
    assert (third.permitted, third.limit, third.bound, third.value) == (0.0, "trades_per_day", 2, 3)

    saved = json.dumps(manager.snapshot(), allow_nan=False)
    other = RiskManager.restore(json.loads(saved))
    assert other.snapshot() == manager.snapshot()
    later = START + pd.Timedelta(hours=1)
    for each in (manager, other):
        each.learn(later, {"AAA": -0.05, "BBB": -0.06})
        assert each.mark(later, 9_400.0, {"AAA": 19.0}) == "no_new_risk"
        assert each.stopped == "daily_loss"
        refused = each.check("AAA", 1, 10, 19.0, stop_distance=0.1)
        assert (refused.permitted, refused.limit, refused.value) == (0.0, "daily_loss", 600.0)
        assert each.check("AAA", -1, 333, 19.0).permitted == 333.0
        assert each.mark(later + pd.Timedelta(days=1), 7_900.0) == "close_all"
        assert "reset" in each.check("CCC", 1, 10, 19.0, stop_distance=0.1).explanation
        each.reset_kill_switch()
        assert each.mark(later + pd.Timedelta(days=2), 7_900.0) == "open"
    assert other.snapshot() == manager.snapshot()
    assert manager.positions["AAA"] == 333.0


def test_real_bars_keep_within_value_at_risk_of_what_was_known() -> None:
    bars = eurusd().iloc[:700]
    returns = pd.DataFrame({"EURUSD": bars["close"].pct_change().to_numpy()}, bars["close_ts"]).iloc[1:]
    limits = RiskLimits(value_at_risk=0.005, window=250, least_history=100)
    rules = limits.compiled(["EURUSD"], returns=returns)
    state = begin_risk(rules, 1, 10_000.0)
    permitted = []
    for row in range(50, 700, 50):
        mark_risk(rules, state, bars["close_ts"].iloc[row].value, 10_000.0)
        price = float(bars["close"].iloc[row])
        quantity, code = permitted_quantity(rules, state, 0, 0.0, 1.0, 1e6, price, math.nan, np.zeros(1), 10_000.0)
        known = -np.sort(returns["EURUSD"].to_numpy()[max(row - 250, 0) : row])
        if row < 100:
            assert RISK_REASONS[code] == "no_history"
        else:
            worst = np.quantile(known, 0.99, method="inverted_cdf")
            assert quantity == pytest.approx(50.0 / worst / price, rel=1e-6)
            permitted.append(quantity)
    assert len(set(permitted)) > 3


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"risk_per_trade": 0}, "risk_per_trade"),
        ({"daily_loss": 1.5}, "daily_loss"),
        ({"gross_leverage": math.inf}, "gross_leverage"),
        ({"loss_per_day": 0.1}, "loss_per_day"),
        ({"group_exposure": 1.0}, "stand together"),
        ({"groups": {"a": ["AAA"]}}, "stand together"),
        ({"groups": {"a": []}, "group_exposure": 1.0}, "is empty"),
        ({"window": 50}, "least_history = 100 is above window = 50"),
    ],
)
def test_limits_out_of_bounds_are_refused(values, named) -> None:
    with pytest.raises(ConfigurationError, match=named):
        parse_risk_limits(values)


def test_what_does_not_fit_the_account_is_refused() -> None:
    grouped = RiskLimits(groups={"a": ("AAA", "EEE")}, group_exposure=1)
    for call in (
        lambda: grouped.compiled(SYMBOLS),
        lambda: RiskLimits(value_at_risk=0.1).compiled(SYMBOLS),
        lambda: RiskLimits().compiled(["AAA", "AAA"]),
        lambda: RiskLimits().compiled(SYMBOLS, lots={"AAA": 0.0}),
        lambda: RiskManager(RiskLimits(), SYMBOLS, capital=0),
        lambda: RiskManager(RiskLimits(), SYMBOLS, capital=1).check("EEE", 1, 1.0, 1.0),
    ):
        with pytest.raises(ConfigurationError):
            call()
    manager = RiskManager(RiskLimits(), SYMBOLS, capital=1)
    manager.mark(START, 1.0)
    damaged = {**manager.snapshot(), "amounts": [1.0]}
    for call in (
        lambda: RiskLimits(value_at_risk=0.1).compiled(SYMBOLS, returns=past_returns().iloc[::-1]),
        lambda: RiskLimits(value_at_risk=0.1).compiled(SYMBOLS, returns=past_returns()[["AAA"]]),
        lambda: manager.mark(START - pd.Timedelta(hours=1), 1.0),
        lambda: manager.mark(START, math.nan),
        lambda: manager.check("AAA", 1, -1.0, 1.0),
        lambda: RiskManager.restore(damaged),
        lambda: RiskManager.restore({"version": 1}),
        lambda: RiskManager.restore({}),
    ):
        with pytest.raises(DataError):
            call()
