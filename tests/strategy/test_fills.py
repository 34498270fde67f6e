"""Every line of the table of fills in docs/simulator.md, hostile input, and what no fill may ever do."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.strategy.fills import fill_order, fill_order_at_tick, takes_liquidity, whole_lots
from tapeline.strategy.orders import KINDS, LIMIT, MARKET, STOP, STOP_LIMIT, Order

NAN = math.nan
INF = math.inf
PAGE = Path(__file__).parents[2] / "docs" / "simulator.md"


def table() -> list[tuple[str, ...]]:
    """The rows of the page: rule, kind, side, limit, stop, triggered, open, high, low, available, through, results."""
    lines = PAGE.read_text().partition("<!-- table of fills -->")[2].partition("<!-- end -->")[0].splitlines()
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines if re.match(r"\| *\d", line)]


def number(text: str) -> float:
    return {"": NAN, "all": INF, "NaN": NAN}.get(text, NAN) if not re.match(r"-?[\d.]", text) else float(text)


@pytest.mark.parametrize("row", table(), ids=lambda row: f"{row[0]} {row[1]}"[:60])
def test_the_table_holds(row):
    _, _, kind, side, limit, stop, triggered, opened, high, low, available, through, filled, price, after = row
    found = fill_order(
        KINDS.index(kind.replace("-", "_")),
        {"buy": 1, "sell": -1}[side],
        10.0,
        number(limit),
        number(stop),
        triggered == "yes",
        number(opened),
        number(high),
        number(low),
        number(available),
        number(through),
    )
    assert found[0] == float(filled)
    assert found[1] == float(price) if price else math.isnan(found[1])
    assert bool(found[2]) is (after == "yes")


def test_the_table_holds_every_kind_on_both_sides():
    rows = table()
    assert {(row[2], row[3]) for row in rows} == {(k.replace("_", "-"), s) for k in KINDS for s in ("buy", "sell")}
    assert len(rows) >= 45


BROKEN = [
    (NAN, 101.0, 99.0),
    (100.0, NAN, 99.0),
    (100.0, 101.0, NAN),
    (100.0, INF, 99.0),
    (100.0, 101.0, -INF),
    (102.0, 101.0, 99.0),
    (98.0, 101.0, 99.0),
    (100.0, 99.0, 101.0),
]


@pytest.mark.parametrize("bar", BROKEN)
@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("side", [1, -1])
def test_a_broken_bar_fills_and_triggers_nothing(bar, kind, side):
    filled, price, triggered = fill_order(kind, side, 10.0, 100.0, 100.0, False, *bar, INF, 0.0)
    assert filled == 0.0
    assert math.isnan(price)
    assert not triggered


@pytest.mark.parametrize("quantity", [0.0, -5.0, NAN])
def test_no_quantity_no_fill(quantity):
    assert fill_order(MARKET, 1, quantity, NAN, NAN, False, 100.0, 101.0, 99.0, INF, 0.0)[0] == 0.0


@pytest.mark.parametrize("available", [0.0, -1.0, NAN])
def test_nothing_available_no_fill(available):
    assert fill_order(MARKET, 1, 10.0, NAN, NAN, False, 100.0, 101.0, 99.0, available, 0.0)[0] == 0.0


def test_a_stop_is_triggered_although_the_bar_has_nothing_to_give():
    filled, _, triggered = fill_order(STOP, -1, 10.0, NAN, 99.5, False, 100.0, 101.0, 99.0, 0.0, 0.0)
    assert filled == 0.0
    assert triggered
    assert fill_order(STOP, -1, 10.0, NAN, 99.5, triggered, 100.5, 101.0, 100.0, INF, 0.0)[:2] == (10.0, 100.5)


@pytest.mark.parametrize("kind", [LIMIT, STOP, STOP_LIMIT])
def test_a_price_that_is_no_number_never_fills(kind):
    assert fill_order(kind, 1, 10.0, NAN, NAN, False, 100.0, 101.0, 99.0, INF, 0.0)[0] == 0.0


PRICE = st.integers(90, 110).map(float)


@settings(max_examples=600, deadline=None)
@given(
    kind=st.integers(0, 3),
    side=st.sampled_from([1, -1]),
    prices=st.tuples(PRICE, PRICE, PRICE),
    limit=PRICE,
    stop=PRICE,
    triggered=st.booleans(),
    available=st.sampled_from([0.0, 3.0, INF]),
    through=st.sampled_from([0.0, 1.0]),
)
def test_what_holds_of_every_fill(kind, side, prices, limit, stop, triggered, available, through):
    low, opened, high = sorted(prices)
    filled, price, after = fill_order(kind, side, 10.0, limit, stop, triggered, opened, high, low, available, through)
    assert 0.0 <= filled <= min(10.0, available)
    assert after >= triggered
    if filled:
        # A price that the bar traded; a limit is never overstepped and a stop never beaten; nothing beats the open
        # but a resting limit.
        assert low <= price <= high
        if kind & LIMIT:
            assert side * price <= side * limit
        if kind & STOP:
            assert after
        if kind == STOP and not triggered:
            assert side * price == max(side * stop, side * opened)
        assert side * price >= side * opened or (kind & LIMIT and price == limit)
    # Asking that the market trades through the limit can only take fills away.
    assert filled <= fill_order(kind, side, 10.0, limit, stop, triggered, opened, high, low, available, 0.0)[0]
    # The mirror image: prices turned upside down and the other side.
    mirrored = fill_order(kind, -side, 10.0, -limit, -stop, triggered, -opened, -low, -high, available, through)
    assert mirrored[0] == filled
    assert mirrored[2] == after
    assert mirrored[1] == -price or (math.isnan(price) and math.isnan(mirrored[1]))


def test_a_tick_is_met_on_its_own_side():
    assert fill_order_at_tick(MARKET, 1, 5.0, NAN, NAN, False, 99.0, 101.0, INF, 0.0)[:2] == (5.0, 101.0)
    assert fill_order_at_tick(MARKET, -1, 5.0, NAN, NAN, False, 99.0, 101.0, 2.0, 0.0)[:2] == (2.0, 99.0)
    assert fill_order_at_tick(LIMIT, 1, 5.0, 100.0, NAN, False, 99.0, 101.0, INF, 0.0)[0] == 0.0
    assert fill_order_at_tick(LIMIT, 1, 5.0, 100.0, NAN, False, 99.0, 99.5, INF, 0.0)[:2] == (5.0, 99.5)
    assert fill_order_at_tick(STOP, -1, 5.0, NAN, 98.0, False, 98.0, 98.5, INF, 0.0) == (5.0, 98.0, True)
    assert not fill_order_at_tick(STOP, -1, 5.0, NAN, 98.0, False, 98.1, 98.5, INF, 0.0)[2]


@pytest.mark.parametrize("quote", [(NAN, 101.0), (99.0, NAN), (101.0, 99.0), (99.0, INF)])
def test_a_broken_quote_fills_nothing(quote):
    assert fill_order_at_tick(MARKET, 1, 5.0, NAN, NAN, False, *quote, INF, 0.0)[0] == 0.0


def test_who_takes_liquidity():
    assert takes_liquidity(MARKET, 1, 100.0, NAN)
    assert takes_liquidity(STOP, -1, 100.0, NAN)
    assert not takes_liquidity(LIMIT, -1, 101.0, 101.0)
    assert takes_liquidity(LIMIT, -1, 102.0, 101.0)
    assert not takes_liquidity(STOP_LIMIT, 1, 101.0, 101.0)


@pytest.mark.parametrize(
    ("quantity", "lot", "lots"), [(0.3, 0.1, 0.3), (0.29, 0.1, 0.2), (7.0, 0.0, 7.0), (INF, 1.0, INF)]
)
def test_whole_lots(quantity, lot, lots):
    assert whole_lots(quantity, lot) == pytest.approx(lots, rel=1e-12)


def test_an_order_is_checked_once():
    assert Order(side=-1, quantity=1, limit=2.0).kind == LIMIT
    assert Order(side=-1, quantity=1, stop=2.0).prices[1] == 2.0
    for wrong in ({"side": 0}, {"quantity": 0}, {"quantity": NAN}, {"limit": INF}, {"bars_in_force": 0}, {"colour": 1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Order(**{"side": 1, "quantity": 1, **wrong})
