from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import PRICES
from tapeline.sources.corporate_actions import adjust, own_sessions, read_corporate_actions


@pytest.fixture(scope="module")
def usa(test_data) -> Path:
    return test_data / "data/lean/equity/usa"


def daily(usa: Path, ticker: str) -> pd.DataFrame:
    """LEAN's raw daily bars: prices times 10,000, a session's date at 00:00."""
    names = ["time", "open", "high", "low", "close", "volume"]
    with zipfile.ZipFile(usa / f"daily/{ticker}.zip") as archive, archive.open(f"{ticker}.csv") as file:
        table = pd.read_csv(file, names=names)
    ts = pd.DatetimeIndex(pd.to_datetime(table["time"], format="%Y%m%d %H:%M"), name="ts").tz_localize("UTC")
    bars = table[names[1:]].astype(float).set_index(ts)
    return bars.assign(**{name: bars[name] / 10_000 for name in PRICES})


def returns(close: pd.Series) -> pd.Series:
    return np.log(close).diff()


def day(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def test_the_reverse_split_of_aig(usa):
    bars, actions = daily(usa, "aig"), read_corporate_actions(usa, "aig")
    step = returns(bars["close"])[day("2009-07-01")]
    assert step > 2.7, "raw: 1.16 to 18.35, one share from twenty"
    splits = actions.actions().query("kind == 'split'")
    reverse = splits[splits["last_session"] == "2009-06-30"].iloc[0]
    assert reverse["ratio"] == 20
    assert reverse["known_at"] == day("2009-07-01 13:30")
    adjusted = adjust(bars, actions, how="splits")
    assert returns(adjusted["adjusted_close"])[day("2009-07-01")] == pytest.approx(step - np.log(20))
    assert adjusted["adjusted_volume"][day("2009-06-30")] == bars["volume"][day("2009-06-30")] / 20
    # A day earlier nobody had to know of it: the price of that day is the one that was paid.
    before = adjust(bars, actions, how="splits", as_of=day("2009-07-01 13:29"))
    assert before["adjusted_close"][day("2009-06-30")] == bars["close"][day("2009-06-30")]
    on_time = adjust(bars, actions, how="splits", as_of=day("2009-07-01 13:30"))
    assert on_time["adjusted_close"][day("2009-06-30")] == 20 * bars["close"][day("2009-06-30")]


def test_apple_shows_its_own_steps_only(usa):
    bars = daily(usa, "aapl")
    adjusted = adjust(bars, read_corporate_actions(usa, "aapl"))
    assert returns(bars["close"]).abs().max() == pytest.approx(1.93, abs=0.02)
    worst = returns(adjusted["adjusted_close"]).abs()
    assert worst.max() == pytest.approx(0.73, abs=0.01)
    assert worst.idxmax() == day("2000-09-29"), "the profit warning: a true fall"
    pd.testing.assert_frame_equal(adjusted[list(bars.columns)], bars)


@pytest.mark.parametrize(
    ("ticker", "listed", "step"), [("uso", "2006-04-10", 7.03), ("eem", "2003-04-11", 2.30)]
)  # fmt: skip
def test_rows_before_the_listing_belong_to_another_company(usa, ticker, listed, step):
    bars, actions = daily(usa, ticker), read_corporate_actions(usa, ticker)
    assert actions.listed == pd.Timestamp(listed)
    assert bars.index[0] < day(listed)
    assert returns(bars["close"]).abs().max() == pytest.approx(step, abs=0.01)
    own = own_sessions(bars, actions, ticker=ticker)
    assert own.index[0] >= day(listed)
    moves = returns(adjust(own, actions)["adjusted_close"]).abs()
    assert moves.max() < 0.35, "what is left is what the fund did"
    assert len(own) + int((bars.index < day(listed)).sum()) == len(bars)


def test_the_ticker_wm_passed_from_one_company_to_another(usa):
    bars, actions = daily(usa, "wm"), read_corporate_actions(usa, "wm")
    assert [period.ticker for period in actions.tickers] == ["uw", "wmi", "wm"]
    assert actions.ticker_on(pd.Timestamp("2009-08-04")) == "wmi"
    assert actions.ticker_on(pd.Timestamp("2009-08-05")) == "wm"
    assert actions.ticker_on(pd.Timestamp("1990-01-01")) is None
    assert returns(bars["close"]).abs().idxmax() == day("2009-08-05")
    own = own_sessions(bars, actions, ticker="wm")
    assert own.index[0] == day("2009-08-05")
    assert returns(own["close"]).abs().max() < 0.2
    assert len(own_sessions(bars, actions, ticker="uw")) == int((bars.index <= day("1998-07-16")).sum())


def test_a_ticker_that_was_another_for_a_while_leaves_a_known_hole(usa):
    actions = read_corporate_actions(usa, "qqq")
    assert actions.ticker_on(pd.Timestamp("2008-01-02")) == "qqqq"
    own = own_sessions(daily(usa, "qqq"), actions, ticker="qqq")
    gap = own.index.to_series().diff().max()
    assert gap > pd.Timedelta(days=2000)


def write(folder: Path, factors: str, tickers: str = "20000103,abc,N\n20501231,abc,N\n") -> Path:
    for name, text in (("factor_files", factors), ("map_files", tickers)):
        (folder / name).mkdir()
        (folder / name / "abc.csv").write_text(text)
    return folder


def test_reading_as_of_never_shows_what_came_later(tmp_path):
    actions = read_corporate_actions(
        write(tmp_path, "20000103,0.8,0.25,1\n20000107,0.8,0.25,90\n20000112,0.9,0.5,70\n20501231,1,1,0\n"), "ABC"
    )
    ts = pd.bdate_range("2000-01-03", periods=15, tz="UTC", name="ts")
    bars = pd.DataFrame({name: np.arange(100.0, 115.0) for name in PRICES}, index=ts)
    for cut in range(1, 15):
        now = ts[cut] + pd.Timedelta(hours=12)  # before that session's open
        known = adjust(bars[:cut], actions, as_of=now)["adjusted_close"]
        more = adjust(bars, actions, as_of=now)["adjusted_close"]
        np.testing.assert_array_equal(known, more[:cut])
        assert known.iloc[-1] == bars["close"].iloc[cut - 1], "the newest price is the one that was paid"
    full = adjust(bars, actions)["adjusted_close"]
    assert (full / bars["close"]).tolist() == pytest.approx([0.2] * 5 + [0.45] * 3 + [1.0] * 7)
    splits = adjust(bars, actions, how="splits")["adjusted_close"]
    assert (splits / bars["close"]).tolist() == pytest.approx([0.25] * 5 + [0.5] * 3 + [1.0] * 7)


def test_intraday_bars_go_by_the_session_in_new_york(tmp_path):
    actions = read_corporate_actions(write(tmp_path, "20000103,1,0.5,1\n20000105,1,0.5,90\n20501231,1,1,0\n"), "abc")
    ts = pd.DatetimeIndex(["2000-01-05 14:30", "2000-01-06 00:30", "2000-01-06 14:30"], tz="UTC", name="ts")
    bars = pd.DataFrame(dict.fromkeys(PRICES, 1.0), index=ts)
    assert adjust(bars, actions)["adjusted_close"].tolist() == [0.5, 0.5, 1.0]


def test_bad_files_and_arguments(tmp_path):
    with pytest.raises(ConfigurationError, match="neither map_files"):
        read_corporate_actions(tmp_path, "abc")
    with pytest.raises(ConfigurationError, match="not a valid"):
        read_corporate_actions(tmp_path, "../../etc/passwd")
    folder = write(tmp_path, "20000103,1,1,1\n20501231,1,1,0\n")
    actions = read_corporate_actions(folder, "abc")
    bars = pd.DataFrame(dict.fromkeys(PRICES, 1.0), index=pd.DatetimeIndex(["2000-01-04"], tz="UTC", name="ts"))
    with pytest.raises(DataError, match="already"):
        adjust(adjust(bars, actions), actions)
    with pytest.raises(ConfigurationError, match="time zone"):
        adjust(bars, actions, as_of=pd.Timestamp("2000-01-04"))
    with pytest.raises(ConfigurationError, match="unknown"):
        adjust(bars, actions, how="dividends")
    for text in ("20000103,0,1,1\n", "20000103,x,1,1\n", "20000103,nan,1,1\n", "2000-01,1,1\n", "20000103\n",
                 "20010103,1,1,1\n20000103,1,1,1\n"):  # fmt: skip
        (folder / "factor_files/abc.csv").write_text(text)
        with pytest.raises(DataError):
            read_corporate_actions(folder, "abc")
    (folder / "factor_files/abc.csv").unlink()
    assert adjust(bars, read_corporate_actions(folder, "abc"))["adjusted_close"].tolist() == [1.0]


def test_every_file_of_the_recording_reads(usa):
    names = sorted(path.stem for path in (usa / "factor_files").glob("*.csv"))
    for name in names:
        actions = read_corporate_actions(usa, name).actions()
        assert (actions["ratio"] > 0).all()
    assert len(names) > 15
