from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError, SchemaError
from tapeline.core.schemas import CLEAN_BARS, RAW_BARS
from tapeline.sources.broker_clock import FixedOffset
from tapeline.sources.metatrader import rates_to_bars
from tapeline.sources.volume import VOLUMES, integrate_volume
from tests.sources.test_exchange import fetch
from tests.sources.test_metatrader import rates


def marks(table: pd.DataFrame) -> dict[str, str]:
    found = {name: set(table[f"{name}_mark"]) for name in VOLUMES}
    assert all(len(values) == 1 for values in found.values()), found
    return {name: values.pop() for name, values in found.items()}


def bars_of(**columns) -> pd.DataFrame:
    ts = pd.date_range("2021-01-04", periods=2, freq="1h", tz="UTC", name="ts")
    plain = {"open": 2.0, "high": 4.0, "low": 1.0, "close": 3.25, "volume": 8.0}
    return pd.DataFrame({**plain, **columns}, index=ts)


@pytest.mark.network_shape
def test_binance_klines_keep_all_their_volumes(test_data):
    rows = json.loads((test_data / "api/binance/nautilus_py/http_responses/http_spot_market_klines.json").read_text())

    def served(query):
        return [row for row in rows if row[0] >= int(query["startTime"])]

    outcome, _, _ = fetch(served, "2021-10-22 23:03", "2021-10-23 23:03")
    assert len(outcome.bars) == len(rows)
    table = integrate_volume(outcome.bars, volume_kind=outcome.volume_kind)
    assert set(marks(table).values()) == {"real"}
    for name, place in [("real_volume", 5), ("quote_volume", 7), ("tick_volume", 8), ("taker_buy_volume", 9)]:
        assert table[name].tolist() == [float(row[place]) for row in rows]
    assert (table["taker_buy_volume"] <= table["real_volume"]).all()


def test_metatrader_ticks_are_real_and_stand_in_for_quantity():
    bars, _, kind = rates_to_bars(rates("2021-01-05", 2, tick_volume=[2**63 - 1, 7]), FixedOffset(0))
    table = integrate_volume(bars, volume_kind=kind)
    assert marks(table) == {
        "tick_volume": "real", "real_volume": "synthetic", "quote_volume": "absent", "taker_buy_volume": "synthetic",
    }  # fmt: skip
    assert table["tick_volume"].tolist() == [float(2**63 - 1), 7.0]
    assert table["quote_volume"].isna().all(), "no money is made of ticks"


def test_stand_ins_are_those_that_the_page_states():
    table = integrate_volume(bars_of(), volume_kind="traded")
    assert marks(table) == {
        "tick_volume": "absent", "real_volume": "real", "quote_volume": "synthetic", "taker_buy_volume": "synthetic",
    }  # fmt: skip
    assert table["quote_volume"].tolist() == [8 * (4 + 1 + 3.25) / 3] * 2
    assert table["taker_buy_volume"].tolist() == [8 * 0.75] * 2
    flat = integrate_volume(bars_of(high=1.0, low=1.0, close=1.0), volume_kind="traded")
    assert flat["taker_buy_volume"].tolist() == [4.0, 4.0]


def test_each_row_is_marked_for_itself():
    bars = bars_of(volume_kind=["traded", "none"], quote_volume=[np.nan, 5.0], tick_count=pd.array([4, None], "Int64"))
    table = integrate_volume(bars)
    assert table["real_volume_mark"].tolist() == ["real", "absent"]
    assert table["quote_volume_mark"].tolist() == ["synthetic", "real"]
    assert table["tick_volume_mark"].tolist() == ["real", "absent"]
    assert table["taker_buy_volume_mark"].tolist() == ["synthetic", "absent"]


def test_what_is_refused():
    with pytest.raises(SchemaError, match="volume_kind"):
        integrate_volume(bars_of())
    with pytest.raises(ConfigurationError, match="lots"):
        integrate_volume(bars_of(), volume_kind="lots")
    with pytest.raises(DataError, match="negative"):
        integrate_volume(bars_of(volume=[1.0, -1.0]), volume_kind="traded")


def test_the_lake_has_a_place_for_each():
    for spec in (RAW_BARS, CLEAN_BARS):
        assert {"quote_volume", "taker_buy_volume", "tick_count", "volume_kind"} <= set(spec.schema.names)
