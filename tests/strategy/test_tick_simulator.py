"""The tick simulator against the readable oracle, tick by tick against at once, against bars, and on recorded ticks."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tapeline.core.errors import DataError
from tapeline.strategy.book_walk import RecordedBook
from tapeline.strategy.costs import Commission, Tier
from tapeline.strategy.fills import fill_order_at_tick
from tapeline.strategy.latency import Latency
from tapeline.strategy.orders import KINDS
from tapeline.strategy.resting_orders import Queue, rest_orders
from tapeline.strategy.simulator import SimulationSettings, simulate
from tapeline.strategy.slippage import FixedSlippage
from tapeline.strategy.tick_simulator import TickSettings, equity_at, merge_ticks, simulate_ticks
from tapeline.strategy.tick_simulator_stream import TickSimulatorStream
from tapeline.streams.messages import Quote, Trade
from tests.strategy.cases import equal_simulations, same_bits
from tests.strategy.tick_oracle import SECOND, TickCase
from tests.streams.sessions import SESSIONS

SEEDS = st.integers(0, 2**32)
START = pd.Timestamp("2024-01-01", tz="UTC")


def simulated(case):
    return simulate_ticks(
        case.ticks, case.decisions, case.settings, latency=case.latency, depth=case.depth, **case.options
    )


@settings(max_examples=200, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(SEEDS)
def test_the_engine_is_the_oracle_to_the_last_bit(seed):
    case = TickCase(seed)
    oracle, found = case.oracle(), simulated(case)
    columns = (found.fills[name].tolist() for name in found.fills.columns[1:])
    assert list(zip(*columns, strict=True)) == [fill[1:] for fill in oracle.fills]
    times = case.ticks.index
    assert found.fills["ts"].tolist() == times[[fill[0] for fill in oracle.fills]].tolist()
    assert same_bits(found.equity, oracle.equity)
    words = found.orders[["kind", "reason", "status"]].astype(str)
    assert words.to_numpy().tolist() == [[order["kind"], order["reason"], order["status"]] for order in oracle.orders]
    for name in ("quantity", "filled", "limit", "stop"):
        assert same_bits(found.orders[name], [order[name] for order in oracle.orders])
    for order, decided, arrived, ended in zip(
        oracle.orders, *(found.orders[name] for name in ("decided_at", "arrived_at", "ended_at")), strict=True
    ):
        assert decided == (case.decisions.index if order["reason"] == "signal" else times)[order["decided"]]
        assert arrived == times[order["arrived"]]
        assert ended is pd.NaT if order["ended"] < 0 else ended == times[order["ended"]]


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_ticks_one_at_a_time_are_the_history(seed):
    case = TickCase(seed)
    drawn = isinstance(case.latency, Latency)
    case.latency = case.latency if drawn else int(case.latency[0])
    stream = TickSimulatorStream(case.settings, latency=case.latency, printed=case.kind == "trades")
    waiting = list(zip(case.decisions.index, case.decisions.to_dict("records"), strict=True))
    books = [] if case.depth is None else [(ts, rows) for ts, rows in case.depth.groupby(level=0)]
    for tick in case.records():
        while waiting and waiting[0][0].value < tick["ts"]:
            stream.decide(*waiting.pop(0))
        book = None
        while books and books[0][0].value <= tick["ts"]:
            book = books.pop(0)[1]
        stream.push(tick, book)
    while waiting:
        stream.decide(*waiting.pop(0))
    found, whole = stream.result(), simulated(case)
    assert equal_simulations(found, whole)
    assert found.unusable == whole.unusable
    assert stream.equity == whole.equity.iloc[-1]


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(5, 39))
def test_no_fill_knows_what_comes_later(seed, cut):
    case = TickCase(seed)
    whole = simulated(case)
    at = case.ticks.index[cut]
    before = case.ticks.index < at
    prices = [name for name in ("bid", "ask", "price") if name in case.ticks]
    case.ticks.loc[~before, prices] *= 1.7
    case.decisions.loc[case.decisions.index >= at] = np.nan
    case.depth = None if case.depth is None else case.depth[case.depth.index < at]
    case.depth = None if case.depth is None or case.depth.empty else case.depth
    changed = simulated(case)
    assert same_bits(whole.equity[before], changed.equity[before])
    assert whole.fills[whole.fills["ts"] < at].equals(changed.fills[changed.fills["ts"] < at])


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_money_reconciles_with_fills_and_trades(seed):
    case = TickCase(seed)
    case.options.pop("long_rate", None)
    found = simulated(case)
    fills, trades = found.fills, found.trades
    money = -(fills["quantity"] * fills["price"]).sum() - fills["commission"].sum()
    held = fills["quantity"].sum()
    open_value = 0.0
    if abs(held) > 1e-9:
        side = "bid" if held > 0 else "ask"
        quotes = case.ticks.assign(half=case.options.get("half_spread", 0.0))
        if case.kind == "trades":
            quotes = quotes.assign(bid=quotes["price"] - quotes["half"], ask=quotes["price"] + quotes["half"])
        good = quotes[(quotes["bid"] <= quotes["ask"]) & (quotes["bid"] != 0) & np.isfinite(quotes["bid"])]
        good = good[np.isfinite(good["ask"]) & (good["ask"] != 0)]
        open_value = held * good[side].iloc[-1] if len(good) else held * fills["reference"].iloc[0]
    assert found.equity.iloc[-1] == pytest.approx(case.settings.capital + money + open_value, abs=0.005)
    assert found.equity.iloc[-1] == pytest.approx(case.settings.capital + trades["net"].sum(), abs=0.005)


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_what_takes_a_quote_is_what_the_one_fill_function_says(seed):
    """Each fill at a quote's price, put to ``fill_order_at_tick`` with the order it belongs to."""
    case = TickCase(seed)
    case.kind, case.depth, case.options = "quotes", None, {}
    case.ticks = case.ticks.reindex(columns=["bid", "ask"]).fillna({"bid": 100.0, "ask": 100.5})
    case.settings = case.settings.model_copy(update={"queue": None})
    found = simulated(case)
    for _, fill in found.fills.iterrows():
        order = found.orders.loc[fill["order"]]
        quotes = case.ticks.loc[[fill["ts"]]]
        said = [
            fill_order_at_tick(
                KINDS.index(order["kind"]),
                float(np.sign(fill["quantity"])),
                abs(fill["quantity"]),
                order["limit"],
                order["stop"],
                order["kind"].startswith("stop"),
                quote["bid"],
                quote["ask"],
                np.inf,
                case.settings.limit_through,
            )
            for _, quote in quotes.iterrows()
        ]
        # A later decision may have moved the target of a position; the order says where it first stood.
        if order["reason"] != "target":
            assert (abs(fill["quantity"]), fill["reference"]) in [(filled, price) for filled, price, _ in said]


def quotes(*rows: tuple[float, ...], step: str = "1s") -> pd.DataFrame:
    index = pd.date_range(START, periods=len(rows), freq=step, name="ts")
    return pd.DataFrame(rows, columns=["bid", "ask", "bid_size", "ask_size"][: len(rows[0])], index=index)


def decide(at: int = 0, **values: float) -> pd.DataFrame:
    return pd.DataFrame({name: [float(v)] for name, v in values.items()}, index=[START + pd.Timedelta(seconds=at)])


def test_an_order_is_live_at_the_first_tick_at_or_after_its_arrival_and_never_at_one_it_knew():
    ticks = quotes((99.0, 100.0), (100.0, 101.0), (101.0, 102.0), (102.0, 103.0))
    for wait, paid in ((0, 101.0), (1, 101.0), (SECOND, 101.0), (SECOND + 1, 102.0), (3 * SECOND, 103.0)):
        assert simulate_ticks(ticks, decide(target=1), latency=wait).fills["price"].tolist() == [paid]
    same = ticks.set_axis(ticks.index[[0, 0, 0, 3]])
    assert simulate_ticks(same, decide(target=1)).fills["price"].tolist() == [103.0]
    two = pd.concat([decide(target=1), decide(target=3)])
    held_up = simulate_ticks(ticks, two, latency=np.array([2 * SECOND, 0]))
    assert held_up.fills[["quantity", "price"]].to_numpy().tolist() == [[3.0, 102.0]]


def test_ticks_of_one_instant_are_met_in_their_order():
    ticks = quotes((99.0, 99.0), (100.0, 100.0), (95.0, 95.0), (110.0, 110.0))
    ticks.index = ticks.index[[0, 1, 1, 1]]
    found = simulate_ticks(ticks, decide(target=1, stop=96, take=105))
    assert found.trades[["exit_price", "reason"]].to_numpy().tolist() == [[95.0, "stop"]]
    ticks.iloc[2:] = ticks.iloc[:1:-1].to_numpy()
    found = simulate_ticks(ticks, decide(target=1, stop=96, take=105))
    assert found.trades[["exit_price", "reason"]].to_numpy().tolist() == [[110.0, "target"]]


def test_stops_are_triggered_by_the_side_they_would_trade_at():
    ticks = quotes((100.0, 101.0), (100.0, 101.0), (97.5, 104.5), (96.5, 97.0))
    long = simulate_ticks(ticks, decide(target=1, stop=97))
    assert long.fills["price"].tolist() == [101.0, 96.5]
    short = simulate_ticks(ticks, decide(target=-1, stop=104))
    assert short.fills["price"].tolist() == [100.0, 104.5]
    # The entry's own quote can stop it.
    wide = simulate_ticks(quotes((90.0, 101.0), (90.0, 101.0)), decide(target=1, stop=97))
    assert wide.fills["price"].tolist() == [101.0, 90.0]
    assert wide.equity.iloc[-1] == 100_000.0 - 11.0


def test_quotes_that_are_none_fill_nothing_and_are_counted():
    nan, infinite = float("nan"), float("inf")
    ticks = quotes((1.0, 2.0), (nan, 2.0), (0.0, 2.0), (3.0, 2.0), (1.0, infinite), (nan, nan), (1.5, 2.5))
    found = simulate_ticks(ticks, decide(target=1))
    assert found.fills["price"].tolist() == [2.5]
    assert found.unusable == {"missing": 2, "infinite": 1, "zero": 1, "crossed": 1}


def test_a_displayed_size_is_filled_once_and_the_next_quote_shows_a_new_one():
    ticks = quotes((99.0, 100.0, 5.0, 5.0), (99.0, 100.0, 5.0, 2.0), (99.0, 101.0, 5.0, 7.0), (99.0, 101.0, 5.0, 7.0))
    found = simulate_ticks(ticks, decide(target=10))
    assert found.fills[["quantity", "price"]].to_numpy().tolist() == [[2.0, 100.0], [7.0, 101.0], [1.0, 101.0]]
    half = TickSettings(slippage=FixedSlippage(volume_limit=0.5), time_in_force=timedelta(seconds=1.5))
    found = simulate_ticks(ticks, decide(target=10), half)
    assert found.fills["quantity"].tolist() == [1.0]
    assert found.orders["status"].tolist() == ["expired"]
    whole = simulate_ticks(ticks, decide(target=10), TickSettings(slippage=FixedSlippage(volume_limit=None)))
    assert whole.fills["quantity"].tolist() == [10.0]


def test_what_goes_beyond_the_quote_walks_the_recorded_book_as_the_book_walk_does():
    depth = pd.DataFrame(
        {
            "side": [1, 1, -1, -1, -1],
            "level": [0, 1, 0, 1, 2],
            "price": [99.0, 98.0, 100.0, 101.0, 103.0],
            "size": [5.0, 5.0, 2.0, 3.0, 9.0],
        },
        index=pd.DatetimeIndex([START] * 5, name="ts"),
    )
    ticks = quotes((99.0, 100.0, 5.0, 2.0), (99.0, 100.0, 5.0, 2.0), (99.0, 100.0, 5.0, 2.0))
    for wanted in (1.0, 4.0, 11.0, 14.0):
        found = simulate_ticks(ticks.iloc[:2], decide(target=wanted), depth=depth).fills
        walked = RecordedBook(depth).fill(ticks.index[1:2], side=1, quantity=wanted).iloc[0]
        assert found["quantity"].sum() == walked["filled"]
        assert (found["quantity"] * found["price"]).sum() / wanted == pytest.approx(walked["price"])
    # The book is gone once taken; a limit stops the walk; an old book says nothing.
    twice = simulate_ticks(ticks, decide(target=20), depth=depth)
    assert twice.fills["quantity"].tolist() == [2.0, 3.0, 9.0, 2.0]
    assert simulate_ticks(ticks, decide(target=9, limit=101), depth=depth).fills["price"].max() == 101.0
    late = ticks.set_axis(ticks.index + pd.Timedelta("1min"))
    assert simulate_ticks(late, decide(target=9), depth=depth).fills["price"].tolist() == [100.0] * 3
    with pytest.raises(DataError, match="depth"):
        simulate_ticks(ticks, decide(target=1), TickSettings(slippage=FixedSlippage()), depth=depth)


def test_a_limit_in_the_queue_is_filled_as_a_resting_order_is():
    draw = np.random.default_rng(3)
    rows = 60
    index = pd.date_range(START, periods=rows, freq="1s", name="ts")
    trades = pd.DataFrame(
        {
            "price": draw.choice([99.5, 100.0, 100.5], rows, p=[0.05, 0.45, 0.5]),
            "size": draw.integers(1, 5, rows).astype(float),
            "side": draw.choice([-1.0, 1.0], rows),
        },
        index=index + pd.Timedelta("500ms"),
    )
    book = pd.DataFrame({"bid": 100.0, "ask": 100.5, "bid_size": 9.0, "ask_size": 9.0}, index=index)
    for share, miss, seed in ((1.0, 0.0, 0), (0.5, 0.0, 0), (1.0, 0.5, 4), (0.0, 0.3, 5)):
        queue, latency = Queue(share_ahead=share, miss_probability=miss), Latency(median_ms=2_500, seed=seed)
        found = simulate_ticks(
            merge_ticks(book, trades), decide(target=40, limit=100), TickSettings(queue=queue), latency=latency
        )
        # It joins the queue at the first quote after its arrival.
        order = pd.DataFrame(
            {"order": 0, "side": 1, "limit": 100.0, "quantity": 40.0, "displayed": 9.0}, index=index[:1]
        )
        alone = rest_orders(order, trades, latency=latency.model_copy(update={"median_ms": 3_000.0}), queue=queue)
        assert found.fills["quantity"].sum() == alone["filled"].iloc[0] > 0
        assert found.fills["ts"].iloc[-1] == alone["done"].iloc[0]
        assert (found.fills["price"] == 100.0).all()
    nothing = TickSettings(queue=Queue(miss_probability=1.0))
    assert simulate_ticks(merge_ticks(book, trades), decide(target=40, limit=100), nothing).fills.empty


def test_who_rests_is_not_given_a_better_price_and_joins_a_queue_that_is_not_seen_only_when_it_is():
    trades = pd.DataFrame({"price": [99.0], "size": [50.0], "side": [-1.0]}, index=[START + pd.Timedelta("1500ms")])
    ticks = merge_ticks(quotes((100.0, 101.0, 3.0, 3.0), (100.0, 101.0, 3.0, 3.0), (97.0, 98.0, 3.0, 3.0)), trades)
    queue = TickSettings(queue=Queue())
    at_limit = simulate_ticks(ticks, decide(target=2, limit=99), queue)
    assert at_limit.fills["ts"].tolist() == [START + pd.Timedelta("2s")]
    assert at_limit.fills["price"].tolist() == [99.0]
    dealt = simulate_ticks(ticks, decide(target=2, limit=99))
    assert dealt.fills["price"].tolist() == [98.0]


def test_trades_alone_are_quotes_of_their_price_and_size():
    trades = pd.DataFrame(
        {"price": [100.0, 101.0, 103.0, 99.0], "size": [1.0, 2.0, 3.0, 4.0]}, index=quotes(*[(1, 2)] * 4).index
    )
    found = simulate_ticks(trades, decide(target=4, stop=100), half_spread=0.25)
    assert found.fills[["quantity", "price"]].to_numpy().tolist() == [[2.0, 101.25], [2.0, 103.25], [-4.0, 98.75]]
    assert simulate_ticks(trades, decide(target=4), TickSettings(queue=Queue())).fills["price"].tolist() == [101, 103]


def test_financing_is_paid_at_the_tick_it_is_due():
    ticks = quotes(*[(100.0, 100.0)] * 4)
    found = simulate_ticks(ticks, decide(target=10), long_rate=np.array([0.1, 0.1, 0.0, 0.01]))
    assert found.trades["financing"].tolist() == [10.0]
    assert found.equity.iloc[-1] == 100_000.0 - 10.0


def test_tiers_go_by_what_was_traded_on_the_days_before():
    tiers = (Tier(threshold=0.0, maker_bps=0.0, taker_bps=10.0), Tier(threshold=500.0, maker_bps=0.0, taker_bps=1.0))
    settings = TickSettings(commission=Commission(tiers=tiers, tiered_by="traded"))
    ticks = quotes(*[(100.0, 100.0)] * 4, step="12h")
    wanted = pd.DataFrame({"target": [10.0, 20.0, 30.0]}, index=ticks.index[:3])
    # Noon of the first day, midnight and noon of the next: its own day does not count yet.
    assert simulate_ticks(ticks, wanted, settings).fills["commission"].tolist() == pytest.approx([1.0, 0.1, 0.1])


def bars_of(ticks: pd.DataFrame, size: int) -> pd.DataFrame:
    """Bars of so many ticks each, one second a tick."""
    price = ticks["bid"].to_numpy().reshape(-1, size)
    ts = ticks.index[::size]
    length = pd.Timedelta(seconds=size)
    return pd.DataFrame(
        {"open": price[:, 0], "high": price.max(1), "low": price.min(1), "close": price[:, -1], "volume": 1.0,
         "close_ts": ts + length},
        index=ts,
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sampled_from([1.0, -1.0]), st.booleans())
def test_where_bars_end_by_the_stop_ticks_end_no_worse(seed, side, smooth):
    """The stop costs ticks at most the jump by which a tick passed it; on a path without jumps nothing at all."""
    size, draw = 6, np.random.default_rng(seed)
    steps = draw.choice([-1.0, 0.0, 1.0], 120) if smooth else draw.integers(-3, 4, 120).astype(float)
    steps[::size] += draw.integers(-3, 4, 20)  # Bars may open with a gap.
    price = 100.0 + np.cumsum(steps)
    ticks = quotes(*zip(price, price, strict=True))
    stop, take = price[size] - side * draw.integers(1, 6), price[size] + side * draw.integers(1, 6)
    bars = bars_of(ticks, size)
    wanted = {"target": [side], "stop": [stop], "take": [take]}
    coarse = simulate(bars, pd.DataFrame(wanted, index=bars.index[:1])).trades.iloc[0]
    # A bar's last tick is a second before its close.
    fine = simulate_ticks(ticks, pd.DataFrame(wanted, index=ticks.index[[size - 1]])).trades.iloc[0]
    assert coarse["entry_price"] == fine["entry_price"] == price[size]
    if coarse["reason"] == "stop":
        inside = np.abs(np.delete(np.diff(price), np.arange(size - 1, 119, size)))
        assert fine["gross"] >= coarse["gross"] - (0.0 if smooth else inside.max())
        assert pd.Timestamp(fine["exit_at"]) < coarse["exit_at"] + pd.Timedelta(seconds=size)
        reached = bars.loc[coarse["entry_at"] : coarse["exit_at"]]
        if not ((reached["high"] >= take) if side > 0 else (reached["low"] <= take)).any():
            assert fine["reason"] == "stop"


def test_a_bar_that_holds_stop_and_target_is_worse_than_its_ticks():
    price = [*[100.0] * 7, 102.0, 98.0, *[100.0] * 3]
    ticks = quotes(*zip(price, price, strict=True))
    bars = bars_of(ticks, 3)
    wanted = {"target": [1.0], "stop": [99.0], "take": [102.0]}
    coarse = simulate(bars, pd.DataFrame(wanted, index=bars.index[:1]), SimulationSettings()).trades.iloc[0]
    fine = simulate_ticks(ticks, pd.DataFrame(wanted, index=ticks.index[[2]])).trades.iloc[0]
    assert (coarse["reason"], coarse["gross"]) == ("stop", -1.0)
    assert (fine["reason"], fine["gross"]) == ("target", 2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ticks, wanted: (ticks[["bid"]], wanted, {}), "neither"),
        (lambda ticks, wanted: (ticks.iloc[::-1], wanted, {}), "decrease"),
        (lambda ticks, wanted: (ticks.tz_localize(None), wanted, {}), "zone"),
        (lambda ticks, wanted: (-ticks, wanted, {}), "negative"),
        (lambda ticks, wanted: (ticks, wanted.rename(columns={"target": "aim"}), {}), "target"),
        (lambda ticks, wanted: (ticks, wanted.assign(colour=1.0), {}), "colour"),
        (lambda ticks, wanted: (ticks, wanted * np.inf, {}), "infinite"),
        (lambda ticks, wanted: (ticks, wanted, {"latency": -1}), "latency"),
        (lambda ticks, wanted: (ticks, wanted, {"half_spread": 1.0}), "half_spread"),
        (lambda ticks, wanted: (ticks, wanted, {"long_rate": [1.0, 2.0, 3.0]}), "long_rate"),
        (lambda ticks, wanted: (ticks.assign(price=1.0), wanted, {"settings": TickSettings(queue=Queue())}), "size"),
    ],
)
def test_wrong_input_is_refused(change, message):
    ticks, wanted, more = change(quotes((1.0, 2.0, 1.0, 1.0), (1.0, 2.0, 1.0, 1.0)), decide(target=1))
    with pytest.raises(DataError, match=message):
        simulate_ticks(ticks, wanted, **more)


def test_settings_that_contradict_themselves_are_refused():
    for wrong in ({"bars_in_force": 3}, {"queue": Queue(), "limit_through": 0.1}, {"time_in_force": timedelta(0)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            TickSettings(**wrong)


def test_a_stream_takes_no_decision_and_no_tick_out_of_its_time():
    stream = TickSimulatorStream()
    stream.push({"ts": START, "bid": 1.0, "ask": 2.0})
    with pytest.raises(DataError, match="may know"):
        stream.decide(START - pd.Timedelta(1, "ns"), {"target": 1.0})
    with pytest.raises(DataError, match="before the tick"):
        stream.push({"ts": START - pd.Timedelta(1, "ns"), "bid": 1.0, "ask": 2.0})
    with pytest.raises(DataError, match="negative"):
        stream.push({"ts": START, "bid": 1.0, "ask": 2.0, "ask_size": -1.0})


def test_no_ticks_and_no_decisions():
    ticks = quotes((1.0, 2.0), (1.0, 2.0))
    assert simulate_ticks(ticks.iloc[:0], decide(target=1)).equity.empty
    assert (simulate_ticks(ticks, decide(target=1).iloc[:0]).equity == 100_000.0).all()


def test_recorded_quotes_and_trades_cost_the_spread_and_the_way(test_data):
    records = [
        (item.received, item.record)
        for item in SESSIONS["binance futures 2024"].records(test_data)
        if isinstance(item.record, (Quote, Trade))
    ]

    def frame(kind, names):
        held = [(at, record) for at, record in records if isinstance(record, kind)]
        index = pd.DatetimeIndex(pd.to_datetime([at for at, _ in held], utc=True), name="ts")
        return pd.DataFrame({name: [float(getattr(r, name)) for _, r in held] for name in names}, index=index)

    book = frame(Quote, ["bid", "ask", "bid_size", "ask_size"])
    trades = frame(Trade, ["price", "size", "side"])
    ticks = merge_ticks(book, trades)
    assert len(book) > 5_000
    assert len(trades) > 1_000
    times = pd.date_range(book.index[0] + pd.Timedelta("1s"), book.index[-1], freq="2s", inclusive="left")
    turns = pd.DataFrame({"target": np.where(np.arange(len(times)) % 2, -0.5, 0.5)}, index=times)
    at_once = simulate_ticks(ticks, turns)
    assert sum(at_once.unusable.values()) == 0
    # Each market order met the first quote after its decision, on its own side.
    first = book.index.searchsorted(times[0], side="right")
    assert at_once.fills["price"].iloc[0] == book["ask"].iloc[first]
    met = book.groupby(level=0).last().loc[at_once.fills["ts"]]
    seen = np.where(at_once.fills["quantity"] > 0, met["ask"], met["bid"])
    assert (at_once.fills["reference"].to_numpy() == seen).mean() > 0.95
    middle = simulate_ticks(
        ticks.assign(bid=(ticks["bid"] + ticks["ask"]) / 2, ask=(ticks["bid"] + ticks["ask"]) / 2), turns
    )
    assert at_once.equity.iloc[-1] < middle.equity.iloc[-1]
    # Limits at the bid: of a queue fewer are filled than of none, and fewer still where they miss.
    near = book["bid"].iloc[book.index.searchsorted(times[::2])].to_numpy()
    rest = pd.DataFrame({"target": np.arange(1.0, len(near) + 1) / 100, "limit": near}, index=times[::2])
    filled = []
    for queue in (Queue(share_ahead=0.0), Queue(), Queue(miss_probability=1.0)):
        found = simulate_ticks(ticks, rest, TickSettings(queue=queue, time_in_force=timedelta(seconds=1)))
        filled.append(int((found.orders["status"] == "filled").sum()))
    assert filled[0] > filled[1] > filled[2] == 0
    minutes = pd.date_range(times[0], times[-1], freq="10s")
    assert equity_at(at_once.equity, minutes, 100_000.0).iloc[-1] == at_once.equity[: minutes[-1]].iloc[-1]
