"""Repairs of prices and dividends: against the oracle, on sound series, from when they are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tapeline.cleaning.dividend_repair import repair_dividends
from tapeline.cleaning.price_repair import repair_prices
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import OHLCV, PRICES
from tests.cleaning.yahoo import DIVIDEND_CELLS, PRICE_CELLS, Score, differs, read, repaired, score
from tests.quality.batches import sample_bars
from tests.support import make_bars

DOUBTFUL = ("AV-L-1wk-bad-stock-split", "SCR-TO-1d-bad-div")


@pytest.fixture(scope="module")
def yahoo(test_data: Path) -> Path:
    return test_data / "api/yahoo/yfinance_repair"


def pairs(folder: Path, word: str) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    fixed = [path for path in sorted(folder.glob("*-fixed.csv")) if word in path.name]
    return {
        path.stem.removesuffix("-fixed"): (read(path.with_name(path.name.replace("-fixed", ""))), read(path))
        for path in fixed
    }


def total(scores: list[Score]) -> Score:
    return Score(*(sum(getattr(one, name) for one in scores) for name in ("due", "right", "wrong", "left")))


def test_split_repairs_are_the_oracles(yahoo: Path) -> None:
    scores = {}
    for name, (served, truth) in pairs(yahoo, "split").items():
        ours = repair_prices(served, splits=served["splits"], dividends=served["dividends"]).bars
        scores[name] = score(served, truth, ours, PRICE_CELLS)
    assert len(scores) == 6
    whole = total(list(scores.values()))
    assert whole == Score(due=144, right=139, wrong=0, left=5)  # as docs/cleaning.md says
    assert [name for name, one in scores.items() if one.left] == [DOUBTFUL[0]]


def test_dividend_repairs_are_the_oracles(yahoo: Path) -> None:
    found = pairs(yahoo, "div") | pairs(yahoo, "cg-double")
    scores = {name: score(served, truth, repaired(served), DIVIDEND_CELLS) for name, (served, truth) in found.items()}
    assert len(scores) == 13
    assert total(list(scores.values())) == Score(due=4869, right=4567, wrong=301, left=302)  # as docs/cleaning.md says
    assert [name for name, one in scores.items() if one.wrong or one.left] == [DOUBTFUL[1]]
    prices = [score(served, truth, repaired(served), PRICE_CELLS) for served, truth in found.values()]
    assert total(prices) == Score(0, 0, 0, 0)


def test_nothing_changes_where_nothing_is_due(yahoo: Path) -> None:
    sound = sorted(yahoo.glob("*-no-bad-*.csv"))
    assert len(sound) == 3
    for path in sound:
        served = read(path)
        assert not differs(repaired(served), served, (*PRICE_CELLS, *DIVIDEND_CELLS), 1e-12).any()
    # What another project has repaired needs nothing either, but for the doubtful one.
    for name, (_, truth) in (pairs(yahoo, "div") | pairs(yahoo, "cg-double")).items():
        if name not in DOUBTFUL:
            assert not repaired(truth)["repaired"].any(), name
    bars = sample_bars()
    assert not repair_prices(bars).bars["repaired"].any()


def test_real_crashes_are_no_unit_errors(test_data: Path) -> None:
    from tests.sources.test_corporate_actions import daily

    bars = daily(test_data / "data/lean/equity/usa", "aig")
    assert not repair_prices(bars).bars["repaired"].any()


@pytest.mark.parametrize("factor", [100.0, 0.01])
@pytest.mark.parametrize("run", [1, 3, 5])
def test_a_wrong_unit_is_put_right_once_it_comes_back(factor: float, run: int) -> None:
    bars = sample_bars().iloc[:300]
    wrong = bars.copy()
    rows = slice(120, 120 + run)
    wrong.iloc[rows, :4] *= factor
    done = repair_prices(wrong)
    np.testing.assert_allclose(done.bars[list(OHLCV)], bars, rtol=1e-12)
    assert done.bars["repaired"].sum() == run
    assert done.repairs["confirmed_at"].tolist() == [bars.index[120 + run]]
    again = repair_prices(done.bars)
    assert not len(again.repairs)
    # Before it came back nobody could know: it might have been a crash.
    before = repair_prices(wrong.iloc[: 120 + run])
    assert not before.bars["repaired"].any()
    assert not repair_prices(wrong, as_of=bars.index[119 + run]).bars["repaired"].any()


def test_a_longer_stay_is_left_alone() -> None:
    wrong = sample_bars().iloc[:300].copy()
    wrong.iloc[120:126, :4] *= 100
    assert not len(repair_prices(wrong).repairs)
    assert len(repair_prices(wrong, longest_run=6).repairs) == 1


@pytest.mark.parametrize("name", ["SPM-MI", "DEX-AX", "LA-V", "MOB-ST", "ALPHA-PA"])
def test_a_repair_is_known_when_it_is_confirmed(yahoo: Path, name: str) -> None:
    served = read(next(yahoo.glob(f"{name}-1d-bad-stock-split.csv")))
    whole = repair_prices(served, splits=served["splits"], dividends=served["dividends"])
    assert len(whole.repairs) == 1
    for cut in range(2, len(served) + 1):
        part = served.iloc[:cut]
        early = repair_prices(part, splits=part["splits"], dividends=part["dividends"])
        then = repair_prices(served, splits=served["splits"], dividends=served["dividends"], as_of=part.index[-1])
        assert len(early.repairs) == int(whole.repairs["confirmed_at"].iloc[0] <= part.index[-1])
        pd.testing.assert_frame_equal(early.bars, then.bars.iloc[:cut])


def test_a_dividend_repair_needs_no_later_row(yahoo: Path) -> None:
    served = read(yahoo / "TEM-L-1d-bad-div.csv")
    whole = repair_dividends(served)
    for known in whole.repairs["confirmed_at"]:
        part = repair_dividends(served[served.index <= known])
        want = whole.repairs[whole.repairs["confirmed_at"] <= known].reset_index(drop=True)
        assert part.repairs["ts"].tolist() == want["ts"].tolist()
        assert part.repairs["amount"].tolist() == want["amount"].tolist()


def test_arguments_are_checked() -> None:
    bars = make_bars(10)
    with pytest.raises(ConfigurationError, match=r"unit = 1\.5"):
        repair_prices(bars, unit=1.5)
    with pytest.raises(ConfigurationError, match="longest_run = 0"):
        repair_prices(bars, longest_run=0)
    with pytest.raises(DataError, match="3 split cells for 10 bars"):
        repair_prices(bars, splits=pd.Series([0.0] * 3))
    for function, frame in (
        (repair_prices, bars.iloc[::-1]),
        (repair_dividends, bars.assign(adjusted_close=1.0, dividends=0.0).iloc[::-1]),
    ):
        with pytest.raises(DataError, match="not sorted"):
            function(frame)
    with pytest.raises(DataError, match="lack"):
        repair_prices(bars.drop(columns=PRICES[0]))
    with pytest.raises(DataError, match="lacks"):
        repair_dividends(bars)
