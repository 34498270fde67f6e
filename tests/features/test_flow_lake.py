"""Rows of the lake's own tables become flow as they are read; a correction that came later does not count before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tapeline.core.schemas import RAW_DEPTH, RAW_TRADES
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.features.market_depth import depth_flow
from tapeline.features.quote_flow import best_quotes, quote_flow
from tapeline.features.trade_flow import TradeFlow, trade_flow
from tapeline.lake.lake import Lake
from tapeline.lake.manifest import Lineage
from tests.features.test_market_depth import random_books
from tests.features.test_trade_flow import random_trades

BTC, TICK, M1 = Symbol.parse("BTCUSDT"), Timeframe.parse("tick"), Timeframe.parse("M1")
LINEAGE = Lineage("run-1", "stream")


def test_trades_of_the_lake_give_the_flow_that_was_known(tmp_path: Path) -> None:
    trades = random_trades(400)
    rows = trades.assign(
        sequence=np.arange(400),
        id="",
        known_at=trades.index + pd.Timedelta("2s"),
        known_at_is_estimate=False,
        source="binance",
        revision=0,
    )
    lake = Lake(tmp_path)
    lake.write(RAW_TRADES, rows, BTC, TICK, lineage=LINEAGE)
    flow = TradeFlow(M1)
    found = flow.update(lake.read(RAW_TRADES, BTC, TICK))
    timely = rows["known_at"] <= rows.index.floor("1min") + M1.duration
    assert flow.late == (~timely).sum() > 0
    pd.testing.assert_frame_equal(found, trade_flow(trades[timely], M1), check_exact=True, check_freq=False)
    # A correction a day later is not in the bar, whatever the newest revision says.
    later = rows.iloc[[10]].assign(size=1e6, known_at=rows["known_at"].iloc[10] + pd.Timedelta("1D"))
    lake.write(RAW_TRADES, later, BTC, TICK, lineage=LINEAGE)
    assert trade_flow(lake.read(RAW_TRADES, BTC, TICK), M1)["traded"].max() < 1e6
    before = lake.read(RAW_TRADES, BTC, TICK, as_of=rows.index[-1] + pd.Timedelta("1h"))
    pd.testing.assert_frame_equal(trade_flow(before, M1), found, check_exact=True, check_freq=False)


def test_books_of_the_lake_give_depth_and_quote_flow(tmp_path: Path) -> None:
    books = random_books(40)
    lake = Lake(tmp_path)
    lake.write(RAW_DEPTH, books, BTC, TICK, lineage=LINEAGE)
    read = lake.read(RAW_DEPTH, BTC, TICK)
    options = {"trade_size": 2.0, "memory": 5}
    # The lake keeps asks before bids within an instant; a sampled book has bids first.
    pd.testing.assert_frame_equal(depth_flow(read, M1, **options), depth_flow(books, M1, **options), check_exact=True)
    pd.testing.assert_frame_equal(quote_flow(best_quotes(read), M1), quote_flow(best_quotes(books), M1))
