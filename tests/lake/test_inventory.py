"""What the lake says of itself: series, status, lineage, recovery, damage."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.core.schemas import EVENTS, RAW_BARS, SCORES, features_spec
from tapeline.lake import Lake, Lineage
from tapeline.lake.manifest import UNKNOWN
from tapeline.lake.partition import Place
from tapeline.lake.writer import locked
from tests.lake.support import D1, EURUSD, H1, LINEAGE, M1, SWAP, TOKYO, all_hashes, data_hashes, notes, raw
from tests.support import make_bars


def test_series_are_described_by_their_own_files(tmp_path):
    lake = Lake(tmp_path)
    ts = pd.date_range("2017-01-02", periods=3, tz="UTC", name="ts", unit="ns")
    features = features_spec("core@0123abcd", ["b", "a"])
    lake.write(features, pd.DataFrame({"known_at": ts, "b": 1.0, "a": 2.0}, index=ts), SWAP, M1, lineage=LINEAGE)
    lake.write(RAW_BARS, raw(make_bars(3)), EURUSD, H1, lineage=LINEAGE)
    spec = notes("first")
    lake.write(spec, pd.DataFrame({"ts": ts, "author": "a", "text": "t"}), TOKYO, D1, lineage=LINEAGE)
    found = {series.spec.path: series for series in lake.series()}
    assert set(found) == {"raw/bars", "features/core@0123abcd", "labels/notes_first"}
    assert found["raw/bars"].spec is RAW_BARS
    assert found["features/core@0123abcd"].spec == features
    assert (found["features/core@0123abcd"].symbol, found["features/core@0123abcd"].timeframe) == (SWAP, M1)
    assert found["labels/notes_first"].spec == spec


def test_status_counts_rows_gaps_and_bytes(tmp_path):
    lake = Lake(tmp_path)
    bars = raw(make_bars(800, start="2017-11-20"))
    bars = bars.drop(bars.index[[10, 11, 20]])
    lake.write(RAW_BARS, bars, EURUSD, H1, lineage=LINEAGE)
    steps = bars.index.to_series().diff().iloc[1:]
    row = lake.status().iloc[0]
    assert (row["symbol"], row["timeframe"], row["table"]) == ("EURUSD", "H1", "raw/bars")
    assert row["rows"] == 797
    assert (row["first"], row["last"]) == (bars.index[0], bars.index[-1])
    assert row["gaps"] == (steps > pd.Timedelta("1h")).sum()
    assert row["missing"] == (steps / pd.Timedelta("1h") - 1).sum()
    assert row["version"] == lake.version(RAW_BARS, EURUSD, H1)
    assert row["bytes"] == sum(path.stat().st_size for path in tmp_path.rglob("*.parquet"))


def test_a_gap_at_a_border_between_partitions_is_counted(tmp_path):
    lake = Lake(tmp_path)
    ts = pd.DatetimeIndex(["2016-12-30", "2016-12-31", "2017-01-03"], tz="UTC", name="ts").as_unit("ns")
    bars = raw(make_bars(3, timeframe="D1").set_index(ts)).assign(close_ts=ts + D1.duration)
    lake.write(RAW_BARS, bars, EURUSD, D1, lineage=LINEAGE)
    assert lake.status()[["gaps", "missing"]].to_numpy().tolist() == [[1, 2]]


def test_gaps_are_not_counted_where_a_row_is_no_bar(tmp_path):
    lake = Lake(tmp_path)
    assert lake.status().empty
    ts = pd.date_range("2017-01-02", periods=3, tz="UTC", name="ts", unit="ns")
    score = {"known_at": ts, "probability": 0.5, "side": 1, "confidence": 0.5, "scored_at": ts}
    names = dict.fromkeys(("model", "model_version", "feature_set_version", "label_version", "data_version"), "x")
    frame = pd.DataFrame({**score, **names}, index=ts).astype({"side": "int8"})
    lake.write(SCORES, frame, EURUSD, D1, lineage=LINEAGE)
    assert lake.status()[["rows", "gaps"]].to_numpy().tolist() == [[3, 0]]
    one = pd.DatetimeIndex([ts[0]])
    event = pd.DataFrame({"id": "a", "kind": "k", "direction": 1, "start": one, "end": one, "confirmed_at": one})
    lake.write(EVENTS, event.astype({"direction": "int8"}), EURUSD, D1, lineage=LINEAGE)
    assert lake.status().set_index("table").loc["events/events", ["gaps", "missing"]].isna().all()


def test_lineage_names_the_runs_that_changed_something(tmp_path):
    lake, bars = Lake(tmp_path), raw(make_bars(800, start="2017-11-20"))
    first, second, idle = (Lineage(run, "ingest", (f"file@{run}",)) for run in ("r1", "r2", "r3"))
    lake.write(RAW_BARS, bars.iloc[:600], EURUSD, H1, lineage=first)
    lake.write(RAW_BARS, bars, EURUSD, H1, lineage=second)
    lake.write(RAW_BARS, bars, EURUSD, H1, lineage=idle)
    changes = lake.lineage(RAW_BARS, EURUSD, H1)
    early = len(bars.loc[:"2017-12-31"])
    assert early > 600
    assert [(c.period, c.rows, c.lineage) for c in changes] == [
        ("2017", 600, first),
        ("2017", early, second),
        ("2018", 800 - early, second),
    ]
    footer = pq.read_metadata(lake.path_of(RAW_BARS, EURUSD, H1) / "period=2018" / "data.parquet").metadata
    assert changes[-1].content.encode() in footer[b"tapeline"]
    assert lake.lineage(RAW_BARS, TOKYO, H1) == []


def test_recover_removes_what_dead_writers_left_and_nothing_else(tmp_path):
    lake, bars = Lake(tmp_path), raw(make_bars(800, start="2017-11-20"))
    receipt = lake.write(RAW_BARS, bars, EURUSD, H1, lineage=LINEAGE)
    lake.write(RAW_BARS, bars, TOKYO, H1, lineage=LINEAGE)
    whole = all_hashes(tmp_path)
    assert lake.recover() == []
    stale = receipt.path / "period=2017" / ".99-abc.tmp"
    stale.write_bytes(b"half")
    (receipt.path / "period=2019").mkdir()
    (receipt.path / "period=2019" / ".99-abd.tmp").write_bytes(b"half")
    manifests = tmp_path.joinpath("_manifests", *receipt.path.relative_to(tmp_path).parts)
    with (manifests / "2017.jsonl").open("ab") as file:  # a change that never reached the data
        file.write(b'{"content":"f","rows":1,"run_id":"dead","stage":"s","inputs":[]}\n{"conte')
    touched = lake.recover()
    assert set(touched) == {stale, receipt.path / "period=2019" / ".99-abd.tmp", manifests / "2017.jsonl"}
    assert all_hashes(tmp_path) == whole
    assert lake.recover() == []


def test_recover_begins_a_lost_manifest_again_and_keeps_a_foreign_history(tmp_path):
    lake, bars = Lake(tmp_path), raw(make_bars(50))
    lake.write(RAW_BARS, bars.iloc[:40], EURUSD, H1, lineage=LINEAGE)
    older = (lake.path_of(RAW_BARS, EURUSD, H1) / "period=2017" / "data.parquet").read_bytes()
    manifest = next((tmp_path / "_manifests").rglob("*.jsonl"))
    manifest.unlink()
    assert lake.recover() == [manifest]
    assert [change.lineage for change in lake.lineage(RAW_BARS, EURUSD, H1)] == [UNKNOWN]

    manifest.write_text('{"content":"of another file","rows":1,"run_id":"r0","stage":"s","inputs":[]}\n')
    assert lake.recover() == [manifest]
    assert [change.lineage.run_id for change in lake.lineage(RAW_BARS, EURUSD, H1)] == ["r0", "unknown"]
    lake.write(RAW_BARS, bars, EURUSD, H1, lineage=LINEAGE)
    assert [change.lineage.run_id for change in lake.lineage(RAW_BARS, EURUSD, H1)] == ["r0", "unknown", "run-1"]
    # A file restored from a copy: the history goes back to it.
    (lake.path_of(RAW_BARS, EURUSD, H1) / "period=2017" / "data.parquet").write_bytes(older)
    assert [change.rows for change in lake.lineage(RAW_BARS, EURUSD, H1)][1:] == [40]


def test_a_write_over_a_file_without_a_manifest_says_that_its_past_is_unknown(tmp_path):
    lake, bars = Lake(tmp_path), raw(make_bars(50))
    lake.write(RAW_BARS, bars.iloc[:40], EURUSD, H1, lineage=LINEAGE)
    next((tmp_path / "_manifests").rglob("*.jsonl")).unlink()
    assert lake.lineage(RAW_BARS, EURUSD, H1) == []
    lake.write(RAW_BARS, bars, EURUSD, H1, lineage=LINEAGE)
    changes = lake.lineage(RAW_BARS, EURUSD, H1)
    assert [(change.rows, change.lineage) for change in changes] == [(40, UNKNOWN), (50, LINEAGE)]


def test_recover_leaves_a_series_alone_that_is_being_written(tmp_path):
    lake = Lake(tmp_path)
    receipt = lake.write(RAW_BARS, raw(make_bars(10)), EURUSD, H1, lineage=LINEAGE)
    temporary = receipt.path / "period=2017" / ".1-live.tmp"
    temporary.write_bytes(b"half")
    with locked(tmp_path, Place.of(RAW_BARS, EURUSD, H1)):
        assert lake.recover() == []
    assert temporary.exists()


def test_a_long_manifest_is_extended_without_being_rewritten(tmp_path):
    lake, bars = Lake(tmp_path), raw(make_bars(30))
    long = Lineage("r", "s", ("x" * 80_000,))  # longer than what is read from the end
    for rows in (10, 20, 30):
        lake.write(RAW_BARS, bars.iloc[:rows], EURUSD, H1, lineage=long)
    assert [change.rows for change in lake.lineage(RAW_BARS, EURUSD, H1)] == [10, 20, 30]


def test_damaged_finds_rows_that_are_not_what_their_hash_says(tmp_path):
    lake = Lake(tmp_path)
    receipt = lake.write(RAW_BARS, raw(make_bars(800, start="2017-11-20")), EURUSD, H1, lineage=LINEAGE)
    assert lake.damaged() == []
    path = receipt.path / "period=2018" / "data.parquet"
    table = pq.ParquetFile(path).read()
    index = table.schema.get_field_index("close")
    forged = table.set_column(index, table.schema.field(index), pa.array([1.0] * table.num_rows))
    pq.write_table(forged, path)  # a whole, valid file with the old footer
    assert lake.damaged() == [path]


def test_everything_in_the_lake_is_where_the_layout_says(tmp_path):
    lake = Lake(tmp_path)
    lake.write(RAW_BARS, raw(make_bars(10)), SWAP, M1, lineage=LINEAGE)
    assert set(all_hashes(tmp_path)) == {
        "raw/bars/symbol=BTC%2FUSDT%3AUSDT/timeframe=M1/period=2017-01/data.parquet",
        "_manifests/raw/bars/symbol=BTC%2FUSDT%3AUSDT/timeframe=M1/2017-01.jsonl",
    }


def test_real_hourly_bars_survive_the_round_trip(tmp_path):
    """EURUSD, every hour of 2017 that its package carries."""
    found = importlib.util.find_spec("gym_anytrading")
    if found is None or found.origin is None:
        pytest.skip("gym-anytrading, which carries the packaged EURUSD bars, is not installed")
    file = Path(found.origin).parent / "datasets" / "data" / "FOREX_EURUSD_1H_ASK.csv"
    real = pd.read_csv(file, index_col="Time").rename(columns=str.lower)
    ts = pd.to_datetime(real.index, format="%d.%m.%Y %H:%M:%S.%f", utc=True)
    real.index = pd.DatetimeIndex(ts).as_unit("ns").rename("ts")
    bars = raw(real[["open", "high", "low", "close", "volume"]].astype(float).assign(close_ts=H1.closes(real.index)))
    lake = Lake(tmp_path)
    receipt = lake.write(RAW_BARS, bars, EURUSD, H1, lineage=LINEAGE)
    assert receipt.rows_added == len(bars) > 6000
    held = lake.read(RAW_BARS, EURUSD, H1)
    pd.testing.assert_frame_equal(held[list(real.columns[:5])], bars[list(real.columns[:5])], check_freq=False)
    before = data_hashes(tmp_path)
    assert lake.write(RAW_BARS, bars.sample(frac=1, random_state=0), EURUSD, H1, lineage=LINEAGE).rows_added == 0
    assert data_hashes(tmp_path) == before


def test_path_of_is_validated(tmp_path):
    with pytest.raises(ConfigurationError):
        Lake(tmp_path).path_of(RAW_BARS, "../../etc", H1)
