"""What vectorbt and backtesting.py make of the decisions that the simulator is given, each fed as it likes best."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import numpy as np
import pandas as pd

SIZE, CASH = 100.0, 100_000.0


def vectorbt_portfolio(bars: pd.DataFrame, targets: np.ndarray, *, stop: float, take: float, fee: float, slip: float):
    """A vectorbt portfolio of signed targets, one column a set, NaN where nothing is decided.

    A decision of one row is handed over in the next and filled at its open, as the simulator does. Rows are numbered:
    an index of times costs vectorbt many times what it simulates. ``stop`` and ``take`` are distances from the price of
    the fill, 0 for none.
    """
    import vectorbt
    from vectorbt.portfolio.enums import OppositeEntryMode, StopEntryPrice, StopExitPrice

    wanted = np.vstack([np.full((1, targets.shape[1]), np.nan), targets[:-1]])
    plain = pd.RangeIndex(len(bars))
    prices = {name: pd.Series(bars[name].to_numpy(), index=plain) for name in ("open", "high", "low", "close")}
    options: dict[str, Any] = {}
    if stop:
        opened = prices["open"].to_numpy()[:, None]
        options = {
            "sl_stop": stop / opened,
            "tp_stop": take / opened,
            "stop_entry_price": StopEntryPrice.FillPrice,
            "stop_exit_price": StopExitPrice.StopMarket,
        }
    return vectorbt.Portfolio.from_signals(
        prices["close"],
        entries=wanted > 0,
        short_entries=wanted < 0,
        size=SIZE,
        price=prices["open"],
        open=prices["open"],
        high=prices["high"],
        low=prices["low"],
        fees=fee,
        slippage=slip,
        upon_opposite_entry=OppositeEntryMode.Reverse,
        init_cash=CASH,
        freq="1min",
        **options,
    )


def backtesting_statistics(bars: pd.DataFrame, target: np.ndarray, *, stop: float, take: float, fee: float) -> Any:
    """The statistics of backtesting.py for one set of decisions, filled at the next open, one position at a time."""
    from backtesting import Backtest, Strategy

    class Follow(Strategy):  # type: ignore[misc]
        """Enter and turn round where the target says so."""

        def init(self) -> None:
            self.wanted = target

        def next(self) -> None:
            wanted = self.wanted[len(self.data) - 1]
            if wanted != wanted:
                return
            near = self.data.Close[-1]
            protection = {}
            if stop:
                side = 1.0 if wanted > 0 else -1.0
                protection = {"sl": near - side * stop, "tp": near + side * take}
            (self.buy if wanted > 0 else self.sell)(size=SIZE, **protection)

    frame = bars[["open", "high", "low", "close", "volume"]].rename(columns=str.title).tz_localize(None)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        return Backtest(frame, Follow, cash=CASH, commission=fee, exclusive_orders=True, finalize_trades=True).run()
