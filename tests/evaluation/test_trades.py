"""Trades: one at a time, priced to the basis point; and a null that is as lucky as luck."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import DataError
from tapeline.core.settings import CostSettings
from tapeline.evaluation.trades import cost_ladder, equity_curve, random_entries, simulate, trades_per_year

START = pd.Timestamp("2017-01-02", tz="UTC")
COSTS = CostSettings(fee_bps=0.7, half_spread_bps=0.3)
FREE = CostSettings(fee_bps=0, half_spread_bps=0)


def table(
    start: list[int], length: list[int], side: list[int], outcome: list[float], symbol: object = "A"
) -> pd.DataFrame:
    t0 = START + pd.to_timedelta(np.array(start, dtype=float), unit="h")
    return pd.DataFrame(
        {
            "ts": t0 - pd.Timedelta("1h"),
            "symbol": symbol,
            "t0": t0,
            "t_end": t0 + pd.to_timedelta(np.array(length, dtype=float), unit="h"),
            "side": side,
            "outcome": outcome,
        }
    )


@st.composite
def decisions(draw: st.DrawFn) -> pd.DataFrame:
    rows = draw(st.integers(1, 60))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    outcome = generator.standard_normal(rows) * 1e-3
    outcome[generator.uniform(size=rows) < 0.1] = np.nan
    return table(
        list(generator.integers(0, 80, rows)),
        list(generator.integers(0, 12, rows)),
        list(generator.integers(-1, 2, rows)),
        list(outcome),
        generator.choice(["A", "B/USDT"], rows),
    )


@settings(max_examples=80, deadline=None)
@given(decisions())
def test_trades_are_those_a_patient_clerk_would_have_made(rows: pd.DataFrame) -> None:
    expected = []
    for symbol, part in rows.sort_values(["t0", "symbol", "ts"], kind="stable").groupby("symbol"):
        busy = pd.Timestamp.min.tz_localize("UTC")
        for row in part.itertuples():
            if row.side != 0 and not np.isnan(row.outcome) and row.t0 >= busy:
                busy = row.t_end
                expected.append((symbol, row.t0, row.t_end, row.side, row.side * row.outcome - 2 * (0.7 + 0.3) / 1e4))
    trades = simulate(rows, COSTS)
    found = sorted(trades[["symbol", "t0", "t_end", "side", "net"]].itertuples(index=False, name=None))
    assert [one[:4] for one in found] == [one[:4] for one in sorted(expected)]
    assert [one[4] for one in found] == pytest.approx([one[4] for one in sorted(expected)])
    assert trades["t_end"].is_monotonic_increasing
    # A trade may end in the instant of its entry, and the next one begin there.
    for _, part in trades.sort_values(["t0", "t_end"]).groupby("symbol"):
        assert (part["t0"].iloc[1:].to_numpy() >= part["t_end"].iloc[:-1].to_numpy()).all()


def test_costs_climb_the_ladder() -> None:
    trades = simulate(table([0, 5, 10], [2, 2, 2], [1, -1, 1], [0.01, 0.02, -0.005]), COSTS)
    ladder = cost_ladder(trades).set_index("level")
    gross = 0.01 - 0.02 - 0.005
    assert ladder.loc["no cost", "total_return"] == pytest.approx(gross)
    assert ladder.loc["fees", "total_return"] == pytest.approx(gross - 3 * 2 * 0.7e-4)
    assert ladder.loc["fees and spread", "total_return"] == pytest.approx(gross - 3 * 2 * 1e-4)
    assert ladder.loc["fees and spread", "mean_bps"] == pytest.approx((gross / 3 - 2e-4) * 1e4)
    assert ladder.loc["no cost", "win_rate"] == pytest.approx(1 / 3)
    assert ladder.loc["no cost", "maximum_drawdown"] == pytest.approx(0.025)
    curve = equity_curve(trades)
    assert curve["fees and spread"].iloc[-1] == pytest.approx(ladder.loc["fees and spread", "total_return"])
    assert trades_per_year(trades) == pytest.approx(3 * 365.25 * 24 / 12)


def test_trades_that_end_together_share_a_point_of_the_curve() -> None:
    rows = pd.concat([table([0], [4], [1], [0.01], "A"), table([1], [3], [1], [0.02], "B")])
    curve = equity_curve(simulate(rows, FREE))
    assert len(curve) == 1
    assert curve["no cost"].iloc[0] == pytest.approx(0.03)


def test_without_trades_everything_is_empty_not_broken() -> None:
    rows = table([0, 1], [1, 1], [0, 0], [0.01, 0.02])
    trades = simulate(rows, COSTS)
    assert trades.empty
    assert cost_ladder(trades)["trades"].tolist() == [0, 0, 0]
    assert equity_curve(trades).empty
    null = random_entries(rows, trades, COSTS)
    assert np.isnan(null.percentile(0.0))
    assert null.band.empty


def walk(seed: int, rows: int = 800, skill: float = 0.0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    outcome = generator.standard_normal(rows) * 1e-3
    luck = generator.standard_normal(rows)
    side = np.sign(skill * outcome / 1e-3 + luck).astype(int)
    side[generator.uniform(size=rows) < 0.6] = 0
    return table(list(range(rows)), [3] * rows, list(side), list(outcome))


def test_a_model_without_skill_stands_anywhere_among_random_entries() -> None:
    ranks = []
    for seed in range(30):
        rows = walk(seed)
        trades = simulate(rows, COSTS)
        ranks.append(random_entries(rows, trades, COSTS, draws=150, seed=seed).percentile(float(trades["net"].sum())))
    # Uniform on 0..100: mean 50, standard error of 30 ranks 5.3.
    assert abs(np.mean(ranks) - 50) < 16
    assert min(ranks) < 30
    assert max(ranks) > 70


def test_a_model_with_skill_stands_above_them() -> None:
    rows = walk(0, skill=0.6)
    trades = simulate(rows, COSTS)
    assert random_entries(rows, trades, COSTS, seed=1).percentile(float(trades["net"].sum())) > 99


def test_random_histories_have_the_models_trades_sides_and_costs() -> None:
    rows = walk(3)
    rows["outcome"] = 1e-3  # every long trade earns ten basis points: only the mix of sides decides
    trades = simulate(rows, COSTS)
    null = random_entries(rows, trades, COSTS, draws=60)
    made = trades["side"].sum() * 1e-3 - len(trades) * 2e-4
    # A draw may leave out the last few trades, never more.
    assert np.abs(null.total_return - made).max() < 6 * 1.2e-3
    always_long = table(list(range(50)), [1] * 50, [1] * 50, list(np.linspace(-1e-3, 2e-3, 50)))
    trades = simulate(always_long, FREE)
    null = random_entries(always_long, trades, FREE, draws=20)
    # In the market all the time and always long: there is nothing to be random about.
    np.testing.assert_allclose(null.total_return, trades["net"].sum())
    assert null.percentile(float(trades["net"].sum())) == pytest.approx(50)


def test_random_trades_do_not_overlap() -> None:
    from tapeline.evaluation.trades import _random_walks

    generator = np.random.default_rng(0)
    start = np.arange(200)
    free = np.minimum(start + generator.integers(1, 9, 200), 200)
    picked = _random_walks(free, 25, 100, generator)
    for draw in picked:
        entered = draw[draw >= 0]
        taken = np.zeros(200, dtype=int)
        for row in entered:
            taken[row : free[row]] += 1
        assert taken.max() <= 1
    assert (picked >= 0).sum(axis=1).mean() > 23
    assert len(np.unique(picked)) > 150  # all over the place


def test_the_band_ends_where_the_draws_end_and_begins_at_zero() -> None:
    rows = walk(5)
    null = random_entries(rows, simulate(rows, COSTS), COSTS, seed=2)
    low, high = np.quantile(null.total_return, [0.05, 0.95])
    assert null.band.iloc[0].tolist() == [0, 0, 0]
    assert null.band["low"].iloc[-1] == pytest.approx(low)
    assert null.band["high"].iloc[-1] == pytest.approx(high)
    again = random_entries(rows, simulate(rows, COSTS), COSTS, seed=2)
    pd.testing.assert_frame_equal(again.band, null.band)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda rows: rows.drop(columns="side"), "side"),
        (lambda rows: rows.assign(side=2), "none of"),
        (lambda rows: rows.assign(t_end=rows["t0"] - pd.Timedelta("1h")), "end before they begin"),
    ],
)
def test_damaged_decisions_are_refused(damage: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        simulate(damage(walk(0)), COSTS)  # type: ignore[operator]
