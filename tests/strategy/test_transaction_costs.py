"""Commission of a table of fills, against a loop over its orders."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.strategy.costs import Commission, ExchangeRates, Tier
from tapeline.strategy.transaction_costs import transaction_costs

START = pd.Timestamp("2024-01-01", tz="UTC")
SHARES = Commission(per_unit=0.005, minimum=1.0, maximum_share=0.01)
TIERED = Commission(
    increment=0.0,
    currency="USDT",
    tiers=(
        Tier(threshold=0, maker_bps=2, taker_bps=5),
        Tier(threshold=150_000, maker_bps=1.5, taker_bps=4.95),
        Tier(threshold=300_000, maker_bps=-0.5, taker_bps=4.9),
    ),
)


def some_fills(rows: int = 400, seed: int = 5) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    at = START + pd.to_timedelta(np.sort(generator.integers(0, 90 * 1440, rows)), "min")
    return pd.DataFrame(
        {
            "order": np.sort(generator.integers(0, rows // 3, rows)),
            "quantity": generator.normal(0, 50, rows).round(2),
            "price": generator.uniform(20, 200, rows).round(2),
            "maker": generator.random(rows) < 0.4,
        },
        index=pd.DatetimeIndex(at, name="ts"),
    )


@pytest.mark.parametrize("schedule", [SHARES, TIERED, Commission(taker_bps=3, maker_bps=1, minimum=0.5)])
def test_the_sum_of_an_orders_parts_is_what_the_order_costs(schedule) -> None:
    fills = some_fills()
    found = transaction_costs(fills, schedule, increment=0.0)
    tiers = schedule.tiers or (Tier(threshold=0, maker_bps=schedule.maker_bps, taker_bps=schedule.taker_bps),)
    notional = (fills["quantity"] * fills["price"]).abs()
    for order, parts in fills.groupby("order"):
        money = 0.0
        for at, part in parts.iterrows():
            day = at.floor("D")
            traded = notional[(fills.index < day) & (fills.index >= day - pd.Timedelta(days=30))].sum()
            tier = [each for each in tiers if each.threshold <= traded][-1]
            bps = tier.maker_bps if part["maker"] else tier.taker_bps
            money += abs(part["quantity"]) * (schedule.per_unit + part["price"] * bps / 1e4)
        whole = max(money, -math.inf if schedule.minimum is None else schedule.minimum)
        whole = min(
            whole,
            math.inf if schedule.maximum_share is None else schedule.maximum_share * notional.loc[parts.index].sum(),
        )
        charged = found["commission"][fills["order"] == order].sum()
        assert charged == pytest.approx(whole, abs=1e-8 if schedule.increment == 0 else 0.0051)


def test_tiers_are_reached_by_what_was_traded_before_today() -> None:
    at = pd.DatetimeIndex([START, START + pd.Timedelta("5h"), START + pd.Timedelta("1D"), START + pd.Timedelta("31D")])
    fills = pd.DataFrame({"order": range(4), "quantity": 10.0, "price": 16_000.0, "maker": False}, index=at)
    found = transaction_costs(fills, TIERED, increment=0.0)
    assert found["traded"].tolist() == [0.0, 0.0, 320_000.0, 160_000.0]
    assert found["cost"].tolist() == pytest.approx([80.0, 80.0, 78.4, 79.2])


def test_a_cost_is_converted_when_it_arises_to_the_cent_and_with_the_markup() -> None:
    fills = some_fills(50)
    quotes = {"EURUSD": pd.Series([1.10, 1.20], pd.DatetimeIndex([START, START + pd.Timedelta("45D")]))}
    dollars = transaction_costs(fills, SHARES)
    euros = transaction_costs(fills, SHARES, account="EUR", rates=ExchangeRates(quotes))
    rate = np.where(fills.index < START + pd.Timedelta("45D"), 1.10, 1.20)
    np.testing.assert_allclose(euros["cost"], dollars["commission"] / rate, atol=0.005 + 1e-9)
    assert (np.abs(euros["cost"] * 100 - (euros["cost"] * 100).round()) < 1e-9).all()
    dear = transaction_costs(fills, SHARES, account="EUR", rates=ExchangeRates(quotes, markup_bps=200))
    assert (dear["cost"] >= euros["cost"]).all()
    assert dear["cost"].sum() > euros["cost"].sum()
    # A rebate is money received: the markup makes it less.
    rebate = Commission(maker_bps=-1, increment=0.0)
    quiet = fills.assign(maker=True)
    plain, less = (
        transaction_costs(quiet, rebate, account="EUR", rates=ExchangeRates(quotes, markup_bps=markup), increment=0.0)
        for markup in (0, 200)
    )
    assert (plain["cost"] <= 0).all()
    assert less["cost"].sum() == pytest.approx(0.98 * plain["cost"].sum())


def test_what_cannot_be_charged_is_refused() -> None:
    fills = some_fills(5)
    with pytest.raises(ConfigurationError, match="commission is in USD, the account in EUR"):
        transaction_costs(fills, SHARES, account="EUR")
    with pytest.raises(DataError, match="lack maker"):
        transaction_costs(fills.drop(columns="maker"), SHARES)
    with pytest.raises(DataError, match="decrease"):
        transaction_costs(fills.iloc[::-1], SHARES)
    with pytest.raises(DataError, match="finite"):
        transaction_costs(fills.assign(price=math.nan), SHARES)
    with pytest.raises(DataError, match="names no order"):
        transaction_costs(fills.assign(order=[0, 1, None, 2, 3]), SHARES)
    assert transaction_costs(fills.iloc[:0], SHARES).empty
