"""Explanations: splits, dividends and reused tickers are named, and only the rest is unexplained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tapeline.cleaning.explanation import explain_jumps
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.sources.corporate_actions import CorporateActions, read_corporate_actions
from tests.sources.test_corporate_actions import daily
from tests.support import make_bars


def explained(test_data: Path, ticker: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    usa = test_data / "data/lean/equity/usa"
    bars = daily(usa, ticker)
    return bars, explain_jumps(bars, read_corporate_actions(usa, ticker)).set_index("ts")


def test_the_reverse_split_of_aig_is_a_split(test_data: Path) -> None:
    bars, found = explained(test_data, "aig")
    row = found.loc[pd.Timestamp("2009-07-01", tz="UTC")]
    assert row["explanation"] == "split"
    assert row["detail"] == "split of 2009-07-01: 1 new for 20 old"
    assert row["change"] == pytest.approx(2.77, abs=0.01)
    assert abs(row["unexplained"]) < 0.25
    assert row["known_at"] == pd.Timestamp("2009-07-01 13:30", tz="UTC")
    assert found.loc[pd.Timestamp("2008-09-15", tz="UTC"), "explanation"] == "unexplained"  # the collapse was true
    assert found.index.isin(bars.index).all()


@pytest.mark.parametrize(
    ("ticker", "day", "size"), [("uso", "2006-04-10", 7.03), ("eem", "2003-04-14", 2.30), ("wm", "2009-08-05", 5.19)]
)
def test_a_reused_ticker_is_another_company(test_data: Path, ticker: str, day: str, size: float) -> None:
    _, found = explained(test_data, ticker)
    reuse = found[found["explanation"] == "ticker_reuse"]
    assert len(reuse) == 1
    assert abs(reuse["change"].iloc[0]) == pytest.approx(size, abs=0.01)
    assert abs(reuse.index[0] - pd.Timestamp(day, tz="UTC")) <= pd.Timedelta(days=4)
    assert "another company's" in reuse["detail"].iloc[0]


def test_most_of_what_remains_is_small(test_data: Path) -> None:
    for ticker in ("aig", "uso", "eem", "wm"):
        _, found = explained(test_data, ticker)
        rest = found[found["explanation"] == "unexplained"]
        assert rest["unexplained"].abs().max() < 1.0
        assert found["explanation"].ne("unexplained").any()
    _, found = explained(test_data, "wm")
    # The bank's ruin is not the refuse collector's.
    assert found.loc[pd.Timestamp("2008-09-26", tz="UTC"), "explanation"] == "other_company"


def test_a_split_does_not_explain_another_step() -> None:
    bars = make_bars(200, timeframe="D1")
    factors = pd.DataFrame(
        {"price_factor": 1.0, "split_factor": [0.5, 1.0], "reference_price": 0.0},
        index=pd.DatetimeIndex([bars.index[149].tz_localize(None), pd.Timestamp("2050-12-31")], name="date"),
    )
    actions = CorporateActions("x", (), factors)
    flags = np.zeros(200, dtype=bool)
    flags[[150, 160]] = True
    halved = bars.copy()
    halved.iloc[150:, halved.columns.get_loc("close")] /= 2
    found = explain_jumps(halved, actions, flagged=flags)
    assert found["explanation"].tolist() == ["split", "unexplained"]
    assert found["detail"].iloc[0].endswith("2 new for 1 old")
    tripled = bars.copy()
    tripled.iloc[150:, tripled.columns.get_loc("close")] *= 3
    assert explain_jumps(tripled, actions, flagged=flags)["explanation"].iloc[0] == "unexplained"


def test_a_long_absence_is_named() -> None:
    bars = make_bars(200, timeframe="D1")
    holed = bars.drop(bars.index[100:130])
    flags = np.zeros(len(holed), dtype=bool)
    flags[100] = True
    factors = pd.DataFrame(
        {"price_factor": 1.0, "split_factor": [1.0], "reference_price": 0.0}, index=pd.DatetimeIndex(["2050-12-31"])
    )
    found = explain_jumps(holed, CorporateActions("x", (), factors), flagged=flags)
    assert found[["explanation", "detail"]].to_numpy().tolist() == [["absence", "no bar for 31 days before"]]
    with pytest.raises(ConfigurationError, match="3 flags for 170 bars"):
        explain_jumps(holed, CorporateActions("x", (), factors), flagged=flags[:3])
    with pytest.raises(DataError, match="not sorted"):
        explain_jumps(holed.iloc[::-1], CorporateActions("x", (), factors))
