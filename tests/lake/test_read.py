from __future__ import annotations

import random
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import AUDIT, RAW_BARS, empty, labels_spec
from tapeline.lake import Lake
from tests.lake.support import D1, EURUSD, H1, LINEAGE, M1, TOKYO, raw
from tests.support import make_bars


@pytest.fixture(scope="module")
def bars():
    return raw(make_bars(9000, start="2016-11-01"))


@pytest.fixture(scope="module")
def lake(tmp_path_factory, bars):
    lake = Lake(tmp_path_factory.mktemp("lake"))
    lake.write(RAW_BARS, bars, EURUSD, H1, lineage=LINEAGE)
    return lake


def test_the_range_is_half_open_and_spans_partitions(lake, bars):
    cuts = [0, 1, 700, 900, 1100, 8999]
    for first in cuts:
        for after in cuts:
            if first <= after:
                held = lake.read(RAW_BARS, EURUSD, H1, start=bars.index[first], end=bars.index[after])
                assert held.index.equals(bars.index[first:after]), (first, after)
    assert lake.read(RAW_BARS, EURUSD, H1).index.equals(bars.index)
    assert lake.read(RAW_BARS, EURUSD, H1).index.name == "ts"


def test_texts_and_time_objects_name_the_same_instant(lake):
    one = lake.read(RAW_BARS, EURUSD, H1, start="2017-03-01", end="2017-03-02T12:00")
    two = lake.read(
        RAW_BARS,
        EURUSD,
        H1,
        start=datetime(2017, 3, 1, tzinfo=UTC),
        end=pd.Timestamp("2017-03-02 07:00", tz="America/New_York"),
    )
    assert len(one) == 36
    pd.testing.assert_frame_equal(one, two)


def test_only_asked_columns_are_read_and_the_order_column_is_the_index(lake, bars):
    frame = lake.read(RAW_BARS, EURUSD, H1, columns=["close", "ts", "source"])
    assert list(frame.columns) == ["close", "source"]
    np.testing.assert_array_equal(frame["close"], bars["close"])
    assert lake.read_arrow(RAW_BARS, EURUSD, H1, columns=["close"]).column_names == ["ts", "close"]
    assert lake.read_arrow(RAW_BARS, EURUSD, H1).schema.equals(RAW_BARS.schema)


def test_only_the_partitions_of_the_range_are_opened(lake, monkeypatch):
    opened = []
    real = pq.ParquetFile
    monkeypatch.setattr(pq, "ParquetFile", lambda path, **named: (opened.append(path), real(path, **named))[1])
    lake.read(RAW_BARS, EURUSD, H1, start="2017-06-01", end="2017-07-01")
    assert [path.split("period=")[1] for path in opened] == ["2017/data.parquet"]


def test_a_series_that_is_absent_reads_as_its_empty_table(lake):
    frame = lake.read(RAW_BARS, TOKYO, M1)
    pd.testing.assert_frame_equal(frame, empty(RAW_BARS))
    assert lake.read(RAW_BARS, EURUSD, H1, start="2030-01-01", columns=["close"]).empty


def test_last_and_version(lake, bars):
    assert lake.last(RAW_BARS, EURUSD, H1) == bars.index[-1]
    assert lake.last(RAW_BARS, TOKYO, H1) is None
    whole = lake.version(RAW_BARS, EURUSD, H1)
    early = lake.version(RAW_BARS, EURUSD, H1, end="2017-01-01")
    assert len(whole) == len(early) == 16
    assert whole != early
    assert lake.version(RAW_BARS, EURUSD, H1, start="2016-12-30", end="2016-12-31") == early  # whole partitions count
    with pytest.raises(DataError, match="holds no raw/bars:EURUSD:H1"):
        lake.version(RAW_BARS, EURUSD, H1, start="2030-01-01")


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"start": "yesterday-ish"}, "start 'yesterday-ish' is not a time"),
        ({"start": pd.Timestamp("2017-01-01")}, "has no time zone"),
        ({"end": pd.NaT}, "is not a time"),
        ({"start": "2018-01-01", "end": "2017-01-01"}, "lies before start"),
        ({"columns": ["close", "clothes"]}, r"no columns \['clothes'\]"),
        ({"columns": "close"}, "is the text 'close'"),
        ({"as_of": 3.5}, "as_of 3.5 is not a time"),
    ],
)
def test_a_wrong_argument_is_named(lake, named, message):
    with pytest.raises(ConfigurationError, match=message):
        lake.read(RAW_BARS, EURUSD, H1, **named)


def test_as_of_needs_to_know_when_rows_became_known(lake):
    with pytest.raises(ConfigurationError, match="became known"):
        lake.read(AUDIT, EURUSD, H1, as_of="2017-01-01")


def test_a_label_is_known_at_its_end_not_at_its_bar(tmp_path):
    lake, spec = Lake(tmp_path), labels_spec("up@1")
    ts = pd.date_range("2017-01-02", periods=10, tz="UTC", name="ts", unit="ns")
    frame = pd.DataFrame({"value": 1.0, "t_end": ts + 3 * D1.duration, "weight": 1.0}, index=ts)
    lake.write(spec, frame, EURUSD, D1, lineage=LINEAGE)
    assert lake.read(spec, EURUSD, D1, as_of=ts[5]).index.equals(ts[:3])


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.9, -1], ids=str)
def test_a_truncated_file_is_an_error_that_names_it(tmp_path, keep, bars):
    lake = Lake(tmp_path)
    receipt = lake.write(RAW_BARS, bars, EURUSD, H1, lineage=LINEAGE)
    path = receipt.path / "period=2017" / "data.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    for call in (
        lambda: lake.read(RAW_BARS, EURUSD, H1),
        lambda: lake.version(RAW_BARS, EURUSD, H1),
        lambda: lake.status(),
        lambda: lake.write(RAW_BARS, bars.assign(close=1.0), EURUSD, H1, lineage=LINEAGE),
    ):
        with pytest.raises(DataError, match=r"period=2017.data\.parquet is damaged") as caught:
            call()
        assert "restore the file" in str(caught.value)
    assert len(lake.read(RAW_BARS, EURUSD, H1, start="2018-01-01")) > 0  # the others still read


def test_a_file_that_the_lake_did_not_write_is_refused(tmp_path, bars):
    lake = Lake(tmp_path)
    receipt = lake.write(RAW_BARS, bars, EURUSD, H1, lineage=LINEAGE)
    path = receipt.path / "period=2017" / "data.parquet"
    pq.write_table(pq.ParquetFile(path).read().replace_schema_metadata(None), path)
    with pytest.raises(DataError, match="the lake did not write it"):
        lake.read(RAW_BARS, EURUSD, H1)


def test_a_changed_number_in_the_footer_is_noticed(tmp_path, bars):
    lake = Lake(tmp_path)
    path = lake.write(RAW_BARS, bars, EURUSD, H1, lineage=LINEAGE).path / "period=2018" / "data.parquet"
    table = pq.ParquetFile(path).read()
    footer = table.schema.metadata[b"tapeline"]
    pq.write_table(table.replace_schema_metadata({b"tapeline": footer.replace(b'"jumps": ', b'"jumps": 1')}), path)
    for call in (lake.status, lambda: lake.last(RAW_BARS, EURUSD, H1), lambda: lake.read(RAW_BARS, EURUSD, H1)):
        with pytest.raises(DataError, match="digest does not match"):
            call()


def test_a_flipped_bit_is_an_error_or_has_no_effect(tmp_path):
    lake, bars = Lake(tmp_path), raw(make_bars(400))
    receipt = lake.write(RAW_BARS, bars, EURUSD, H1, lineage=LINEAGE)
    path = receipt.path / "period=2017" / "data.parquet"
    whole, held = path.read_bytes(), lake.read(RAW_BARS, EURUSD, H1)
    generator = random.Random(3)
    detected = 0
    for _ in range(150):
        spoilt = bytearray(whole)
        spoilt[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        path.write_bytes(spoilt)
        if error := error_of_reading(lake):
            assert str(path) in error
            detected += 1
        else:
            pd.testing.assert_frame_equal(lake.read(RAW_BARS, EURUSD, H1), held)
    assert detected > 100


def error_of_reading(lake: Lake) -> str:
    try:
        lake.read(RAW_BARS, EURUSD, H1)
    except DataError as error:
        return str(error)
    return ""
